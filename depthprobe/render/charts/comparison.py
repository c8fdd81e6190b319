"""Figures of a comparison: a panel a model, on a common scale.

Maps of angular distances share their colours, profiles and drops their vertical axis. Where the models have
equally many layers a panel runs over the layers; else over the relative depth l/L, from 0 to 1. Maps always
run over the layers of their own model.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from depthprobe.errors import RunError
from depthprobe.findings.comparison import Compared, compared_of, shared_tasks
from depthprobe.findings.drops import CALIBRATION, Drops
from depthprobe.findings.gradnorm import PARTS, WHOLE
from depthprobe.findings.variance import BRANCHES, STREAM
from depthprobe.render.charts import drops
from depthprobe.render.charts.angular import (
    MARK_LABEL,
    VERTICAL_LABEL,
    add_distance_bar,
    colour_limits,
    distance_matrix,
    draw_map,
    mark_look,
)
from depthprobe.render.charts.gradnorm import LABEL as GRADNORM_LABEL
from depthprobe.render.charts.kit.grid import Grid, Margins, PanelGroup, PanelText, columns_for, panel_width
from depthprobe.render.charts.kit.lines import BESIDE, Curve, draw_curve
from depthprobe.render.charts.kit.looks import BRANCH_LOOKS, MAIN, Look
from depthprobe.render.charts.kit.page import NAMED_RIGHT, RIGHT, SPOT_SIGN, label_vertical, room_beside
from depthprobe.render.charts.kit.scales import scale_of, spans_a_decade
from depthprobe.render.charts.kit.style import style
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
    """Return the maps of angular distances side by side, one colour bar for all.

    Args:
        run: A comparison with a table of angular distances.
        title: Above the figure, nothing if empty.
        normalize: ``none``, or ``row``: every row of every map is rescaled on its own.

    Raises:
        RunError: if it holds no such table.
    """
    sides = compared_of(run, "angular")
    matrices = [distance_matrix(side.frame) for side in sides]
    limits = colour_limits(matrices)
    columns = columns_for(len(sides), max(map(len, matrices)), _MAP)
    width = panel_width(columns, _MAP)
    with style():
        grid = Grid(
            [PanelGroup("", tuple(PanelText(side.label) for side in sides))],
            columns=columns,
            height=width,
            margins=_MAP,
            title=title,
            caption=data_caption(sides),
            keys=[MARK_LABEL.replace("\n", " ")],
            sign_in=SPOT_SIGN,
        )
        grid.open()
        for index, (side, matrix) in enumerate(zip(sides, matrices, strict=True)):
            axes = grid.add_panel(0, index)
            mesh = draw_map(axes, side.found, matrix, normalize, limits, width * 72 / len(matrix))
            if index % columns == 0:
                axes.set_ylabel(VERTICAL_LABEL)
            if index < columns:
                last_of_row = axes
        add_distance_bar(grid, last_of_row, mesh, normalize)
        grid.write_key([Line2D([], [], **mark_look(8.0))])
    return grid.figure


def draw_gradnorms(run: Run, *, title: str = "") -> Figure:
    """Return the gradient norms of every model in a panel of its own, on a common axis."""
    names = {WHOLE: ("whole block", 0.0), **{part: (words, 0.0) for part, words in PARTS.items()}}
    sides = compared_of(run, "gradnorm")
    panels = [_curves(side, "part", "grad_norm", names) for side in sides]
    return draw_profiles(sides, panels, "Layer index $l$", GRADNORM_LABEL, title=title)


def draw_variances(run: Run, *, title: str = "") -> Figure:
    """Return the variance of every model's stream in a panel of its own, on a common axis."""
    names = {STREAM: ("stream $x^l$", 0.0)}
    names |= {branch: (f"added by {words}", 0.5) for branch, words in BRANCHES.items()}
    sides = compared_of(run, "variance")
    panels = [_curves(side, "point", "variance", names) for side in sides]
    return draw_profiles(sides, panels, "Boundary $l$", "Variance", title=title, always_logarithmic=True)


