"""Where an axis ends, linear or logarithmic, and its ticks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter
from numpy.typing import ArrayLike, NDArray

from depthprobe.render.charts.kit.ticks import even_ticks, log_ticks, sparser, tick_labels

# Room beyond the values, as a share of the axis.
_PAD = 0.06
# The height of a tick label with the room around it, in inches.
TICK_LABEL_IN = 0.19
# A value is cut if it is 20 times as large as the middle one, and twice as large as all that are not cut.
CUT_FROM, CUT_GAP = 20, 2


@dataclass(frozen=True)
class Scale:
    """Where an axis ends, and its ticks; the small ones have no label."""

    low: float
    high: float
    places: list[float]
    labels: list[str]
    small: list[float]
    logarithmic: bool = False

    def with_labels(self, most: int) -> Scale:
        """Return the same with at most ``most`` tick labels; the other ticks become small ones."""
        kept = sparser(self.places, most, logarithmic=self.logarithmic)
        moved = [place for index, place in enumerate(self.places) if index not in kept]
        return replace(
            self,
            places=[self.places[index] for index in kept],
            labels=[self.labels[index] for index in kept],
            small=sorted([*self.small, *moved]),
        )

    def shares(self, values: ArrayLike) -> NDArray[np.float64]:
        """Return where values stand on the axis: 0 at its low end, 1 at its high one."""
        ends = np.array([self.low, self.high])
        numbers, ends = (np.log(x) if self.logarithmic else x for x in (np.asarray(values, "float64"), ends))
        return (numbers - ends[0]) / (ends[1] - ends[0])

    def set(self, axes: Axes, which: Literal["x", "y"] = "y") -> None:
        """Give the axes this scale."""
        axis = axes.yaxis if which == "y" else axes.xaxis
        kind = "log" if self.logarithmic else "linear"
        axes.set(**{f"{which}scale": kind, f"{which}lim": (self.low, self.high)})
        axis.set_ticks(self.places, labels=self.labels)
        axis.set_ticks(self.small, minor=True)
        axis.set_minor_formatter(NullFormatter())
        axes.tick_params(axis=which, which="minor", length=1.2, width=0.4)


def spans_a_decade(values: Sequence[NDArray[np.float64]]) -> bool:
    """Return whether the largest value is more than ten times the smallest one above 0."""
    above = np.concatenate(values)
    above = above[above > 0]
    return bool(above.size) and bool(above.max() > 10 * above.min())


def scale_of(values: Sequence[NDArray[np.float64]], *, logarithmic: bool, from_zero: bool = True) -> Scale:
    """Return a scale that holds all values.

    Args:
        values: NaN where not known; a logarithmic scale leaves out those that are not above 0.
        logarithmic: Whether the scale is logarithmic.
        from_zero: Whether a linear one holds 0.
    """
    known = np.concatenate([np.ravel(each) for each in values]).astype("float64")
    known = known[np.isfinite(known)]
    if logarithmic:
        known = known[known > 0]
        low, high = (float(known.min()), float(known.max())) if known.size else (1.0, 1.0)
        # Equal values would leave the axis without a scale.
        reach = max(high / low, 1.2)
        low, high = (low * high / reach) ** 0.5, (low * high * reach) ** 0.5
        low, high = low / reach**_PAD, high * reach**_PAD
        found = log_ticks(low, high)
        return Scale(low, high, found.places, found.labels, found.small, logarithmic=True)
    low, high = float(known.min()), float(known.max())
    if from_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if from_zero and low == 0:
        high = high * (1 + _PAD) if high else 1.0
    else:
        pad = _PAD * (high - low) or max(abs(high), 1.0) / 10
        low, high = low - pad, high + pad
    places = even_ticks(low, high)
    return Scale(low, high, places, tick_labels(places), [])


def cut_rows(reach: NDArray[np.float64]) -> list[int]:
    """Return the few rows beside which the others could not be read; often none.

    Args:
        reach: [row] how far a bar and its interval reach from zero.
    """
    order = np.argsort(-reach, kind="stable")
    falling = reach[order]
    typical = falling[len(reach) // 2]
    if falling[0] <= CUT_FROM * typical:
        return []
    # A model of one layer has nothing to compare with.
    for count in range(1, min(6, max(1, len(reach) // 4), len(reach) - 1) + 1):
        highest = falling[count]
        if 0 < highest <= CUT_FROM * typical and falling[count - 1] > CUT_GAP * highest:
            return sorted(order[:count].tolist())
    return []
