"""Whether the curse of depth shows: deep layers turn the stream less, and cost less to remove.

Source: Sun et al., "The Curse of Depth in Large Language Models", 2502.05795; comparing thirds is ours.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from depthprobe.findings.drops import CALIBRATION, Drops
from depthprobe.findings.thirds import FEWEST_LAYERS, ComparedThirds, compared_thirds
from depthprobe.findings.words import layers_named, listed, significant

DEFINED = "curse of depth (deep layers do less than shallow ones; Sun et al. 2025, arXiv:2502.05795)"


def pattern_point(layers: int, by_layer: pd.DataFrame, measured: Sequence[Drops]) -> list[str]:
    """Return in a sentence how far the pattern shows; none where nothing measured could show it."""
    compared = _compared(layers, by_layer, measured)
    if not compared:
        return []
    if layers < FEWEST_LAYERS:
        return [
            f"The {DEFINED} cannot be looked for in {layers} layers: thirds of fewer than {FEWEST_LAYERS} "
            "layers are not compared."
        ]
    found = {name: _both_ways(values) for name, (_, values) in compared.items()}
    signs = {name: _clear_sign(both) for name, both in found.items() if both}
    return [f"The {DEFINED} {_shown(signs)}."] if signs else []


def pattern_sentences(layers: int, by_layer: pd.DataFrame, measured: Sequence[Drops]) -> list[str]:
    """Return the thirds of each measure with intervals, with the end layers and without them."""
    said = []
    for words, values in _compared(layers, by_layer, measured).values():
        found = _both_ways(values)
        if found:
            told = "; without the first and the last layer, ".join(map(_third_against_third, found))
            said.append(f"Mean {words}: {told}.")
    return said


def _compared(
    layers: int, by_layer: pd.DataFrame, measured: Sequence[Drops]
) -> dict[str, tuple[str, np.ndarray]]:
    """By name each measure's longer words and its values ``[layer]``, higher where a layer does more."""
    found = {}
    if "angular_distance" in by_layer:
        values = by_layer["angular_distance"].to_numpy(dtype="float64")
        found["angular distance"] = ("angular distance across one layer", values)
    for drops in measured:
        name = f"measured harm on {'calibration loss' if drops.task == CALIBRATION else drops.name}"
        values = drops.by_layer(layers)
        words = f"harm of removing one layer ({drops.name}, {drops.words})"
        found[name] = (words, -values if drops.higher_is_better else values)
    return found


def _both_ways(values: np.ndarray) -> list[ComparedThirds]:
    """The thirds with the end layers and without them; none of few layers, or of a sweep of some."""
    both = [compared_thirds(values, ends=ends) for ends in (True, False)]
    return [one for one in both if one is not None]


def _clear_sign(both: Sequence[ComparedThirds]) -> int:
    """-1 where the deep third does clearly less, with the end layers and without them."""
    return both[0].sign if len({one.sign for one in both}) == 1 else 0


def _shown(signs: dict[str, int]) -> str:
    """How far the pattern shows, by the sign of every measure: -1 where the deep third does less."""
    by_sign = {side: [measure for measure, sign in signs.items() if sign == side] for side in (-1, 0, 1)}
    less, unclear, more = (listed(by_sign[side]) for side in (-1, 0, 1))
    if less and not unclear and not more:
        by = less if len(signs) == 1 else f"all that was compared ({less})"
        return f"shows by {by}, with and without the end layers"
    rest = f"; not clear by {unclear}" if unclear else ""
    if less:
        return f"shows by {less}{f'; reversed by {more}' if more else ''}{rest}"
    if more:
        return f"does not show: the deep third does more by {more}{rest}"
    return f"is left open by {unclear}"


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
