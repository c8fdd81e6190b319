"""The best block of every size: how far removing it turns the stream, and which layers it takes.

Above, the smallest distance at each size n beside that of the median block; below, the layers of the best
block. Where the two curves are far apart it matters which layers go; where the blocks lie upon each other
they grow from one place.

Source: Gromov et al. 2403.17887, eq. 7 and 8, for the best block; the median and the layers below are ours.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from depthprobe.findings.angular import AngularFindings
from depthprobe.render.charts.drops import BAR, BAR_EDGE
from depthprobe.render.charts.kit.lines import Axis, Curve, Look, draw_curve, set_axis, y_axis
from depthprobe.render.charts.kit.presets import here, page_width
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
from depthprobe.render.charts.kit.ticks import sparser, ticks
from depthprobe.render.charts.profiles import MAIN

MEDIAN = Look("#dd8500", 0.9, (4.0, 1.6), "^")
KEYS = ("best block of $n$ layers", "median block of $n$ layers", "layers of the best block")
SHARES_LABEL = "Share of the layers $n/L$"

# In inches: margins, the two panels and the gaps around them, what a block should have at least.
_RIGHT, _BOTTOM, _TOP = 0.10, 0.40, 0.06
_CURVE_IN, _LAYERS_IN, _GAP, _SHARES_IN = 1.2, 1.2, 0.12, 0.36
_EDGE, _TICK_ROOM, _LABEL_GAP, _HEAD_GAP = 0.03, 0.07, 0.05, 0.05
_BLOCK_IN, _LOWEST_IN, _LABEL_IN = 0.0475, 0.6, 0.19
_SIGN_IN, _WIDEST_BAR_IN = 0.27, 0.30
_FEWEST_WITH_SHARES = 6
# In blocks: beside the first and the last, as beside bars.
_SIDE = 0.75


def draw_best_blocks(findings: AngularFindings, *, title: str = "", caption: str = "") -> Figure:
    """The best block of each size n as a matplotlib figure of two panels; nothing is written.

    The whole model is not among the blocks, unless it is all there is.

    Args:
        findings: What the table of angular distances says.
        title: Above the figure, such as the model's id.
        caption: Below the title in small type.
    """
    frame, best, layers = findings.distances, findings.best, findings.layers
    best = best[(best["n"] < layers) | (len(best) == 1)].reset_index(drop=True)
    sizes = best["n"].to_numpy(dtype="float64")
    median = frame.groupby("n")["distance"].median().reindex(best["n"])
    curves = [
        Curve(KEYS[0], sizes, best["distance"].to_numpy(dtype="float64"), MAIN),
        Curve(KEYS[1], sizes, median.to_numpy(dtype="float64"), MEDIAN),
    ]
    axis = y_axis(curves, None, logarithmic=False)
    y_labels = ("Angular distance", "Layer index $l$")
    ticks_in = max(width_in(label, TICK_PT) for label in [*axis.labels, str(layers - 1)])
    left = _EDGE + text_height([""], LABEL_PT) + _LABEL_GAP + ticks_in + _TICK_ROOM
    last = int(sizes.max())
    span = last - 1 + 2 * _SIDE
    width = page_width(span * _BLOCK_IN + left + _RIGHT)
    inside = width - left - _RIGHT
    title_pt, title_lines = fit_title(title, inside)
    caption_lines = fit(caption, NOTE_PT, inside)
    key_rows, key_columns = key_grid(KEYS, inside, _SIGN_IN)
    above = _TOP + text_height(title_lines, title_pt) + text_height(caption_lines, NOTE_PT) + _HEAD_GAP
    keys_top = above
    above += text_height([""] * key_rows, NOTE_PT) + 1.5 * _HEAD_GAP
    above += _SHARES_IN * (layers >= _FEWEST_WITH_SHARES)
    # Where a page is low, such as a slide, so are the panels.
    room = here().height - above - _GAP - _BOTTOM
    heights = [max(_LOWEST_IN, min(high, room / 2)) for high in (_CURVE_IN, _LAYERS_IN)]
    total = above + sum(heights) + _GAP + _BOTTOM

    with style():
        figure = Figure(figsize=(width, total), facecolor="white")
        FigureCanvasAgg(figure)
        top = write_lines(figure, left, total - _TOP, title_lines, title_pt, weight="bold")
        write_lines(figure, left, top, caption_lines, NOTE_PT, color=FAINT)
        bottoms = (_BOTTOM + heights[1] + _GAP, _BOTTOM)
        upper, lower = (
            figure.add_axes((left / width, bottom / total, inside / width, high / total))
            for bottom, high in zip(bottoms, heights, strict=True)
        )
        for axes, label in zip((upper, lower), y_labels, strict=True):
            axes.set_xlim(1 - _SIDE, last + _SIDE)
            axes.set_xticks(ticks(1, last), labels=None if axes is lower else [])
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_ylabel(label)
            axes.yaxis.set_label_coords((_EDGE - left) / inside, 0.5)
            axes.yaxis.label.set(rotation_mode="anchor", verticalalignment="top")
        set_axis(upper, _with_room(axis, heights[0]), logarithmic=False)
        signs: list[Artist] = [draw_curve(upper, curve, inside * 72 / span) for curve in curves]
        _draw_layers(lower, best, layers, heights[1])
        _draw_shares(upper, layers, last)
        signs.append(Patch(facecolor=BAR, edgecolor=BAR_EDGE, linewidth=0.6))
        lower.set_xlabel("Block size $n$")
        write_keys(figure, left, total - keys_top, KEYS, signs, key_columns, _SIGN_IN)
    return figure


def _with_room(axis: Axis, height: float) -> Axis:
    """The axis with as many labels as have room in such a height."""
    kept = sparser(axis.places, int(height / _LABEL_IN))
    return Axis(
        axis.low, axis.high, [axis.places[n] for n in kept], [axis.labels[n] for n in kept], axis.small
    )


def _draw_layers(axes: Axes, best: pd.DataFrame, layers: int, height: float) -> None:
    """For each size the layers that its best block takes, layer 0 lowest."""
    block_in = axes.get_window_extent().width / axes.get_figure().dpi / np.ptp(axes.get_xlim())
    axes.bar(
        best["n"],
        best["n"],
        bottom=best["layer"] - 0.5,
        width=min(0.78, _WIDEST_BAR_IN / block_in),
        color=BAR,
        edgecolor=BAR_EDGE,
        linewidth=0.4,
        zorder=2,
    )
    axes.set_ylim(-0.5 - 0.02 * layers, layers - 0.5 + 0.02 * layers)
    places = ticks(0, layers - 1)
    axes.set_yticks([places[n] for n in sparser([float(place) for place in places], int(height / _LABEL_IN))])


def _draw_shares(axes: Axes, layers: int, last: int) -> None:
    """A second axis above: what share of the model a block is."""
    above = axes.secondary_xaxis("top")
    shares = [share for share in (0.25, 0.5, 0.75) if 1 <= share * layers <= last]
    # Of a handful of layers everybody sees the share.
    shares = shares if layers >= _FEWEST_WITH_SHARES else []
    above.set_xticks([share * layers for share in shares], labels=[f"{share:.0%}" for share in shares])
    above.set_xlabel(SHARES_LABEL if shares else "")
    above.spines["top"].set_visible(False)
