"""What is measured of a layer, as an axis shows it: its words, its numbers, its scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from depthprobe.findings.drops import CALIBRATION
from depthprobe.findings.scores import words_of
from depthprobe.findings.words import capital, significant
from depthprobe.render.charts.drops import cut_rows
from depthprobe.render.charts.kit.lines import Axis, Curve, spans_a_decade, y_axis
from depthprobe.render.charts.kit.ticks import even_ticks, sparser, tick_labels
from depthprobe.render.charts.profiles import MAIN

# The logarithm of a growth is a measure; what an axis shows is the factor, on a logarithmic scale.
GROWTH = "variance_growth"

# Column of the layer table -> axis label, which may hold mathematics.
_LABELS = {
    "angular_distance": "Angular distance $d(l, l+1)$",
    "grad_norm": r"Gradient norm $\|\nabla_{\!\theta_l}\mathcal{L}\|_2$",
    GROWTH: r"Variance growth $\mathrm{Var}(x^{l+1})\,/\,\mathrm{Var}(x^l)$",
    f"drop_{CALIBRATION}": "Calibration-loss increase (nats/token)",
}
_PAD = 0.06
# How a layer beyond the axis is drawn near its end, and where there as a share of the axis.
CUT_LOOK = {
    "linestyle": "none",
    "marker": "^",
    "markersize": 3.6,
    "markerfacecolor": "white",
    "markeredgecolor": MAIN.color,
    "markeredgewidth": 0.8,
    "zorder": 6,
}
_NEAR_END = 0.06


@dataclass(frozen=True)
class Quantity:
    """One quantity of every layer, ready for an axis.

    Args:
        column: Its column of the layer table.
        words: What it is called, without mathematics, beginning with a capital.
        label: The same as an axis label.
        values: ``[layer]`` as drawn; NaN where not known, or where a logarithmic axis has no place for it.
        absent: The layers whose value a logarithmic axis has no place for, 0-based.
        cut: The few layers that lie beyond the axis, so that the others can be read; often none.
        logarithmic: Where the values span more than a decade, and for factors.
        axis: Where an axis ends that holds them, and its ticks.
    """

    column: str
    words: str
    label: str
    values: NDArray[np.float64]
    absent: tuple[int, ...]
    cut: tuple[int, ...]
    logarithmic: bool
    axis: Axis

    @property
    def curve(self) -> Curve:
        """The quantity over the layers."""
        return Curve(self.words, np.arange(len(self.values), dtype="float64"), self.values, MAIN)

    @property
    def cut_note(self) -> str:
        """Which layers lie beyond the axis, and where; empty for none."""
        far = ", ".join(f"layer {layer} at {significant(self.values[layer])}" for layer in self.cut)
        return f"axis cut: {far}" if far else ""

    def at(self, layer: int) -> float:
        """Where a layer stands on the axis: at its value, or, if it is cut, near the end it lies beyond."""
        low, high = self.axis.low, self.axis.high
        value = float(self.values[layer])
        if low <= value <= high:
            return value
        share = 1 - _NEAR_END if value > high else _NEAR_END
        return low * (high / low) ** share if self.logarithmic else low + share * (high - low)

    def with_labels(self, most: int) -> Quantity:
        """The same with so many tick labels at most; the other ticks become small ones."""
        kept = sparser(self.axis.places, most, logarithmic=self.logarithmic)
        moved = [place for index, place in enumerate(self.axis.places) if index not in kept]
        axis = replace(
            self.axis,
            places=[self.axis.places[index] for index in kept],
            labels=[self.axis.labels[index] for index in kept],
            small=sorted([*self.axis.small, *moved]),
        )
        return replace(self, axis=axis)


def quantity_of(
    column: str, values: Sequence[float] | NDArray[np.float64], *, from_zero: bool = True
) -> Quantity | None:
    """A proxy of the layer table as an axis shows it; None if nothing is known of any layer.

    Args:
        column: One of the scores.
        values: ``[layer]`` as in the layer table.
        from_zero: Whether 0 is on an even axis.
    """
    shown = np.array(values, dtype="float64")
    if column == GROWTH:
        shown = np.exp(shown)
    if not np.isfinite(shown).any():
        return None
    words = capital(words_of(column))
    curve = Curve(words, np.arange(len(shown), dtype="float64"), shown, MAIN)
    logarithmic = column == GROWTH or spans_a_decade([curve])
    absent: tuple[int, ...] = ()
    if logarithmic:
        absent = tuple(np.flatnonzero(shown <= 0).tolist())
        shown[list(absent)] = np.nan
    cut: tuple[int, ...] = ()
    if column == GROWTH:
        # The first layer writes on a nearly empty stream: its factor would flatten all others.
        known = np.flatnonzero(np.isfinite(shown))
        cut = tuple(known[cut_rows(np.abs(np.log(shown[known])))].tolist())
    axis = y_axis([replace(curve, y=np.delete(shown, list(cut)))], None, logarithmic)
    low, high = float(np.nanmin(shown)), float(np.nanmax(shown))
    if not logarithmic and (low < 0 or not from_zero):
        axis = _even(min(0.0, low), max(0.0, high)) if from_zero else _even(low, high)
    return Quantity(column, words, _LABELS.get(column, words), shown, absent, cut, logarithmic, axis)


def _even(low: float, high: float) -> Axis:
    """An even axis a little beyond two numbers."""
    pad = _PAD * (high - low) or max(abs(high), 1.0) / 10
    places = even_ticks(low - pad, high + pad)
    return Axis(low - pad, high + pad, places, tick_labels(places), [])
