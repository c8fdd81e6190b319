"""One page for every figure: title, caption and key at its top, named panels below them.

All places are in inches, as in print, from the left and upper edges.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure

from depthprobe.render.charts.kit.page_sizes import subtitled
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

# In inches: the margins, the gap between lines of text and axes, and that between panels.
TOP, RIGHT, BOTTOM, GAP, PANEL_GAP = 0.06, 0.10, 0.40, 0.05, 0.10
# Right of axes on which a line has a name at its end.
NAMED_RIGHT = 0.40
# The least width of a layer.
LAYER_IN = 0.0475
# The width of a sign in the key: of a curve, and of a bar or a dot.
LINE_SIGN, SPOT_SIGN = 0.27, 0.09
# Between the edge of the page and what stands beside an axis, and from there to the axis.
_EDGE, _LABEL_GAP, _TICK_ROOM = 0.03, 0.05, 0.07
_BAR_GAP, _BAR_WIDTH = 0.09, 0.10
# What stands before and after the words of a key, and the gap between its columns.
_BESIDE_KEY, _KEY_GAP = 0.11, 0.12
# The letters of a PNG stand on whole pixels, which can make a line 2% wider than measured.
_HINTED = 0.98


@dataclass(frozen=True)
class PanelText:
    """What stands above a panel: its name in bold type and a note in small type; both broken to fit."""

    name: str
    note: str = ""

    def lines(self, width: float, weight: str = "bold") -> tuple[list[str], list[str]]:
        """Return the lines of name and note at a width in inches."""
        return fit(self.name, TICK_PT, width, weight), fit(self.note, NOTE_PT, width)

    def height(self, width: float) -> float:
        """Return the inches that its lines need above the axes."""
        name, note = self.lines(width)
        return text_height(name, TICK_PT) + text_height(note, NOTE_PT) + GAP


class Page:
    """A figure with title, caption and key; its axes are the caller's.

    Text may be written before the page is opened, since its height often follows from that of the text.

    Args:
        width: Of the page in inches.
        left: Where its text and most often its axes begin, in inches.
        title: At the top, such as the model's id.
        caption: Below it in small type.
        keys: The words of the key, each with its sign.
        sign_in: The width of a sign in the key in inches.
        room: The width for title, caption and key; by default up to the edge of the page.
    """

    figure: Figure

    def __init__(
        self,
        width: float,
        left: float,
        *,
        title: str = "",
        caption: str = "",
        keys: Mapping[str, Artist] | None = None,
        sign_in: float = LINE_SIGN,
        room: float | None = None,
    ) -> None:
        self.width, self.left, self.height = width, left, 0.0
        self.room = (width - left - RIGHT if room is None else room) * _HINTED
        self._texts: list[tuple[float, float, str, dict[str, Any]]] = []
        self._keys, self._sign_in = dict(keys or {}), sign_in
        rows, self._key_columns = self._key_grid()
        title_pt, title_lines = fit_title(title, self.room)
        end = self.write(left, TOP, title_lines, title_pt, weight="bold")
        end = self.write(left, end, fit(subtitled(caption), NOTE_PT, self.room), NOTE_PT, color=FAINT)
        self._key_top = end + GAP * (end > TOP)
        #: Where title, caption and key end and axes may begin, in inches from the upper edge.
        self.head = self._key_top + text_height([""] * rows, NOTE_PT) + 1.5 * GAP * bool(rows)

    def _key_grid(self) -> tuple[int, int]:
        """Return the rows and columns in which the key fits."""
        aside = self._sign_in + _BESIDE_KEY + _KEY_GAP
        widths = [aside + width_in(key, NOTE_PT, mathematics=True) for key in self._keys]
        for columns in range(len(widths), 1, -1):
            # As matplotlib fills them: from the top down, the first columns longer.
            shares = np.array_split(np.array(widths), columns)
            if sum(share.max() for share in shares) - _KEY_GAP <= self.room:
                return max(map(len, shares)), columns
        return len(widths), 1

    def open(self, height: float) -> Figure:
        """Return a new figure of this height in inches, with its key and what was written on it."""
        self.height = height
        self.figure = Figure(figsize=(self.width, height), facecolor="white")
        FigureCanvasAgg(self.figure)
        for left, top, line, look in self._texts:
            self.figure.text(left / self.width, 1 - top / height, line, parse_math=False, **look)
        if self._keys:
            self._write_key()
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
        """Write lines without mathematics from ``top`` down; return where they end."""
        look = {"size": size_pt, "weight": weight, "color": color, "verticalalignment": "top"}
        for line in lines:
            self._texts.append((left, top, line, look))
            top += text_height([line], size_pt)
        return top

    def write_name(self, left: float, top: float, width: float, text: PanelText) -> float:
        """Write what stands above a panel; return where the panel's axes begin."""
        name, note = text.lines(width)
        top = self.write(left, top, name, TICK_PT, weight="bold")
        return self.write(left, top, note, NOTE_PT, color=FAINT) + GAP

    def stack(
        self,
        panels: Iterable[tuple[PanelText, float]],
        left: float,
        width: float,
        gap: float = PANEL_GAP,
    ) -> tuple[list[float], float]:
        """Write the names of panels below each other.

        Args:
            panels: The text and the height of the axes of each, in inches.
            left, width: Where they stand.
            gap: Between them.

        Returns:
            Where the axes of each begin, and where the last ones end.
        """
        tops: list[float] = []
        end = self.head - gap
        for text, height in panels:
            tops.append(self.write_name(left, end + gap, width, text))
            end = tops[-1] + height
        return tops, end

    def _write_key(self) -> None:
        self.figure.legend(
            handles=list(self._keys.values()),
            labels=list(self._keys),
            loc="upper left",
            bbox_to_anchor=(self.left / self.width, 1 - self._key_top / self.height),
            ncols=self._key_columns,
            borderpad=0.0,
            labelspacing=0.2,
            handlelength=self._sign_in * 72 / NOTE_PT,
            handletextpad=0.5,
            columnspacing=1.2,
        )

    def add_axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Return new axes with this upper left corner and size in inches."""
        bottom = self.height - top - height
        return self.figure.add_axes(
            (left / self.width, bottom / self.height, width / self.width, height / self.height)
        )

    def add_colour_bar(self, beside: Axes, colours: ScalarMappable, **words: Any) -> Colorbar:
        """Return a new colour bar to the right of the axes; ``words`` are its label and how that is set."""
        box = beside.get_position()
        place = (box.x1 + _BAR_GAP / self.width, box.y0, _BAR_WIDTH / self.width, box.height)
        bar = self.figure.colorbar(colours, cax=self.figure.add_axes(place))
        bar.outline.set_visible(False)
        bar.set_label(**{"labelpad": 2.0} | words)
        return bar

    def add_depth_bar(self, beside: Axes, colours: ScalarMappable, last: int) -> None:
        """Add a colour bar that explains the colours of layers 0 to ``last``."""
        bar = self.add_colour_bar(beside, colours, label="Layer index $l$")
        bar.ax.set_ylim(0, max(last, 1))
        bar.set_ticks(ticks(0, last))


def room_beside(tick_labels: Sequence[str], label_lines: int = 1, label_pt: float = LABEL_PT) -> float:
    """Return the inches that tick labels and the label of a vertical axis need left of the axes."""
    ticks_in = max(width_in(label, TICK_PT, mathematics=True) for label in tick_labels)
    label_in = text_height([""] * label_lines, label_pt) + _LABEL_GAP if label_lines else 0.0
    return _EDGE + label_in + ticks_in + _TICK_ROOM


def label_vertical(axes: Axes, label: str, room: float, **look: Any) -> None:
    """Write the label of a vertical axis at the left end of the ``room`` in inches beside the axes.

    The labels of axes below each other line up, as far left as the longest tick label makes them.
    """
    inside = axes.get_position().width * axes.get_figure().get_figwidth()
    set_as = {"rotation_mode": "anchor", "verticalalignment": "top", "linespacing": LINE_SPACING}
    axes.set_ylabel(label, **set_as | look)
    axes.yaxis.set_label_coords((_EDGE - room) / inside, 0.5)


def set_layers(
    axes: Axes, first: int, last: int, beside: float, label: str = "", *, labelled: bool = True
) -> None:
    """Let the horizontal axis run over layers or blocks, with room for ``beside`` layers on both sides."""
    axes.set_xlim(first - beside, last + beside)
    axes.set_xticks(ticks(first, last), labels=None if labelled else [])
    axes.set_xlabel(label)
