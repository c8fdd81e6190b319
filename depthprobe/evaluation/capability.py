"""Which ways of sharing work come out right on a model: tried on random tokens, never read off its name.

A model may carry more than the stream from block to block, compute positions from the mask, look at a
window or keep a state that no other row may see. So each way is run on a made-up set of texts with
common beginnings, for the whole model and without its first, middle and last block, and compared with
plain texts, one by one, of a model whose block is gone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from depthprobe.errors import MeasureError
from depthprobe.evaluation.passes import MakeMask, Passes, Ways, mask_of
from depthprobe.evaluation.prefixes import Prices, lay_out
from depthprobe.evaluation.scores import ScoreRequest, Variant
from depthprobe.models.anatomy import Anatomy

# Texts at least this long are tried where the model reads so many.
LENGTH = 24
# Windows up to this are outgrown by the texts tried; longer ones bound what is shared.
LONGEST_WINDOW_TRIED = 2048
# Log-probabilities may differ by this share of the largest one (float32), or on average (half precision).
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-4, torch.float16: 5e-3, torch.bfloat16: 2e-2}

# What a configuration calls a distance that tokens see, or from which on positions change.
DISTANCE = re.compile(r"^(?!.*layer).*(window|chunk|local|original_max_position)")
WINDOW = re.compile(r"^(?!.*layer).*window")

TRIED = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError)


def find_ways(
    model: nn.Module, anatomy: Anatomy, device: torch.device, context: int | None
) -> tuple[Ways, MakeMask | None]:
    """Return the ways that come out right, and the mask for packed rows.

    Args:
        model: The model.
        anatomy: Its anatomy.
        device: Where token ids go.
        context: The most tokens the model reads; None if nothing limits it.

    Raises:
        MeasureError: if no way comes out right.
    """
    config = model.config.get_text_config()
    distances = sorted(set(_distances(config.to_dict())))
    tried = [distance for distance in distances if distance <= LONGEST_WINDOW_TRIED]
    length = min(max([LENGTH, *(distance + 8 for distance in tried)]), context or LENGTH + 1_000_000)
    beyond = [distance for distance in distances if distance >= length]
    limit = beyond[0] if beyond else None
    trial = _Trial(model, anatomy, device, length)
    # Plain batches; of one length, where padding is felt; each text for itself, where later tokens are.
    plain = [
        Ways(removal, same_length, depth_limit=alone)
        for removal in ("skip", "delete")
        for same_length, alone in ((False, None), (True, None), (True, 1))
    ]
    ways = next((way for way in plain if trial.is_right(way, None)), None)
    if ways is None:
        raise MeasureError(
            "Texts scored together do not score what they score one by one.",
            "prune-sweep does not know how to run this model.",
        )
    if ways != Ways():
        return replace(ways, depth_limit=ways.depth_limit or limit), None
    head = replace(ways, head=True)
    if not trial.is_right(head, None):
        return replace(ways, depth_limit=limit), None
    ways = head
    stream = replace(ways, stream=True)
    if trial.is_right(stream, None):
        ways = stream
    mask = None
    window = next((int(v) for k, v in vars(config).items() if WINDOW.match(k) and _is_distance(v)), None)
    for form in _forms(config, window):
        candidate = mask_of(form, config, window, model.dtype)
        if trial.is_right(replace(ways, pack=form), candidate):
            ways, mask = replace(ways, pack=form), candidate
            break
    prefix = replace(ways, prefix=True)
    if trial.is_right(prefix, mask):
        ways = prefix
    return replace(ways, depth_limit=limit), mask


def _forms(config: Any, window: int | None) -> Iterator[str]:
    """Yield the forms of mask that the model may take, the likeliest first."""
    kinds = getattr(config, "layer_types", None)
    if window is not None:
        if kinds:
            yield "types"
        yield "window"
    yield "full"
    if window is None and kinds:
        yield "types"


def _distances(values: Any, name: str = "") -> Iterator[int]:
    """Yield every distance that a configuration names, also in lists and dicts inside it."""
    if isinstance(values, dict):
        for key, value in values.items():
            yield from _distances(value, str(key))
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from _distances(value, name)
    elif DISTANCE.match(name) and _is_distance(values):
        yield int(values)


def _is_distance(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 1


def check_removals(
    model: nn.Module, anatomy: Anatomy, device: torch.device, context: int | None, variants: Sequence[Variant]
) -> dict[Variant, frozenset[str]]:
    """Return which ways of removing the layers of each variant are right; one short text each.

    Raises:
        MeasureError: if the model cannot be run without the layers of a variant.
    """
    trial = _Trial(model, anatomy, device, min(LENGTH, context or LENGTH), singles=False)
    settled = {variant: trial.settle(variant, trial.requests[-1:]) for variant in variants}
    stuck = [variant for variant, (truth, _) in settled.items() if truth is None]
    if stuck:
        raise MeasureError(
            f"The model gives no sure answers without {names_of(stuck)}: "
            "later blocks use what is computed there.",
            "Choose others with --layers.",
        )
    return {variant: ways for variant, (_, ways) in settled.items()}


def names_of(variants: Sequence[Variant]) -> str:
    """Return ``layer 3`` or ``layers 3+4, 5+6`` for a sentence."""
    names = ["+".join(map(str, variant)) for variant in variants]
    shown = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    return f"layer{'s' if len(names) > 1 or '+' in shown else ''} {shown}"


class _Trial:
    """Texts with common beginnings, and what they truly score."""

    def __init__(
        self, model: nn.Module, anatomy: Anatomy, device: torch.device, length: int, singles: bool = True
    ) -> None:
        self.model, self.anatomy, self.device = model, anatomy, device
        layers = anatomy.layers
        tried = sorted({0, layers // 2, layers - 1}) if singles and layers > 1 else []
        self.variants: list[Variant] = [(), *((layer,) for layer in tried)]
        self.requests = _texts(model.config.get_text_config().vocab_size, length)
        self.truth: dict[Variant, np.ndarray] = {}
        for variant in list(self.variants) if singles else []:
            truth = self.settle(variant, self.requests)[0]
            if truth is None:
                self.variants.remove(variant)
            else:
                self.truth[variant] = truth

    def settle(
        self, variant: Variant, requests: Sequence[ScoreRequest]
    ) -> tuple[np.ndarray | None, frozenset[str]]:
        """Return what requests, one by one, score without the layers of a variant, and which ways say so.

        The scores are None if there is no telling.

        Three ways are tried: passing the stream through, running the block and discarding what it
        gives, and deleting it. Deletion is what is meant, but not every model can be cut so that the rest
        still counts its layers rightly; so it is believed where another way confirms it, or the other two
        where they confirm each other, or what alone can be run.
        """
        found = {}
        for removal in ("skip", "discard", "delete"):
            try:
                parts = [
                    self._score([request], Ways(removal=removal), None, [variant]) for request in requests
                ]
            except (*TRIED, MeasureError):
                continue
            found[removal] = np.concatenate([part[variant] for part in parts])
        for one, other in (("delete", "skip"), ("delete", "discard"), ("skip", "discard")):
            if one in found and other in found and self._agree(found[other], found[one]):
                truth = found[one]
                return truth, frozenset(way for way in found if self._agree(found[way], truth))
        if "skip" in found and "delete" not in found:
            # What a block that is run in vain keeps for later ones still acts.
            return found["skip"], frozenset({"skip"})
        return None, frozenset()

    def is_right(self, ways: Ways, mask: MakeMask | None) -> bool:
        """Return whether the texts, run together, score in these ways what they score one by one."""
        try:
            found = self._score(self.requests, ways, mask)
        except TRIED:
            return False
        return all(self._agree(found[variant], self.truth[variant]) for variant in self.variants)

    def _score(
        self,
        requests: Sequence[ScoreRequest],
        ways: Ways,
        mask: MakeMask | None,
        variants: Sequence[Variant] | None = None,
    ) -> Any:
        """Return the log-probabilities of every scored token, by variant, in the order of the requests."""
        variants = self.variants if variants is None else variants
        prices = Prices(
            # Attention dear and all else free: whatever can be shared is.
            pair=1.0 if ways.prefix else 0.0,
            copy=0.0,
            call=0.0,
            longest=1 << 30,
            packs=bool(ways.pack),
            keeps=ways.prefix,
        )
        passes = Passes(self.model, self.anatomy, self.device, ways, mask)
        found: dict[Variant, list[tuple[np.ndarray, np.ndarray]]] = {v: [] for v in variants}
        for group in lay_out(requests, prices, ways.depth_limit):
            for variant, request, logprob, _ in passes.run(group, variants, 1 << 30):
                found[variant].append((request, logprob))
        return {variant: _in_order(parts) for variant, parts in found.items()}

    def _agree(self, found: np.ndarray, truth: np.ndarray) -> bool:
        tolerance = TOLERANCE.get(self.model.dtype, 1e-4) * max(1.0, float(np.abs(truth).max()))
        difference = np.abs(found - truth)
        # Half precision strays far on single tokens; a wrong mask or position moves all of them.
        is_half = self.model.dtype in (torch.float16, torch.bfloat16)
        return bool((difference.mean() if is_half else difference.max()) <= tolerance)


def _in_order(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    request = np.concatenate([part[0] for part in parts])
    logprob = np.concatenate([part[1] for part in parts])
    # A request's tokens may stand in a prefix and in a row; by value they have one order.
    return logprob[np.lexsort((logprob, request))]


def _texts(vocab: int, length: int) -> list[ScoreRequest]:
    """Return texts over random tokens: a common beginning, forks in it, one the beginning of another."""
    generator = np.random.default_rng(0)
    low = min(5, vocab - 1)  # past the special tokens of most vocabularies

    def draw(count: int) -> tuple[int, ...]:
        return tuple(int(token) for token in generator.integers(low, vocab, count))

    start = draw(max(length - 14, 4))
    branches = [start + draw(4), start + draw(5)]
    requests = [ScoreRequest(start + draw(1), min(3, len(start)))]
    for branch in branches:
        requests += [ScoreRequest(branch + draw(count), count) for count in (1, 3, 5)]
    return requests
