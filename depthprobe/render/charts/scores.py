"""A cheap score of every layer, as an axis shows it: its words, values and scale."""

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
from depthprobe.render.charts.kit.scales import Scale, cut_rows, scale_of, spans_a_decade
from depthprobe.render.charts.kit.style import MAIN

# The score is the logarithm of the growth; an axis shows the factor, on a logarithmic scale.
GROWTH = "variance_growth"

# Column of the layer table -> axis label, which may hold mathematics.
_LABELS = {
    "angular_distance": "Angular distance $d(l, l+1)$",
    "grad_norm": GRADNORM_LABEL,
    GROWTH: r"Variance growth $\mathrm{Var}(x^{l+1})\,/\,\mathrm{Var}(x^l)$",
    f"drop_{CALIBRATION}": "Calibration-loss increase (nats/token)",
}
# How a layer beyond the axis is drawn, and how near to the end, as a share of the axis.
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
        words: Its name without mathematics, capitalised.
        label: The same as an axis label.
        values: ``[layer]`` as drawn; NaN where not known, or where a logarithmic axis cannot show it.
        absent: The layers (0-based) whose value a logarithmic axis cannot show.
        cut: The few layers beyond the axis, so that the others can be read; often none.
        scale: Of the others; logarithmic where they span more than a decade, and for factors.
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
        """The score as a curve over the layers."""
        return Curve(self.words, np.arange(len(self.values), dtype="float64"), self.values, MAIN)

    @property
    def cut_note(self) -> str:
        """Which layers lie beyond the axis, and where; empty for none."""
        far = ", ".join(f"layer {layer} at {significant(self.values[layer])}" for layer in self.cut)
        return f"axis cut: {far}" if far else ""

    def at(self, layer: int) -> float:
        """Return where a layer stands on the axis: at its value, or near the end where it is cut."""
        low, high = self.scale.low, self.scale.high
        value = float(self.values[layer])
        if low <= value <= high:
            return value
        share = 1 - _NEAR_END if value > high else _NEAR_END
        return low * (high / low) ** share if self.scale.logarithmic else low + share * (high - low)

    def with_labels(self, most: int) -> ShownScore:
        """Return the same with at most ``most`` tick labels."""
        return replace(self, scale=self.scale.with_labels(most))

    def draw_cut(self, axes: Axes) -> None:
        """Draw the layers beyond the axis near its end."""
        if self.cut:
            axes.plot(self.cut, [self.at(layer) for layer in self.cut], **_CUT_LOOK)


def shown_score(
    column: str, values: Sequence[float] | NDArray[np.float64], *, from_zero: bool = True
) -> ShownScore | None:
    """Return a score as an axis shows it; None if it is not known of any layer.

    Args:
        column: Of the score in the layer table.
        values: ``[layer]`` as in the layer table.
        from_zero: Whether a linear axis holds 0.
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
        # The first layer writes to a nearly empty stream: its factor would flatten all others.
        known = np.flatnonzero(np.isfinite(shown))
        cut = tuple(known[cut_rows(np.abs(np.log(shown[known])))].tolist())
    scale = scale_of([np.delete(shown, list(cut))], logarithmic=logarithmic, from_zero=from_zero)
    return ShownScore(column, words, _LABELS.get(column, words), shown, absent, cut, scale)
