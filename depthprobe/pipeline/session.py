"""What several measurements share: the model and its texts, fetched once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from depthprobe.models.anatomy.anatomy import Anatomy, describe_anatomy
from depthprobe.models.loading.loading import (
    Checkpoint,
    LoadedModel,
    LoadOptions,
    ModelSource,
    load_model,
    open_checkpoint,
    resolve_model,
)
from depthprobe.models.loading.sources import IN_MEMORY, fetch_weights, original_folder
from depthprobe.models.loading.stages import Stage, unseen
from depthprobe.models.loading.weights import glance_at, hash_of
from depthprobe.texts.options import TextOptions
from depthprobe.texts.rows import Rows
from depthprobe.texts.samples import Samples, TokenText, open_text, read_samples

Thing = TypeVar("Thing")

_OF_THE_LAST_CALL = {"truncation": None, "padding": None}
_OF_ORIGIN = ("_name_or_path", "transformers_version")


class Session:
    """Gives the same model, anatomy and samples to all who ask for them in the same way.

    Every probe leaves a model as it was, so the next one finds what it would have loaded. What was fetched is
    kept as long as the session.
    """

    def __init__(self) -> None:
        self._there: dict[tuple[str, str], Any] = {}
        self._told: set[str] = set()

    def untold(self, news: Iterable[str]) -> list[str]:
        """Return the sentences that are new in this session, without empty ones."""
        fresh = [each for each in dict.fromkeys(news) if each and each not in self._told]
        self._told.update(fresh)
        return fresh

    def _once(self, kind: str, asked: object, make: Callable[[], Thing]) -> Thing:
        # Keyed by its repr: options may hold lists, which cannot be hashed.
        key = kind, repr(asked)
        if key not in self._there:
            self._there[key] = make()
        return self._there[key]

    def source(self, name: str, load: LoadOptions) -> ModelSource:
        """Return what the name of a model stands for."""
        return self._once(
            "source",
            (name, load.revision, load.adapter),
            lambda: resolve_model(name, load.revision, load.adapter),
        )

    def checkpoint(self, source: ModelSource, load: LoadOptions, stage: Stage = unseen) -> Checkpoint:
        """Return the opened checkpoint; its weights are not read yet."""
        return self._once("checkpoint", (source, load), lambda: open_checkpoint(source, load, stage=stage))

    def text(self, text: TextOptions | TokenText) -> Rows | None:
        """Return the rows of a text, opened and checked; None if it has no rows."""
        if isinstance(text, TokenText):
            return None
        asked = (text.dataset, text.config, text.split, text.column, text.seed)
        return self._once("text", asked, lambda: open_text(text))

    def samples(
        self,
        text: TextOptions | TokenText,
        checkpoint: Checkpoint,
        advance: Callable[[int], None] = lambda count: None,
    ) -> Samples:
        """Return the samples of a text in the tokens of a checkpoint."""
        if isinstance(text, TokenText):
            return text.samples()
        return self._once(
            "samples",
            (text, checkpoint.source, checkpoint.context_tokens),
            lambda: read_samples(
                text, checkpoint.tokenizer, checkpoint.context_tokens, advance, self.text(text)
            ),
        )

    def fetch(self, checkpoint: Checkpoint) -> None:
        """Fetch the weights of a hub model into the cache, unless they are there already."""

        def fetched() -> None:
            if checkpoint.source.layout == "meta":
                original_folder(checkpoint.source)
            elif checkpoint.source.layout == "transformers":
                fetch_weights(checkpoint.source, checkpoint.folder)

        self._once("weights", checkpoint.source, fetched)

    def model(
        self, checkpoint: Checkpoint, load: LoadOptions, device: str, stage: Stage = unseen
    ) -> LoadedModel:
        """Return the model on a device."""
        return self._once(
            "model",
            (checkpoint.source, load, device),
            lambda: load_model(checkpoint, load, stage=stage, device=device),
        )

    def anatomy(self, model: LoadedModel) -> Anatomy:
        """Return the anatomy of a model of this session."""
        return self._once("anatomy", id(model), lambda: describe_anatomy(model.model, model.tower))


class SessionOfLoaded(Session):
    """A session that has a model already, and gives it whatever name is asked for."""

    def __init__(self, loaded: LoadedModel, fingerprint: bool = False) -> None:
        """Take a model.

        Args:
            loaded: The model.
            fingerprint: Whether it is hashed if nothing else identifies it as it is now.
        """
        super().__init__()
        self._loaded = replace(loaded, source=_as_it_is(loaded)) if fingerprint else loaded

    def source(self, name: str, load: LoadOptions) -> ModelSource:
        """Return where the model came from."""
        return self._loaded.source

    def checkpoint(self, source: ModelSource, load: LoadOptions, stage: Stage = unseen) -> Checkpoint:
        """Return what is known of the model beside its weights."""
        config, tokenizer = self._loaded.model.config, self._loaded.tokenizer
        return Checkpoint(
            source, Path(), config, tokenizer, trust_remote_code=False, tower=self._loaded.tower
        )

    def fetch(self, checkpoint: Checkpoint) -> None:
        """Fetch nothing: the weights are here."""

    def model(
        self, checkpoint: Checkpoint, load: LoadOptions, device: str, stage: Stage = unseen
    ) -> LoadedModel:
        """Return the model where it is."""
        return self._loaded


def _as_it_is(loaded: LoadedModel) -> ModelSource:
    """Return where a model in memory comes from, with hashes where its files do not say what it is now."""
    source, model = loaded.source, loaded.model
    known = source.fingerprint is not None or source.revision is not None
    if known and loaded.glance in (None, glance_at(model)):
        return source
    # Its configuration decides as much as its weights do; where it came from does not.
    config = {key: each for key, each in model.config.to_dict().items() if key not in _OF_ORIGIN}
    told = json.dumps([type(model).__name__, config], sort_keys=True, default=str)
    mark = hashlib.sha256((hash_of(model) + told).encode()).hexdigest()
    changed = (f"{source.name} was changed in memory since it was loaded.",) if known else ()
    return replace(
        source,
        location=IN_MEMORY,
        revision=None,
        fingerprint=mark,
        notes=source.notes + changed,
        tokenizer=_hash_of_tokenizer(loaded.tokenizer),
    )


def _hash_of_tokenizer(tokenizer: Any) -> str | None:
    """Return a hash of all that decides how a tokenizer turns texts and conversations into ids."""
    if tokenizer is None:
        return None
    fast = getattr(tokenizer, "backend_tokenizer", None)
    # What was truncated or padded last stays in it, and is set anew for every call.
    rules = tokenizer.get_vocab() if fast is None else json.loads(fast.to_str()) | _OF_THE_LAST_CALL
    known = [type(tokenizer).__name__, rules, tokenizer.special_tokens_map]
    told = json.dumps([*known, getattr(tokenizer, "chat_template", None)], sort_keys=True, default=str)
    return hashlib.sha256(told.encode()).hexdigest()
