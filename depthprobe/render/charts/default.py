"""The figure of a probe that has none of its own: lines over the layers, or maps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from depthprobe.declaring import TableOf
from depthprobe.findings.layer_rows import LayerRows
from depthprobe.findings.words import capital
from depthprobe.render.charts.angular import COLOUR_MAP
from depthprobe.render.charts.kit.cells import draw_cells
from depthprobe.render.charts.kit.lines import HEIGHT as LINES_HEIGHT
from depthprobe.render.charts.kit.lines import Band, Curve, draw_lines, with_more, with_zeros
from depthprobe.render.charts.kit.page import (
    BOTTOM,
    PANEL_GAP,
    Page,
    PanelText,
    label_vertical,
    room_beside,
    set_layers,
)
from depthprobe.render.charts.kit.page_sizes import current_size, page_width
from depthprobe.render.charts.kit.scales import TICK_LABEL_IN, spans_a_decade
from depthprobe.render.charts.kit.style import (
    BRANCH_LOOKS,
    LABEL_PT,
    MAIN,
    NOTE_PT,
    TICK_PT,
    Look,
    fit,
    style,
    text_height,
)
from depthprobe.render.charts.kit.ticks import sparser

# More lines could not be told apart, and more maps would not fit a page.
MOST_LINES, MOST_MAPS = 1 + len(BRANCH_LOOKS), 4
_LOOKS: tuple[Look, ...] = (MAIN, *BRANCH_LOOKS.values())
# In inches: a cell of a map, the height of maps, and the room for their colour bar.
_CELL, _LOWEST, HIGHEST_MAP_IN, BAR_ROOM_IN = 0.06, 0.8, 2.6, 0.72
_LONGEST_KEY, _LONGEST_NAME = 2.0, 1.0


def draw(findings: LayerRows, *, title: str = "", caption: str = "") -> Figure:
    """Return the figure of a table: a line for each key over the layers, or a map where a key spans one.

    If there are too many keys, the caption says how many are left out.
    """
    draw_rows = _lines if findings.declared.across is None else _maps
    return draw_rows(findings.declared, findings.rows, findings.layers, title, caption)


def axis_label(table: TableOf, room: float) -> list[str]:
    """Return the lines of an axis label: the quantity of a table in words, and its unit."""
    unit = table.column(table.quantity).unit
    words = capital(table.quantity.replace("_", " "))
    return [_escaped(line) for line in fit(f"{words} [{unit}]" if unit else words, LABEL_PT, room)]


def _escaped(text: str) -> str:
    """Return a text that is not read as mathematics."""
    return text.replace("$", r"\$")


def _shortened(text: str, size_pt: float, room: float) -> str:
    """Return a text on one line, cut to the room."""
    lines = fit(text, size_pt, room)
    return _escaped(lines[0] if len(lines) == 1 else f"{lines[0]}\N{HORIZONTAL ELLIPSIS}") if lines else ""


def _by_key(frame: pd.DataFrame, keys: Sequence[str]) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the name and the rows of every combination of keys, in the order in which they first come."""
    if not keys:
        yield "", frame
        return
    for values, rows in frame.groupby(list(keys), sort=False):
        yield ", ".join(map(str, values)), rows


def curves_of(table: TableOf, frame: pd.DataFrame, layers: int) -> tuple[list[Curve], int]:
    """Return a curve over the layers for every key, and how many more keys there are."""
    groups = list(_by_key(frame, table.keys))
    x = np.arange(layers, dtype="float64")
    curves = [
        Curve(_shortened(key, NOTE_PT, _LONGEST_KEY), x, _by_layer(rows, table.quantity, layers), look)
        for (key, rows), look in zip(groups, _LOOKS, strict=False)
    ]
    return curves, len(groups) - len(curves)


def _lines(table: TableOf, frame: pd.DataFrame, layers: int, title: str, caption: str) -> Figure:
    """Return a line for each key; a single one with its interval."""
    curves, more = curves_of(table, frame, layers)
    band = None
    if len(curves) == 1 and {"ci_low", "ci_high"} <= set(frame):
        low, high = (_by_layer(frame, name, layers) for name in ("ci_low", "ci_high"))
        band = Band("95% interval", curves[0].x, low, high)
    values = [curve.y for curve in curves]
    negative = any((y < 0).any() for y in values)
    logarithmic = spans_a_decade(values) and not negative
    caption = with_more(caption, more, "line")
    if logarithmic:
        caption = with_zeros(caption, [(curve.key or table.quantity, curve.y == 0) for curve in curves])
    return draw_lines(
        curves,
        band=band,
        logarithmic=logarithmic,
        last=layers - 1,
        x_label="Layer index $l$",
        y_label="\n".join(axis_label(table, LINES_HEIGHT)),
        title=title,
        caption=caption,
    )


