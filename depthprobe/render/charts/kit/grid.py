"""Small multiples: panels of equal size in rows, a name above each, one head and one key for all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from depthprobe.render.charts.kit.page import GAP, Page
from depthprobe.render.charts.kit.page_sizes import broad_width
from depthprobe.render.charts.kit.style import FAINT, NOTE_PT, TICK_PT, fit, text_height

_ROW_GAP = 0.10
# Below this a layer cannot be seen.
_LAYER_IN = 0.018


@dataclass(frozen=True)
class PanelText:
    """What stands above a panel: its name and, in small type, what else there is to say; broken to fit."""

    name: str
    note: str = ""


@dataclass(frozen=True)
class PanelGroup:
    """Panels that belong together, such as those of one task: a heading and a panel a model."""

    heading: str
    panels: tuple[PanelText, ...]


@dataclass(frozen=True)
class Margins:
    """Room in inches: left and right of all panels, between their columns, and below each row of axes."""

    left: float
    right: float
    between: float
    below: float


def columns_for(count: int, layers: int, margins: Margins) -> int:
    """Return in how many columns so many panels stand: rows as even as can be, layers wide enough to see."""
    most = 1
    for columns in range(1, 4):
        if panel_width(columns, margins) >= layers * _LAYER_IN:
            most = columns
    columns = min(count, most)
    return math.ceil(count / math.ceil(count / columns))


def panel_width(columns: int, margins: Margins) -> float:
    """Return the width of a panel in inches, of so many beside each other on two text columns."""
    inside = broad_width() - margins.left - margins.right
    return (inside - (columns - 1) * margins.between) / columns


class Grid(Page):
    """A page for panels in rows; the axes are the caller's.

    Args:
        groups: What the panels are called, from the top down.
        columns: Panels beside each other.
        height: Of a panel's axes, in inches.
        margins: Room around the axes.
        head: Title, caption, keys and sign_in, as of :class:`Page`.
    """

    def __init__(
        self,
        groups: Sequence[PanelGroup],
        *,
        columns: int,
        height: float,
        margins: Margins,
        **head: Any,
    ) -> None:
        super().__init__(broad_width(), margins.left, **head)
        self.columns, self.panel_in, self.panel_height = columns, panel_width(columns, margins), height
        self._counts = [len(group.panels) for group in groups]
        # What is written, by the arguments of write; and by group the left upper corners of its axes.
        self._texts: list[tuple[float, float, list[str], float, dict[str, str]]] = []
        self._places: list[list[tuple[float, float]]] = []
        down = self.head
        for group in groups:
            heading = fit(group.heading, TICK_PT, self.room, weight="bold")
            if heading:
                down += _ROW_GAP / 2
                self._texts.append((margins.left, down, heading, TICK_PT, {"weight": "bold"}))
                down += text_height(heading, TICK_PT) + GAP
            weight = "normal" if heading else "bold"
            places: list[tuple[float, float]] = []
            for start in range(0, len(group.panels), columns):
                row = group.panels[start : start + columns]
                names = [fit(panel.name, TICK_PT, self.panel_in, weight=weight) for panel in row]
                notes = [fit(panel.note, NOTE_PT, self.panel_in) for panel in row]
                name_in = max(text_height(lines, TICK_PT) for lines in names)
                note_in = max(text_height(lines, NOTE_PT) for lines in notes)
                for column, (name, note) in enumerate(zip(names, notes, strict=True)):
                    left = margins.left + column * (self.panel_in + margins.between)
                    # Short names stand low, close to their panel.
                    low = down + name_in - text_height(name, TICK_PT)
                    self._texts.append((left, low, name, TICK_PT, {"weight": weight}))
                    self._texts.append((left, down + name_in, note, NOTE_PT, {"color": FAINT}))
                    places.append((left, down + name_in + note_in + GAP))
                down += name_in + note_in + GAP + height + margins.below + _ROW_GAP
            self._places.append(places)
        self.whole = down - _ROW_GAP

    def open(self, height: float | None = None) -> Figure:
        """Return a new figure with head and names on it; as high as it has to be."""
        figure = super().open(self.whole if height is None else height)
        for left, top, lines, size_pt, look in self._texts:
            self.write(left, top, lines, size_pt, **look)
        return figure

    def edges(self, group: int, index: int) -> tuple[bool, bool]:
        """Return whether a panel is the leftmost one of its row, and the lowest one of its column."""
        return index % self.columns == 0, index + self.columns >= self._counts[group]

    def add_panel(self, group: int, index: int) -> Axes:
        """Return new axes for a panel."""
        left, top = self._places[group][index]
        return self.add_axes(left, top, self.panel_in, self.panel_height)
