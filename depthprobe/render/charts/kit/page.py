"""One page for every figure: title, caption and key at its top, axes below them.

All places are in inches, as in print, from the left and from the upper edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure

from depthprobe.render.charts.kit.style import (
    FAINT,
    INK,
    LABEL_PT,
    LINE_SPACING,
    NOTE_PT,
    TICK_PT,
    fit,
    fit_title,
    text_height,
    width_in,
)
from depthprobe.render.charts.kit.ticks import ticks

# In inches: the margins, and the gap between what stands below each other.
TOP, RIGHT, BOTTOM, GAP = 0.06, 0.10, 0.40, 0.05
# Right of axes on which a line has a name at its end.
NAMED_RIGHT = 0.40
# What a layer should have at least.
LAYER_IN = 0.0475
# The width of a sign in the key: of a curve, and of a bar or a dot.
LINE_SIGN, SPOT_SIGN = 0.27, 0.09
# Between the edge of the page and what stands beside an axis, and from there to the axis.
_EDGE, _LABEL_GAP, _TICK_ROOM = 0.03, 0.05, 0.07
_BAR_GAP, _BAR_WIDTH = 0.09, 0.10
# What stands before and after the words of a key, and the gap between its columns.
_BESIDE_KEY, _KEY_GAP = 0.11, 0.12
# The letters of a PNG stand on whole pixels, which makes a line up to so much wider than it was measured.
_HINTED = 0.98


class Page:
    """A figure whose title, caption and key are laid out; its axes are the caller's.

    Args:
        width: Of the page in inches.
        left: Where its text begins, and most often its axes, in inches.
        title: At the top, such as the model's id.
        caption: Below it in small type.
        keys: The words of the key; their signs are given to :meth:`write_key` once they are drawn.
        sign_in: The width of a sign in the key in inches.
        room: How wide title, caption and key may be; by default up to the edge of the page.
    """

    figure: Figure

    def __init__(
        self,
        width: float,
        left: float,
        *,
        title: str = "",
        caption: str = "",
        keys: Sequence[str] = (),
        sign_in: float = LINE_SIGN,
        room: float | None = None,
    ) -> None:
        self.width, self.left, self.height = width, left, 0.0
        self.room = (width - left - RIGHT if room is None else room) * _HINTED
        self._title_pt, self._title = fit_title(title, self.room)
        self._caption = fit(caption, NOTE_PT, self.room)
        self._keys, self._sign_in = list(keys), sign_in
        rows, self._key_columns = self._key_grid()
        text = text_height(self._title, self._title_pt) + text_height(self._caption, NOTE_PT)
        self._key_top = TOP + text + GAP * bool(text)
        #: Where the head ends and axes may begin, in inches from the upper edge.
        self.head = self._key_top + text_height([""] * rows, NOTE_PT) + 1.5 * GAP * bool(rows)

    def _key_grid(self) -> tuple[int, int]:
        """Return in how many rows and columns the key fits."""
        aside = self._sign_in + _BESIDE_KEY + _KEY_GAP
        widths = [aside + width_in(key, NOTE_PT, mathematics=True) for key in self._keys]
        for columns in range(len(widths), 1, -1):
            # As matplotlib fills them: from the top down, the first columns longer.
            shares = np.array_split(np.array(widths), columns)
            if sum(share.max() for share in shares) - _KEY_GAP <= self.room:
                return max(map(len, shares)), columns
        return len(widths), 1

    def open(self, height: float) -> Figure:
        """Return a new figure of such a height in inches, with title and caption on it."""
        self.height = height
        self.figure = Figure(figsize=(self.width, height), facecolor="white")
        FigureCanvasAgg(self.figure)
        top = self.write(self.left, TOP, self._title, self._title_pt, weight="bold")
        self.write(self.left, top, self._caption, NOTE_PT, color=FAINT)
        return self.figure

    def write(
        self,
        left: float,
        top: float,
        lines: Sequence[str],
        size_pt: float,
        *,
        weight: str = "normal",
        color: str = INK,
    ) -> float:
        """Write lines of outside text, so no mathematics, from ``top`` down; return where they end."""
        look = {"size": size_pt, "weight": weight, "color": color, "verticalalignment": "top"}
        for line in lines:
            self.figure.text(left / self.width, 1 - top / self.height, line, parse_math=False, **look)
            top += text_height([line], size_pt)
        return top

    def write_key(self, signs: Sequence[Artist]) -> None:
        """Write the key, given a sign for each of its words."""
        self.figure.legend(
            handles=list(signs),
            labels=self._keys,
            loc="upper left",
            bbox_to_anchor=(self.left / self.width, 1 - self._key_top / self.height),
            ncols=self._key_columns,
            borderaxespad=0.0,
            borderpad=0.0,
            labelspacing=0.2,
            handlelength=self._sign_in * 72 / NOTE_PT,
            handletextpad=0.5,
            columnspacing=1.2,
            labelcolor=FAINT,
        )

    def add_axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Return new axes, given their upper left corner and size in inches."""
        bottom = self.height - top - height
        return self.figure.add_axes(
            (left / self.width, bottom / self.height, width / self.width, height / self.height)
        )

    def add_colour_bar(self, beside: Axes, colours: ScalarMappable, **words: Any) -> Colorbar:
        """Return a new colour bar right of the axes, as high as they are.

        Args:
            beside: The axes.
            colours: What it explains.
            words: Its label, and how that is set.
        """
        box = beside.get_position()
        place = (box.x1 + _BAR_GAP / self.width, box.y0, _BAR_WIDTH / self.width, box.height)
        bar = self.figure.colorbar(colours, cax=self.figure.add_axes(place))
        bar.outline.set_visible(False)
        bar.set_label(**{"labelpad": 2.0} | words)
        return bar


def room_beside(tick_labels: Sequence[str], label_lines: int = 1, label_pt: float = LABEL_PT) -> float:
    """Return the inches that tick labels and the label of a vertical axis need left of the axes."""
    ticks_in = max(width_in(label, TICK_PT, mathematics=True) for label in tick_labels)
    label_in = text_height([""] * label_lines, label_pt) + _LABEL_GAP if label_lines else 0.0
    return _EDGE + label_in + ticks_in + _TICK_ROOM


def label_vertical(axes: Axes, label: str, room: float, **look: Any) -> None:
    """Write the label of a vertical axis.

    Labels of axes below each other stand in one line, as far left as the longest tick label makes it.

    Args:
        axes: Where.
        label: What.
        room: From the left edge of the page, or of what stands before, to the axes, in inches.
        look: How the text is set.
    """
    inside = axes.get_position().width * axes.get_figure().get_figwidth()
    set_as = {"rotation_mode": "anchor", "verticalalignment": "top", "linespacing": LINE_SPACING}
    axes.set_ylabel(label, **set_as | look)
    axes.yaxis.set_label_coords((_EDGE - room) / inside, 0.5)


def set_layers(
    axes: Axes, first: int, last: int, beside: float, label: str = "", *, labelled: bool = True
) -> None:
    """Let the horizontal axis run over layers, or over blocks.

    Args:
        axes: Where.
        first, last: The first and the last one.
        beside: Room on both sides, in layers.
        label: What stands below the axis.
        labelled: Whether its ticks have numbers.
    """
    axes.set_xlim(first - beside, last + beside)
    axes.set_xticks(ticks(first, last), labels=None if labelled else [])
    axes.set_xlabel(label)
    axes.spines[["top", "right"]].set_visible(False)
