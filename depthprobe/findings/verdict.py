"""What a model's runs say together, in careful sentences made from the numbers, and what they cannot say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from depthprobe.catalogue import ANGULAR, PRUNE_SWEEP, VARIANCE
from depthprobe.findings.drops import CALIBRATION, Drops
from depthprobe.findings.layer_rows import LayerRows
from depthprobe.findings.study import Study
from depthprobe.findings.thirds import FEWEST_LAYERS, ComparedThirds, compared_thirds
from depthprobe.findings.words import layers_named, significant


def verdict(study: Study, by_layer: pd.DataFrame, measured: Sequence[Drops]) -> list[str]:
    """Return sentences on a model, most important first; none for what was not measured.

    How many layers can go one at a time without a detectable drop; where the model is quiet; whether the deep
    third does less than the shallow one; how the stream grows; what all this leaves open.

    Args:
        study: The runs.
        by_layer: One row a layer.
        measured: The drops of single layers on each task.
    """
    said: list[str] = []
    losses = 0  # one is told: sweeps of other tasks have the same
    for sweep in study.swept:
        for drops in sweep.tasks:
            losses += drops.task == CALIBRATION
            if drops.task != CALIBRATION or losses == 1:
                said.append(drops.reading)
    found = study.found
    said += found[ANGULAR.name].sentences if ANGULAR.name in found else []
    said += _pattern(study.layers, by_layer, measured)
    said += found[VARIANCE.name].sentences if VARIANCE.name in found else []
    for other in found.values():
        said += other.sentences if isinstance(other, LayerRows) else []
    return said + _limits(study)


def _pattern(layers: int, by_layer: pd.DataFrame, measured: Sequence[Drops]) -> list[str]:
    """Whether the curse of depth shows: deep layers turn the stream less, and cost less to remove."""
    if layers < FEWEST_LAYERS:
        return [f"With {layers} layers, deep and shallow thirds are too small to be compared."]
    said: list[str] = []
    signs: dict[str, int | None] = {}
    if "angular_distance" in by_layer:
        values = by_layer["angular_distance"].to_numpy(dtype="float64")
        found = [compared_thirds(values, ends=ends) for ends in (True, False)]
        said += _compared("angular distance across one layer", found)
        signs["angular distance"] = _sign(found)
    for drops in measured:
        harm = _harm_by_layer(layers, drops)
        found = [None] if harm is None else [compared_thirds(harm, ends=ends) for ends in (True, False)]
        said += _compared(f"harm of removing one layer ({drops.task}, {drops.words})", found)
        what = "calibration loss" if drops.task == CALIBRATION else drops.task
        signs[f"measured harm on {what}"] = _sign(found)
    if not said:
        return []
    return [f"The curse-of-depth pattern {_shown(signs)}.", *said]


def _shown(signs: dict[str, int | None]) -> str:
    """How far the pattern shows, by the sign of every measure: -1 where the deep third does less."""
    by_sign = {side: [measure for measure, sign in signs.items() if sign == side] for side in (-1, 0, 1)}
    less, unclear, more = (", ".join(by_sign[side]) for side in (-1, 0, 1))
    if less and not unclear and not more:
        return (
            f"holds here by all that was compared ({less}): the deep third does less, with and without the "
            "end layers"
        )
    rest = f"; it is not clear by {unclear}" if unclear else ""
    if less:
        return f"holds by {less}{f'; it is reversed by {more}' if more else ''}{rest}"
    if more:
        return f"does not hold here: the deep third does more by {more}{rest}"
    return "is not decided by these runs"


def _harm_by_layer(layers: int, drops: Drops) -> NDArray[np.float64] | None:
    """How much worse each layer's removal makes a task, ``[layer]``; None where layers are missing."""
    if list(drops.rows["layer"]) != list(range(layers)):
        return None
    return drops.harm


def _compared(what: str, found: list[ComparedThirds | None]) -> list[str]:
    """A sentence on a quantity's thirds, with the end layers and without."""
    told = [_third_against_third(one) for one in found if one is not None]
    return [f"Mean {what}: {'; without the first and the last layer, '.join(told)}."] if told else []


def _third_against_third(found: ComparedThirds) -> str:
    deep, shallow = (
        f"{significant(value)} over {layers_named(range(first, last + 1))}"
        for value, (first, last) in (
            (found.deep, found.deep_layers),
            (found.shallow, found.shallow_layers),
        )
    )
    low, high = significant(found.low), significant(found.high)
    few = found.shallow_layers[0] > 0 and found.deep_layers[1] - found.deep_layers[0] < 4
    rough = ", rough with so few layers" if few else ""
    return (
        f"{deep} against {shallow}, difference {significant(found.difference)} "
        f"(95% interval over layers {low} to {high}{rough})"
    )


def _sign(found: list[ComparedThirds | None]) -> int | None:
    """The sign on which both ways of counting agree, 0 where they do not, None where nothing is known."""
    signs = {one.sign for one in found if one is not None}
    return None if not signs else signs.pop() if len(signs) == 1 else 0


def _limits(study: Study) -> list[str]:
    """What the numbers at hand cannot say."""
    said = []
    if study.sweeps:
        single = all(sweep.block == 1 for sweep in study.swept)
        what = "one layer" if single else "one block"
        said.append(
            f"Each drop is of {what} removed from the whole model, without fine-tuning: drops do not add up, "
            "and what several removals cost together must be measured."
        )
        said.append(
            "A layer without a detectable drop on these tasks may matter for others, for longer texts or for "
            "generation."
        )
    if ANGULAR.name in study.runs or VARIANCE.name in study.runs:
        said.append(
            "Distances, influences and variances say how much a layer changes the stream, not whether the "
            f"change is of use{'' if study.sweeps else f'; that is what {PRUNE_SWEEP.name} measures'}."
        )
    return said
