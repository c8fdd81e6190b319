"""The proxies that order the layers of a model best and worst, each against the measured drop: a dot a layer.

Downward is harm, as in the figure of drops, so the dots of a good proxy fall to the right: what it gives a
large value costs much to remove. Colour is depth; a hollow dot is a drop that is not detectable.
"""

from __future__ import annotations

import math
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
from depthprobe.render.charts.kit.grid import Grid, Margins, PanelGroup, PanelText, panel_width
from depthprobe.render.charts.kit.looks import depth_colours
from depthprobe.render.charts.kit.page import SPOT_SIGN
from depthprobe.render.charts.kit.page_sizes import current_size
from depthprobe.render.charts.kit.point_names import Name, lead, place_names
from depthprobe.render.charts.kit.style import FAINT, INK, TICK_PT, style, width_in
from depthprobe.render.charts.kit.ticks import MINUS, ticks
from depthprobe.render.charts.scores import ShownScore, shown_score

_HEIGHT_IN, _LOWEST_IN = 2.1, 1.1
# Right of the panels the colour bar stands, and between them the interval of a dot may reach out.
_RIGHT, _BETWEEN, _BELOW = 0.58, 0.24, 0.38
_NAME_PT, _NAME_HIGH, _LABEL_GAP_IN = 6.0, 0.95, 0.14
# Dots are smaller where there are many; a dot beyond the axis is drawn near its end, as a share of it.
_LARGEST_PT, _SMALLEST_PT, _NEAR_END = 4.4, 2.8, 0.035
_MANY, _MOST_NAMES = 48, 30


@dataclass(frozen=True)
class _Scatter:
    """One panel: a proxy, where its layers' dots and names stand in points, and which lie beyond an axis.

    ``layers`` are those of which both are known; ``beyond`` is by dot the marker that points where it lies,
    empty for those on the axes.
    """

    row: pd.Series
    score: ShownScore
    layers: NDArray[np.int64]
    places: NDArray[np.float64]
    beyond: list[str]
    names: list[Name | None]


