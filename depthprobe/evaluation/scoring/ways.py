"""Which ways of sharing work give right numbers on a model: tried on random tokens, never read off its name.

A model may carry more than the stream from block to block, compute positions from the mask, look at a
window or keep a state that no other row may see. So each way is run on a few short texts with common
beginnings, for the whole model and without one block, and checked against plain texts. All trials together
cost less than one plain pass over a short batch, see tests/bench/bench_start.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from depthprobe.errors import MeasureError
from depthprobe.evaluation.scores import ScoreRequest, Variant
from depthprobe.evaluation.scoring.masks import MakeMask, mask_of
from depthprobe.evaluation.scoring.passes import Ways
from depthprobe.evaluation.scoring.trial import LENGTH, TRIED, Trial
from depthprobe.evaluation.scoring.windows import other_distances, short_windows, window_of
from depthprobe.models.anatomy.anatomy import Anatomy
from depthprobe.models.frequencies import scalings_of

# Tokens that a window lets through while ways are tried: less than the common beginning of the texts.
SHORT_WINDOW = 5


def find_ways(model: Any, anatomy: Anatomy, device: torch.device, context: int | None) -> Ways:
    """Return the ways that give right numbers.

    Args:
        model: The model.
        anatomy: Its anatomy.
        device: Where token ids go.
        context: The most tokens the model reads; None if nothing limits it.

    Raises:
        MeasureError: if no way gives right numbers, or the model gives NaN.
    """
    config = model.config.get_text_config()
    trial = Trial(model, anatomy, device, context)
    window = window_of(config)
    limits = other_distances(config)
    if window is not None and window > SHORT_WINDOW:
        far = trial.one_text()
        with short_windows(model, SHORT_WINDOW):
            ways = _best(trial, config)
            if trial.near(trial.one_text(), far):  # the window had no effect, so it was not tried
                limits.append(window)
    else:
        ways = _best(trial, config)
    # Distances shorter than the texts were tried with all else; nothing is known of texts beyond the others.
    limits = [limit for limit in limits if limit >= LENGTH]
    # Rows that share a pass share its rotary frequencies, which beyond such a border are others.
    limits += [scaling.border for scaling in scalings_of(model)]
    limit = min(limits, default=None)
    return replace(ways, depth_limit=ways.depth_limit or limit)


def mask_for(model: Any, ways: Ways) -> MakeMask | None:
    """Return the function that makes the masks of packed rows; None where the ways need none."""
    config = model.config.get_text_config()
    return mask_of(ways.pack, config, window_of(config), model.dtype) if ways.pack else None


def _best(trial: Trial, config: Any) -> Ways:
    alone = trial.alone_before_head() if trial.anatomy.layout.is_plain() else None
    return (None if alone is None else _shared(trial, config, alone)) or _plain(trial)


def _shared(trial: Trial, config: Any, alone: torch.Tensor) -> Ways | None:
    """Return the most that can be shared where the head can run separately; None if nothing can.

    Args:
        trial: The texts.
        config: The text configuration.
        alone: x^L ``[token, hidden]`` of the short text, run by itself.
    """
    truth: dict[Variant, torch.Tensor] = {(): trial.true_vectors(())}
    if not trial.near(alone, truth[()][0, : len(alone)]):  # it begins the first text
        return None  # other rows or later tokens change it
    removed = _sure_layer(trial)
    if removed is not None:
        truth[removed] = trial.true_vectors(removed)

    def is_right(ways: Ways) -> bool:
        return trial.gives(ways, mask_for(trial.model, ways), truth)

    forms = list(_forms(config))
    most = Ways(head=True, stream=True, pack=forms[0], prefix=True)
    if is_right(most):
        return most
    ways = next((w for w in (Ways(head=True, stream=True), Ways(head=True)) if is_right(w)), None)
    if ways is None:
        return None
    packed = (replace(ways, pack=form) for form in forms)
    ways = next(filter(is_right, packed), ways)
    prefix = replace(ways, prefix=True)
    return prefix if is_right(prefix) else ways


def _plain(trial: Trial) -> Ways:
    """Return the way in which whole passes over batched texts give right numbers."""
    removed = _sure_layer(trial, settled=True)
    variants = [(), *filter(None, [removed])]
    truth = {variant: settle(trial, variant, trial.requests)[0] for variant in variants}
    # Plain batches; of one length, where padding has an effect; each text alone, where later tokens have.
    for removal in ("skip", "delete"):
        for same_length, alone in ((False, None), (True, None), (True, 1)):
            ways = Ways(removal, same_length, depth_limit=alone)
            try:
                found = trial.scores(trial.requests, ways, variants, alone=False)
            except TRIED:
                continue
            if all(true is not None and trial.agree(found[variant], true) for variant, true in truth.items()):
                return ways
    raise MeasureError(
        "Texts get other scores together than one by one.",
        "prune-sweep cannot run this model.",
    )


def _sure_layer(trial: Trial, settled: bool = False) -> Variant | None:
    """Return a layer without which the model surely runs, preferably a middle one; None if there is none.

    Args:
        trial: The texts.
        settled: Whether whole answers must be certain, also where the head cannot run separately.
    """
    layers = trial.anatomy.layers
    if layers == 1:
        return None
    for layer in dict.fromkeys((layers // 2, layers - 1, 0)):
        variant = (layer,)
        if not settled:
            try:
                passed = trial.few_passed(variant)
            except TRIED:
                continue
            run = trial.few_without([variant])
            if variant in run and trial.near(passed, run[variant]):
                return variant
        truth, ways = settle(trial, variant, [trial.few_request])
        if truth is not None and (settled or "skip" in ways):
            return variant
    return None


def _forms(config: Any) -> Iterator[str]:
    """Yield the forms of mask that the model may accept, the likeliest first."""
    kinds, window = getattr(config, "layer_types", None), window_of(config)
    if window is not None:
        if kinds:
            yield "types"
        yield "window"
    yield "full"
    if window is None and kinds:
        yield "types"


def check_removals(
    model: nn.Module,
    anatomy: Anatomy,
    device: torch.device,
    context: int | None,
    ways: Ways,
    variants: Sequence[Variant],
    advance: Callable[[int], None] = lambda count: None,
) -> dict[Variant, frozenset[str]]:
    """Return which ways of removing each variant's layers are right, tried on one short text each.

    Passing through, as it will be done (``ways``), is checked against running the blocks and discarding what
    they return, for which many variants share a batch. Where the two differ, deletion decides.

    Args:
        model: The model.
        anatomy: Its anatomy.
        device: Where token ids go.
        context: The most tokens the model reads; None if nothing limits it.
        ways: As :func:`find_ways` found them.
        variants: Sorted layers to remove.
        advance: Called with 1 for every variant that is settled.

    Raises:
        MeasureError: if the model cannot be run without the layers of a variant.
    """
    trial = Trial(model, anatomy, device, context)
    right: dict[Variant, frozenset[str]] = {}
    if ways.head and ways.removal == "skip":
        run = trial.few_without(variants)
        for variant, passed in _passed(trial, ways, list(run)):
            if trial.near(passed, run[variant]):
                right[variant] = frozenset({"skip", "discard"})
                advance(1)
    stuck = []
    for variant in (variant for variant in variants if variant not in right):
        truth, sure = settle(trial, variant, [trial.few_request])
        if truth is None:
            stuck.append(variant)
        if "skip" in sure and ways.head and not _passes_alike(trial, ways, variant):
            sure -= {"skip"}
        right[variant] = sure
        advance(1)
    if stuck:
        raise MeasureError(
            f"The model cannot run without {names_of(stuck)}: later blocks use what is computed there.",
            "Choose others with --layers.",
        )
    return right


def _passed(trial: Trial, ways: Ways, variants: Sequence[Variant]) -> Iterator[tuple[Variant, torch.Tensor]]:
    """Yield what the head would read in each variant, run in these ways, except those that cannot run."""
    mask = mask_for(trial.model, ways)
    try:
        yield from trial.few_in(ways, mask, variants).items()
    except TRIED:
        for variant in variants:
            try:
                found = trial.few_in(ways, mask, [variant])
            except TRIED:
                continue
            yield from found.items()


def _passes_alike(trial: Trial, ways: Ways, variant: Variant) -> bool:
    """Return whether these ways give the same as a plain pass in which the blocks are passed through."""
    return all(trial.near(found, trial.few_passed(variant)) for _, found in _passed(trial, ways, [variant]))


def settle(
    trial: Trial, variant: Variant, requests: Sequence[ScoreRequest]
) -> tuple[np.ndarray | None, frozenset[str]]:
    """Return the scores of requests, one by one, without the layers of a variant, and the ways that agree.

    The scores are None if no way can be trusted.

    Three ways are tried: passing the stream through, running the block and discarding what it
    returns, and deleting it. Deletion is what is meant, but not every model can be cut so that the rest
    still counts its layers correctly. So deletion is believed where another way confirms it, the other two
    where they confirm each other, and passing through where deletion cannot run.
    """
    found: dict[str, np.ndarray] = {}
    for removal in ("skip", "discard", "delete"):
        try:
            found[removal] = trial.scores(requests, Ways(removal=removal), [variant], alone=True)[variant]
        except (*TRIED, MeasureError):
            continue
    for one, other in (("delete", "skip"), ("delete", "discard"), ("skip", "discard")):
        if one in found and other in found and trial.agree(found[other], found[one]):
            truth = found[one]
            return truth, frozenset(way for way in found if trial.agree(found[way], truth))
    if "skip" in found and "delete" not in found:
        # What a block that is run and discarded keeps for later ones still acts.
        return found["skip"], frozenset({"skip"})
    return None, frozenset()


def names_of(variants: Sequence[Variant]) -> str:
    """Return ``layer 3`` or ``layers 3+4, 5+6`` for a sentence."""
    names = ["+".join(map(str, variant)) for variant in variants]
    shown = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    return f"layer{'s' if len(names) > 1 or '+' in shown else ''} {shown}"
