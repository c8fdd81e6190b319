"""The log of a training as a figure: losses and output variances by step, gradient norms by layer.

Source: output variance of each layer in training, The Curse of Depth (2502.05795); gradient norm of each
layer at chosen steps, Mix-LN (2412.13795).
"""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from depthprobe.findings.checks import check_table
from depthprobe.render.charts.kit.presets import broad_width
from depthprobe.render.charts.kit.style import (
    FAINT,
    LABEL_PT,
    NOTE_PT,
    TICK_PT,
    fit,
    fit_title,
    style,
    text_height,
    width_in,
    write_lines,
)
from depthprobe.render.charts.kit.ticks import even_ticks, log_ticks, tick_labels, ticks

STEM, LOSS_STEM, WHAT = "training", "loss", "a training log"

# In inches: what three panels and their keys need side by side.
_LEAST_IN = 6.75
# In inches: margins, the height of the axes, the gaps between what stands beside each other.
_TOP, _BOTTOM, _RIGHT, _HEIGHT_IN = 0.06, 0.42, 0.10, 1.75
_EDGE, _TICK_ROOM, _LABEL_GAP, _HEAD_GAP, _GAP = 0.03, 0.07, 0.05, 0.10, 0.16
_BAR_IN, _BAR_GAP_IN, _BAR_ROOM_IN = 0.07, 0.05, 0.42
_PAD = 0.06
# The light end of the map is left out: on white it is hardly seen.
_COLORS = matplotlib.colormaps["viridis"].resampled(256)
_LIGHTEST = 0.88
_STEPS_SHOWN = 4
_DASHES = ((), (4.0, 1.6), (1.2, 1.2), (5.0, 1.4, 1.0, 1.4))
_MARKERS = ("o", "^", "s", "D")


def draw_training(
    layers: pd.DataFrame, losses: pd.DataFrame, *, title: str = "", caption: str = ""
) -> Figure:
    """A training log as a matplotlib figure of three panels; nothing is written.

    Left the training and held-out loss by step, in the middle the variance of each block's output by step,
    layer 0 darkest; right the gradient norm of every layer at up to
    four of the logged steps, the first and the last among them. The last two have logarithmic axes.

    Args:
        layers: Columns step, layer, variance, grad_norm.
        losses: Columns step, data (train or heldout), loss_nats.
        title: Above the figure, such as the model's id.
        caption: Below the title in small type.

    Raises:
        RunError: if a frame is no part of a training log.
    """
    check_table(layers, WHAT, ("step", "layer", "variance", "grad_norm"), ("step", "layer", "variance"))
    check_table(losses, WHAT, ("step", "data", "loss_nats"), ("step", "loss_nats"))
    variance = layers.pivot(index="step", columns="layer", values="variance")
    norms = layers.pivot(index="step", columns="layer", values="grad_norm")
    y_labels = (
        "Loss [nats a token]",
        "Output variance",
        r"Gradient norm $\|\nabla_{\!\theta_l}\mathcal{L}\|_2$",
    )
    shown = _shown_steps(norms.index.to_numpy())
    ends = [
        _limits(losses["loss_nats"].to_numpy(), logarithmic=False),
        _limits(variance.to_numpy(), logarithmic=True),
        _limits(norms.loc[shown].to_numpy(), logarithmic=True),
    ]
    scales = [_scale(low, high, number > 0) for number, (low, high) in enumerate(ends)]
    rooms = [
        _EDGE + text_height([""], LABEL_PT) + _LABEL_GAP + _TICK_ROOM
        + max(width_in(label, TICK_PT, mathematics=True) for label in scale[1])
        for scale in scales
    ]  # fmt: skip
    width = broad_width(_LEAST_IN)
    inside = (width - sum(rooms) - 2 * _GAP - _BAR_GAP_IN - _BAR_IN - _BAR_ROOM_IN - _RIGHT) / 3
    bar_in = _BAR_GAP_IN + _BAR_IN + _BAR_ROOM_IN
    lefts = [
        rooms[0],
        rooms[0] + inside + _GAP + rooms[1],
        rooms[0] + 2 * inside + 2 * _GAP + rooms[1] + bar_in + rooms[2],
    ]
    # The keys of the last panel stand above it; title and caption end before them.
    room = lefts[2] - rooms[0] - _GAP
    title_pt, title_lines = fit_title(title, room)
    caption_lines = fit(caption, NOTE_PT, room)
    head = text_height(title_lines, title_pt) + text_height(caption_lines, NOTE_PT)
    above = _TOP + max(head, text_height(["", ""], NOTE_PT)) + _HEAD_GAP
    total = above + _HEIGHT_IN + _BOTTOM

    with style():
        figure = Figure(figsize=(width, total), facecolor="white")
        FigureCanvasAgg(figure)
        panels = [
            figure.add_axes((left / width, _BOTTOM / total, inside / width, _HEIGHT_IN / total))
            for left in lefts
        ]
        for axes, (low, high), (places, labels, small), left_in, label, logarithmic in zip(
            panels, ends, scales, rooms, y_labels, (False, True, True), strict=True
        ):
            axes.set_yscale("log" if logarithmic else "linear")
            axes.set_ylim(low, high)
            axes.set_yticks(places, labels=labels)
            axes.set_yticks(small, minor=True)
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.tick_params(axis="y", which="minor", length=1.2, width=0.4)
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_ylabel(label)
            axes.yaxis.set_label_coords((_EDGE - left_in) / inside, 0.5)
            axes.yaxis.label.set(rotation_mode="anchor", verticalalignment="top")
        _draw_losses(panels[0], losses)
        colors = _draw_variance(panels[1], variance)
        _draw_norms(panels[2], norms.loc[shown])
        last = int(max(layers["step"].max(), losses["step"].max()))
        for axes in panels[:2]:
            axes.set_xlabel("Step")
            axes.set_xlim(-0.02 * max(last, 1), max(last, 1) * 1.02)
            places = [place for place in even_ticks(0, max(last, 1)) if place == int(place)]
            # Three or four numbers are what a narrow panel holds.
            places = places[:: 2 if len(places) > 4 else 1]
            axes.set_xticks(places, labels=[f"{int(place):,}" for place in places])
        _bar(figure, colors, lefts[1] + inside + _BAR_GAP_IN, total, variance.shape[1] - 1)
        top = write_lines(figure, rooms[0], total - _TOP, title_lines, title_pt, weight="bold")
        write_lines(figure, rooms[0], top, caption_lines, NOTE_PT, color=FAINT)
    return figure


