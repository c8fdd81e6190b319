"""The proxies that order layers best and worst, each against the measured harm: a dot a layer."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from depthprobe.render.panels import Cell, Group, Margins, Sheet
from depthprobe.render.study import PROXIES, Study, layer_frame
from depthprobe.render.style import FAINT, LABEL_PT, TICK_PT, style, text_height, width_in
from depthprobe.render.ticks import MINUS, even_ticks, log_ticks, tick_labels
from depthprobe.render.trust import PICKED_SHARE
from depthprobe.render.words import spoken

DOT, BAR = "#0b3c5d", "#9cb8cf"
_HEIGHT_IN, _TICK_ROOM, _EDGE = 1.9, 0.14, 0.05
# Names of layers are written where dots stand apart, as far as there is room: the extreme ones first.
_NAMED, _NAME_PT = 14, 5.5


def draw_trust_scatter(
    study: Study, trust: pd.DataFrame, task: str, *, title: str = "", caption: str = ""
) -> Figure:
    """The best and the worst proxy of a task in a panel each, as a matplotlib figure.

    Across the proxy (on a logarithmic axis where it spans more than a decade), up the measured harm with its
    95% interval.

    Args:
        study: The runs.
        trust: What :func:`depthprobe.render.trust.trust_frame` gives; it has rows of this task.
        task: The task whose harm is drawn.
        title: Above the figure.
        caption: Below the title in small type.

    Raises:
        RunError: if a table cannot be used.
    """
    rows = trust[trust["task"] == task]
    chosen = [rows.iloc[0]] if len(rows) == 1 else [rows.iloc[0], rows.iloc[-1]]
    drops = next(drops for drops in study.drops if drops.task == task)
    frame = layer_frame(study)
    sign = -1 if drops.higher_is_better else 1
    harm = sign * frame[f"drop_{task}"].to_numpy(dtype="float64")
    ends = [sign * frame[f"{end}_{task}"].to_numpy(dtype="float64") for end in ("ci_low", "ci_high")]
    low, high = np.fmin(*ends), np.fmax(*ends)
    bottom, top = float(np.nanmin(low)), float(np.nanmax(high))
    pad = 0.06 * ((top - bottom) or 1.0)
    bottom, top = bottom - pad, top + pad
    places = even_ticks(bottom, top)
    labels = [label.replace("-", MINUS) for label in tick_labels(places)]
    label_in = text_height([""], LABEL_PT)
    left = max(width_in(label, TICK_PT) for label in labels) + _TICK_ROOM + label_in + _EDGE
    cells = tuple(
        Cell(
            f"{'Best' if number == 0 else 'Worst'}: {PROXIES[row['proxy']]}",
            f"Spearman {_number(row['spearman'])} (95% interval {_number(row['spearman_low'])} to "
            f"{_number(row['spearman_high'])}), {row['layers']} layers",
        )
        for number, row in enumerate(chosen)
    )
    with style():
        sheet = Sheet(
            [Group("", cells)],
            columns=2,
            height=_HEIGHT_IN,
            margins=Margins(left, 0.12, 0.30, 0.36),
            title=title,
            caption=caption,
            keys=[],
            sign_in=0.0,
        )
        figure = sheet.figure()
        FigureCanvasAgg(figure)
        for number, row in enumerate(chosen):
            values = frame[row["proxy"]].to_numpy(dtype="float64")
            spot = sheet.spot(0, number)
            axes = figure.add_axes(spot.box)
            axes.spines[["top", "right"]].set_visible(False)
            _proxy_axis(axes, values)
            axes.set_ylim(bottom, top)
            axes.set_yticks(places, labels=labels if spot.leftmost else [""] * len(places))
            axes.axhline(0, color="#808080", linewidth=0.5, zorder=1)
            axes.vlines(values, low, high, color=BAR, linewidth=1.0, zorder=2)
            axes.plot(values, harm, linestyle="none", marker="o", markersize=3.4, color=DOT, zorder=3)
            axes.set_xlabel(_capital(PROXIES[row["proxy"]]))
            if spot.leftmost:
                axes.set_ylabel(f"Harm of removal ({drops.words})")
                axes.yaxis.set_label_coords((_EDGE - left) / sheet.panel_in, 0.5)
                axes.yaxis.label.set(rotation_mode="anchor", verticalalignment="top")
            _name_layers(figure, axes, values, harm)
    return figure


def _proxy_axis(axes: Axes, values: NDArray[np.float64]) -> None:
    known = values[np.isfinite(values)]
    low, high = float(known.min()), float(known.max())
    if low > 0 and high > 10 * low:
        reach = (high / low) ** 0.06
        found = log_ticks(low / reach, high * reach)
        axes.set_xscale("log")
        axes.set_xlim(low / reach, high * reach)
        axes.set_xticks(found.places, labels=found.labels)
        axes.set_xticks(found.small, minor=True, labels=[""] * len(found.small))
    else:
        pad = 0.06 * ((high - low) or 1.0)
        axes.set_xlim(low - pad, high + pad)
        places = even_ticks(low - pad, high + pad)
        axes.set_xticks(places, labels=[label.replace("-", MINUS) for label in tick_labels(places)])


def _name_layers(figure: Figure, axes: Axes, values: NDArray[np.float64], harm: NDArray[np.float64]) -> None:
    """Write the numbers of layers beside their dots where nothing else is; the most harmful first."""
    figure.canvas.draw()
    pixels = axes.transData.transform(np.column_stack([values, harm]))
    frame = axes.get_window_extent()
    unit = figure.dpi / 72
    taken = [
        (x - 2 * unit, y - 2 * unit, x + 2 * unit, y + 2 * unit) for x, y in pixels if np.isfinite(x + y)
    ]
    order = np.argsort(-np.nan_to_num(harm, nan=-np.inf))
    named = 0
    for layer in order:
        x, y = pixels[layer]
        text, wide, tall = str(layer), width_in(str(layer), _NAME_PT) * figure.dpi, _NAME_PT * unit
        if not np.isfinite(x + y) or named >= max(_NAMED, round(PICKED_SHARE * len(harm))):
            continue
        for right in (True, False):
            start = x + 3 * unit if right else x - 3 * unit - wide
            box = (start, y - tall / 2, start + wide, y + tall / 2)
            inside = frame.x0 <= box[0] and box[2] <= frame.x1 and frame.y0 <= box[1] and box[3] <= frame.y1
            if inside and not any(_overlap(box, other) for other in taken):
                place = axes.transData.inverted().transform((start, y))
                axes.text(*place, text, size=_NAME_PT, color=FAINT, va="center", ha="left", zorder=4)
                taken.append(box)
                named += 1
                break


def _overlap(box: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]


def _number(value: float) -> str:
    return spoken(value, 2).replace("-", MINUS)


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]
