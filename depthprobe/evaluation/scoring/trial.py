"""A few short made-up texts, and what a model truly gives for them: whole, and without some of its blocks.

Real models have large heads, so what the head would read (x^L) is compared, and the head itself is
checked against the model's own logits at a handful of positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch

from depthprobe.errors import MeasureError
from depthprobe.evaluation.scores import ScoreRequest, Variant
from depthprobe.evaluation.scoring.layout import PrefixGroup, Prices, lay_out
from depthprobe.evaluation.scoring.masks import MakeMask
from depthprobe.evaluation.scoring.passes import Passes, Ways, without_cache
from depthprobe.models.anatomy.anatomy import Anatomy
from depthprobe.models.anatomy.stream import refuse_directionless
from depthprobe.models.capture import reading_stream
from depthprobe.models.intervene import discard_in_rows, keeps_for_later, skip_blocks

# Tokens of a text; enough for a common beginning, a fork in it and a few tokens on each branch.
LENGTH = 12
# Of the text that every variant is tried on.
FEW = 6
# Rows of one batch in which variants are tried together.
ROWS = 64

# Vectors may differ by this share of their length. In tiny models of all families of transformers 5.24,
# right ways stay below 1e-5 in float32 and 0.024 in bfloat16 (two families with routers: 0.4), wrong ones
# above 1e-2 and 0.075 (one family, whose positions hardly count: 0.01).
VECTOR_TOLERANCE = {torch.float16: 1e-2, torch.bfloat16: 4.5e-2}
SINGLE_TOLERANCE = 3e-4
# Log-probabilities by this share of the largest one.
TOLERANCE = {torch.float16: 5e-3, torch.bfloat16: 2e-2}

TRIED = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError)


class Trial:
    """The texts of one model, and passes over them in any way.

    Args:
        model: The model.
        anatomy: Its anatomy.
        device: Where token ids go.
        context: The most tokens the model reads; None if nothing limits it.
    """

    def __init__(self, model: Any, anatomy: Anatomy, device: torch.device, context: int | None) -> None:
        self.model, self.anatomy, self.device = model, anatomy, device
        self.texts, self.requests, self._places = _texts(
            model.config.get_text_config().vocab_size, min(LENGTH, context or LENGTH)
        )
        few = min(FEW, self.texts.shape[1])
        self.few = self.texts[:1, :few]
        self.few_request = ScoreRequest((*self.few[0].tolist(), int(self.texts[1, 0])), few)

    # --- what the head would read

    def true_vectors(self, variant: Variant) -> torch.Tensor:
        """Return x^L ``[text, token, hidden]`` of plain texts, all of one length, blocks passed through."""
        return self._stream(self.texts, skip_blocks(self.anatomy, variant))

    def one_text(self) -> torch.Tensor:
        """Return x^L ``[token, hidden]`` of one whole text."""
        return self._stream(self.texts[-1:])[0]

    def vectors(
        self, ways: Ways, mask: MakeMask | None, variants: Sequence[Variant]
    ) -> dict[Variant, torch.Tensor]:
        """Return x^L ``[answer, hidden]`` of every variant, run in these ways, by request, then by depth."""
        passes = Passes(self.model, self.anatomy, self.device, ways, mask)
        found: dict[Variant, list[tuple[np.ndarray, np.ndarray, torch.Tensor]]] = {v: [] for v in variants}
        for group in self._layout(ways, self.requests):
            for variant, request, depth, vectors in passes.vectors(group, variants, 1 << 30):
                found[variant].append((request, depth, vectors.cpu()))
        ordered = {}
        for variant, parts in found.items():
            request, depth = (np.concatenate([part[place] for part in parts]) for place in (0, 1))
            ordered[variant] = torch.cat([part[2] for part in parts])[np.lexsort((depth, request))]
        return ordered

    def gives(self, ways: Ways, mask: MakeMask | None, truth: dict[Variant, torch.Tensor]) -> bool:
        """Return whether the texts, run together in these ways, give the head what they give one by one.

        Args:
            ways: The ways.
            mask: The mask of packed rows.
            truth: For every variant tried, its true vectors.
        """
        try:
            found = self.vectors(ways, mask, list(truth))
        except TRIED:
            return False
        text, depth = self._places
        return all(self.near(found[variant], true[text, depth].cpu()) for variant, true in truth.items())

    def near(self, found: torch.Tensor, truth: torch.Tensor) -> bool:
        """Return whether vectors ``[..., hidden]`` are the same up to rounding."""
        found, truth = found.double().cpu(), truth.double().cpu()
        error = (found - truth).norm(dim=-1) / truth.norm(dim=-1).clamp_min(1e-30)
        if self.model.dtype not in VECTOR_TOLERANCE:
            return bool(error.max() <= SINGLE_TOLERANCE)
        # All but the worst: in half precision a router may decide differently for a single token.
        worst = error.flatten().sort().values[: max(error.numel() - 1, 1)]
        return bool(worst[-1] <= VECTOR_TOLERANCE[self.model.dtype])

    # --- what every variant gives for one short text

    def few_without(self, variants: Sequence[Variant]) -> dict[Variant, torch.Tensor]:
        """Return x^L ``[token, hidden]`` of variants whose blocks are run and discarded, many in one batch.

        Variants that cannot be tried this way are left out: those whose blocks keep something for later ones,
        and all variants of a model whose blocks pass on something without a row for each text.
        """
        alike = [variant for variant in variants if not keeps_for_later(self.anatomy, variant)]
        found: dict[Variant, torch.Tensor] = {}
        for first in range(0, len(alike), ROWS):
            part = alike[first : first + ROWS]
            gone = {
                layer: torch.tensor([layer in variant for variant in part])
                for layer in sorted({layer for variant in part for layer in variant})
            }
            try:
                stream = self._stream(self.few.expand(len(part), -1), discard_in_rows(self.anatomy, gone))
            except TRIED:
                continue
            found.update(zip(part, stream, strict=True))
        return found

    def few_passed(self, variant: Variant) -> torch.Tensor:
        """Return x^L ``[token, hidden]`` of the short text, the blocks of a variant passed through."""
        return self._stream(self.few, skip_blocks(self.anatomy, variant))[0]

    def few_in(
        self, ways: Ways, mask: MakeMask | None, variants: Sequence[Variant]
    ) -> dict[Variant, torch.Tensor]:
        """Return x^L ``[token, hidden]`` of the short text for each variant, run in these ways."""
        passes = Passes(self.model, self.anatomy, self.device, ways, mask)
        group = self._layout(ways, [self.few_request])[0]
        return {v: vectors.cpu() for v, _, _, vectors in passes.vectors(group, variants, 1 << 30)}

    def alone_before_head(self) -> torch.Tensor | None:
        """Return x^L ``[token, hidden]`` of the short text, run by itself through the whole model.

        None if final norm and head do not give the same for stored vectors as the model for the text.

        Raises:
            MeasureError: if the stream or the logits hold NaN.
        """
        seen: list[torch.Tensor] = []

        def read(boundary: int, stream: torch.Tensor) -> None:
            refuse_directionless(stream.flatten(0, 1), boundary)
            if boundary == self.anatomy.layers:
                seen.append(stream[0].clone())

        passes = Passes(self.model, self.anatomy, self.device, Ways(head=True), None)
        with torch.inference_mode(), reading_stream(self.anatomy, read):
            logits = self.model(input_ids=self.few.to(self.device), **passes.no_cache).logits[0]
        if bool(logits.isnan().any()):
            raise MeasureError(
                "The model's log-probabilities hold NaN.",
                "Try --dtype float32 or bfloat16; if that does not help, the weights are broken.",
            )
        target = self.few[0].numpy()
        truth = logits.float().log_softmax(dim=-1).cpu()[np.arange(len(target)), target].numpy()
        try:
            with torch.inference_mode():
                found = passes.judge(seen[0], np.arange(len(target)), target)[0]
        except TRIED:
            return None
        return seen[0] if self.agree(found, truth) else None

    # --- whole answers, for models whose head cannot run separately

    def scores(
        self, requests: Sequence[ScoreRequest], ways: Ways, variants: Sequence[Variant], alone: bool
    ) -> dict[Variant, np.ndarray]:
        """Return the log-probability of every scored token by variant, one request at a time or together."""
        passes = Passes(self.model, self.anatomy, self.device, ways, None)
        found: dict[Variant, list[np.ndarray]] = {variant: [] for variant in variants}
        for part in [[request] for request in requests] if alone else [list(requests)]:
            answers: dict[Variant, list[tuple[np.ndarray, np.ndarray]]] = {v: [] for v in variants}
            for group in self._layout(ways, part):
                for variant, request, logprob, _ in passes.run(group, variants, 1 << 30):
                    answers[variant].append((request, logprob))
            for variant, parts in answers.items():
                found[variant].append(_in_order(parts))
        return {variant: np.concatenate(parts) for variant, parts in found.items()}

    def agree(self, found: np.ndarray, truth: np.ndarray) -> bool:
        """Return whether log-probabilities are the same up to rounding."""
        tolerance = TOLERANCE.get(self.model.dtype, 1e-4) * max(1.0, float(np.abs(truth).max()))
        difference = np.abs(found - truth)
        # Half precision strays far on single tokens; a wrong mask or position moves all of them.
        is_half = self.model.dtype in TOLERANCE
        return bool((difference.mean() if is_half else difference.max()) <= tolerance)

    def _layout(self, ways: Ways, requests: Sequence[ScoreRequest]) -> list[PrefixGroup]:
        # Attention is expensive and all else free: whatever can be shared is.
        pair = 1.0 if ways.prefix else 0.0
        prices = Prices(
            pair=pair, copy=0.0, call=0.0, longest=1 << 30, packs=bool(ways.pack), keeps=ways.prefix
        )
        return lay_out(requests, prices, ways.depth_limit)

    def _stream(self, ids: torch.Tensor, changed: AbstractContextManager[Any] | None = None) -> torch.Tensor:
        """Return x^L ``[text, token, hidden]`` of plain texts."""
        found: list[torch.Tensor] = []

        def read(boundary: int, stream: torch.Tensor) -> None:
            if boundary == self.anatomy.layers:
                found.append(stream.clone())

        with torch.inference_mode(), changed or nullcontext(), reading_stream(self.anatomy, read):
            self.anatomy.backbone(input_ids=ids.to(self.device), **without_cache(self.anatomy.backbone))
        return found[0]


def _in_order(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    request = np.concatenate([part[0] for part in parts])
    logprob = np.concatenate([part[1] for part in parts])
    # A request's tokens may be in a prefix and in a row; sorting by value gives them one order.
    return logprob[np.lexsort((logprob, request))]


def _texts(vocab: int, length: int) -> tuple[torch.Tensor, list[ScoreRequest], tuple[np.ndarray, np.ndarray]]:
    """Return texts over random tokens, requests made of their beginnings, and where each answer is read.

    They have a common beginning, a fork after it and another one further on; one text is the beginning of
    another, one ends within the common beginning, and two texts of different lengths share nothing.

    Returns:
        int64 ``[text, token]``; the requests; text and token of each answer, by request, then by depth.
    """
    generator = np.random.default_rng(0)
    low = min(5, vocab - 1)  # past the special tokens of most vocabularies
    start, fork = max(length // 2, 1), length // 4
    texts = generator.integers(low, vocab, (5, length))
    texts[1:3, :start] = texts[0, :start]
    texts[1, start : start + fork] = texts[0, start : start + fork]
    following = int(generator.integers(low, vocab))  # comes after texts that are read whole
    wanted = [(0, length, 3), (0, length - 2, 1), (1, length, 2), (2, length, 2), (0, start - 1, 2)]
    wanted += [(3, length, 2), (4, length // 2, 2)]
    requests, places = [], []
    for text, tokens, scored in ((text, max(tokens, 1), scored) for text, tokens, scored in wanted):
        scored = min(scored, tokens)
        after = texts[text, tokens] if tokens < length else following
        requests.append(ScoreRequest((*map(int, texts[text, :tokens]), int(after)), scored))
        places += [(text, depth) for depth in range(tokens - scored, tokens)]
    text, depth = np.array(places).T
    return torch.from_numpy(texts), requests, (text, depth)
