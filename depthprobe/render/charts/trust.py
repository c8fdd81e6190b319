"""The scores that order the layers best and worst, each against the measured drop: one dot per layer.

Downward is harm, as in the figure of drops, so the dots of a good score fall to the right: layers with large
values cost much to remove. Colour is depth; a hollow dot is a drop that is not detectable.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle
from numpy.typing import NDArray

from depthprobe.errors import RunError
from depthprobe.findings.drops import ALPHA
from depthprobe.findings.findings import Findings
from depthprobe.findings.scores import words_of
from depthprobe.findings.words import counted, spoken
from depthprobe.render.charts import drops
from depthprobe.render.charts.kit.grid import Grid, Margins, PanelGroup
from depthprobe.render.charts.kit.lines import joined
from depthprobe.render.charts.kit.page import SPOT_SIGN, PanelText
from depthprobe.render.charts.kit.page_sizes import current_size
from depthprobe.render.charts.kit.point_names import Name, place_names
from depthprobe.render.charts.kit.style import FAINT, INK, TICK_PT, depth_colours, style, width_in
from depthprobe.render.charts.kit.ticks import MINUS
from depthprobe.render.charts.scores import ShownScore, shown_score

_HEIGHT_IN, _LOWEST_IN = 2.1, 1.1
# The colour bar stands right of the panels; dots may reach a little over their edges.
_RIGHT, _BETWEEN, _BELOW = 0.58, 0.24, 0.38
_NAME_PT, _NAME_HIGH, _LABEL_GAP_IN = 6.0, 0.95, 0.14
# Dots are smaller where there are many; one beyond the axis is drawn near its end, as a share of the axis.
_LARGEST_PT, _SMALLEST_PT, _NEAR_END = 4.4, 2.8, 0.035
_MANY, _MOST_NAMES = 48, 30


@dataclass(frozen=True)
class _Scatter:
    """One panel: a score, where the dots and names of its layers stand in points, and which lie beyond.

    ``layers`` are those of which score and drop are known; ``beyond`` holds for each dot the marker that
    points to where it lies, empty on the axes.
    """

    row: pd.Series
    score: ShownScore
    layers: NDArray[np.int64]
    places: NDArray[np.float64]
    beyond: list[str]
    names: list[Name | None]


def draw_trust_scatter(findings: Findings, task: str, *, title: str = "", caption: str = "") -> Figure:
    """Return the best and the worst score of a task, one panel each, as a figure; nothing is written.

    Across: the score, logarithmic where it spans more than a decade; downward: the measured harm with its 95%
    interval. Numbers are layers, 0-based; where not all have room, those that the score ranks most wrongly.
    Dots that would flatten all others lie beyond the axis: a triangle, with the value above the panel.

    Raises:
        RunError: if no score was compared with this task.
    """
    rows = findings.trust.rows(task)
    measured = {found.task: found for found in findings.drops}
    if rows.empty or task not in measured:
        raise RunError(f"No cheap measurement of {findings.model} was compared with the drops of {task!r}.")
    chosen = [rows.iloc[0], rows.iloc[-1]] if len(rows) > 1 else [rows.iloc[0]]
    with style():
        figure = _drawn(findings, chosen, measured[task], _HEIGHT_IN, title, caption)
        over = figure.get_figheight() - current_size().height
        if over > 0:
            # The page is low, such as a slide.
            height = max(_LOWEST_IN, _HEIGHT_IN - over - 0.01)
            figure = _drawn(findings, chosen, measured[task], height, title, caption)
    return figure


def _drawn(
    findings: Findings, rows: list[pd.Series], drop: drops.Drops, height: float, title: str, caption: str
) -> Figure:
    """Return the figure with panels of this height in inches."""
    panel = drops.plan_panel(drop, height)
    margins = Margins(panel.room, _RIGHT, _BETWEEN, _BELOW)
    width = margins.panel_width(len(rows))
    size_pt = _SMALLEST_PT if findings.layers > _MANY else _LARGEST_PT
    scatters = [_scatter(row, findings.by_layer, panel, width, height, size_pt) for row in rows]
    numbers = "numbers: layers"
    if any(name is None for scatter in scatters for name in scatter.names):
        numbers = "numbers: the layers that the measurement ranks most wrongly, as far as there is room"
    ends = ("Highest correlation: ", "Lowest: ")
    names = [scatters[0].score.words]
    if len(rows) > 1:
        names = [f"{end}{words_of(row['proxy'])}" for end, row in zip(ends, rows, strict=True)]
    texts = [PanelText(name, _correlation(one)) for name, one in zip(names, scatters, strict=True)]
    grid = Grid(
        [PanelGroup("", texts)],
        layers=1,  # across stands a score
        height=lambda width: height,
        margins=margins,
        title=title,
        caption=joined(caption, f"{drop.task}: {panel.note}", numbers),
        keys=dict(zip(drops.KEYS, _signs(), strict=True)),
        sign_in=SPOT_SIGN,
    )
    colours = depth_colours(findings.layers - 1)
    for number, scatter in enumerate(scatters):
        axes = grid.add_panel(0, number)
        _draw(axes, scatter, panel, colours, (width * 72, height * 72), size_pt)
        if number == 0:
            drops.label_panel(axes, panel, margins.left)
        else:
            axes.set_yticklabels([])
    grid.add_depth_bar(axes, colours, findings.layers - 1)
    return grid.figure


def _correlation(scatter: _Scatter) -> str:
    """Return how well a score orders the layers, and what lies beyond its axis."""
    row = scatter.row

    def said(name: str) -> str:
        value, low, high = (
            spoken(float(row[key]), 2).replace("-", MINUS) for key in (name, f"{name}_low", f"{name}_high")
        )
        return f"{name.capitalize()} {value} ({low} to {high})"

    intervals = f"95% intervals over {counted(int(row['layers']), 'layer')}"
    return joined(f"{said('spearman')}, {said('kendall')}", intervals, scatter.score.cut_note)


def _scatter(
    row: pd.Series, frame: pd.DataFrame, panel: drops.Panel, width: float, height: float, size_pt: float
) -> _Scatter:
    """Return a panel of this size in inches, with every dot and name in its place."""
    score = shown_score(row["proxy"], frame[row["proxy"]].to_numpy(dtype="float64"), from_zero=False)
    assert score is not None, "what was correlated is known"
    widest = max(width_in(label, TICK_PT, mathematics=True) for label in score.scale.labels)
    score = score.with_labels(max(2, int(width / (widest + _LABEL_GAP_IN))))
    rows = panel.drops.rows
    known = np.isfinite(score.values[rows["layer"].to_numpy()])
    rows = rows[known]
    layers = rows["layer"].to_numpy()
    room = (width * 72, height * 72)
    across = score.scale.shares(score.values[layers])
    up, low, high = (panel.shares(rows[name]) for name in ("drop", "ci_low", "ci_high"))
    beyond = [_pointing(x, y) for x, y in zip(across, up, strict=True)]
    shares = np.column_stack([across, up])
    on_axes = np.array([[not mark] for mark in beyond])
    points = np.where(on_axes, shares, np.clip(shares, _NEAR_END, 1 - _NEAR_END)) * room
    bottom, top = (np.clip(function(low, high), 0, 1) * room[1] for function in (np.minimum, np.maximum))
    intervals = np.column_stack([points[:, 0] - 0.4, bottom, points[:, 0] + 0.4, top])
    zero = float(panel.shares(0.0)) * room[1]
    sizes = np.array([[width_in(str(layer), _NAME_PT) * 72, _NAME_HIGH * _NAME_PT] for layer in layers])
    # First those beyond an axis, whose place says little, then those on which score and measurement disagree
    # most, which a reader looks for.
    both = pd.DataFrame({"proxy": score.values[layers], "harm": panel.drops.harm[known]}).rank()
    wrong = (both["proxy"] - both["harm"]).abs().to_numpy()
    order = sorted(range(len(layers)), key=lambda dot: (not beyond[dot], -wrong[dot]))
    names = place_names(
        points,
        sizes,
        order if len(layers) <= _MANY else order[:_MOST_NAMES],
        radius=size_pt / 2,
        room=room,
        lines=np.concatenate([intervals, [[0.0, zero - 0.4, room[0], zero + 0.4]]]),
    )
    return _Scatter(row, score, layers, points, beyond, names)


def _pointing(across: float, up: float) -> str:
    """Return the marker that points to where a dot lies beyond its axes; empty for one on the axes."""
    places = {"v": up < 0, "^": up > 1, "<": across < 0, ">": across > 1}
    return next((mark for mark, beyond in places.items() if beyond), "")


def _draw(
    axes: Axes,
    scatter: _Scatter,
    panel: drops.Panel,
    colours: ScalarMappable,
    size: tuple[float, float],
    dot_pt: float,
) -> None:
    """Draw dots, intervals, names and axes of one panel, whose ``size`` is in points."""
    score = scatter.score
    score.scale.set(axes, "x")
    drops.set_vertical(axes, panel)
    axes.set_xlabel(score.label)
    axes.axhline(0, color=INK, linewidth=0.6, zorder=1)
    points_to_axes = 1 / np.array(size)
    rows = panel.drops.rows.set_index("layer").loc[scatter.layers]
    colors = colours.to_rgba(scatter.layers)
    on_axes = np.array([not mark for mark in scatter.beyond])
    axes.vlines(
        score.values[scatter.layers][on_axes],
        *(rows.loc[on_axes, name].to_numpy(dtype="float64") for name in ("ci_low", "ci_high")),
        colors=colors[on_axes],
        linewidth=0.6,
        alpha=0.7,
        zorder=2,
    )
    dots = axes.scatter(
        *(scatter.places * points_to_axes).T,
        s=dot_pt**2,
        facecolors=np.where((rows["p_adjusted"] < ALPHA).to_numpy()[:, None], colors, 1.0),
        edgecolors=colors,
        linewidths=0.8,
        transform=axes.transAxes,
        clip_on=False,
        zorder=4,
    )
    marks = [MarkerStyle(mark or "o") for mark in scatter.beyond]
    dots.set_paths([mark.get_path().transformed(mark.get_transform()) for mark in marks])
    leads = []
    for place, layer, name in zip(scatter.places, scatter.layers, scatter.names, strict=True):
        if name is None:
            continue
        axes.text(
            *(np.array([name.x, name.y]) * points_to_axes),
            str(layer),
            size=_NAME_PT,
            color=INK,
            transform=axes.transAxes,
            horizontalalignment="center",
            verticalalignment="center_baseline",
            zorder=5,
        )
        if name.line_end is not None:
            leads.append(np.array([place, name.line_end]) * points_to_axes)
    look = {"colors": FAINT, "linewidths": 0.4, "transform": axes.transAxes, "zorder": 3}
    axes.add_collection(LineCollection(leads, **look), autolim=False)


def _signs() -> list[Artist]:
    """Return a sign for each of the keys of the figure of drops: a filled dot, a hollow one and a line."""
    look = {"color": INK, "linestyle": "none"}
    dot = {"marker": "o", "markersize": _LARGEST_PT, "markeredgewidth": 0.8, **look}
    return [
        Line2D([], [], **dot),
        Line2D([], [], markerfacecolor="white", **dot),
        Line2D([], [], linewidth=0.6, marker="|", markersize=6, **look),
    ]
