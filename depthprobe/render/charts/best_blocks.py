"""The best block of every size: how far removing it turns the stream, and which layers it takes.

Above, the smallest distance at each size n with that of the median block; below, the layers of the best
block. Where the two curves are far apart, it matters which layers go; where one block holds the next smaller
one, they grow from one place.

Source: Gromov et al. 2403.17887, eq. 7 and 8, for the best block; the median and the layers below are ours.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from depthprobe.findings.angular import AngularFindings
from depthprobe.render.charts.drops import BESIDE_BARS, WIDEST_BAR_IN
from depthprobe.render.charts.kit.lines import Curve, draw_curve
from depthprobe.render.charts.kit.page import (
    BOTTOM,
    LAYER_IN,
    RIGHT,
    Page,
    label_vertical,
    room_beside,
    set_layers,
)
from depthprobe.render.charts.kit.page_sizes import current_size, page_width
from depthprobe.render.charts.kit.scales import TICK_LABEL_IN, scale_of
from depthprobe.render.charts.kit.style import BAR, BAR_EDGE, MAIN, SECOND, style
from depthprobe.render.charts.kit.ticks import sparser, ticks

KEYS = ("best block of $n$ layers", "median block of $n$ layers", "layers of the best block")
SHARES_LABEL = "Share of the layers $n/L$"

# In inches: the height of both panels, the gap between them, and room for the axis above them.
_HIGHEST_IN, _LOWEST_IN, _PANEL_GAP, _SHARES_IN = 1.2, 0.6, 0.12, 0.36
_FEWEST_WITH_SHARES = 6


def draw_best_blocks(findings: AngularFindings, *, title: str = "", caption: str = "") -> Figure:
    """Return the best block of each size n as a figure of two panels; nothing is written.

    The whole model counts as a block only if it has a single layer.
    """
    best, layers = findings.removable, findings.layers
    sizes = best["n"].to_numpy(dtype="float64")
    median = findings.distances.groupby("n")["distance"].median().reindex(best["n"])
    curves = [
        Curve(KEYS[0], sizes, best["distance"].to_numpy(dtype="float64"), MAIN),
        Curve(KEYS[1], sizes, median.to_numpy(dtype="float64"), SECOND),
    ]
    scale = scale_of([curve.y for curve in curves], logarithmic=False)
    left = room_beside([*scale.labels, str(layers - 1)])
    last = int(sizes.max())
    span = last - 1 + 2 * BESIDE_BARS
    width = page_width(span * LAYER_IN + left + RIGHT)
    inside = width - left - RIGHT
    with style():
        signs = [MAIN.sign, SECOND.sign, Patch(facecolor=BAR, edgecolor=BAR_EDGE, linewidth=0.6)]
        keys = dict(zip(KEYS, signs, strict=True))
        page = Page(width, left, title=title, caption=caption, keys=keys)
        top = page.head + _SHARES_IN * (layers >= _FEWEST_WITH_SHARES)
        # On a low page, such as a slide, the panels are low too.
        room = (current_size().height - top - _PANEL_GAP - BOTTOM) / 2
        height = max(_LOWEST_IN, min(_HIGHEST_IN, room))
        page.open(top + 2 * height + _PANEL_GAP + BOTTOM)
        upper = page.add_axes(left, top, inside, height)
        lower = page.add_axes(left, top + height + _PANEL_GAP, inside, height)
        set_layers(upper, 1, last, BESIDE_BARS, labelled=False)
        set_layers(lower, 1, last, BESIDE_BARS, "Block size $n$")
        label_vertical(upper, "Angular distance", left)
        label_vertical(lower, "Layer index $l$", left)
        most_labels = int(height / TICK_LABEL_IN)
        scale.with_labels(most_labels).set(upper)
        for curve in curves:
            draw_curve(upper, curve, inside * 72 / span)
        _draw_layers(lower, best, layers, inside / span, most_labels)
        _draw_shares(upper, layers, last)
    return page.figure


def _draw_layers(axes: Axes, best: pd.DataFrame, layers: int, block_in: float, most_labels: int) -> None:
    """Draw the layers of the best block of each size, layer 0 lowest."""
    axes.bar(
        best["n"],
        best["n"],
        bottom=best["layer"] - 0.5,
        width=min(0.78, WIDEST_BAR_IN / block_in),
        color=BAR,
        edgecolor=BAR_EDGE,
        linewidth=0.4,
        zorder=2,
    )
    axes.set_ylim(-0.5 - 0.02 * layers, layers - 0.5 + 0.02 * layers)
    places = ticks(0, layers - 1)
    axes.set_yticks([places[n] for n in sparser([float(place) for place in places], most_labels)])


def _draw_shares(axes: Axes, layers: int, last: int) -> None:
    """Draw a second axis above: what share of the model a block is."""
    above = axes.secondary_xaxis("top")
    shares = [share for share in (0.25, 0.5, 0.75) if 1 <= share * layers <= last]
    # With a handful of layers the share is plain to see.
    shares = shares if layers >= _FEWEST_WITH_SHARES else []
    above.set_xticks([share * layers for share in shares], labels=[f"{share:.0%}" for share in shares])
    above.set_xlabel(SHARES_LABEL if shares else "")
    above.spines["top"].set_visible(False)
