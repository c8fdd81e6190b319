"""What a figure is made for: how wide it may be, and how much larger than in print everything on it is.

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
class PageSize:
    """What a figure is made for.

    Args:
        name: As ``--style`` names it.
        narrowest, widest: The width in inches as laid out; between them it follows from the content.
        magnified: How much larger the figure is on its page than as laid out.
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

PAGE_SIZES = {
    size.name: size
    for size in (
        # From one column of two-column proceedings to both, as the layers need.
        PageSize("auto", SINGLE_COLUMN_IN, DOUBLE_COLUMN_IN),
        PageSize("paper-single", 3.25, 3.25),
        PageSize("paper-double", 6.75, 6.75),
        # For the pages of a one-column appendix, whose tables may be longer than a page.
        PageSize("appendix", SINGLE_COLUMN_IN, DOUBLE_COLUMN_IN),
        PageSize("slides", _SLIDE_IN, _SLIDE_IN, _SLIDE_MAGNIFIED, _SLIDE_HEIGHT_IN),
    )
}
_drawn_for: ContextVar[PageSize] = ContextVar("drawn_for", default=PAGE_SIZES["auto"])
_with_subtitle: ContextVar[bool] = ContextVar("with_subtitle", default=True)


@contextmanager
def drawn_for(name: str, subtitle: bool = True) -> Iterator[PageSize]:
    """Lay out figures for a page size while the body runs, in this thread and task only.

    Args:
        name: Of the page size.
        subtitle: Whether what a figure was measured on stands below its title; a paper's caption holds it.

    Raises:
        OptionError: if there is no such page size.
    """
    if name not in PAGE_SIZES:
        raise OptionError(f"--style must be one of {', '.join(PAGE_SIZES)}, got {name}.")
    size, subtitled = _drawn_for.set(PAGE_SIZES[name]), _with_subtitle.set(subtitle)
    try:
        yield _drawn_for.get()
    finally:
        _drawn_for.reset(size)
        _with_subtitle.reset(subtitled)


def current_size() -> PageSize:
    """Return the page size that figures are laid out for."""
    return _drawn_for.get()


def subtitled(caption: str) -> str:
    """Return the subtitle of a figure: its caption, or nothing where subtitles are left out."""
    return caption if _with_subtitle.get() else ""


def page_width(wanted_in: float) -> float:
    """Return the width in inches of a figure whose content wants ``wanted_in``."""
    return float(np.clip(wanted_in, current_size().narrowest, current_size().widest))


def broad_width(least_in: float = _NARROW_IN) -> float:
    """Return the width in inches of a figure with panels beside each other.

    It is the widest of the page size, or two columns where that is less than the ``least_in`` that the
    panels need side by side.
    """
    widest = current_size().widest
    return widest if widest >= least_in else PAGE_SIZES["paper-double"].widest


def magnification(width_in: float, height_in: float) -> float:
    """Return by how much a figure of this size is magnified, so that it stays on its page.

    In print, type has the size it was given, so nothing is made smaller there.
    """
    chosen = current_size()
    if chosen.magnified == 1:
        return 1.0
    return min(chosen.magnified, chosen.widest * chosen.magnified / width_in, chosen.highest / height_in)
