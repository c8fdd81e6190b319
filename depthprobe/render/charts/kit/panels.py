"""Small multiples: panels of equal size in rows, a name above each, one head and one key for all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.artist import Artist
from matplotlib.figure import Figure

from depthprobe.render.charts.kit.presets import broad_width
from depthprobe.render.charts.kit.style import (
    FAINT,
    NOTE_PT,
    TICK_PT,
    fit,
    fit_title,
    key_grid,
    text_height,
    write_keys,
    write_lines,
)

_TOP, _HEAD_GAP, _ROW_GAP = 0.06, 0.05, 0.10
# The letters of a PNG stand on whole pixels, which makes a line up to so much wider than it was measured.
_HINTED = 0.98
# Below this a layer cannot be seen.
_LAYER_IN = 0.018


@dataclass(frozen=True)
class Cell:
    """One panel: its name and, in small type below it, what else there is to say; each broken to fit."""

    name: str
    note: str = ""


@dataclass(frozen=True)
class Group:
    """Panels that belong together, such as those of one task: a heading and a panel a model."""

    heading: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Margins:
    """Room in inches: left and right of all panels, between their columns, and below each row of axes."""

    left: float
    right: float
    between: float
    below: float


@dataclass(frozen=True)
class Spot:
    """Where the axes of a panel go, as the fractions matplotlib takes, and whether they stand at an edge."""

    box: tuple[float, float, float, float]
    leftmost: bool
    lowest: bool


def columns_for(count: int, layers: int, margins: Margins) -> int:
    """In how many columns so many panels stand: rows as even as can be, layers wide enough to be seen."""
    most = 1
    for columns in range(1, 4):
        if panel_width(columns, margins) >= layers * _LAYER_IN:
            most = columns
    columns = min(count, most)
    return math.ceil(count / math.ceil(count / columns))


def panel_width(columns: int, margins: Margins) -> float:
    """The width of a panel in inches, of so many beside each other on two text columns."""
    inside = broad_width() - margins.left - margins.right
    return (inside - (columns - 1) * margins.between) / columns


class Sheet:
    """A figure for panels with their names, head and keys written; the axes are the caller's.

    Args:
        groups: What the panels are called, from the top down.
        columns: Panels beside each other.
        height: Of a panel's axes, in inches.
        margins: Room around the axes.
        title: Above everything.
        caption: Below the title in small type.
        keys: Words of the key; ``signs`` are written with :meth:`write_keys`.
        sign_in: Width of a sign in the key.
        footer: Room in inches below the last row, on top of what every row has.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        *,
        columns: int,
        height: float,
        margins: Margins,
        title: str,
        caption: str,
        keys: Sequence[str],
        sign_in: float,
        footer: float = 0.0,
    ) -> None:
        self.margins, self.columns, self.panel_in, self.height_in = (
            margins,
            columns,
            panel_width(columns, margins),
            height,
        )
        room = (broad_width() - margins.left - _TOP) * _HINTED
        title_pt, title_lines = fit_title(title, room)
        caption_lines = fit(caption, NOTE_PT, room)
        self._keys, self._sign_in = list(keys), sign_in
        key_rows, self._key_columns = key_grid(keys, room, sign_in) if keys else (0, 1)
        above = _TOP + text_height(title_lines, title_pt) + text_height(caption_lines, NOTE_PT)
        self._keys_from_top = above + _HEAD_GAP
        above = self._keys_from_top + text_height([""] * key_rows, NOTE_PT) + _HEAD_GAP

        # Text and axes from the top down, in inches from the upper edge.
        texts: list[tuple[float, float, list[str], float, str, str | None]] = []
        tops: list[list[tuple[float, float]]] = []
        down = above
        for group in groups:
            heading = fit(group.heading, TICK_PT, room, weight="bold")
            if heading:
                down += _ROW_GAP / 2
                texts.append((margins.left, down, heading, TICK_PT, "bold", None))
                down += text_height(heading, TICK_PT) + _HEAD_GAP
            places: list[tuple[float, float]] = []
            weight = "normal" if heading else "bold"
            for start in range(0, len(group.cells), columns):
                row = group.cells[start : start + columns]
                names = [fit(cell.name, TICK_PT, self.panel_in, weight=weight) for cell in row]
                notes = [fit(cell.note, NOTE_PT, self.panel_in) for cell in row]
                name_in = max(text_height(lines, TICK_PT) for lines in names)
                note_in = max(text_height(lines, NOTE_PT) for lines in notes)
                for column, (name, note) in enumerate(zip(names, notes, strict=True)):
                    x = margins.left + column * (self.panel_in + margins.between)
                    # Short names stand low, close to their panel.
                    texts.append(
                        (x, down + name_in - text_height(name, TICK_PT), name, TICK_PT, weight, None)
                    )
                    texts.append((x, down + name_in, note, NOTE_PT, "normal", FAINT))
                    places.append((x, down + name_in + note_in + _HEAD_GAP + height))
                down += name_in + note_in + _HEAD_GAP + height + margins.below + _ROW_GAP
            tops.append(places)
        total = down - _ROW_GAP + footer
        self._size = broad_width(), total
        self._places, self._counts = tops, [len(group.cells) for group in groups]
        self._texts = texts
        self._head = title_lines, title_pt, caption_lines

    def figure(self) -> Figure:
        """A new figure with head and names on it."""
        width, total = self._size
        figure = Figure(figsize=(width, total), facecolor="white")
        title_lines, title_pt, caption_lines = self._head
        left = self.margins.left
        top = write_lines(figure, left, total - _TOP, title_lines, title_pt, weight="bold")
        write_lines(figure, left, top, caption_lines, NOTE_PT, color=FAINT)
        for x, down, lines, size_pt, weight, color in self._texts:
            look = {} if color is None else {"color": color}
            write_lines(figure, x, total - down, lines, size_pt, weight=weight, **look)
        return figure

    def spot(self, group: int, index: int) -> Spot:
        """Where a panel's axes go."""
        width, total = self._size
        x, down = self._places[group][index]
        box = (x / width, (total - down) / total, self.panel_in / width, self.height_in / total)
        return Spot(box, index % self.columns == 0, index + self.columns >= self._counts[group])

    def box_in(self, x: float, down: float, width: float, height: float) -> tuple[float, float, float, float]:
        """A box whose lower left corner is x inches from the left and ``down`` inches from the top."""
        return (
            x / self._size[0],
            (self._size[1] - down) / self._size[1],
            width / self._size[0],
            (height / self._size[1]),
        )

    def place(self, group: int, index: int) -> tuple[float, float]:
        """The lower left corner of a panel's axes: inches from the left, inches from the top."""
        return self._places[group][index]

    def write_keys(self, figure: Figure, signs: Sequence[Artist]) -> None:
        """The key, below the head."""
        top = self._size[1] - self._keys_from_top
        write_keys(figure, self.margins.left, top, self._keys, signs, self._key_columns, self._sign_in)