def draw_profiles(
    sides: list[Compared],
    panels: list[list[Curve]],
    x_label: str,
    y_label: str,
    *,
    title: str,
    hidden: str = "",
    always_logarithmic: bool = False,
) -> Figure:
    """Return panels of curves, one a model, on a common axis.

    Args:
        sides: The models.
        panels: For each its curves over its layers, the main one first.
        x_label: What the horizontal axis says where all models have as many layers.
        y_label: What the vertical one says, in lines.
        title: Above the figure, nothing if empty.
        hidden: What is not drawn, for the caption.
        always_logarithmic: Whether the vertical axis is that also where values span less than a decade.
    """
    relative = len({side.layers for side in sides}) > 1
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
    columns = columns_for(len(sides), last + 1, margins)
    layer_pt = panel_width(columns, margins) * 72 / (last + 2 * BESIDE)
    keys = list(dict.fromkeys(curve.key for curve in everything if curve.key))
    with style():
        grid = Grid(
            [PanelGroup("", tuple(PanelText(side.label) for side in sides))],
            columns=columns,
            height=PROFILE_IN,
            margins=margins,
            title=title,
            caption="; ".join(filter(None, [data_caption(sides), hidden])),
            keys=[*keys, FIRST_KEY],
        )
        grid.open()
        signs: dict[str, Artist] = {}
        for index, curves in enumerate(panels):
            axes = grid.add_panel(0, index)
            axes.set_xlim(*((-0.02, 1.02) if relative else (-BESIDE, last + BESIDE)))
            scale.set(axes)
            for curve in curves:
                signs[curve.key] = draw_curve(axes, curve, layer_pt)
            if index:
                draw_curve(axes, replace(panels[0][0], key=FIRST_KEY, look=FIRST), layer_pt)
            if _set_edges(axes, grid.edges(0, index), relative, last, x_label):
                label_vertical(axes, y_label, margins.left)
        signs[FIRST_KEY] = Line2D([], [], color=FIRST.color, linewidth=FIRST.width)
        grid.write_key([signs[key] for key in (*keys, FIRST_KEY)])
    return grid.figure


def _curves(side: Compared, kind: str, quantity: str, names: dict[str, tuple[str, float]]) -> list[Curve]:
    """Return the curves of one model, the main one first; NaN where a layer has no such row.

    Args:
        side: The model.
        kind: The column that says what a row is of.
        quantity: The column with its value.
        names: For each kind of row its key, and where in its layer it stands.
    """
    curves = []
    for value, (key, shift) in names.items():
        rows = side.frame[side.frame[kind] == value].sort_values("layer", kind="stable")
        if rows.empty:
            continue
        y = np.full(int(rows["layer"].max()) + 1, np.nan)
        y[rows["layer"].to_numpy()] = rows[quantity]
        x = np.arange(len(y), dtype="float64") + shift
        curves.append(Curve(key, x, y, BRANCH_LOOKS.get(value, MAIN)))
    if not curves:
        raise RunError(f"The table of {side.label} has no rows to draw.")
    return curves