def _by_layer(rows: pd.DataFrame, column: str, layers: int) -> np.ndarray:
    """Return ``[layer]`` the values of a column; NaN where a layer has none."""
    values = np.full(layers, np.nan)
    values[rows["layer"].to_numpy()] = rows[column]
    return values


def _maps(table: TableOf, frame: pd.DataFrame, layers: int, title: str, caption: str) -> Figure:
    """Return a map over layers and the key that spans it, for each combination of the other keys."""
    across = str(table.across)
    names, maps = maps_of(table, frame, layers)
    matrices = list(maps.values())[:MOST_MAPS]
    # Broken as for the lowest map: the height of maps is known only once the head is laid out.
    bar_label = axis_label(table, _LOWEST)
    left, right = room_beside(names), BAR_ROOM_IN + text_height(bar_label[1:], LABEL_PT)
    width = page_width(layers * _CELL + left + right)
    inside = width - left - right
    caption = with_more(caption, len(maps) - len(matrices), "map")
    with style():
        page = Page(width, left, title=title, caption=caption)
        texts = [PanelText(key) for key in maps][:MOST_MAPS]
        above = page.head + sum(text.height(inside) for text in texts)
        # Square cells if there is room for them, and for the names of rows that are not numbers.
        room = (current_size().height - above - BOTTOM) / len(texts) - PANEL_GAP
        named = 0 if pd.api.types.is_numeric_dtype(frame[across]) else len(names) * TICK_LABEL_IN
        height = max(_LOWEST, min(max(inside * len(names) / layers, named), HIGHEST_MAP_IN, room))
        tops, end = page.stack([(text, height) for text in texts], left, inside)
        page.open(end + BOTTOM)
        for matrix, top in zip(matrices, tops, strict=True):
            axes = page.add_axes(left, top, inside, height)
            cells = draw_map(axes, matrix, names, colours_of(matrices), (inside, height))
            label_vertical(axes, _shortened(across.replace("_", " ").capitalize(), LABEL_PT, height), left)
            lowest = top == tops[-1]
            set_layers(axes, 0, layers - 1, 0.5, "Layer index $l$" if lowest else "", labelled=lowest)
            sparse_ticks(page.add_colour_bar(axes, cells, label="\n".join(bar_label)), height)
    return page.figure


def _row_order(rows: pd.Series) -> tuple[list[Any], list[str]]:
    """Return the rows of a map from below, and their names: numbers in order, names from the top down."""
    there = rows.drop_duplicates()
    numeric = pd.api.types.is_numeric_dtype(there)
    order = sorted(there) if numeric else list(there)[::-1]
    said = [f"{row:g}" if numeric else str(row) for row in order]
    return order, [_shortened(row, TICK_PT, _LONGEST_NAME) for row in said]


def maps_of(
    table: TableOf, frame: pd.DataFrame, layers: int
) -> tuple[list[str], dict[str, np.ma.MaskedArray]]:
    """Return the names of the rows of maps from below, and the maps by the keys that do not span them.

    A map is ``[row, layer]``, masked where there is no value.
    """
    order, names = _row_order(frame[table.across])
    maps = {}
    for key, rows in _by_key(frame, [key for key in table.keys if key != table.across]):
        values = rows.pivot(index=table.across, columns="layer", values=table.quantity)
        values = values.reindex(index=order, columns=range(layers))
        maps[key] = np.ma.masked_invalid(values.to_numpy(dtype="float64"))
    return names, maps


def draw_map(
    axes: Axes,
    matrix: np.ma.MaskedArray,
    names: Sequence[str],
    colours: tuple[tuple[float, float], str],
    size: tuple[float, float],
) -> PolyCollection:
    """Draw a map on axes of this size in inches, with the names of rows that have room; return its cells."""
    (width, height), (rows, layers) = size, matrix.shape
    kept = sparser([float(number) for number in range(rows)], int(height / TICK_LABEL_IN))
    cells = draw_cells(axes, matrix, *colours, min(width / layers, height / rows) * 72)
    axes.set_yticks([number + 1 for number in kept], labels=[names[number] for number in kept])
    return cells


def sparse_ticks(bar: Colorbar, height: float) -> None:
    """Give a colour bar as many ticks as its height has room for."""
    bar.locator = MaxNLocator(max(2, int(height / (2 * TICK_LABEL_IN))), steps=[1, 2, 2.5, 5, 10])
    bar.update_ticks()


def colours_of(matrices: Sequence[np.ma.MaskedArray]) -> tuple[tuple[float, float], str]:
    """Return the ends of a colour scale and its map; where values lie on both sides of 0, white is 0."""
    low, high = min(float(each.min()) for each in matrices), max(float(each.max()) for each in matrices)
    if low < 0 < high:
        far = max(-low, high)
        return (-far, far), "RdBu_r"
    # Equal values would leave the colour bar without a scale.
    return (low, high if high > low else low + (abs(low) or 1.0) / 10), COLOUR_MAP