def draw_trust_scatter(findings: Findings, task: str, *, title: str = "", caption: str = "") -> Figure:
    """Return the best and the worst proxy of a task, a panel each, as a figure; nothing is written.

    Across the proxy, logarithmic where it spans more than a decade, downward the measured harm with its 95%
    interval. Numbers are layers, 0-based; where not all have room, those that the proxy ranks most wrongly
    have. Dots that would flatten all others lie beyond the axis: a triangle, and the value above.

    Args:
        findings: What the runs say.
        task: The task whose drops are drawn.
        title: Above the figure.
        caption: Below the title in small type.

    Raises:
        RunError: if no proxy was compared with this task.
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
    """Return the figure with panels of such a height in inches."""
    panel = drops.plan_panel(drop, height)
    margins = Margins(panel.room, _RIGHT, _BETWEEN, _BELOW)
    width = panel_width(len(rows), margins)
    size_pt = _SMALLEST_PT if findings.layers > _MANY else _LARGEST_PT
    scatters = [_scatter(row, findings.by_layer, panel, width, height, size_pt) for row in rows]
    _, notes = drops.panel_notes(panel, math.inf)
    words = [caption, f"{drop.task}: {'; '.join(notes)}", "numbers: layers"]
    if any(name is None for scatter in scatters for name in scatter.names):
        words[-1] = "numbers: the layers that the measurement ranks most wrongly, as far as there is room"
    texts = tuple(
        PanelText(f"{end}{words_of(one.row['proxy'])}" if end else one.score.words, _correlation(one))
        for end, one in zip(_ends(rows, findings.trust.orders_none_rightly(drop.task)), scatters, strict=True)
    )
    grid = Grid(
        [PanelGroup("", texts)],
        columns=len(scatters),
        height=height,
        margins=margins,
        title=title,
        caption="; ".join(filter(None, words)),
        keys=drops.KEYS,
        sign_in=SPOT_SIGN,
    )
    figure = grid.open()
    colours = depth_colours(findings.layers - 1)
    for number, scatter in enumerate(scatters):
        axes = grid.add_panel(0, number)
        _draw(axes, scatter, panel, colours, (width * 72, height * 72), size_pt)
        axes.set_yticks(panel.ticks, labels=panel.tick_labels if number == 0 else [])
        if number == 0:
            drops.label_panel(axes, panel, margins.left)
    bar = grid.add_colour_bar(axes, colours, label="Layer index $l$")
    bar.ax.set_ylim(0, max(findings.layers - 1, 1))
    bar.set_ticks(ticks(0, findings.layers - 1))
    grid.write_key(_signs())
    return figure


def _ends(rows: list[pd.Series], none_rightly: bool) -> tuple[str, ...]:
    """Return what stands before the names of the proxies; none is called best that orders wrongly."""
    if len(rows) == 1:
        return ("",)
    return ("Highest correlation: ", "Lowest: ") if none_rightly else ("Best: ", "Worst: ")


def _correlation(scatter: _Scatter) -> str:
    """Return how well a proxy orders the layers, and what of it lies beyond the axis."""
    row = scatter.row

    def said(name: str) -> str:
        value, low, high = (
            spoken(float(row[key]), 2).replace("-", MINUS) for key in (name, f"{name}_low", f"{name}_high")
        )
        return f"{name.capitalize()} {value} ({low} to {high})"

    words = (
        f"{said('spearman')}, {said('kendall')}; 95% intervals over {counted(int(row['layers']), 'layer')}"
    )
    return "; ".join(filter(None, [words, scatter.score.cut_note]))


def _scatter(
    row: pd.Series, frame: pd.DataFrame, panel: drops.Panel, width: float, height: float, size_pt: float
) -> _Scatter:
    """Return a panel of such a size in inches, with every dot and name in its place."""
    score = shown_score(row["proxy"], frame[row["proxy"]].to_numpy(dtype="float64"), from_zero=False)
    assert score is not None, "what was correlated is known"
    widest = max(width_in(label, TICK_PT, mathematics=True) for label in score.scale.labels)
    score = score.with_labels(max(2, int(width / (widest + _LABEL_GAP_IN))))
    rows = panel.drops.rows
    known = np.isfinite(score.values[rows["layer"].to_numpy()])
    rows = rows[known]
    layers = rows["layer"].to_numpy()
    across = _shares(score.values[layers], score.scale.low, score.scale.high, score.scale.logarithmic)
    up, low, high = (_shares(rows[name], *panel.ends) for name in ("drop", "ci_low", "ci_high"))
    beyond = [_pointing(x, y) for x, y in zip(across, up, strict=True)]
    shares = np.clip(np.column_stack([across, up]), _NEAR_END, 1 - _NEAR_END)
    shares = np.where([[not mark] for mark in beyond], np.column_stack([across, up]), shares)
    points = shares * [width * 72, height * 72]
    bottom, top = (np.clip(function(low, high), 0, 1) for function in (np.minimum, np.maximum))
    lines = np.column_stack([points[:, 0] - 0.4, bottom * height * 72, points[:, 0] + 0.4, top * height * 72])
    zero = float(_shares(np.zeros(1), *panel.ends)[0]) * height * 72
    lines = np.concatenate([lines, [[0.0, zero - 0.4, width * 72, zero + 0.4]]])
    sizes = np.array([[width_in(str(layer), _NAME_PT) * 72, _NAME_HIGH * _NAME_PT] for layer in layers])
    # Those first that lie beyond an axis, whose place says little, then those on which proxy and measurement
    # disagree most, which a reader looks for.
    both = pd.DataFrame({"proxy": score.values[layers], "harm": panel.drops.harm[known]}).rank()
    wrong = (both["proxy"] - both["harm"]).abs().to_numpy()
    order = sorted(range(len(layers)), key=lambda dot: (not beyond[dot], -wrong[dot]))
    names = place_names(
        points,
        sizes,
        order if len(layers) <= _MANY else order[:_MOST_NAMES],
        radius=size_pt / 2,
        room=(width * 72, height * 72),
        lines=lines,
    )
    return _Scatter(row, score, layers, points, beyond, names)


def _pointing(across: float, up: float) -> str:
    """Return the marker that points to where a dot lies beyond its axes; empty if it does not."""
    for mark, beyond in (("v", up < 0), ("^", up > 1), ("<", across < 0), (">", across > 1)):
        if beyond:
            return mark
    return ""


def _shares(
    values: pd.Series | NDArray[np.float64], low: float, high: float, logarithmic: bool = False
) -> NDArray[np.float64]:
    """Return where values stand on an axis: 0 at its beginning, 1 at its end."""
    numbers = np.asarray(values, dtype="float64")
    if logarithmic:
        numbers, low, high = np.log(numbers), math.log(low), math.log(high)
    return (numbers - low) / (high - low)


def _draw(
    axes: Axes,
    scatter: _Scatter,
    panel: drops.Panel,
    colours: ScalarMappable,
    size: tuple[float, float],
    dot_pt: float,
) -> None:
    """Draw dots, intervals, names and axes of one panel, whose size is given in points."""
    score, drop = scatter.score, panel.drops
    score.scale.set(axes, "x")
    axes.set_xlabel(score.label)
    axes.set_ylim(panel.ends)
    axes.spines[["top", "right"]].set_visible(False)
    axes.axhline(0, color=INK, linewidth=0.6, zorder=1)
    points_to_axes = 1 / np.array(size)
    rows = drop.rows.set_index("layer").loc[scatter.layers]
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
        middle = np.array([name.x, name.y])
        axes.text(
            *(middle * points_to_axes),
            str(layer),
            size=_NAME_PT,
            color=INK,
            transform=axes.transAxes,
            horizontalalignment="center",
            verticalalignment="center_baseline",
            zorder=5,
        )
        if name.led:
            half = np.array([width_in(str(layer), _NAME_PT) * 72, _NAME_HIGH * _NAME_PT]) / 2
            end = lead(place, np.concatenate([middle - half, middle + half]))
            leads.append(np.array([place, end]) * points_to_axes)
    look = {"colors": FAINT, "linewidths": 0.4, "transform": axes.transAxes, "zorder": 3}
    axes.add_collection(LineCollection(leads, **look), autolim=False)


def _signs() -> list[Artist]:
    """Return what a filled dot, a hollow one and a line mean, in the words of the figure of drops."""
    dot = {
        "color": INK,
        "linestyle": "none",
        "marker": "o",
        "markersize": _LARGEST_PT,
        "markeredgewidth": 0.8,
    }
    return [
        Line2D([], [], **dot),
        Line2D([], [], **(dot | {"markerfacecolor": "white"})),
        Line2D([], [], color=INK, linewidth=0.6, linestyle="none", marker="|", markersize=6),
    ]