def _draw_losses(axes: Axes, losses: pd.DataFrame) -> None:
    looks = {"train": ("training", "#dd8500", (4.0, 1.6)), "heldout": ("held out", "#0b3c5d", ())}
    for data, (key, color, dashes) in looks.items():
        rows = losses[losses["data"] == data]
        if len(rows):
            dashed = (0, dashes) if dashes else "-"
            axes.plot(
                rows["step"], rows["loss_nats"], color=color, linestyle=dashed, linewidth=1.1, label=key
            )
    axes.legend(loc="upper right", borderaxespad=0.0, handlelength=2.2, labelcolor=FAINT)


def _draw_variance(axes: Axes, variance: pd.DataFrame) -> Normalize:
    """The curves of all layers; what turns a layer into its colour."""
    colors = Normalize(0, max(variance.shape[1] - 1, 1) / _LIGHTEST)
    for layer in variance.columns:
        values = variance[layer].where(variance[layer] > 0)
        axes.plot(variance.index, values, color=_COLORS(colors(layer)), linewidth=0.9)
    return colors


def _draw_norms(axes: Axes, norms: pd.DataFrame) -> None:
    last = int(norms.columns.max())
    for number, (step, row) in enumerate(norms.iterrows()):
        color = _COLORS(number / max(len(norms) - 1, 1) * _LIGHTEST)
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
    axes.set_xlim(-0.6, last + 0.6)
    axes.set_xticks(ticks(0, last))
    axes.set_xlabel("Layer index $l$")
    # Above the curves: how many there are is known, where they run is not.
    axes.legend(
        loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, borderaxespad=0.0, columnspacing=1.0,
        handlelength=2.4, labelspacing=0.2, labelcolor=FAINT,
    )  # fmt: skip


def _bar(figure: Figure, colors: Normalize, left: float, total: float, last: int) -> None:
    """What colour stands for which layer, beside the variances."""
    width = broad_width(_LEAST_IN)
    place = (left / width, _BOTTOM / total, _BAR_IN / width, _HEIGHT_IN / total)
    bar = figure.colorbar(ScalarMappable(colors, _COLORS), cax=figure.add_axes(place))
    bar.ax.set_ylim(0, max(last, 1))
    bar.set_ticks(ticks(0, last))
    bar.outline.set_linewidth(0.4)
    bar.set_label("Layer index $l$", labelpad=2.0)


def _shown_steps(steps: np.ndarray) -> list[int]:
    """The first step, the last, and between them those nearest a tenth and a third of the way."""
    last = int(steps[-1])
    wanted = [0, 0.1 * last, 0.33 * last, last]
    nearest = {int(steps[np.abs(steps - step).argmin()]) for step in wanted}
    return sorted(nearest)[:_STEPS_SHOWN]


def _limits(values: np.ndarray, logarithmic: bool) -> tuple[float, float]:
    values = values[np.isfinite(values)]
    if not logarithmic:
        span = max(float(values.max() - values.min()), 0.1)
        return max(float(values.min()) - _PAD * span, 0.0), float(values.max()) + _PAD * span
    values = values[values > 0]
    if not values.size:
        return 0.1, 10.0
    reach = max(float(values.max() / values.min()), 1.2)
    return float(values.min()) / reach**_PAD, float(values.max()) * reach**_PAD


def _scale(low: float, high: float, logarithmic: bool) -> tuple[list[float], list[str], list[float]]:
    """The ticks of an axis, their labels, and the small ones without."""
    if logarithmic:
        found = log_ticks(low, high)
        return found.places, found.labels, found.small
    places = even_ticks(low, high)
    return places, tick_labels(places), []