def draw_drop_panels(run: Run, *, title: str = "") -> Figure:
    """Return the drops of every model, a row of panels a task, each task on an axis of its own.

    At most four tasks, the calibration loss among them, are drawn; the caption says how many are not.
    """
    sides = compared_of(run, "prune_sweep")
    relative = len({side.layers for side in sides}) > 1
    tasks = shared_tasks(sides)
    caption = data_caption(sides)
    if len(tasks) > MOST_TASKS:
        caption = "; ".join(filter(None, [caption, f"{len(tasks) - MOST_TASKS} more tasks in the CSV"]))
        tasks = [*tasks[: MOST_TASKS - 1], tasks[-1]]
    rows = [_task_panels(sides, task) for task in tasks]
    chance = any(panel.chance is not None for panels in rows for panel in panels)
    left = max(panel.room for panels in rows for panel in panels)
    margins = Margins(left, NAMED_RIGHT if chance else RIGHT, NAMED_RIGHT if chance else _BETWEEN, _BELOW)
    block = rows[0][0].drops.block
    last = max(side.layers for side in sides) - block
    columns = columns_for(len(sides), last + 1, margins)
    width = panel_width(columns, margins)
    groups = []
    for task, panels in zip(tasks, rows, strict=True):
        texts = [PanelText(side.label, _note(panel)) for side, panel in zip(sides, panels, strict=True)]
        words = panels[0].drops.words
        heading = "calibration loss" if task == CALIBRATION else f"{task} ({words})"
        groups.append(PanelGroup(heading, tuple(texts)))
    with style():
        grid = Grid(
            groups,
            columns=columns,
            height=_DROPS_IN,
            margins=margins,
            title=title,
            caption=caption,
            keys=drops.KEYS,
            sign_in=SPOT_SIGN,
        )
        grid.open()
        for group, panels in enumerate(rows):
            for index, (side, panel) in enumerate(zip(sides, panels, strict=True)):
                axes = grid.add_panel(group, index)
                if relative:
                    half = drops.BESIDE_BARS / min(one.layers for one in sides)
                    axes.set_xlim(-half, 1.0)
                    span = side.layers * (1 + half)
                else:
                    axes.set_xlim(-drops.BESIDE_BARS, last + drops.BESIDE_BARS)
                    span = last + 2 * drops.BESIDE_BARS
                drops.draw_panel(axes, panel, width / span, side.layers if relative else None)
                if _set_edges(axes, grid.edges(group, index), relative, last, "Layer index $l$"):
                    drops.label_panel(axes, panel, left)
        grid.write_key(drops.key_signs())
    return grid.figure


def _task_panels(sides: list[Compared], task: str) -> list[drops.Panel]:
    """Return the panels of one task, with ends and ticks that hold all models."""
    found = [side.found.every[task] for side in sides]
    together: Drops = replace(found[0], rows=pd.concat([each.rows for each in found], ignore_index=True))
    common = drops.plan_panel(together, _DROPS_IN)
    panels, start = [], 0
    for each in found:
        cut = [row - start for row in common.cut if start <= row < start + len(each.rows)]
        panels.append(replace(common, drops=each, cut=cut))
        start += len(each.rows)
    return panels


def _note(panel: drops.Panel) -> str:
    # Unbroken: the grid breaks it, and a break of its own would hide where one note ends.
    _, notes = drops.panel_notes(panel, math.inf)
    return "; ".join(notes)


def _set_edges(axes: Axes, edges: tuple[bool, bool], relative: bool, last: int, label: str) -> bool:
    """Put ticks on a panel, with labels where it stands at an edge of the grid.

    Returns:
        Whether it stands at the left edge.
    """
    leftmost, lowest = edges
    places: list[Any] = [0, 0.25, 0.5, 0.75, 1] if relative else ticks(0, last)
    axes.set_xticks(places, labels=[f"{place:g}" for place in places] if lowest else [""] * len(places))
    if lowest:
        axes.set_xlabel(RELATIVE_LABEL if relative else label)
    if not leftmost:
        axes.set_yticklabels([])
    axes.spines[["top", "right"]].set_visible(False)
    return leftmost


def data_caption(sides: list[Compared]) -> str:
    """Return on what all were measured; empty if it is not known."""
    data = sides[0].data
    if not data.get("dataset"):
        return ""
    dtypes = {side.model.get("dtype") for side in sides}
    words = [
        str(data["dataset"]).rsplit("/", 1)[-1]
        if str(data["dataset"]).startswith(("/", ".", "~"))
        else str(data["dataset"])
    ]
    if data.get("samples") and data.get("seq_len"):
        words.append(f"{data['samples']:,} samples of up to {data['seq_len']:,} tokens")
    words += [str(dtype) for dtype in dtypes if dtype and len(dtypes) == 1]
    return ", ".join(words)


# Table of a comparison -> what draws it.
COMPARISONS: dict[str, Callable[..., Figure]] = {
    "compare_angular": draw_maps,
    "compare_variance": draw_variances,
    "compare_gradnorm": draw_gradnorms,
    "compare_prune_sweep": draw_drop_panels,
}
