"""The proxies that order the layers of a model best and worst, each against the measured drop: a dot a layer.

Downward is harm, as in the figure of drops, so the dots of a good proxy fall to the right: what it gives a
large value costs much to remove. Colour is depth; a hollow dot is a drop that is not detectable.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray

from depthprobe.errors import RunError
from depthprobe.findings.drops import ALPHA
from depthprobe.findings.findings import Findings
from depthprobe.findings.scores import words_of
from depthprobe.findings.words import counted, spoken
from depthprobe.render.charts import drops
from depthprobe.render.charts.kit.labels import Name, lead, place_names
from depthprobe.render.charts.kit.panels import Cell, Group, Margins, Sheet, panel_width
from depthprobe.render.charts.kit.presets import here
from depthprobe.render.charts.kit.style import FAINT, INK, TICK_PT, style, width_in
from depthprobe.render.charts.kit.ticks import MINUS, ticks
from depthprobe.render.charts.quantities import Quantity, quantity_of

# The light end of the map is left out: on white it is hardly seen.
_COLORS = matplotlib.colormaps["viridis"].resampled(256)
_LIGHTEST = 0.82
_HEIGHT_IN, _LOWEST_IN = 2.1, 1.1
_EDGE, _RIGHT, _BETWEEN, _BELOW = 0.03, 0.56, 0.24, 0.38
_BAR_GAP, _BAR_IN = 0.09, 0.08
_NAME_PT, _NAME_HIGH, _LABEL_GAP_IN, _SIGN_IN = 6.0, 0.95, 0.14, 0.09
# Dots are smaller where there are many; a dot beyond the axis is drawn near its end, as a share of it.
_LARGEST_PT, _SMALLEST_PT, _NEAR_END = 4.4, 2.8, 0.035
_MANY, _MOST_NAMES = 48, 30
# What stands before the names of the proxies; none is called best that orders wrongly.
_ENDS, _LOW_ENDS = ("Best: ", "Worst: "), ("Highest correlation: ", "Lowest: ")


@dataclass(frozen=True)
class _Side:
    """One panel: a proxy, where its layers' dots and names stand in points, and which lie beyond an axis.

    ``layers`` are those of which both are known; ``beyond`` is by dot the marker that points where it lies,
    empty for those on the axes.
    """

    row: pd.Series
    quantity: Quantity
    layers: NDArray[np.int64]
    places: NDArray[np.float64]
    beyond: list[str]
    names: list[Name | None]


def draw_trust_scatter(study: Findings, task: str, *, title: str = "", caption: str = "") -> Figure:
    """The best and the worst proxy of a task, a panel each, as a matplotlib figure; nothing is written.

    Across the proxy, logarithmic where it spans more than a decade, downward the measured harm with its 95%
    interval. Numbers are layers, 0-based; where not all have room, those that the proxy ranks most wrongly
    have. Dots that would flatten all others lie beyond the axis: a triangle, and the value above.

    Args:
        study: What the runs say.
        task: The task whose drops are drawn.
        title: Above the figure.
        caption: Below the title in small type.

    Raises:
        RunError: if no proxy was compared with this task, or a table cannot be used.
    """
    rows = study.trust.rows(task)
    measured = {found.task: found for found in study.drops}
    if rows.empty or task not in measured:
        raise RunError(f"No cheap measurement of {study.model} was compared with the drops of {task!r}.")
    chosen = [rows.iloc[0], rows.iloc[-1]] if len(rows) > 1 else [rows.iloc[0]]
    height, none_rightly = _HEIGHT_IN, study.trust.orders_none_rightly(task)
    with style():
        figure = _drawn(study, chosen, measured[task], none_rightly, height, title, caption)
        if figure.get_figheight() > here().height:
            # The page is low, such as a slide.
            height = max(_LOWEST_IN, height - (figure.get_figheight() - here().height) - 0.01)
            figure = _drawn(study, chosen, measured[task], none_rightly, height, title, caption)
    return figure


def _drawn(
    study: Findings,
    rows: list[pd.Series],
    drop: drops.Drops,
    none_rightly: bool,
    height: float,
    title: str,
    caption: str,
) -> Figure:
    """The figure with panels of such a height in inches."""
    frame = study.by_layer
    panel = drops.plan_panel(drop, height)
    margins = Margins(panel.label_in + _EDGE, _RIGHT, _BETWEEN, _BELOW)
    width = panel_width(len(rows), margins)
    size_pt = _SMALLEST_PT if study.layers > _MANY else _LARGEST_PT
    sides = [_side(row, frame, panel, width, height, size_pt) for row in rows]
    _, notes = drops.panel_notes(panel, math.inf)
    words = [caption, f"{drop.task}: {'; '.join(notes)}", "numbers: layers"]
    if any(name is None for side in sides for name in side.names):
        words[-1] = "numbers: the layers that the measurement ranks most wrongly, as far as there is room"
    ends = ("",) if len(rows) == 1 else _LOW_ENDS if none_rightly else _ENDS
    cells = tuple(
        Cell(f"{end}{words_of(side.row['proxy'])}" if end else side.quantity.words, _correlation(side))
        for end, side in zip(ends, sides, strict=True)
    )
    sheet = Sheet(
        [Group("", cells)],
        columns=len(sides),
        height=height,
        margins=margins,
        title=title,
        caption="; ".join(filter(None, words)),
        keys=drops.KEYS,
        sign_in=_SIGN_IN,
    )
    figure = sheet.figure()
    FigureCanvasAgg(figure)
    colors = Normalize(0, max(study.layers - 1, 1) / _LIGHTEST)
    for number, side in enumerate(sides):
        axes = figure.add_axes(sheet.spot(0, number).box)
        _draw(axes, side, panel, colors, width, size_pt)
        axes.set_yticks(panel.ticks, labels=panel.tick_labels if number == 0 else [])
    drops.write_axis_label(figure.axes[0], panel, (_EDGE - margins.left) / width)
    x, down = sheet.place(0, len(sides) - 1)
    bar_axes = figure.add_axes(sheet.box_in(x + width + _BAR_GAP, down, _BAR_IN, height))
    bar = figure.colorbar(ScalarMappable(colors, _COLORS), cax=bar_axes)
    bar_axes.set_ylim(0, max(study.layers - 1, 1))
    bar.set_ticks(ticks(0, study.layers - 1))
    bar.outline.set_visible(False)
    bar.set_label("Layer index $l$", labelpad=2.0)
    sheet.write_keys(figure, _signs())
    return figure


def _correlation(side: _Side) -> str:
    """How well a proxy orders the layers, and what of it lies beyond the axis."""
    row = side.row

    def said(name: str) -> str:
        value, low, high = (
            spoken(float(row[key]), 2).replace("-", MINUS) for key in (name, f"{name}_low", f"{name}_high")
        )
        return f"{name.capitalize()} {value} ({low} to {high})"

    words = (
        f"{said('spearman')}, {said('kendall')}; 95% intervals over {counted(int(row['layers']), 'layer')}"
    )
    return "; ".join(filter(None, [words, side.quantity.cut_note]))


def _side(
    row: pd.Series, frame: pd.DataFrame, panel: drops.Panel, width: float, height: float, size_pt: float
) -> _Side:
    """A panel of such a size in inches, with every dot and name in its place."""
    quantity = quantity_of(row["proxy"], frame[row["proxy"]].to_numpy(dtype="float64"), from_zero=False)
    assert quantity is not None, "what was correlated is known"
    widest = max(width_in(label, TICK_PT, mathematics=True) for label in quantity.axis.labels)
    quantity = quantity.with_labels(max(2, int(width / (widest + _LABEL_GAP_IN))))
    rows = panel.drops.rows
    known = np.isfinite(quantity.values[rows["layer"].to_numpy()])
    rows = rows[known]
    layers = rows["layer"].to_numpy()
    across = _shares(quantity.values[layers], quantity.axis.low, quantity.axis.high, quantity.logarithmic)
    ends = (panel.low, panel.high) if panel.drops.higher_is_better else (panel.high, panel.low)
    up, low, high = (_shares(rows[name], *ends) for name in ("drop", "ci_low", "ci_high"))
    beyond = [_pointing(x, y) for x, y in zip(across, up, strict=True)]
    shares = np.clip(np.column_stack([across, up]), _NEAR_END, 1 - _NEAR_END)
    shares = np.where([[not mark] for mark in beyond], np.column_stack([across, up]), shares)
    points = shares * [width * 72, height * 72]
    bottom, top = (np.clip(function(low, high), 0, 1) for function in (np.minimum, np.maximum))
    lines = np.column_stack([points[:, 0] - 0.4, bottom * height * 72, points[:, 0] + 0.4, top * height * 72])
    zero = float(_shares(np.zeros(1), *ends)[0]) * height * 72
    lines = np.concatenate([lines, [[0.0, zero - 0.4, width * 72, zero + 0.4]]])
    sizes = np.array([[width_in(str(layer), _NAME_PT) * 72, _NAME_HIGH * _NAME_PT] for layer in layers])
    # Those first that lie beyond an axis, whose place says little, then those on which proxy and measurement
    # disagree most, which a reader looks for.
    both = pd.DataFrame({"proxy": quantity.values[layers], "harm": panel.drops.harm[known]}).rank()
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
    return _Side(row, quantity, layers, points, beyond, names)


def _pointing(across: float, up: float) -> str:
    """The marker that points to where a dot lies beyond its axes; empty if it does not."""
    for mark, beyond in (("v", up < 0), ("^", up > 1), ("<", across < 0), (">", across > 1)):
        if beyond:
            return mark
    return ""


def _shares(
    values: pd.Series | NDArray[np.float64], low: float, high: float, logarithmic: bool = False
) -> NDArray[np.float64]:
    """Where values stand on an axis: 0 at its beginning, 1 at its end."""
    numbers = np.asarray(values, dtype="float64")
    if logarithmic:
        numbers, low, high = np.log(numbers), math.log(low), math.log(high)
    return (numbers - low) / (high - low)


def _draw(
    axes: Axes, side: _Side, panel: drops.Panel, colors: Normalize, width: float, size_pt: float
) -> None:
    """Dots, intervals, names and axes of one panel."""
    quantity, drop = side.quantity, panel.drops
    axes.set_xscale("log" if quantity.logarithmic else "linear")
    axes.set_xlim(quantity.axis.low, quantity.axis.high)
    axes.set_xticks(quantity.axis.places, labels=quantity.axis.labels)
    axes.set_xticks(quantity.axis.small, minor=True)
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", which="minor", length=1.2, width=0.4)
    axes.set_xlabel(quantity.label)
    axes.set_ylim((panel.low, panel.high) if drop.higher_is_better else (panel.high, panel.low))
    axes.spines[["top", "right"]].set_visible(False)
    axes.axhline(0, color=INK, linewidth=0.6, zorder=1)
    points_to_axes = (
        1 / (width * 72),
        1 / (axes.get_position().height * axes.get_figure().get_figheight() * 72),
    )
    rows = drop.rows.set_index("layer").loc[side.layers]
    places = side.places * points_to_axes
    for place, layer, mark, name, detected in zip(
        places, side.layers, side.beyond, side.names, (rows["p_adjusted"] < ALPHA), strict=True
    ):
        color = _COLORS(colors(layer))
        if not mark:
            ends = rows.loc[layer, ["ci_low", "ci_high"]].to_numpy(dtype="float64")
            axes.vlines(quantity.values[layer], *ends, color=color, linewidth=0.6, alpha=0.7, zorder=2)
        axes.plot(
            *place,
            marker=mark or "o",
            markersize=size_pt,
            markerfacecolor=color if detected else "white",
            markeredgecolor=color,
            markeredgewidth=0.8,
            transform=axes.transAxes,
            clip_on=False,
            zorder=4,
        )
        if name is None:
            continue
        axes.text(
            name.x * points_to_axes[0],
            name.y * points_to_axes[1],
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
            middle = np.array([name.x, name.y])
            end = lead(place / points_to_axes, np.concatenate([middle - half, middle + half]))
            line = np.array([place, end * points_to_axes])
            axes.plot(*line.T, color=FAINT, linewidth=0.4, transform=axes.transAxes, zorder=3)


def _signs() -> list[Artist]:
    """What a filled dot, a hollow one and a line mean, in the words of the figure of drops."""
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
