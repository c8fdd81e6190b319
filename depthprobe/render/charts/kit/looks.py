"""Colours, dashes and marks: one thing looks the same in every figure, and can be told apart in grey."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize


@dataclass(frozen=True)
class Look:
    """How a curve is drawn; dashes and marks set it apart in grey as well."""

    color: str
    width: float
    dashes: tuple[float, ...] = ()
    marker: str = ""
    filled: bool = False
    level: int = 3

    @property
    def line(self) -> dict[str, Any]:
        """Colour and dashes as matplotlib takes them."""
        return {"color": self.color, "linestyle": (0, self.dashes) if self.dashes else "-"}


# Hues that colour-blind readers can tell apart, of different lightness.
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
    """Return a colour map of 0 to ``last``, 0 darkest."""
    return ScalarMappable(Normalize(0, max(last, 1) / _LIGHTEST), _COLOURS)
