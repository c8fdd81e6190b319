"""Small multiples: panels of equal size in rows, a name above each, one head and one key for all."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes

from depthprobe.render.charts.kit.page import GAP, PANEL_GAP, Page, PanelText
from depthprobe.render.charts.kit.page_sizes import broad_width
from depthprobe.render.charts.kit.style import FAINT, NOTE_PT, TICK_PT, fit, text_height

# A narrower layer could not be seen.
_LAYER_IN = 0.018
_MOST_COLUMNS = 3


@dataclass(frozen=True)
class PanelGroup:
    """Panels that belong together, such as those of one task: a heading and one panel per model."""

    heading: str
    panels: Sequence[PanelText]


@dataclass(frozen=True)
class Margins:
    """Room in inches: left and right of all panels, between their columns, and below each row of axes."""

    left: float
    right: float
    between: float
    below: float

    def panel_width(self, columns: int) -> float:
        """Return the width in inches of each of several panels beside each other on two text columns."""
        return (broad_width() - self.left - self.right - (columns - 1) * self.between) / columns


class Grid(Page):
    """An open page with panels in rows; the axes are the caller's.

    Rows are as even as can be, with as many columns as leave the layers wide enough to see.

    Args:
        groups: The names of the panels, from the top down.
        layers: Of the deepest model.
        height: Of a panel's axes in inches, given their width.
        margins: Room around the axes.
        head: Title, caption, keys and sign_in, as of :class:`Page`.
    """

    def __init__(
        self,
        groups: Sequence[PanelGroup],
        *,
        layers: int,
        height: Callable[[float], float],
        margins: Margins,
        **head: Any,
    ) -> None:
        super().__init__(broad_width(), margins.left, **head)
        self._counts = [len(group.panels) for group in groups]
        visible = [n for n in range(1, _MOST_COLUMNS + 1) if margins.panel_width(n) >= layers * _LAYER_IN]
        rows = math.ceil(max(self._counts) / max(visible, default=1))
        self.columns = math.ceil(max(self._counts) / rows)
        self.panel_in = margins.panel_width(self.columns)
        self.panel_height = height(self.panel_in)
        # By group the upper left corners of its axes.
        self._places: list[list[tuple[float, float]]] = []
        down = self.head
        for group in groups:
            heading = fit(group.heading, TICK_PT, self.room, weight="bold")
            if heading:
                down = self.write(margins.left, down + PANEL_GAP / 2, heading, TICK_PT, weight="bold") + GAP
            self._places.append([])
            for start in range(0, len(group.panels), self.columns):
                row = group.panels[start : start + self.columns]
                top = self._write_names(row, down, margins, "normal" if heading else "bold")
                down = top + self.panel_height + margins.below + PANEL_GAP
        self.open(down - PANEL_GAP)

    def _write_names(self, row: Sequence[PanelText], top: float, margins: Margins, weight: str) -> float:
        """Write the names of a row of panels; return where their axes begin."""
        texts = [panel.lines(self.panel_in, weight) for panel in row]
        notes_top = top + max(text_height(name, TICK_PT) for name, _ in texts)
        axes_top = notes_top + max(text_height(note, NOTE_PT) for _, note in texts) + GAP
        for column, (name, note) in enumerate(texts):
            left = margins.left + column * (self.panel_in + margins.between)
            # Short names stand low, close to their panel.
            self.write(left, notes_top - text_height(name, TICK_PT), name, TICK_PT, weight=weight)
            self.write(left, notes_top, note, NOTE_PT, color=FAINT)
            self._places[-1].append((left, axes_top))
        return axes_top

    def edges(self, group: int, index: int) -> tuple[bool, bool]:
        """Return whether a panel is the leftmost of its row, and the lowest of its column."""
        return index % self.columns == 0, index + self.columns >= self._counts[group]

    def add_panel(self, group: int, index: int) -> Axes:
        """Return new axes for a panel."""
        left, top = self._places[group][index]
        return self.add_axes(left, top, self.panel_in, self.panel_height)
