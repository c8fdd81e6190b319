"""What a table of angular distances says: the best block of each size, and the model's quiet stretch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from depthprobe.errors import RunError
from depthprobe.findings.checks import check_table
from depthprobe.findings.words import spans

STEM, WHAT = "angular", "angular distances"
_COLUMNS = ("layer", "n", "distance", "std", "samples")


@dataclass(frozen=True)
class QuietStretch:
    """Consecutive layers that each turn the stream less than the median layer does.

    ``first`` and ``last`` are 0-based and inclusive; ``lowest`` and ``highest`` are the smallest and
    largest angular distance of one of these layers, as a fraction of pi.
    """

    first: int
    last: int
    lowest: float
    highest: float


@dataclass(frozen=True)
class AngularFindings:
    """What a table of angular distances says.

    Args:
        distances: The table: layer, n, distance, std, samples.
        layers: How many layers the model has.
        best: For each block size n the best block to remove, see :func:`best_blocks`.
        turns: The distance across each single layer (n = 1), by layer in order.
        quiet: The quiet stretch; None if no layer is below the median.
    """

    distances: pd.DataFrame
    layers: int
    best: pd.DataFrame
    turns: pd.Series
    quiet: QuietStretch | None

    @property
    def removable(self) -> pd.DataFrame:
        """``best`` without the whole model, which is no block to remove unless it is all there is."""
        smaller = self.best["n"] < self.layers
        return self.best[smaller | (len(self.best) == 1)].reset_index(drop=True)

    @property
    def sentences(self) -> list[str]:
        """Where the quiet stretch lies, and how that compares."""
        return [_quiet_sentence(self)]


def read(
    tables: Mapping[str, pd.DataFrame], facts: Mapping[str, Any] | None = None, layers: int | None = None
) -> AngularFindings:
    """Return what the table ``angular`` says; arguments and errors as :func:`of_runs.findings_in`."""
    frame = tables[STEM]
    check_table(frame, WHAT, _COLUMNS, ["distance"])
    if frame["layer"].min() < 0 or frame["n"].min() < 1:
        raise RunError(f"The table of {WHAT} has a layer below 0 or an n below 1.")
    single = frame[frame["n"] == 1]
    if single.empty:
        raise RunError(f"The table of {WHAT} has no rows with n = 1.")
    turns = single.set_index("layer")["distance"].sort_index()
    there = int((frame["layer"] + frame["n"]).max())
    if layers is not None and there > layers:
        raise RunError(
            f"The table of {WHAT} has a block up to layer {there - 1} of a model of {layers} layers."
        )
    return AngularFindings(frame, max(there, layers or 0), best_blocks(frame), turns, quiet_stretch(turns))


def best_blocks(frame: pd.DataFrame) -> pd.DataFrame:
    """Return for each block size n the block whose removal the angular distance recommends, one row per n.

    Returns:
        Columns n, layer, last_layer (both 0-based, inclusive), distance, std, samples, and removed: the
        layers as text, ``25-27`` or ``25``. Among equal distances the smallest layer counts.

    Source: Gromov et al. 2403.17887, eq. 7 and 8: l*(n) = argmin over l of d(x^l, x^{l+n}).
    """
    ordered = frame.sort_values(["n", "distance", "layer"], kind="stable")
    best = ordered.drop_duplicates("n").reset_index(drop=True)
    best["last_layer"] = best["layer"] + best["n"] - 1
    best["removed"] = [
        spans(range(first, last + 1)) for first, last in zip(best["layer"], best["last_layer"], strict=True)
    ]
    return best[["n", "layer", "last_layer", "distance", "std", "samples", "removed"]]


def quiet_stretch(turns: pd.Series) -> QuietStretch | None:
    """Return the longest run of consecutive layers below the median distance; None if no layer is below.

    Among equally long runs the one with the smaller mean distance counts, then the earlier one.
    """
    layers, distances = turns.index.to_numpy(), turns.to_numpy(dtype="float64")
    quiet = np.flatnonzero(distances < np.median(distances))
    if not quiet.size:
        return None
    breaks = np.flatnonzero((np.diff(quiet) > 1) | (np.diff(layers[quiet]) > 1)) + 1
    runs = np.split(quiet, breaks)
    run = min(runs, key=lambda members: (-len(members), distances[members].mean()))
    inside = distances[run]
    return QuietStretch(int(layers[run[0]]), int(layers[run[-1]]), float(inside.min()), float(inside.max()))


def decimals_for(distance: float) -> int:
    """Return how many decimals show at least two digits of a distance: 3, or more (to 6) for small ones."""
    return 3 if distance <= 0 else int(np.clip(1 - math.floor(math.log10(distance)), 3, 6))


def _quiet_sentence(found: AngularFindings) -> str:
    """Distances are angles as a fraction of pi, so 0.5 is a right angle."""
    turns, stretch = found.turns, found.quiet
    median = float(turns.median())
    spoken = f"{{:.{decimals_for(median)}f}}".format
    if len(turns) == 1:
        return f"The only layer, {turns.index[0]}, turns the stream by {spoken(median)}."
    if stretch is None:
        # Not one below the median: at least half of the layers share the smallest distance.
        if turns.nunique() == 1:
            return f"No quiet stretch: each of the {len(turns)} layers turns the stream by {spoken(median)}."
        median_of = f"the median over all {len(turns)} layers, {spoken(median)}"
        return f"No quiet stretch: no layer is below {median_of}."
    count = stretch.last - stretch.first + 1
    low, high = spoken(stretch.lowest), spoken(stretch.highest)
    if count == 1:
        where = f"layer {stretch.first} (1 of {len(turns)}, 0-based) turns the stream by {low}"
    else:
        span = low if low == high else f"{low}-{high}"
        where = (
            f"layers {stretch.first}-{stretch.last} ({count} of {len(turns)}, 0-based) "
            f"turn the stream by {span} each"
        )
    return (
        f"Quiet stretch: {where}; the median over all layers is {spoken(median)}, "
        f"the largest is layer {turns.idxmax()} with {spoken(turns.max())}."
    )
