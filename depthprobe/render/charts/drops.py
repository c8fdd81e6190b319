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
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from depthprobe.findings.drops import STEM, Drops, SweepFindings
from depthprobe.findings.words import spoken
from depthprobe.render.charts.kit.looks import BAR, BAR_EDGE
from depthprobe.render.charts.kit.page import (
    BOTTOM,
    GAP,
    LAYER_IN,
    NAMED_RIGHT,
    RIGHT,
    SPOT_SIGN,
    Page,
    label_vertical,
    room_beside,
    set_layers,
)
from depthprobe.render.charts.kit.page_sizes import page_width
from depthprobe.render.charts.kit.scales import cut_rows
from depthprobe.render.charts.kit.style import (
    FAINT,
    INK,
    LABEL_PT,
    NOTE_PT,
    TICK_PT,
    fit,
    style,
    text_height,
    width_in,
)
from depthprobe.render.charts.kit.ticks import MINUS, even_ticks, tick_labels

KEYS = ("detectable (Holm p < 0.05)", "not detectable", "95% interval")
MOST_PANELS = 8

# In inches: bars that stay bars where layers are few, the height of panels by their number, and gaps.
WIDEST_BAR_IN = 0.30
_HEIGHTS_IN = {1: 1.55, 2: 1.3, 3: 1.2}
_LOWEST_IN = 1.05
_PANEL_GAP = 0.14
# Room beside the first and the last bar, in layers.
BESIDE_BARS = 0.75


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
    def room(self) -> float:
        """The inches left of the axes: tick labels and the lines of the axis label."""
        return room_beside(self.tick_labels, len(self.label), self.label_pt)

    @property
    def ends(self) -> tuple[float, float]:
        """Where the axis begins and ends: downward is harm, so that of a loss runs downward."""
        return (self.low, self.high) if self.drops.higher_is_better else (self.high, self.low)

    @property
    def chance(self) -> float | None:
        """The drop that would leave guessing, if that level lies on the axis."""
        if self.drops.chance is None or not self.drops.higher_is_better:
            return None
        drop = self.drops.chance - self.drops.baseline
        return drop if self.low <= drop < 0 else None


def _axis_label(drops: Drops, room: float) -> tuple[float, list[str]]:
    """Return the size in points and the lines of what a panel measures: few lines, then large ones."""
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
    """Return the panel of a task: its axis holds every bar and interval, except the few that are cut."""
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
    """Return the lines above a panel: the task, and in small type the whole model and what was cut."""
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


def draw(
    findings: SweepFindings,
    *,
    title: str = "",
    caption: str = "",
) -> Figure:
    """Return the drop of every layer as a figure, one panel a task; nothing is written.

    Shown are the tasks that were asked for, each by its headline metric, and the calibration loss; at most
    eight, and then the caption says how many are not. Bars that would flatten all others are cut: a broken
    bar, and its value above the panel.

    Args:
        findings: What the run says. A sweep over some layers leaves the places of the others empty.
        title: Above the figure, such as the model's id.
        caption: Below the title in small type, behind how the tasks were run.
    """
    tasks, layers = list(findings.tasks), findings.layers
    shots, limit = findings.facts.get("num_fewshot"), findings.facts.get("limit")
    words = [f"{shots}-shot"] if shots is not None else []
    words += [f"limit {limit}"] if limit is not None else []
    words += [caption] if caption else []
    if len(tasks) > MOST_PANELS:
        words.append(f"{len(tasks) - MOST_PANELS} more tasks in {STEM}.csv")
        tasks = [*tasks[: MOST_PANELS - 1], tasks[-1]]  # the last one is the calibration loss
    height = _HEIGHTS_IN.get(len(tasks), _LOWEST_IN)
    panels = [plan_panel(drops, height) for drops in tasks]
    block = panels[0].drops.block
    last = max(int(panel.drops.rows["layer"].max()) for panel in panels)
    last = last if layers is None else max(last, layers - block)

    left = max(panel.room for panel in panels)
    right = NAMED_RIGHT if any(panel.chance is not None for panel in panels) else RIGHT
    width = page_width((last + 1) * LAYER_IN + left + right)
    inside = width - left - right
    with style():
        page = Page(width, left, title=title, caption="; ".join(words), keys=KEYS, sign_in=SPOT_SIGN)
        heads = [panel_notes(panel, page.room) for panel in panels]
        heads_in = [text_height(name, TICK_PT) + text_height(notes, NOTE_PT) + GAP for name, notes in heads]
        page.open(page.head + sum(heads_in) + len(panels) * (height + _PANEL_GAP) - _PANEL_GAP + BOTTOM)
        page.write_key(key_signs())
        top = page.head
        for panel, (name, notes) in zip(panels, heads, strict=True):
            top = page.write(left, top, name, TICK_PT, weight="bold")
            top = page.write(left, top, notes, NOTE_PT, color=FAINT) + GAP
            axes = page.add_axes(left, top, inside, height)
            draw_panel(axes, panel, inside / (last + 2 * BESIDE_BARS))
            label_panel(axes, panel, left)
            set_layers(axes, 0, last, BESIDE_BARS, labelled=panel is panels[-1])
            top += height + _PANEL_GAP
        axes.set_xlabel(
            "Layer index $l$" if block == 1 else f"Layers $l$ to $l+{block - 1}$ removed; first layer $l$"
        )
    return page.figure


def draw_panel(axes: Axes, panel: Panel, layer_in: float, layers: int | None = None) -> None:
    """Draw bars, intervals and zero line of one task; downward is harm.

    Args:
        axes: Where.
        panel: What.
        layer_in: Inches a layer.
        layers: The model's, if layers stand at their relative depth; None puts them at their index.
    """
    drops = panel.drops
    x, drop = drops.rows["layer"].to_numpy(), drops.rows["drop"].to_numpy(dtype="float64")
    bar = min(0.78, WIDEST_BAR_IN / layer_in)
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
    axes.set_ylim(panel.ends)
    axes.set_yticks(panel.ticks, labels=panel.tick_labels)
    axes.spines[["top", "right"]].set_visible(False)


def label_panel(axes: Axes, panel: Panel, room: float) -> None:
    """Write what a panel's drops are beside the axis, given the inches to the left of it."""
    label_vertical(axes, "\n".join(panel.label), room, size=panel.label_pt, parse_math=False)


def _break(axes: Axes, layer: float, bar: float, end: float) -> None:
    """Draw two short lines across a bar near the end of the axis: it goes on."""
    ends = layer - 0.65 * bar, layer + 0.65 * bar
    heights = np.array([0.84, 0.89]) * end
    axes.plot(ends, heights, color="white", linewidth=2.4, zorder=5, solid_capstyle="butt")
    for shift in (-0.022, 0.022):
        axes.plot(ends, heights + shift * abs(end), color=INK, linewidth=0.6, zorder=6)


def key_signs() -> list[Artist]:
    """Return a sign for each of KEYS."""
    return [
        Patch(facecolor=BAR, edgecolor=BAR_EDGE, linewidth=0.6),
        Patch(facecolor="white", edgecolor=FAINT, linewidth=0.6),
        Line2D([], [], color=INK, linewidth=0.8, linestyle="none", marker="|", markersize=5),
    ]
