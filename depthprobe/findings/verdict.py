"""What a model's runs say together: a sentence to quote, a few short points, and the readings behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from depthprobe.catalogue import ANGULAR, GRADNORM, PRUNE_SWEEP, VARIANCE
from depthprobe.findings.depth_pattern import pattern_point, pattern_sentences
from depthprobe.findings.drop_sentences import (
    all_of,
    any_of_all,
    margin,
    named_removed,
    removals_named,
    why_too_few,
    would_do,
)
from depthprobe.findings.drops import CALIBRATION, Drops
from depthprobe.findings.layer_rows import LayerRows
from depthprobe.findings.study import Study
from depthprobe.findings.words import layers_named, listed, spans, spoken

MOST_POINTS = 5
# Of more tasks only their number is told.
_MOST_TASKS = 3


@dataclass(frozen=True)
class Verdict:
    """What a model's runs say together.

    Args:
        sentence: One that can be quoted. Where the tasks' items cannot tell, it begins with that.
        points: At most five short ones, most important first, the last on what the numbers leave open.
        readings: What each run says by itself, at length.
    """

    sentence: str
    points: tuple[str, ...]
    readings: tuple[str, ...]

    @property
    def lines(self) -> list[str]:
        """The sentence and the points, one below the other."""
        return [self.sentence, *(f"- {point}" for point in self.points)]


def verdict(study: Study, by_layer: pd.DataFrame, measured: Sequence[Drops]) -> Verdict:
    """Return what a model's runs say.

    Args:
        study: The runs.
        by_layer: As ``Findings`` has it.
        measured: The drops of single layers, the calibration loss last.
    """
    # Where only blocks were removed, their drops are all there is.
    drops = list(measured) or [each for sweep in study.swept for each in sweep.tasks]
    tasks = [each for each in drops if each.task != CALIBRATION]
    loss = next((each for each in drops if each.task == CALIBRATION), None)
    found = study.found
    quiet = found[ANGULAR.name].sentences[:1] if ANGULAR.name in found else []
    grown = [found[VARIANCE.name].summary] if VARIANCE.name in found else []
    others = [one for says in found.values() if isinstance(says, LayerRows) for one in says.sentences]
    others += found[GRADNORM.name].sentences if GRADNORM.name in found else []

    points = _largest(tasks or ([loss] if loss else []), loss if tasks else None)
    points += quiet + pattern_point(study.layers, by_layer, measured) + grown
    if tasks:
        sentence = _on_tasks(tasks)
    elif loss is not None:
        sentence = _on_one(loss)
    else:
        # Whatever was measured instead; it is not said twice.
        sentence = next(iter([*quiet, *grown, *others]), "Nothing was measured of single layers.")
        points = [point for point in [*points, *others] if point != sentence]
    kept = [*points, *others][: MOST_POINTS - 1] if drops else points[: MOST_POINTS - 1]
    return Verdict(sentence, (*kept, *_open(study)), tuple(_readings(study, by_layer, measured)))


def _readings(study: Study, by_layer: pd.DataFrame, measured: Sequence[Drops]) -> list[str]:
    """What each run says at length: the drops of each task, the profiles, the thirds of the layers."""
    blocks = [drops for sweep in study.swept if sweep.block > 1 for drops in sweep.tasks]
    said = [drops.reading for drops in (*measured, *blocks)]
    for says in study.found.values():
        said += says.sentences
    return said + pattern_sentences(study.layers, by_layer, measured)


def _on_tasks(tasks: Sequence[Drops]) -> str:
    """The sentence to quote of measured drops: what the items cannot tell before what they show."""
    if len(tasks) == 1:
        return _on_one(tasks[0])
    short = [drops for drops in tasks if drops.evidence.short and not drops.evidence.below.any()]
    telling = [drops for drops in tasks if drops not in short]
    if not telling:
        worst = max(short, key=lambda drops: drops.evidence.missed)
        what = f"{any_of_all(short[0])} matters"
        why = f"on {worst.name} {why_too_few(worst)}{would_do(worst)}"
        return f"The items of {_tasks_named(short)} cannot tell whether {what}: {why}."
    if len(telling) == 1:
        return f"The items of {_tasks_named(short)} are too few to tell; {_uncapital(_on_one(telling[0]))}"
    few = f"The items of {_tasks_named(short)} are too few to tell; on" if short else "On"
    below, worse = (
        sorted(set.intersection(*(set(_layers(drops, name)) for drops in telling)))
        for name in ("below", "worse")
    )
    margins = list(dict.fromkeys(margin(drops) for drops in telling))
    cost = f"cost less than {margins[0] if len(margins) == 1 else 'a small margin'} on each"
    first, each = telling[0], " on each of them"
    shown = f"{_is_small(first, below, cost)}, and {_is_worse(first, worse)}{each}"
    return f"{few} {_tasks_named(telling)}, {shown}."


def _on_one(drops: Drops) -> str:
    """The sentence to quote of one task, or of the calibration loss."""
    found = drops.evidence
    small, worse = _layers(drops, "below"), _layers(drops, "worse")
    where = drops.name
    clauses = [
        _is_small(drops, small, f"cost less than {margin(drops)} in {drops.words}"),
        _is_worse(drops, worse),
    ]
    known = [small, worse]
    if drops.task == CALIBRATION:
        where, known = "calibration text", [worse, small]
        raised = f"removing {_any_of(drops, worse)} raises" if worse else f"{_no_removal(drops)} raises"
        clauses = [
            f"{raised} the loss detectably",
            _is_small(drops, small, f"raise {'it' if worse else 'the loss'} by less than {margin(drops)}"),
        ]
    if not found.short:
        return f"On {where}, {', and '.join(clauses)}."
    what = f"{any_of_all(drops)} matters"
    if not found.open.all():
        layers = _layers(drops, "open")
        what = f"{len(layers)} of {all_of(drops)} ({spans(layers)}) matter{'s' * (len(layers) == 1)}"
    told = [clause for clause, layers in zip(clauses, known, strict=True) if layers]
    rest = f"; {', and '.join(told)}" if told else ""
    why = f"{why_too_few(drops)}{would_do(drops)}"
    items = drops.items if found.docs > 1 else f"single {drops.noun}"
    return f"The {items} of {where} cannot tell whether {what}: {why}{rest}."


def _is_small(drops: Drops, layers: Sequence[int], cost: str) -> str:
    removing = f"removing {_any_of(drops, layers)}" if layers else _no_removal(drops)
    return f"{removing} is shown to {cost} (joint 95% intervals)"


def _is_worse(drops: Drops, layers: Sequence[int]) -> str:
    removing = f"removing {_any_of(drops, layers)}" if layers else _no_removal(drops)
    return f"{removing} makes the model detectably worse"


def _layers(drops: Drops, name: str) -> list[int]:
    """The first layers of the removals of which something is shown."""
    return drops.rows["layer"].to_numpy()[getattr(drops.evidence, name)].tolist()


def _no_removal(drops: Drops) -> str:
    which = removals_named(drops, slice(None))
    return f"no removal of {which}{named_removed(drops)}" if drops.covered else "no removal"


def _any_of(drops: Drops, layers: Sequence[int]) -> str:
    """Removals of which one thing is true: ``layer 5 (1 of 12)``, ``any one of layers 5, 7-9 (4 of 12)``."""
    total = len(drops.rows)
    if len(layers) == total:
        return any_of_all(drops, "any one of")
    which = layers_named(layers)
    among = f"the {total:,} removed, of {drops.possible:,}" if drops.covered else f"{total:,}"
    if drops.block > 1:
        which = f"the block{'s' * (len(layers) > 1)} of {drops.block} layers beginning at {spans(layers)}"
    return f"{'any one of ' * (len(layers) > 1)}{which} ({len(layers):,} of {among})"


def _tasks_named(tasks: Sequence[Drops]) -> str:
    names = [drops.name for drops in tasks]
    return listed(names) if len(names) <= _MOST_TASKS else f"{len(names)} tasks ({', '.join(names)})"


def _uncapital(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _largest(found: Sequence[Drops], loss: Drops | None) -> list[str]:
    """The removal that costs most, by task, and what the calibration loss says beside them."""
    said = []
    for drops in found[:_MOST_TASKS]:
        index = int(np.argmax(drops.harm))
        if drops.harm[index] <= 0:
            said.append(f"none on {drops.name}")
            continue
        row = drops.rows.iloc[index]
        drop, low, high = (
            spoken(row[name], drops.decimals, signed=True) for name in ("drop", "ci_low", "ci_high")
        )
        noise = "" if drops.evidence.worse[index] else ", not detectable"
        which = layers_named(range(int(row["layer"]), int(row["layer"]) + drops.block))
        said.append(f"{which}, {drop} on {drops.name} (95% interval {low} to {high}{noise})")
    only = {drops.covered for drops in found[:_MOST_TASKS]}
    among = f" ({only.pop()})" if len(only) == 1 and any(only) else ""
    beside = [] if loss is None else [_on_one(loss)]
    return [" ".join([f"Largest harm{among}: {'; '.join(said)}.", *beside])] if said else []


def _open(study: Study) -> list[str]:
    """What the numbers at hand leave open."""
    if study.sweeps:
        one = "layers" if all(sweep.block == 1 for sweep in study.swept) else "blocks"
        return [
            f"Left open: drops are of single {one}, without fine-tuning, and do not add up; what is small on "
            "these tasks may matter on others, in longer texts or in generation."
        ]
    if ANGULAR.name in study.runs or VARIANCE.name in study.runs:
        return [
            "Left open: how much a layer changes the stream does not say whether the change is of use; "
            f"{PRUNE_SWEEP.name} measures that."
        ]
    return []
