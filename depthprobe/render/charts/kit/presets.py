"""For what a figure is made: how wide it may be, and how much larger than in print everything on it is.

Figures are laid out in inches and points as in print. A slide is seen from afar, so its figures are laid out
on a smaller page and then magnified as a whole: type, lines and marks keep their proportions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np

from depthprobe.errors import OptionError
from depthprobe.render.charts.kit.style import DOUBLE_COLUMN_IN, SINGLE_COLUMN_IN


@dataclass(frozen=True)
class Preset:
    """What a figure is made for.

    Args:
        name: As ``--style`` names it.
        narrowest, widest: The width in inches as laid out; between them it follows from the content.
        magnified: How much larger than laid out the figure is on its page.
        highest: The height of its page in inches, magnified; a higher figure is made smaller as a whole.
    """

    name: str
    narrowest: float
    widest: float
    magnified: float = 1.0
    highest: float = math.inf

    @property
    def height(self) -> float:
        """How high a figure may be in inches as laid out."""
        return self.highest / self.magnified


# Widescreen slides are 13.33 x 7.5 inches; there the labels of 8 points become 18.
_SLIDE_WIDTH_IN, _SLIDE_HEIGHT_IN, _SLIDE_MAGNIFIED = 13.33, 7.5, 2.25
# Narrower pages have no room for panels beside each other.
_NARROW_IN = 5.0
_SLIDE_IN = _SLIDE_WIDTH_IN / _SLIDE_MAGNIFIED

PRESETS = {
    preset.name: preset
    for preset in (
        # One column of two-column proceedings, or as much more, up to both, as the layers need.
        Preset("auto", SINGLE_COLUMN_IN, DOUBLE_COLUMN_IN),
        Preset("paper-single", 3.25, 3.25),
        Preset("paper-double", 6.75, 6.75),
        Preset("slides", _SLIDE_IN, _SLIDE_IN, _SLIDE_MAGNIFIED, _SLIDE_HEIGHT_IN),
    )
}
_drawn_for: ContextVar[Preset] = ContextVar("drawn_for", default=PRESETS["auto"])


def preset(name: str) -> Preset:
    """The preset of a name.

    Raises:
        OptionError: if there is none.
    """
    if name not in PRESETS:
        raise OptionError(f"--style is {name!r}.", f"Use one of: {', '.join(PRESETS)}.")
    return PRESETS[name]


@contextmanager
def drawn_for(name: str) -> Iterator[Preset]:
    """Lay out figures for a preset while the body runs, in this thread and task only.

    Raises:
        OptionError: if there is no such preset.
    """
    token = _drawn_for.set(preset(name))
    try:
        yield _drawn_for.get()
    finally:
        _drawn_for.reset(token)


def here() -> Preset:
    """The preset that figures are laid out for."""
    return _drawn_for.get()


def page_width(wanted_in: float) -> float:
    """The width of a figure in inches whose content wants so many."""
    return float(np.clip(wanted_in, here().narrowest, here().widest))


def broad_width(least_in: float = _NARROW_IN) -> float:
    """The width in inches of a figure with panels beside each other: the widest, two columns if that is less.

    Such a figure is cramped in one column, so it stands across both.

    Args:
        least_in: What the panels need side by side.
    """
    return here().widest if here().widest >= least_in else PRESETS["paper-double"].widest


def magnification(width_in: float, height_in: float) -> float:
    """By how much a figure of such a size is magnified, so that it stays on its page.

    In print type has the size it was given, so nothing is made smaller there.
    """
    chosen = here()
    if chosen.magnified == 1:
        return 1.0
    return min(chosen.magnified, chosen.widest * chosen.magnified / width_in, chosen.highest / height_in)
