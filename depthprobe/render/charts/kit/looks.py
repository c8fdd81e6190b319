"""Colours, dashes and marks: the same thing looks alike in every figure, and can be told apart in grey."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize


@dataclass(frozen=True)
class Look:
    """How a curve is drawn: told from others by its dashes and marks, in grey as well."""

    color: str
    width: float
    dashes: tuple[float, ...] = ()
    marker: str = ""
    filled: bool = False
    level: int = 3


# Hues that colour-blind readers can tell apart, of different lightness; dashes and marks tell more in grey.
MAIN = Look("#0b3c5d", 1.3, marker="o", filled=True, level=5)
SECOND = Look("#dd8500", 0.9, (4.0, 1.6), "^")
BRANCH_LOOKS = {
    "attention": SECOND,
    "feedforward": Look("#007f5f", 0.9, (5.0, 1.4, 1.0, 1.4), "s"),
    "norm": Look("#8e5ea2", 0.9, (1.2, 1.2), "D"),
    "other": Look("#7a7a7a", 0.9, (2.4, 1.2), "v"),
}
# Bars in a middle tone: interval lines show on it, and hollow bars differ from it, in grey as well.
BAR = "#5b9bd0"
BAR_EDGE = "#2b6496"

# The light end of the map is left out: on white it is hardly seen.
_COLOURS = matplotlib.colormaps["viridis"].resampled(256)
_LIGHTEST = 0.85


def depth_colours(last: float) -> ScalarMappable:
    """Return what turns 0 to ``last`` into colours, 0 darkest."""
    return ScalarMappable(Normalize(0, max(last, 1) / _LIGHTEST), _COLOURS)
