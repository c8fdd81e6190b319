"""Figures of a comparison: one panel per model, on a common scale.

Maps of angular distances share their colours, profiles and drops their vertical axis. Where the models have
equally many layers a panel runs over the layers, else over the relative depth l/L, from 0 to 1. Maps always
run over the layers of their own model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from depthprobe.findings.captions import measured_on
from depthprobe.findings.comparison import Compared, compared_of, shared_tasks
from depthprobe.findings.drops import CALIBRATION
from depthprobe.render.charts import drops, gradnorm, variance
from depthprobe.render.charts.angular import (
    MARK_LABEL,
    VERTICAL_LABEL,
    add_distance_bar,
    colour_limits,
    distance_matrix,
    draw_map,
    mark_look,
)
from depthprobe.render.charts.kit.grid import Grid, Margins, PanelGroup
from depthprobe.render.charts.kit.lines import BESIDE, Curve, draw_curve, joined, signs_of, with_more
from depthprobe.render.charts.kit.page import (
    NAMED_RIGHT,
    RIGHT,
    SPOT_SIGN,
    PanelText,
    label_vertical,
    room_beside,
)
from depthprobe.render.charts.kit.scales import scale_of, spans_a_decade
from depthprobe.render.charts.kit.style import Look, style
from depthprobe.render.charts.kit.ticks import ticks
from depthprobe.results.runs import Run

MOST_TASKS = 4
FIRST = Look("#a9a9a9", 1.1, level=2)
FIRST_KEY = "first model"
RELATIVE_LABEL = "Relative depth $l/L$"

# In inches.
_BELOW, _BETWEEN = 0.36, 0.16
PROFILE_IN, _DROPS_IN = 1.35, 1.15
_MAP = Margins(left=0.46, right=0.72, between=0.46, below=0.36)


def draw_maps(run: Run, *, title: str = "", normalize: str = "none") -> Figure:
    """Return the maps of angular distances side by side, with one colour bar for all.

    With ``normalize="row"`` every row of every map is rescaled on its own.

    Raises:
        RunError: if the comparison has no table of angular distances.
    """
    sides = compared_of(run, "angular")
    matrices = [distance_matrix(side.frame) for side in sides]
    limits = colour_limits(matrices)
    with style():
        grid = Grid(
            [PanelGroup("", [PanelText(side.label) for side in sides])],
            layers=max(map(len, matrices)),
            height=lambda width: width,
            margins=_MAP,
            title=title,
            caption=data_caption(sides),
            keys={MARK_LABEL.replace("\n", " "): Line2D([], [], **mark_look(8.0))},
            sign_in=SPOT_SIGN,
        )
        for index, (side, matrix) in enumerate(zip(sides, matrices, strict=True)):
            axes = grid.add_panel(0, index)
            mesh = draw_map(axes, side.found, matrix, normalize, limits, grid.panel_in * 72 / len(matrix))
            if index % grid.columns == 0:
                axes.set_ylabel(VERTICAL_LABEL)
            if index < grid.columns:
                last_of_row = axes
        add_distance_bar(grid, last_of_row, mesh, normalize)
    return grid.figure


def draw_gradnorms(run: Run, *, title: str = "") -> Figure:
    """Return the gradient norms of every model in a panel of its own, on a common axis."""
    sides = compared_of(run, "gradnorm")
    panels = [gradnorm.curves_of(side.found) for side in sides]
    return draw_profiles(sides, panels, "Layer index $l$", gradnorm.LABEL, title=title)


def draw_variances(run: Run, *, title: str = "") -> Figure:
    """Return the variance of every model's stream in a panel of its own, on a common axis."""
    sides = compared_of(run, "variance")
    panels = [variance.curves_of(side.found) for side in sides]
    return draw_profiles(sides, panels, "Boundary $l$", "Variance", title=title, always_logarithmic=True)


def draw_profiles(
    sides: list[Compared],
    panels: list[list[Curve]],
    x_label: str,
    y_label: str,
    *,
    title: str,
    hidden: int = 0,
    always_logarithmic: bool = False,
) -> Figure:
    """Return panels of curves, one for each model, on a common axis.

    Args:
        sides: The models.
        panels: For each model its curves over its layers, the main one first.
        x_label: The horizontal axis, where all models have equally many layers.
        y_label: The vertical axis; may hold line breaks.
        title: Above the figure, nothing if empty.
        hidden: How many lines are not drawn, for the caption.
        always_logarithmic: Makes the vertical axis logarithmic even where values span less than a decade.
    """
    relative = _differ_in_depth(sides)
    if relative:
        panels = [
            [replace(curve, x=curve.x / side.layers) for curve in curves]
            for side, curves in zip(sides, panels, strict=True)
        ]
    everything = [curve for curves in panels for curve in curves]
    values = [curve.y for curve in everything]
    logarithmic = (always_logarithmic or spans_a_decade(values)) and any((y > 0).any() for y in values)
    logarithmic = logarithmic and not any((y < 0).any() for y in values)
    scale = scale_of(values, logarithmic=logarithmic)
    margins = Margins(room_beside(scale.labels, 1 + y_label.count("\n")), RIGHT, _BETWEEN, _BELOW)
    last = max(len(curves[0].x) for curves in panels) - 1
    with style():
        grid = Grid(
            [PanelGroup("", [PanelText(side.label) for side in sides])],
            layers=last + 1,
            height=lambda width: PROFILE_IN,
            margins=margins,
            title=title,
            caption=with_more(data_caption(sides), hidden, "line"),
            keys=signs_of(everything) | {FIRST_KEY: FIRST.sign},
        )
        layer_pt = grid.panel_in * 72 / (last + 2 * BESIDE)
        for index, curves in enumerate(panels):
            axes = grid.add_panel(0, index)
            axes.set_xlim(*((-0.02, 1.02) if relative else (-BESIDE, last + BESIDE)))
            scale.set(axes)
            for curve in curves:
                draw_curve(axes, curve, layer_pt)
            if index:
                draw_curve(axes, replace(panels[0][0], key=FIRST_KEY, look=FIRST), layer_pt)
            if _set_edges(axes, grid.edges(0, index), relative, last, x_label):
                label_vertical(axes, y_label, margins.left)
    return grid.figure


