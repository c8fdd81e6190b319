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
from matplotlib.backends.backend_agg import FigureCanvasAgg
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
    NORMALIZATIONS,
    colour_limits,
    distance_matrix,
    draw_cells,
    label_bar,
    mark_best,
    rescale_rows,
)
from depthprobe.render.charts.kit.lines import Axis, Curve, Look, draw_curve, set_axis, spans_a_decade, y_axis
from depthprobe.render.charts.kit.panels import Cell, Group, Margins, Sheet, columns_for, panel_width
from depthprobe.render.charts.kit.style import INK, LABEL_PT, TICK_PT, style, text_height, width_in
from depthprobe.render.charts.kit.ticks import ticks
from depthprobe.render.charts.profiles import LOOKS, MAIN
from depthprobe.results.runs import Run

MOST_TASKS = 4
FIRST = Look("#a9a9a9", 1.1, level=2)
FIRST_KEY = "first model"
RELATIVE_LABEL = "Relative depth $l/L$"

_EDGE, _TICK_ROOM, _LABEL_GAP = 0.03, 0.07, 0.05
_BELOW, _RIGHT, _BETWEEN = 0.36, 0.10, 0.16
_PROFILE_IN, _DROPS_IN = 1.35, 1.15
_SIDE = 0.6
_MAP = Margins(left=0.46, right=0.72, between=0.46, below=0.36)
_BAR_GAP, _BAR_WIDTH = 0.09, 0.10


def draw_maps(run: Run, normalize: str, title: str) -> Figure:
    """The maps of angular distances side by side, one colour bar for all.

    Args:
        run: A comparison with a table of angular distances.
        normalize: ``none``, or ``row``: every row of every map is rescaled on its own.
        title: Above the figure, nothing if empty.

    Raises:
        RunError: if it holds no such table.
    """
    assert normalize in NORMALIZATIONS, "checked by who calls"
    sides = compared_of(run, "angular")
    matrices = [distance_matrix(side.frame) for side in sides]
    limits = colour_limits(
        min(float(matrix.min()) for matrix in matrices), max(float(matrix.max()) for matrix in matrices)
    )
    if normalize == "row":
        limits = (0.0, 1.0)
    columns = columns_for(len(sides), max(map(len, matrices)), _MAP)
    width = panel_width(columns, _MAP)
    with style():
        sheet = Sheet(
            [Group("", tuple(Cell(side.label) for side in sides))],
            columns=columns,
            height=width,
            margins=_MAP,
            title=title,
            caption=_caption(sides),
            keys=[MARK_LABEL.replace("\n", " ")],
            sign_in=0.08,
        )
        figure = sheet.figure()
        FigureCanvasAgg(figure)
        mesh = None
        for index, (side, matrix) in enumerate(zip(sides, matrices, strict=True)):
            layers = len(matrix)
            axes = figure.add_axes(sheet.spot(0, index).box)
            shown = rescale_rows(matrix) if normalize == "row" else matrix
            mesh = draw_cells(axes, shown, limits, width * 72 / layers)
            mark_best(axes, side.found.best, layers, width * 72 / layers, explained=False)
            axes.set(xlim=(-0.5, layers - 0.5), ylim=(0.5, layers + 0.5))
            axes.set_xticks(ticks(0, layers - 1))
            axes.set_yticks(ticks(1, layers))
            axes.set_xlabel("Layer index $l$")
            if sheet.spot(0, index).leftmost:
                axes.set_ylabel("Subsequent $n$-th layer")
            axes.spines[:].set_visible(False)
        x, down = sheet.place(0, min(columns, len(sides)) - 1)
        bar_axes = figure.add_axes(sheet.box_in(x + width + _BAR_GAP, down, _BAR_WIDTH, width))
        label_bar(figure.colorbar(mesh, cax=bar_axes), normalize)
        dot = {"marker": "o", "markersize": 4, "markerfacecolor": INK, "markeredgecolor": "white"}
        sheet.write_keys(figure, [Line2D([], [], linestyle="none", markeredgewidth=0.5, **dot)])
    return figure


