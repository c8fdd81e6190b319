"""The drops of a task in sentences: first whether its items can tell, then what they show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from depthprobe.findings.evidence import ALPHA, Mask
from depthprobe.findings.words import about, capital, counted, layers_named, spans, spoken

if TYPE_CHECKING:
    from depthprobe.findings.drops import Drops

_MOST_WORST = 3


def reading(drops: Drops) -> str:
    """Return what the items cannot tell, which drops are small or detectable, and the worst layers."""
    first, *more = [*_too_few(drops), *_small(drops), *_detectable(drops), *_open(drops)]
    head = f"{drops.name} ({', '.join(filter(None, [drops.words, drops.covered]))}): {first}"
    return " ".join([head, *map(capital, more), *_worst(drops), *_at_chance(drops)])


def too_few(drops: Drops) -> str:
    """Return the sentence that says what these items cannot tell; empty if they are enough."""
    return next(map(capital, _too_few(drops)), "")


def why_too_few(drops: Drops) -> str:
    """Return how large a drop could have been missed, and against what that is large, as half a sentence."""
    found = drops.evidence
    unit = " nats a token" if drops.metric == "loss" else ""
    size = f"{_a_change(drops)} of {spoken(found.missed, drops.decimals)}{unit}"
    if drops.higher_is_better and found.missed >= max(1.0, drops.baseline):
        size = f"any {drops.change}"  # on scores from 0 to 1
    said = f"{size} could have been missed"
    level = spoken(drops.baseline, max(3, drops.decimals))
    if found.above is not None and found.above <= 0:
        return f"{said}, and the whole model ({level}) is not above chance ({drops.chance:.3g})"
    if found.at_chance:
        return f"{said}, and the whole model ({level}) is not clearly above chance ({drops.chance:.3g})"
    if found.above is not None and found.missed >= found.above:
        return f"{said}, and the whole model is only {spoken(found.above, 3)} above chance"
    return f"{said}, more than the {margin(drops)} that would count as small"


def would_do(drops: Drops) -> str:
    """Return how many items would be enough, as a clause that ends a sentence; empty where none would."""
    found = drops.evidence
    if found.guesses:
        return "; no number of items shows what a layer does for a model that guesses"
    if found.needed <= found.docs:
        return ""
    shown = f"{_a_change(drops)} of {_in_unit(drops, found.size)}"
    return f"; about {about(found.needed)} {drops.noun}s would show {shown}"


def margin(drops: Drops) -> str:
    """Return the drop below which one counts as small, as text: ``0.05``, ``0.05 nats a token``."""
    return _in_unit(drops, drops.evidence.small)


def _in_unit(drops: Drops, size: float) -> str:
    return f"{size:.3g}{' nats a token' if drops.metric == 'loss' else ''}"


def removals_named(drops: Drops, mask: Mask | slice) -> str:
    """Return the removals of a mask with their noun: ``layers 0, 5-7``, ``blocks beginning at 3``."""
    layers = drops.rows["layer"].to_numpy()[mask].tolist()
    if drops.block == 1:
        return layers_named(layers)
    return f"the block{'s' * (len(layers) != 1)} of {drops.block} layers beginning at {spans(layers)}"


def jointly(drops: Drops) -> str:
    """Return which intervals show that drops are small."""
    tests = len(drops.rows)
    return "95% interval" if tests == 1 else f"95% intervals adjusted for {tests} removals"


def all_of(drops: Drops) -> str:
    """Return every removal, counted: ``12 layers``, ``3 removed layers``, ``9 blocks of 4 layers``."""
    kind = "removed " if drops.covered else ""
    if drops.block == 1:
        return counted(len(drops.rows), f"{kind}layer")
    return f"{counted(len(drops.rows), f'{kind}block')} of {drops.block} layers"


def any_of_all(drops: Drops, any_of: str = "any of") -> str:
    """Return of what a statement holds that is about every removal.

    ``any of the 12 layers``; where not all of the model's were removed ``any of layers 3, 5 (2 of 12 were
    removed)``; of a single one ``layer 0 (1 of 12 was removed)``.

    Args:
        drops: The removals.
        any_of: How it begins where there are several.
    """
    total = len(drops.rows)
    if not drops.covered and total > 1:
        return f"{any_of} the {all_of(drops)}"
    named = removals_named(drops, slice(None))
    where = named_removed(drops)
    return f"{named}{where}" if total == 1 else f"{any_of} {named}{where}"


def named_removed(drops: Drops) -> str:
    """Return in brackets how many of the possible removals were made; empty if all were."""
    if not drops.covered:
        return ""
    total = len(drops.rows)
    return f" ({total:,} of {drops.possible:,} {'was' if total == 1 else 'were'} removed)"


def _of_all(drops: Drops, mask: Mask) -> str:
    """How many of all removals, and which: ``3 of 12 layers (7-9)``."""
    if len(drops.rows) == 1:
        return any_of_all(drops)
    where = "" if drops.block == 1 else "beginning at "
    return f"{mask.sum():,} of {all_of(drops)} ({where}{spans(drops.rows['layer'].to_numpy()[mask])})"


def _too_few(drops: Drops) -> list[str]:
    found = drops.evidence
    if not found.short:
        return []
    what = f"{_of_all(drops, found.open)} matter{'s' * (int(found.open.sum()) == 1)}"
    if found.open.all():
        what = f"{any_of_all(drops)} matters"
    these = f"this single {drops.noun}" if found.docs == 1 else f"these {drops.items}"
    said = f"{these} cannot tell whether {what}: {why_too_few(drops)}{would_do(drops)}."
    return [said]


def _a_change(drops: Drops) -> str:
    return "an increase" if drops.change == "increase" else "a drop"


def _small(drops: Drops) -> list[str]:
    found = drops.evidence
    if not found.below.any():
        return []
    return [
        f"the {drops.change} is shown to be below {margin(drops)} for {_of_all(drops, found.below)}, each "
        f"removed alone ({jointly(drops)})."
    ]


def _detectable(drops: Drops) -> list[str]:
    found, said = drops.evidence, []
    if found.worse.any():
        which = any_of_all(drops, "any one of") if found.worse.all() else _of_all(drops, found.worse)
        said.append(f"detectably worse without {which}; Holm-adjusted p < {ALPHA}.")
    if found.better.any():
        said.append(f"detectably better without {removals_named(drops, found.better)}.")
    return said


def _open(drops: Drops) -> list[str]:
    """What the items would have been enough for and still did not decide."""
    found = drops.evidence
    if found.short or not found.open.any():
        return []
    which = _of_all(drops, found.open)
    return [f"the {drops.change} is neither detectable nor shown to be below {margin(drops)} for {which}."]


def _worst(drops: Drops) -> list[str]:
    """The largest harm, and how much of what the model knows above chance goes with the worst layers."""
    harm, change, found = drops.harm, drops.change, drops.evidence
    worst = [int(index) for index in np.argsort(-harm, kind="stable")[:_MOST_WORST] if harm[index] > 0]
    if not worst:
        return [f"There is no {change}: no removal made the model worse."]
    layers = drops.rows["layer"].to_numpy()
    names = [f"layer{'s' * (drops.block > 1)} {drops.removed(layers[index])}" for index in worst]
    row = drops.rows.iloc[worst[0]]
    drop, low, high = (
        spoken(row[name], drops.decimals, signed=True) for name in ("drop", "ci_low", "ci_high")
    )
    noise = "" if found.worse[worst[0]] else ", not detectable"
    said = [f"The largest {change} is that of {names[0]}: {drop} (95% interval {low} to {high}){noise}."]
    shares = drops.relevance
    known = [(index, name) for index, name in zip(worst, names, strict=True) if found.worse[index]]
    # Of what is noise no share can be told.
    if shares is not None and known and not found.at_chance:
        each = ", ".join(f"{spoken(shares[index], 2)} ({name})" for index, name in known)
        said.append(f"Chance-corrected relevance (1: only guessing is left): {each}.")
    return said


def _at_chance(drops: Drops) -> list[str]:
    """A warning where the whole model only guesses, unless that was said already."""
    found = drops.evidence
    if not found.at_chance or found.short:
        return []
    level = spoken(drops.baseline, max(3, drops.decimals))
    clearly = "clearly " if (found.above or 0) > 0 else ""
    return [
        f"The whole model ({level}) is not {clearly}above chance ({drops.chance:.3g}): drops say little here."
    ]
