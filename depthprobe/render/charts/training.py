"""A training log as a figure: losses and output variances by step, gradient norms by layer.

Source: output variance of each layer in training, The Curse of Depth (2502.05795); gradient norm of each
layer at chosen steps, Mix-LN (2412.13795).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from depthprobe.findings.checks import check_table
from depthprobe.render.charts import gradnorm
from depthprobe.render.charts.kit.lines import BESIDE
from depthprobe.render.charts.kit.page import (
    BOTTOM,
    GAP,
    RIGHT,
    TOP,
    Page,
    label_vertical,
    room_beside,
    set_layers,
)
from depthprobe.render.charts.kit.page_sizes import broad_width
from depthprobe.render.charts.kit.scales import scale_of
from depthprobe.render.charts.kit.style import MAIN, NOTE_PT, SECOND, depth_colours, style, text_height
from depthprobe.render.charts.kit.ticks import even_ticks

STEM, LOSS_STEM, WHAT = "training", "loss", "a training log"

# In inches: what three panels and their keys need side by side, their height, the gap between them, and the
# room of the colour bar beside the middle one.
_LEAST, _HEIGHT, _BETWEEN, _BAR_ROOM = 6.75, 1.75, 0.16, 0.56
_STEPS_SHOWN = 4
_DASHES = ((), (4.0, 1.6), (1.2, 1.2), (5.0, 1.4, 1.0, 1.4))
_MARKERS = ("o", "^", "s", "D")
_LOSSES = {"train": ("training", SECOND), "heldout": ("held out", MAIN)}


def draw(tables: Mapping[str, pd.DataFrame], *, title: str = "", caption: str = "") -> Figure:
    """Return a training log as a figure of three panels; nothing is written.

    Left the training and held-out loss by step; in the middle the variance of each block's output by step,
    layer 0 darkest; right the gradient norm of every layer at up to four of the logged steps, the first and
    the last among them. The last two have logarithmic axes.

    Args:
        tables: By stem: ``training`` with step, layer, variance, grad_norm, and ``loss`` with step, data
            (train or heldout), loss_nats.
        title, caption: Above the panels.

    Raises:
        RunError: if a table does not belong to a training log.
    """
    rows, losses = tables[STEM], tables.get(LOSS_STEM, tables[STEM])
    check_table(rows, WHAT, ("step", "layer", "variance", "grad_norm"), ("step", "layer", "variance"))
    check_table(losses, WHAT, ("step", "data", "loss_nats"), ("step", "loss_nats"))
    variance = rows.pivot(index="step", columns="layer", values="variance")
    norms = rows.pivot(index="step", columns="layer", values="grad_norm")
    norms = norms.loc[_shown_steps(norms.index.to_numpy())]
    last_layer, last_step = variance.shape[1] - 1, int(max(rows["step"].max(), losses["step"].max()))
    scales = (
        scale_of([losses["loss_nats"].to_numpy()], logarithmic=False, from_zero=False),
        scale_of([variance.to_numpy()], logarithmic=True),
        scale_of([norms.to_numpy()], logarithmic=True),
    )
    labels = ("Loss [nats a token]", "Output variance", gradnorm.LABEL)
    rooms = [room_beside(scale.labels) for scale in scales]
    width = broad_width(_LEAST)
    inside = (width - sum(rooms) - 2 * _BETWEEN - _BAR_ROOM - RIGHT) / 3
    lefts = [rooms[0], rooms[0] + inside + _BETWEEN + rooms[1], width - RIGHT - inside]
    # The key of the last panel stands above it; title and caption end before it.
    room = lefts[2] - rooms[0] - _BETWEEN
    with style():
        page = Page(width, rooms[0], title=title, caption=caption, room=room)
        top = max(page.head, TOP + text_height(["", ""], NOTE_PT)) + GAP
        page.open(top + _HEIGHT + BOTTOM)
        panels = [page.add_axes(left, top, inside, _HEIGHT) for left in lefts]
        for axes, scale, beside, label in zip(panels, scales, rooms, labels, strict=True):
            scale.set(axes)
            label_vertical(axes, label, beside)
        for axes in panels[:2]:
            _set_steps(axes, max(last_step, 1))
        colours = depth_colours(last_layer)
        _draw_losses(panels[0], losses)
        for layer in variance.columns:
            values = variance[layer].where(variance[layer] > 0)
            panels[1].plot(variance.index, values, color=colours.to_rgba(layer), linewidth=0.9)
        _draw_norms(panels[2], norms)
        page.add_depth_bar(panels[1], colours, last_layer)
    return page.figure


def _set_steps(axes: Axes, last: int) -> None:
    """Let the horizontal axis run over the steps of the training."""
    axes.set_xlabel("Step")
    axes.set_xlim(-0.02 * last, last * 1.02)
    places = [place for place in even_ticks(0, last) if place == int(place)]
    # A narrow panel has room for three or four numbers.
    places = places[:: 2 if len(places) > 4 else 1]
    axes.set_xticks(places, labels=[f"{int(place):,}" for place in places])


def _draw_losses(axes: Axes, losses: pd.DataFrame) -> None:
    """Draw the losses, with their key in the empty corner."""
    for data, (key, look) in _LOSSES.items():
        rows = losses[losses["data"] == data]
        if len(rows):
            axes.plot(rows["step"], rows["loss_nats"], linewidth=1.1, label=key, **look.line)
    axes.legend(loc="upper right", handlelength=2.2)


def _draw_norms(axes: Axes, norms: pd.DataFrame) -> None:
    """Draw the gradient norms over the layers, a curve for each step."""
    last = int(norms.columns.max())
    colours = depth_colours(len(norms) - 1)
    for number, (step, row) in enumerate(norms.iterrows()):
        color = colours.to_rgba(number)
        axes.plot(
            row.index,
            row.where(row > 0),
            color=color,
            linestyle=(0, _DASHES[number]) if _DASHES[number] else "-",
            linewidth=1.0,
            marker=_MARKERS[number],
            markersize=2.8 if last < 40 else 1.4,
            markerfacecolor=color if number == 0 else "white",
            markeredgewidth=0.6,
            label=f"step {int(str(step)):,}",
        )
    set_layers(axes, 0, last, BESIDE, "Layer index $l$")
    # Above the axes, where no curve can run.
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=2,
        columnspacing=1.0,
        handlelength=2.4,
        labelspacing=0.2,
    )


def _shown_steps(steps: NDArray[np.int64]) -> list[int]:
    """Return the first step, the last, and between them those nearest a tenth and a third of the way."""
    last = int(steps[-1])
    wanted = [0, 0.1 * last, 0.33 * last, last]
    nearest = {int(steps[np.abs(steps - step).argmin()]) for step in wanted}
    return sorted(nearest)[:_STEPS_SHOWN]