def draw_gradnorms(run: Run, normalize: str, title: str) -> Figure:
    """The gradient norms of every model in a panel of its own, on a common axis."""
    label = r"Gradient norm $\|\nabla_{\!\theta_l}\mathcal{L}\|_2$"
    names = {WHOLE: ("whole block", 0.0), **{part: (words, 0.0) for part, words in PARTS.items()}}
    return _profiles(run, "gradnorm", "part", "grad_norm", names, "Layer index $l$", label, title)


def draw_variances(run: Run, normalize: str, title: str) -> Figure:
    """The variance of every model's stream in a panel of its own, on a common axis."""
    names = {STREAM: ("stream $x^l$", 0.0)}
    names |= {branch: (f"added by {words}", 0.5) for branch, words in BRANCHES.items()}
    return _profiles(run, "variance", "point", "variance", names, "Boundary $l$", "Variance", title)


def _profiles(
    run: Run,
    stem: str,
    kind: str,
    quantity: str,
    names: dict[str, tuple[str, float]],
    x_label: str,
    y_label: str,
    title: str,
) -> Figure:
    """Panels of curves: ``names`` gives a kind of row its key, and where in its layer it stands."""
    sides = compared_of(run, stem)
    relative = len({side.layers for side in sides}) > 1
    panels = [_curves(side, kind, quantity, names, relative) for side in sides]
    everything = [curve for curves in panels for curve in curves]
    logarithmic = (stem == "variance" or spans_a_decade(everything)) and any(
        (curve.y > 0).any() for curve in everything
    )
    axis = y_axis(everything, None, logarithmic)
    margins = _margins(axis, y_label)
    last = max(len(curves[0].x) for curves in panels) - 1
    columns = columns_for(len(sides), last + 1, margins)
    layer_pt = panel_width(columns, margins) * 72 / (last + 2 * _SIDE)
    keys = {curve.key: curve for curves in panels for curve in curves}
    with style():
        sheet = Sheet(
            [Group("", tuple(Cell(side.label) for side in sides))],
            columns=columns,
            height=_PROFILE_IN,
            margins=margins,
            title=title,
            caption=_caption(sides),
            keys=[*keys, FIRST_KEY],
            sign_in=0.27,
        )
        figure = sheet.figure()
        FigureCanvasAgg(figure)
        signs: dict[str, Artist] = {}
        for index, curves in enumerate(panels):
            spot = sheet.spot(0, index)
            axes = figure.add_axes(spot.box)
            axes.set_xlim(*((-0.02, 1.02) if relative else (-_SIDE, last + _SIDE)))
            set_axis(axes, axis, logarithmic)
            for curve in curves:
                signs[curve.key] = draw_curve(axes, curve, layer_pt)
            if index:
                draw_curve(axes, replace(panels[0][0], key=FIRST_KEY, look=FIRST), layer_pt)
            _edges(axes, spot.leftmost, spot.lowest, relative, last)
            if spot.lowest:
                axes.set_xlabel(RELATIVE_LABEL if relative else x_label)
            if spot.leftmost:
                _set_y_label(axes, y_label, (_EDGE - margins.left) / sheet.panel_in)
        signs[FIRST_KEY] = Line2D([], [], color=FIRST.color, linewidth=FIRST.width)
        sheet.write_keys(figure, [signs[key] for key in (*keys, FIRST_KEY)])
    return figure


def _curves(
    side: Compared, kind: str, quantity: str, names: dict[str, tuple[str, float]], relative: bool
) -> list[Curve]:
    """The curves of one model, the main one first; NaN where a layer has no such row."""
    curves = []
    for value, (key, shift) in names.items():
        rows = side.frame[side.frame[kind] == value].sort_values("layer", kind="stable")
        if rows.empty:
            continue
        y = np.full(int(rows["layer"].max()) + 1, np.nan)
        y[rows["layer"].to_numpy()] = rows[quantity]
        x = np.arange(len(y), dtype="float64") + shift
        curves.append(Curve(key, x / side.layers if relative else x, y, LOOKS.get(value, MAIN)))
    if not curves:
        raise RunError(f"The table of {side.label} has no rows to draw.")
    return curves


