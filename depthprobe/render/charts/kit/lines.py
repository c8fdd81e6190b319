"""Line figures over the depth of a model: curves, their key above them, an even or a logarithmic axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray

from depthprobe.render.charts.kit.presets import page_width
from depthprobe.render.charts.kit.style import (
    FAINT,
    LABEL_PT,
    NOTE_PT,
    TICK_PT,
    fit,
    fit_title,
    key_grid,
    style,
    text_height,
    width_in,
    write_keys,
    write_lines,
)
from depthprobe.render.charts.kit.ticks import even_ticks, log_ticks, tick_labels, ticks

# In inches: margins, the height of the axes, and what a layer should have at least.
_RIGHT, _BOTTOM, _TOP = 0.10, 0.40, 0.06
_HEIGHT_IN = 1.75
_LAYER_IN = 0.0475
_EDGE, _TICK_ROOM, _LABEL_GAP, _HEAD_GAP = 0.03, 0.07, 0.05, 0.05
_SIGN_IN = 0.27
# Beside the first and the last layer, in layers; above and below the curves, as a share of the axis.
_SIDE, _PAD = 0.6, 0.06
# Thin curves carry a mark at every layer only where these stand clear of each other, else now and then.
_CLEAR_PT, _APART_PT = 4.5, 18.0


@dataclass(frozen=True)
class Look:
    """How a curve is drawn: told from others by its dashes and marks, in grey as well."""

    color: str
    width: float
    dashes: tuple[float, ...] = ()
    marker: str = ""
    filled: bool = False
    level: int = 3


@dataclass(frozen=True)
class Curve:
    """One curve: what it shows, as its key says it, and where it runs; NaN where it is not known."""

    key: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    look: Look


@dataclass(frozen=True)
class Band:
    """A light band between two curves."""

    key: str
    x: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    color: str


def spans_a_decade(curves: Sequence[Curve]) -> bool:
    """Whether the largest value of the curves is more than ten times the smallest one above 0."""
    values = np.concatenate([curve.y for curve in curves])
    values = values[values > 0]
    return bool(values.size) and bool(values.max() > 10 * values.min())


def draw_lines(
    curves: Sequence[Curve],
    *,
    band: Band | None = None,
    logarithmic: bool,
    last: int,
    x_label: str,
    y_label: str,
    title: str,
    caption: str,
) -> Figure:
    """Curves over the depth as a matplotlib figure; nothing is written and no global style changes.

    Args:
        curves: The first one is the main one. A logarithmic axis leaves out values of 0.
        band: A band behind them.
        logarithmic: The y axis; an even one begins at 0.
        last: The axis runs from 0 to this layer or boundary.
        x_label: What stands below the axis; may hold mathematics, as ``y_label`` may.
        y_label: What stands beside the axis.
        title: Above the figure, such as the model's id.
        caption: Below the title in small type.
    """
    axis = y_axis(curves, band, logarithmic)
    ticks_in = max(width_in(label, TICK_PT, mathematics=True) for label in axis.labels)
    left = _EDGE + text_height([y_label], LABEL_PT) + _LABEL_GAP + ticks_in + _TICK_ROOM
    layers = last + 2 * _SIDE
    width = page_width(layers * _LAYER_IN + left + _RIGHT)
    inside = width - left - _RIGHT
    title_pt, title_lines = fit_title(title, inside)
    caption_lines = fit(caption, NOTE_PT, inside)
    keys = [curve.key for curve in curves] + ([band.key] if band else [])
    key_rows, key_columns = key_grid(keys, inside, _SIGN_IN)
    key_in = text_height([""] * key_rows, NOTE_PT)
    above = _TOP + text_height(title_lines, title_pt) + text_height(caption_lines, NOTE_PT)
    above += _HEAD_GAP * bool(title_lines or caption_lines) + key_in + 1.5 * _HEAD_GAP
    total = above + _HEIGHT_IN + _BOTTOM
    layer_pt = inside * 72 / layers

    with style():
        figure = Figure(figsize=(width, total), facecolor="white")
        FigureCanvasAgg(figure)
        axes = figure.add_axes((left / width, _BOTTOM / total, inside / width, _HEIGHT_IN / total))
        axes.set_xlim(-_SIDE, last + _SIDE)
        set_axis(axes, axis, logarithmic)
        signs: list[Artist] = [draw_curve(axes, curve, layer_pt) for curve in curves]
        if band:
            low = np.maximum(band.low, axis.low)
            axes.fill_between(band.x, low, band.high, color=band.color, linewidth=0, zorder=1)
            signs.append(Patch(facecolor=band.color, linewidth=0))
        axes.set_xticks(ticks(0, last))
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.yaxis.set_label_coords((_EDGE - left) / inside, 0.5)
        axes.yaxis.label.set(rotation_mode="anchor", verticalalignment="top")
        axes.spines[["top", "right"]].set_visible(False)
        top = write_lines(figure, left, total - _TOP, title_lines, title_pt, weight="bold")
        top = write_lines(figure, left, top, caption_lines, NOTE_PT, color=FAINT)
        write_keys(figure, left, total - above + key_in + 1.5 * _HEAD_GAP, keys, signs, key_columns, _SIGN_IN)
    return figure


@dataclass(frozen=True)
class Axis:
    """Where the y axis ends, and its ticks; the small ones have no label."""

    low: float
    high: float
    places: list[float]
    labels: list[str]
    small: list[float]


def y_axis(curves: Sequence[Curve], band: Band | None, logarithmic: bool) -> Axis:
    """An axis that holds every curve, and the band as far as it lies above 0."""
    values = np.concatenate([curve.y for curve in curves])
    values = values[np.isfinite(values)]
    high = float(max(values.max(), np.nanmax(band.high) if band else 0))
    if not logarithmic:
        high = high * (1 + _PAD) if high else 1.0
        places = even_ticks(0, high)
        return Axis(0.0, high, places, tick_labels(places), [])
    low = float(values[values > 0].min())
    if band and (band.low > low / 10).any():
        low = min(low, float(band.low[band.low > low / 10].min()))
    # Equal values would leave the axis without a scale.
    reach = max(high / low, 1.2)
    low, high = (low * high / reach) ** 0.5, (low * high * reach) ** 0.5
    pad = reach**_PAD
    found = log_ticks(low / pad, high * pad)
    return Axis(low / pad, high * pad, found.places, found.labels, found.small)


def set_axis(axes: Axes, axis: Axis, logarithmic: bool) -> None:
    """Give the axes this y axis."""
    axes.set_yscale("log" if logarithmic else "linear")
    axes.set_ylim(axis.low, axis.high)
    axes.set_yticks(axis.places, labels=axis.labels)
    axes.set_yticks(axis.small, minor=True)
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="y", which="minor", length=1.2, width=0.4)


def draw_curve(axes: Axes, curve: Curve, layer_pt: float) -> Line2D:
    """A curve on the axes; its sign in the key."""
    look = curve.look
    main = look.filled
    size = float(np.clip(layer_pt * (0.5 if main else 0.4), 1.4, 3.6 if main else 2.8))
    y = np.where(curve.y > 0, curve.y, np.nan) if axes.get_yscale() == "log" else curve.y
    drawn = {
        "color": look.color,
        "linewidth": look.width,
        "linestyle": (0, look.dashes) if look.dashes else "-",
        "marker": look.marker or None,
        "markerfacecolor": look.color if look.filled else "white",
        "markeredgewidth": 0.0 if look.filled else 0.6,
        "zorder": look.level,
    }
    (line,) = axes.plot(curve.x, y, markersize=size, **drawn)
    if look.marker and not main and layer_pt < _CLEAR_PT:
        line.set_markevery(_marked(y, math.ceil(_APART_PT / layer_pt)))
    return Line2D([], [], markersize=3.2 if main else 2.8, **drawn)


def _marked(y: NDArray[np.float64], step: int) -> list[int]:
    """Every so-manieth value, and those without a neighbour, which no line would show."""
    there = np.isfinite(y)
    before, after = np.r_[False, there[:-1]], np.r_[there[1:], False]
    now_and_then = np.arange(len(y)) % step == step // 2
    return np.flatnonzero(there & (now_and_then | ~before & ~after)).tolist()
