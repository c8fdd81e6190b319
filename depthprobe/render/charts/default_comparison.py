"""The figure of a comparison by a probe that has none of its own: one panel per model, on one scale."""

from __future__ import annotations

from matplotlib.figure import Figure

from depthprobe.declaring import TableOf
from depthprobe.findings.comparison import Compared, compared_of
from depthprobe.render.charts.comparison import PROFILE_IN, data_caption, draw_profiles
from depthprobe.render.charts.default import (
    BAR_ROOM_IN,
    HIGHEST_MAP_IN,
    MOST_MAPS,
    axis_label,
    colours_of,
    curves_of,
    draw_map,
    maps_of,
    sparse_ticks,
)
from depthprobe.render.charts.kit.grid import Grid, Margins, PanelGroup
from depthprobe.render.charts.kit.lines import with_more
from depthprobe.render.charts.kit.page import PanelText, room_beside, set_layers
from depthprobe.render.charts.kit.style import LABEL_PT, style, text_height
from depthprobe.results.runs import Run

# In inches: room below maps for their axis.
_BELOW = 0.36


def draw(table: TableOf, run: Run, *, title: str = "") -> Figure:
    """Return the figure of a compared table: lines over the layers, or maps, one panel per model.

    Args:
        table: As the probe declares it.
        run: The comparison.
        title: Above the figure, nothing if empty.

    Raises:
        RunError: if the run holds no such table.
    """
    sides = compared_of(run, table.stem)
    if table.across is not None:
        return _maps(table, sides, title)
    found = [curves_of(table, side.found.rows, side.layers) for side in sides]
    panels, hidden = [curves for curves, _ in found], max(more for _, more in found)
    y_label = "\n".join(axis_label(table, PROFILE_IN))
    return draw_profiles(sides, panels, "Layer index $l$", y_label, title=title, hidden=hidden)


def _maps(table: TableOf, sides: list[Compared], title: str) -> Figure:
    """Return a map for each model and each combination of the keys that do not span it."""
    across = str(table.across)
    found = [maps_of(table, side.found.rows, side.layers) for side in sides]
    shared = [key for key in found[0][1] if all(key in maps for _, maps in found)]
    shown = shared[:MOST_MAPS]
    colours = colours_of([maps[key] for key in shown for _, maps in found])
    left, label_in = room_beside([name for names, _ in found for name in names]), text_height([""], LABEL_PT)
    most = max(side.layers for side in sides)
    square = max(len(names) for names, _ in found) / most
    with style():
        grid = Grid(
            [PanelGroup(key, [PanelText(side.label) for side in sides]) for key in shown],
            layers=most,
            height=lambda width: min(HIGHEST_MAP_IN, max(PROFILE_IN, width * square)),
            margins=Margins(left, BAR_ROOM_IN + label_in, left - label_in, _BELOW),
            title=title,
            caption=with_more(data_caption(sides), len(shared) - len(shown), "map"),
        )
        size = grid.panel_in, grid.panel_height
        for group, key in enumerate(shown):
            for index, (side, (names, maps)) in enumerate(zip(sides, found, strict=True)):
                axes = grid.add_panel(group, index)
                cells = draw_map(axes, maps[key], names, colours, size)
                set_layers(axes, 0, side.layers - 1, 0.5, "Layer index $l$")
                if index % grid.columns == 0:
                    axes.set_ylabel(across.replace("_", " ").capitalize())
                if index < grid.columns:
                    last_of_row = axes
            bar = grid.add_colour_bar(last_of_row, cells, label="\n".join(axis_label(table, size[1])))
            sparse_ticks(bar, size[1])
    return grid.figure