def draw_drop_panels(run: Run, normalize: str, title: str) -> Figure:
    """The drops of every model, a row of panels a task, each task on an axis of its own.

    At most four tasks, the calibration loss among them, are drawn; the caption says how many are not.
    """
    sides = compared_of(run, "prune_sweep")
    relative = len({side.layers for side in sides}) > 1
    tasks = shared_tasks(sides)
    caption = _caption(sides)
    if len(tasks) > MOST_TASKS:
        caption = "; ".join(filter(None, [caption, f"{len(tasks) - MOST_TASKS} more tasks in the CSV"]))
        tasks = [*tasks[: MOST_TASKS - 1], tasks[-1]]
    rows = [_task_panels(sides, task) for task in tasks]
    chance = any(panel.chance is not None for panels in rows for panel in panels)
    left = max(panel.label_in for panels in rows for panel in panels) + _EDGE
    margins = Margins(left, 0.40 if chance else _RIGHT, 0.40 if chance else _BETWEEN, _BELOW)
    block = rows[0][0].drops.block
    last = max(side.layers for side in sides) - block
    columns = columns_for(len(sides), last + 1, margins)
    width = panel_width(columns, margins)
    groups = []
    for task, panels in zip(tasks, rows, strict=True):
        cells = [Cell(side.label, _note(panel)) for side, panel in zip(sides, panels, strict=True)]
        words = panels[0].drops.words
        heading = "calibration loss" if task == CALIBRATION else f"{task} ({words})"
        groups.append(Group(heading, tuple(cells)))
    with style():
        sheet = Sheet(
            groups,
            columns=columns,
            height=_DROPS_IN,
            margins=margins,
            title=title,
            caption=caption,
            keys=drops.KEYS,
            sign_in=drops.SIGN_IN,
        )
        figure = sheet.figure()
        FigureCanvasAgg(figure)
        for group, panels in enumerate(rows):
            for index, (side, panel) in enumerate(zip(sides, panels, strict=True)):
                spot = sheet.spot(group, index)
                axes = figure.add_axes(spot.box)
                if relative:
                    half = 0.75 / min(one.layers for one in sides)
                    axes.set_xlim(-half, 1.0)
                    span = side.layers * (1 + half)
                else:
                    axes.set_xlim(-0.75, last + 0.75)
                    span = last + 1.5
                label_x = (_EDGE - left) / width
                drops.draw_panel(axes, panel, width / span, label_x, side.layers if relative else None)
                if not spot.leftmost:
                    axes.set_ylabel("")
                _edges(axes, spot.leftmost, spot.lowest, relative, last)
                if spot.lowest:
                    axes.set_xlabel(RELATIVE_LABEL if relative else "Layer index $l$")
        sheet.write_keys(figure, drops.key_signs())
    return figure


def _task_panels(sides: list[Compared], task: str) -> list[drops.Panel]:
    """The panels of one task, with ends and ticks that hold all models."""
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
    # Unbroken: the sheet breaks it, and a break of its own would hide where one note ends.
    _, notes = drops.panel_notes(panel, math.inf)
    return "; ".join(notes)


def _margins(axis: Axis, y_label: str) -> Margins:
    ticks_in = max(width_in(label, TICK_PT, mathematics=True) for label in axis.labels)
    left = _EDGE + text_height([y_label], LABEL_PT) + _LABEL_GAP + ticks_in + _TICK_ROOM
    return Margins(left, _RIGHT, _BETWEEN, _BELOW)


def _edges(axes: Axes, leftmost: bool, lowest: bool, relative: bool, last: int) -> None:
    """Ticks on every panel, their labels at the edges of the sheet only."""
    places: list[Any] = [0, 0.25, 0.5, 0.75, 1] if relative else ticks(0, last)
    labels = [f"{place:g}" for place in places] if lowest else [""] * len(places)
    axes.set_xticks(places, labels=labels)
    if not leftmost:
        axes.set_yticklabels([])
    axes.spines[["top", "right"]].set_visible(False)


def _set_y_label(axes: Axes, label: str, x: float) -> None:
    axes.set_ylabel(label)
    axes.yaxis.set_label_coords(x, 0.5)
    axes.yaxis.label.set(rotation_mode="anchor", verticalalignment="top")


def _caption(sides: list[Compared]) -> str:
    """On what all were measured; empty if it is not known."""
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
COMPARISONS: dict[str, Callable[[Run, str, str], Figure]] = {
    "compare_angular": draw_maps,
    "compare_variance": draw_variances,
    "compare_gradnorm": draw_gradnorms,
    "compare_prune_sweep": draw_drop_panels,
}
