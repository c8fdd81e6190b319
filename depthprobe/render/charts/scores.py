"""A cheap score of every layer, as an axis shows it: its words, its numbers, its scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from depthprobe.findings.drops import CALIBRATION
from depthprobe.findings.scores import words_of
from depthprobe.findings.words import capital, significant
from depthprobe.render.charts.gradnorm import LABEL as GRADNORM_LABEL
from depthprobe.render.charts.kit.lines import Curve
from depthprobe.render.charts.kit.looks import MAIN
from depthprobe.render.charts.kit.scales import Scale, cut_rows, scale_of, spans_a_decade

# The logarithm of a growth is a measure; what an axis shows is the factor, on a logarithmic scale.
GROWTH = "variance_growth"

# Column of the layer table -> axis label, which may hold mathematics.
_LABELS = {
    "angular_distance": "Angular distance $d(l, l+1)$",
    "grad_norm": GRADNORM_LABEL,
    GROWTH: r"Variance growth $\mathrm{Var}(x^{l+1})\,/\,\mathrm{Var}(x^l)$",
    f"drop_{CALIBRATION}": "Calibration-loss increase (nats/token)",
}
# How a layer beyond the axis is drawn near its end, and where there as a share of the axis.
_CUT_LOOK: dict[str, Any] = {
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
class ShownScore:
    """One score of every layer, ready for an axis.

    Args:
        column: Its column of the layer table.
        words: What it is called, without mathematics, beginning with a capital.
        label: The same as an axis label.
        values: ``[layer]`` as drawn; NaN where not known, or where a logarithmic axis has no place for it.
        absent: The layers whose value a logarithmic axis has no place for, 0-based.
        cut: The few layers that lie beyond the axis, so that the others can be read; often none.
        scale: One that holds them; logarithmic where they span more than a decade, and for factors.
    """

    column: str
    words: str
    label: str
    values: NDArray[np.float64]
    absent: tuple[int, ...]
    cut: tuple[int, ...]
    scale: Scale

    @property
    def curve(self) -> Curve:
        """The score over the layers."""
        return Curve(self.words, np.arange(len(self.values), dtype="float64"), self.values, MAIN)

    @property
    def cut_note(self) -> str:
        """Which layers lie beyond the axis, and where; empty for none."""
        far = ", ".join(f"layer {layer} at {significant(self.values[layer])}" for layer in self.cut)
        return f"axis cut: {far}" if far else ""

    def at(self, layer: int) -> float:
        """Return where a layer stands on the axis: at its value, or near the end that it is cut at."""
        low, high = self.scale.low, self.scale.high
        value = float(self.values[layer])
        if low <= value <= high:
            return value
        share = 1 - _NEAR_END if value > high else _NEAR_END
        return low * (high / low) ** share if self.scale.logarithmic else low + share * (high - low)

    def with_labels(self, most: int) -> ShownScore:
        """Return the same with so many tick labels at most."""
        return replace(self, scale=self.scale.with_labels(most))

    def draw_cut(self, axes: Axes) -> None:
        """Draw the layers that lie beyond the axis near its end."""
        if self.cut:
            axes.plot(self.cut, [self.at(layer) for layer in self.cut], **_CUT_LOOK)


def shown_score(
    column: str, values: Sequence[float] | NDArray[np.float64], *, from_zero: bool = True
) -> ShownScore | None:
    """Return a proxy of the layer table as an axis shows it; None if nothing is known of any layer.

    Args:
        column: Of a score.
        values: ``[layer]`` as in the layer table.
        from_zero: Whether 0 is on an even axis.
    """
    shown = np.array(values, dtype="float64")
    if column == GROWTH:
        shown = np.exp(shown)
    if not np.isfinite(shown).any():
        return None
    words = capital(words_of(column))
    logarithmic = column == GROWTH or spans_a_decade([shown])
    absent: tuple[int, ...] = ()
    if logarithmic:
        absent = tuple(np.flatnonzero(shown <= 0).tolist())
        shown[list(absent)] = np.nan
    cut: tuple[int, ...] = ()
    if column == GROWTH:
        # The first layer writes on a nearly empty stream: its factor would flatten all others.
        known = np.flatnonzero(np.isfinite(shown))
        cut = tuple(known[cut_rows(np.abs(np.log(shown[known])))].tolist())
    scale = scale_of([np.delete(shown, list(cut))], logarithmic=logarithmic, from_zero=from_zero)
    return ShownScore(column, words, _LABELS.get(column, words), shown, absent, cut, scale)
