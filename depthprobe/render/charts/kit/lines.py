"""Line figures over the depth of a model: curves on a linear or logarithmic axis, their key above them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from depthprobe.findings.words import layers_named
from depthprobe.render.charts.kit.page import (
    BOTTOM,
    LAYER_IN,
    RIGHT,
    Page,
    label_vertical,
    room_beside,
    set_layers,
)
from depthprobe.render.charts.kit.page_sizes import page_width
from depthprobe.render.charts.kit.scales import scale_of
from depthprobe.render.charts.kit.style import Look, style

# Of the axes, in inches.
HEIGHT = 1.75
# Beside the first and the last layer, in layers.
BESIDE = 0.6
# Thin curves have a mark at every layer only where marks stand clear of each other, else at every k-th.
_CLEAR_PT, _APART_PT = 4.5, 18.0


@dataclass(frozen=True)
class Curve:
    """One curve: its words in the key, and where it runs; NaN where it is not known."""

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
    color: str = "#c9d8e4"


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
    """Return curves over the depth as a figure; nothing is written and no global style changes.

    Args:
        curves: The main one first. A logarithmic axis leaves out values of 0.
        band: Behind the curves.
        logarithmic: Whether the vertical axis is; a linear one holds 0.
        last: The horizontal axis runs from 0 to this layer or boundary.
        x_label, y_label: What stands at the axes; may hold mathematics and line breaks.
        title, caption: Above the axes.
    """
    values = [curve.y for curve in curves]
    if band:
        # On a logarithmic axis a band may reach a decade below the curves.
        least = min((float(y[y > 0].min()) for y in values if (y > 0).any()), default=0.0)
        values += [band.high, band.low[band.low > least / 10]]
    scale = scale_of(values, logarithmic=logarithmic)
    left = room_beside(scale.labels, 1 + y_label.count("\n"))
    layers = last + 2 * BESIDE
    width = page_width(layers * LAYER_IN + left + RIGHT)
    inside = width - left - RIGHT
    with style():
        keys = signs_of(curves)
        if band:
            keys[band.key] = Patch(facecolor=band.color, linewidth=0)
        page = Page(width, left, title=title, caption=caption, keys=keys)
        figure = page.open(page.head + HEIGHT + BOTTOM)
        axes = page.add_axes(left, page.head, inside, HEIGHT)
        set_layers(axes, 0, last, BESIDE, x_label)
        scale.set(axes)
        label_vertical(axes, y_label, left)
        for curve in curves:
            draw_curve(axes, curve, inside * 72 / layers)
        if band:
            low = np.maximum(band.low, scale.low)
            axes.fill_between(band.x, low, band.high, color=band.color, linewidth=0, zorder=1)
    return figure


def signs_of(curves: Iterable[Curve]) -> dict[str, Artist]:
    """Return the words and signs of a key; a single curve has no words, since its axis names it."""
    return {curve.key: curve.look.sign for curve in curves if curve.key}


def draw_curve(axes: Axes, curve: Curve, layer_pt: float) -> None:
    """Draw a curve on axes where a layer is ``layer_pt`` points wide."""
    main = curve.look.filled
    size = float(np.clip(layer_pt * (0.5 if main else 0.4), 1.4, 3.6 if main else 2.8))
    y = np.where(curve.y > 0, curve.y, np.nan) if axes.get_yscale() == "log" else curve.y
    (line,) = axes.plot(curve.x, y, markersize=size, **curve.look.drawn)
    if curve.look.marker and not main and layer_pt < _CLEAR_PT:
        line.set_markevery(_marked(y, math.ceil(_APART_PT / layer_pt)))


def with_zeros(caption: str, zeros: Iterable[tuple[str, NDArray[np.bool_]]]) -> str:
    """Return the caption, and in which layers values are 0, which a logarithmic axis cannot show."""
    said = [f"{what} in {layers_named(np.flatnonzero(where))}" for what, where in zeros if where.any()]
    return joined(caption, f"0 and so not drawn: {', '.join(said)}" if said else "")


def with_more(caption: str, hidden: int, what: str) -> str:
    """Return the caption, and how many lines, maps or tasks there was no room for."""
    return joined(caption, f"{hidden} more {what}{'s' * (hidden > 1)} in the CSV" if hidden else "")


def joined(*words: str) -> str:
    """Return those parts of a caption that are not empty, as one."""
    return "; ".join(filter(None, words))


def _marked(y: NDArray[np.float64], step: int) -> list[int]:
    """Return every ``step``-th value, and those without a neighbour, which no line would show."""
    there = np.isfinite(y)
    alone = ~np.r_[False, there[:-1]] & ~np.r_[there[1:], False]
    return np.flatnonzero(there & (alone | (np.arange(len(y)) % step == step // 2))).tolist()
