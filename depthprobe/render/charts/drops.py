"""The measured drop of every layer as bars, as the papers on depth draw it.

Across: the layer that was removed. The zero line is the whole model, and downward is harm, whatever the
metric: the axis of a loss or a perplexity runs downward. A filled bar is a detectable difference, a hollow
one is not; thin lines are 95% intervals.

Source: the layout follows the performance-drop figure of "The Curse of Depth" 2502.05795, one bar a layer;
intervals and the mark for noise are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from depthprobe.findings.drops import STEM, Drops, SweepFindings
from depthprobe.findings.words import spoken
from depthprobe.render.charts.kit.presets import page_width
from depthprobe.render.charts.kit.style import (
    FAINT,
    INK,
    LABEL_PT,
    LINE_SPACING,
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
from depthprobe.render.charts.kit.ticks import MINUS, even_ticks, tick_labels, ticks

# A middle tone: interval lines show on it, and hollow bars differ from it, in grey as well.
BAR = "#5b9bd0"
BAR_EDGE = "#2b6496"
KEYS = ("detectable (Holm p < 0.05)", "not detectable", "95% interval")
MOST_PANELS = 8
# A bar is cut where it is so many times as high as the middle one, and twice as high as all that stay whole.
CUT_FROM, CUT_GAP = 20, 2

# In inches: margins, what a layer should have at least, and bars that stay bars where layers are few.
_RIGHT, _CHANCE_RIGHT, _BOTTOM, _TOP = 0.08, 0.40, 0.40, 0.06
_LAYER_IN, _WIDEST_BAR_IN = 0.0475, 0.30
# In layers: room beside the first and the last bar.
_SIDE = 0.25
_HEIGHTS_IN = {1: 1.55, 2: 1.3, 3: 1.2}
_LOWEST_IN = 1.05
_PANEL_GAP, _HEAD_GAP = 0.14, 0.05
_EDGE, _TICK_ROOM, _LABEL_GAP = 0.03, 0.07, 0.05
SIGN_IN = 6.5 / 72


@dataclass(frozen=True)
class Panel:
    """One task, ready to be drawn: where its axis ends, and what stands on it and above it."""

    drops: Drops
    low: float
    high: float
    cut: list[int]
    ticks: list[float]
    tick_labels: list[str]
    label: list[str]
    label_pt: float

    @property
    def label_in(self) -> float:
        """The room left of the axes: tick labels and the lines of the axis label."""
        ticks_in = max(width_in(label, TICK_PT) for label in self.tick_labels)
        return ticks_in + _TICK_ROOM + _LABEL_GAP + text_height(self.label, self.label_pt)

    @property
    def chance(self) -> float | None:
        """The drop that would leave guessing, if that level lies on the axis."""
        if self.drops.chance is None or not self.drops.higher_is_better:
            return None
        drop = self.drops.chance - self.drops.baseline
        return drop if self.low <= drop < 0 else None


def cut_rows(reach: NDArray[np.float64]) -> list[int]:
    """The few rows that reach so far that the others could not be read beside them; often none.

    Args:
        reach: [row] how far a bar and its interval reach from zero.
    """
    order = np.argsort(-reach, kind="stable")
    falling = reach[order]
    typical = falling[len(reach) // 2]
    if falling[0] <= CUT_FROM * typical:
        return []
    # A model of one layer has nothing to compare with.
    for count in range(1, min(6, max(1, len(reach) // 4), len(reach) - 1) + 1):
        highest = falling[count]
        if 0 < highest <= CUT_FROM * typical and falling[count - 1] > CUT_GAP * highest:
            return sorted(order[:count].tolist())
    return []


def _axis_label(drops: Drops, room: float) -> tuple[float, list[str]]:
    """The size in points and the lines of what a panel measures: few lines, then large ones."""
    words = drops.words
    phrases = ["Performance drop \N{GREEK CAPITAL LETTER DELTA}P", f"({words})"]
    if not drops.higher_is_better:
        unit = ["(nats/token)"] if drops.metric == "loss" else []
        phrases = [f"{words[:1].upper()}{words[1:]} increase", *unit, "downward = worse"]

    def pack(size_pt: float) -> list[str]:
        lines: list[str] = []
        for phrase in phrases:
            longer = f"{lines[-1]} {phrase}" if lines else phrase
            apart = not lines or phrase.startswith("downward") or width_in(longer, size_pt) > room
            lines = [*lines, *fit(phrase, size_pt, room)] if apart else [*lines[:-1], longer]
        return lines

    choices = [(size_pt, pack(size_pt)) for size_pt in (LABEL_PT, 7.5, TICK_PT)]
    return min(choices, key=lambda choice: (len(choice[1]), -choice[0]))


def plan_panel(drops: Drops, height: float) -> Panel:
    """The panel of a task: its axis holds every bar and interval, except the few that are cut."""
    ends = drops.rows[["ci_low", "ci_high", "drop"]].to_numpy(dtype="float64")
    lows, highs = np.minimum(ends.min(axis=1), 0), np.maximum(ends.max(axis=1), 0)
    cut = cut_rows(np.maximum(-lows, highs))
    kept = np.setdiff1d(np.arange(len(ends)), cut)
    low, high = float(lows[kept].min()), float(highs[kept].max())
    if cut:
        # Room beyond the others, so that a cut bar is seen to leave them behind.
        reach = 1.6 * max(-low, high)
        low = -reach if (lows[cut] < low).any() else low
        high = reach if (highs[cut] > high).any() else high
    if low == high:
        low, high = (-0.01, 0.01) if abs(drops.baseline) < 10 else (-1.0, 1.0)
    pad = 0.06 * (high - low)
    low, high = low - pad, high + pad
    shown = even_ticks(low, high)
    # A label may stand out a little over its axis.
    size_pt, label = _axis_label(drops, height + 0.2)
    return Panel(drops, low, high, cut, shown, tick_labels(shown), label, size_pt)


def panel_notes(panel: Panel, room: float) -> tuple[list[str], list[str]]:
    """The lines above a panel: the task, and in small type the whole model and what was cut."""
    drops = panel.drops
    name = drops.task if drops.filter == "none" else f"{drops.task} ({drops.filter})"
    unit = " nats/token" if drops.metric == "loss" else ""
    words = [f"whole model {spoken(drops.baseline, 3 if abs(drops.baseline) < 100 else 1)}{unit}"]
    words += [] if drops.chance is None else [f"chance {drops.chance:.3g}"]
    words.append(f"{int(drops.rows['docs'].max()):,} items")
    notes = fit(", ".join(words), NOTE_PT, room)
    if panel.cut:
        rows = drops.rows.iloc[panel.cut]
        far = []
        for row in rows.itertuples():
            drop, low, high = (
                spoken(value, 2 if abs(value) < 100 else 0, signed=True).replace("-", MINUS)
                for value in (row.drop, row.ci_low, row.ci_high)
            )
            layer = f"layer{'s' * (drops.block > 1)} {drops.removed(row.layer)}"
            far.append(f"{layer} at {drop} ({low} to {high})")
        notes += fit(f"axis cut: {', '.join(far)}", NOTE_PT, room)
    return fit(name, TICK_PT, room, weight="bold"), notes


def draw_drops(
    findings: SweepFindings,
    *,
    title: str = "",
    caption: str = "",
) -> Figure:
    """The drop of every layer as a matplotlib figure, one panel a task; nothing is written.

    Shown are the tasks that were asked for, each by its headline metric, and the calibration loss; at most
    eight, and then the caption says how many are not. Bars that would flatten all others are cut: a broken
    bar, and its value above the panel.

    Args:
        findings: What the table of drops says. A sweep over some layers leaves the places of the others
            empty.
        title: Above the figure, such as the model's id.
        caption: Below the title in small type.
    """
    tasks, layers = list(findings.tasks), findings.layers
    if len(tasks) > MOST_PANELS:
        more = f"{len(tasks) - MOST_PANELS} more tasks in {STEM}.csv"
        caption = f"{caption}; {more}" if caption else more
        tasks = [*tasks[: MOST_PANELS - 1], tasks[-1]]  # the last one is the calibration loss
    height = _HEIGHTS_IN.get(len(tasks), _LOWEST_IN)
    panels = [plan_panel(drops, height) for drops in tasks]
    block = panels[0].drops.block
    last = max(int(panel.drops.rows["layer"].max()) for panel in panels)
    last = last if layers is None else max(last, layers - block)

    left = max(panel.label_in for panel in panels) + _EDGE
    right = _CHANCE_RIGHT if any(panel.chance is not None for panel in panels) else _RIGHT
    width = page_width((last + 1) * _LAYER_IN + left + right)
    inside, room = width - left - right, width - left - _TOP
    title_pt, title_lines = fit_title(title, room)
    caption_lines = fit(caption, NOTE_PT, room)
    key_rows, key_columns = key_grid(KEYS, room, SIGN_IN)
    heads = [panel_notes(panel, room) for panel in panels]
    heads_in = [text_height(name, TICK_PT) + text_height(notes, NOTE_PT) for name, notes in heads]
    above = _TOP + text_height(title_lines, title_pt) + text_height(caption_lines, NOTE_PT)
    above += text_height([""] * key_rows, NOTE_PT) + 3 * _HEAD_GAP
    total = above + sum(heads_in) + len(panels) * (_HEAD_GAP + height + _PANEL_GAP) - _PANEL_GAP + _BOTTOM

    with style():
        figure = Figure(figsize=(width, total), facecolor="white")
        FigureCanvasAgg(figure)
        top = write_lines(figure, left, total - _TOP, title_lines, title_pt, weight="bold")
        top = write_lines(figure, left, top, caption_lines, NOTE_PT, color=FAINT) - _HEAD_GAP
        draw_keys(figure, left, top, key_columns)
        top -= text_height([""] * key_rows, NOTE_PT) + 2 * _HEAD_GAP
        for panel, (name, notes) in zip(panels, heads, strict=True):
            top = write_lines(figure, left, top, name, TICK_PT, weight="bold")
            top = write_lines(figure, left, top, notes, NOTE_PT, color=FAINT) - _HEAD_GAP - height
            box = (left / width, top / total, inside / width, height / total)
            axes = figure.add_axes(box)
            axes.set_xlim(-0.5 - _SIDE, last + 0.5 + _SIDE)
            draw_panel(axes, panel, inside / (last + 1 + 2 * _SIDE), (_EDGE - left) / inside)
            top -= _PANEL_GAP
            axes.set_xticks(ticks(0, last), labels=None if panel is panels[-1] else [])
        axes.set_xlabel(
            "Layer index $l$" if block == 1 else f"Layers $l$ to $l+{block - 1}$ removed; first layer $l$"
        )
    return figure


def draw_panel(axes: Axes, panel: Panel, layer_in: float, label_x: float, layers: int | None = None) -> None:
    """Bars, intervals and zero line of one task; downward is harm.

    Args:
        axes: Where.
        panel: What.
        layer_in: Inches a layer.
        label_x: Where the axis label ends, in widths of the axes.
        layers: The model's, if layers stand at their relative depth; None puts them at their index.
    """
    drops = panel.drops
    x, drop = drops.rows["layer"].to_numpy(), drops.rows["drop"].to_numpy(dtype="float64")
    bar = min(0.78, _WIDEST_BAR_IN / layer_in)
    if layers is not None:
        x, bar = x / layers, bar / layers
    thin = float(np.clip(layer_in * 72 * 0.12, 0.4, 0.8))
    axes.bar(
        x,
        drop,
        width=bar,
        color=[BAR if found else "white" for found in drops.detected],
        edgecolor=[BAR_EDGE if found else FAINT for found in drops.detected],
        linewidth=thin,
        zorder=2,
    )
    axes.vlines(x, drops.rows["ci_low"], drops.rows["ci_high"], color=INK, linewidth=thin, zorder=3)
    axes.axhline(0, color=INK, linewidth=0.8, zorder=4)
    if panel.chance is not None:
        axes.axhline(panel.chance, color=FAINT, linewidth=0.6, linestyle=(0, (1, 2)), zorder=1)
        axes.annotate(
            "chance",
            (1, panel.chance),
            xycoords=axes.get_yaxis_transform(),
            xytext=(2, 0),
            textcoords="offset points",
            size=NOTE_PT,
            color=FAINT,
            verticalalignment="center",
        )
    for row in panel.cut:
        values = drops.rows.loc[row, ["drop", "ci_low", "ci_high"]]
        for end, beyond in ((panel.low, values.min() < panel.low), (panel.high, values.max() > panel.high)):
            if beyond:
                _break(axes, x[row], bar, end)
    # The axis of a loss runs downward: its harm is an increase.
    axes.set_ylim((panel.low, panel.high) if drops.higher_is_better else (panel.high, panel.low))
    axes.set_yticks(panel.ticks, labels=panel.tick_labels)
    axes.spines[["top", "right"]].set_visible(False)
    write_axis_label(axes, panel, label_x)


def write_axis_label(axes: Axes, panel: Panel, x: float) -> None:
    """Write what a panel's drops are beside the axis, its outer edge ``x`` of the panel's width away."""
    axes.set_ylabel(
        "\n".join(panel.label),
        size=panel.label_pt,
        parse_math=False,
        linespacing=LINE_SPACING,
        rotation_mode="anchor",
        verticalalignment="top",
    )
    # All labels of a figure stand in one line, as far left as the longest tick label makes it.
    axes.yaxis.set_label_coords(x, 0.5)


def _break(axes: Axes, layer: float, bar: float, end: float) -> None:
    """Two short lines across a bar near the end of the axis: it goes on."""
    ends = layer - 0.65 * bar, layer + 0.65 * bar
    heights = np.array([0.84, 0.89]) * end
    axes.plot(ends, heights, color="white", linewidth=2.4, zorder=5, solid_capstyle="butt")
    for shift in (-0.022, 0.022):
        axes.plot(ends, heights + shift * abs(end), color=INK, linewidth=0.6, zorder=6)


def key_signs() -> list[Artist]:
    """A sign for each of KEYS."""
    return [
        Patch(facecolor=BAR, edgecolor=BAR_EDGE, linewidth=0.6),
        Patch(facecolor="white", edgecolor=FAINT, linewidth=0.6),
        Line2D([], [], color=INK, linewidth=0.8, linestyle="none", marker="|", markersize=5),
    ]


def draw_keys(figure: Figure, left: float, top: float, columns: int) -> None:
    """What filled, hollow and the thin line mean, once for all panels."""
    write_keys(figure, left, top, KEYS, key_signs(), columns, SIGN_IN)
