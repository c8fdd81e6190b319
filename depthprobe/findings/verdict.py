"""What a model's runs say together, in careful sentences made from the numbers, and what they cannot say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

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
    """
    swept = [drops for sweep in study.swept for drops in sweep.tasks]
    # One calibration loss is enough: sweeps of other tasks have the same.
    loss = next((drops for drops in swept if drops.task == CALIBRATION), None)
    said = [drops.reading for drops in swept if drops.task != CALIBRATION or drops is loss]
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
    compared = {}
    if "angular_distance" in by_layer:
        values = by_layer["angular_distance"].to_numpy(dtype="float64")
        compared["angular distance"] = ("angular distance across one layer", values)
    for drops in measured:
        name = f"measured harm on {'calibration loss' if drops.task == CALIBRATION else drops.task}"
        words = f"harm of removing one layer ({drops.task}, {drops.words})"
        # A sweep of some layers has no thirds.
        compared[name] = (words, drops.harm if len(drops.rows) == layers else np.full(layers, np.nan))
    said, signs = [], {}
    for name, (words, values) in compared.items():
        both = [compared_thirds(values, ends=ends) for ends in (True, False)]
        found = [one for one in both if one is not None]
        if found:
            told = "; without the first and the last layer, ".join(map(_third_against_third, found))
            said.append(f"Mean {words}: {told}.")
            # One that only shows with the end layers, or without them, is not clear.
            signs[name] = found[0].sign if len({one.sign for one in found}) == 1 else 0
    return [f"The curse-of-depth pattern {_shown(signs)}.", *said] if said else []


def _shown(signs: dict[str, int]) -> str:
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


def _third_against_third(found: ComparedThirds) -> str:
    deep, shallow = (
        f"{significant(value)} over {layers_named(layers)}"
        for value, layers in ((found.deep, found.deep_layers), (found.shallow, found.shallow_layers))
    )
    low, high = significant(found.low), significant(found.high)
    few = found.shallow_layers.start > 0 and len(found.deep_layers) < 5
    rough = ", rough with so few layers" if few else ""
    return (
        f"{deep} against {shallow}, difference {significant(found.difference)} "
        f"(95% interval over layers {low} to {high}{rough})"
    )


def _limits(study: Study) -> list[str]:
    """What the numbers at hand cannot say."""
    said = []
    if study.sweeps:
        what = "one layer" if all(sweep.block == 1 for sweep in study.swept) else "one block"
        said += [
            f"Each drop is of {what} removed from the whole model, without fine-tuning: drops do not add up, "
            "and what several removals cost together must be measured.",
            "A layer without a detectable drop on these tasks may matter for others, for longer texts or for "
            "generation.",
        ]
    if ANGULAR.name in study.runs or VARIANCE.name in study.runs:
        said.append(
            "Distances, influences and variances say how much a layer changes the stream, not whether the "
            f"change is of use{'' if study.sweeps else f'; that is what {PRUNE_SWEEP.name} measures'}."
        )
    return said