def draw_drop_panels(run: Run, *, title: str = "") -> Figure:
    """Return the drops of every model, a row of panels for each task, each task on an axis of its own.

    At most four tasks are drawn, the calibration loss among them, with the number of the others in the
    caption.
    """
    sides = compared_of(run, "prune_sweep")
    relative = _differ_in_depth(sides)
    every = shared_tasks(sides)
    tasks = drops.first_and_last(every, MOST_TASKS)
    rows = [_task_panels(sides, task) for task in tasks]
    chance = any(panel.chance is not None for panels in rows for panel in panels)
    left = max(panel.room for panels in rows for panel in panels)
    margins = Margins(left, NAMED_RIGHT if chance else RIGHT, NAMED_RIGHT if chance else _BETWEEN, _BELOW)
    last = max(side.layers for side in sides) - rows[0][0].drops.block
    # Over layers these are their numbers; over relative depth a layer is a share of the axis.
    beside = drops.BESIDE_BARS / (min(side.layers for side in sides) if relative else 1)
    ends = (-beside, 1.0) if relative else (-beside, last + beside)
    groups = []
    for task, panels in zip(tasks, rows, strict=True):
        heading = "calibration loss" if task == CALIBRATION else f"{task} ({panels[0].drops.words})"
        texts = [PanelText(side.label, panel.note) for side, panel in zip(sides, panels, strict=True)]
        groups.append(PanelGroup(heading, texts))
    with style():
        grid = Grid(
            groups,
            layers=last + 1,
            height=lambda width: _DROPS_IN,
            margins=margins,
            title=title,
            caption=with_more(_sweep_caption(sides), len(every) - len(tasks), "task"),
            keys=drops.keys(panel for panels in rows for panel in panels),
            sign_in=SPOT_SIGN,
        )
        for group, panels in enumerate(rows):
            for index, (side, panel) in enumerate(zip(sides, panels, strict=True)):
                axes = grid.add_panel(group, index)
                axes.set_xlim(ends)
                layer_in = grid.panel_in / (ends[1] - ends[0]) / (side.layers if relative else 1)
                drops.draw_panel(axes, panel, layer_in, side.layers if relative else None)
                if _set_edges(axes, grid.edges(group, index), relative, last, "Layer index $l$"):
                    drops.label_panel(axes, panel, left)
    return grid.figure


def _differ_in_depth(sides: list[Compared]) -> bool:
    return len({side.layers for side in sides}) > 1


def _task_panels(sides: list[Compared], task: str) -> list[drops.Panel]:
    """Return the panels of one task, on an axis that holds all models."""
    found = [side.found.every[task] for side in sides]
    together = replace(found[0], rows=pd.concat([each.rows for each in found], ignore_index=True))
    common = drops.plan_panel(together, _DROPS_IN)
    panels, start = [], 0
    for each in found:
        cut = [row - start for row in common.cut if start <= row < start + len(each.rows)]
        panels.append(replace(common, drops=each, cut=cut))
        start += len(each.rows)
    return panels


def _set_edges(axes: Axes, edges: tuple[bool, bool], relative: bool, last: int, label: str) -> bool:
    """Label the ticks of a panel that stands at an edge of the grid; return whether it is the left edge."""
    leftmost, lowest = edges
    places: list[Any] = [0, 0.25, 0.5, 0.75, 1] if relative else ticks(0, last)
    axes.set_xticks(places, labels=[f"{place:g}" for place in places] if lowest else [""] * len(places))
    if lowest:
        axes.set_xlabel(RELATIVE_LABEL if relative else label)
    if not leftmost:
        axes.set_yticklabels([])
    return leftmost


def data_caption(sides: list[Compared]) -> str:
    """Return what all models were measured on; empty if it is not known."""
    same_dtype = len({side.model.get("dtype") for side in sides}) == 1
    return measured_on(sides[0].data, {"dtype": sides[0].model.get("dtype")} if same_dtype else {})


def _sweep_caption(sides: list[Compared]) -> str:
    """Return how the tasks of all sweeps were asked, and that a text is only for the calibration loss."""
    words = data_caption(sides)
    asked = joined(*drops.how_asked(sides[0].found))
    return joined(asked, f"calibration: {words}" if sides[0].data.get("dataset") else words)


# Table of a comparison -> what draws it.
COMPARISONS: dict[str, Callable[..., Figure]] = {
    "compare_angular": draw_maps,
    "compare_variance": draw_variances,
    "compare_gradnorm": draw_gradnorms,
    "compare_prune_sweep": draw_drop_panels,
}
