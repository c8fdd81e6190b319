"""The measured drop of every layer as bars, as the papers on depth draw it.

Across: the layer that was removed. The zero line is the whole model, and downward is harm for every metric:
the axis of a loss or a perplexity is inverted. A filled bar is a detectable difference, a hollow one is not;
thin lines are 95% intervals.

Source: the layout follows the performance-drop figure of "The Curse of Depth" 2502.05795, one bar per layer;
intervals and the mark for noise are ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import ArrayLike, NDArray

from depthprobe.findings.captions import asked_words
from depthprobe.findings.drops import CALIBRATION, Drops, SweepFindings
from depthprobe.findings.words import capital, spoken
from depthprobe.render.charts.kit.lines import joined, with_more
from depthprobe.render.charts.kit.page import (
    BOTTOM,
    LAYER_IN,
    NAMED_RIGHT,
    RIGHT,
    SPOT_SIGN,
    Page,
    PanelText,
    label_vertical,
    room_beside,
    set_layers,
)
from depthprobe.render.charts.kit.page_sizes import page_width
from depthprobe.render.charts.kit.scales import Scale, cut_rows, scale_of
from depthprobe.render.charts.kit.style import (
    BAR,
    BAR_EDGE,
    FAINT,
    INK,
    LABEL_PT,
    NOTE_PT,
    TICK_PT,
    fewest_lines,
    fit,
    style,
)
from depthprobe.render.charts.kit.ticks import MINUS

_T = TypeVar("_T")

KEYS = ("detectable (Holm p < 0.05)", "not detectable", "95% interval")
UNSEEN_KEY = "about 0"
MOST_PANELS = 8

# In inches: bars that stay narrow where layers are few, the height of panels by their number, and gaps.
WIDEST_BAR_IN = 0.30
_HEIGHTS_IN = {1: 1.55, 2: 1.3, 3: 1.2}
_LOWEST_IN = 1.05
_PANEL_GAP = 0.14
_UNSEEN = {"linestyle": "none", "marker": "D", "markeredgewidth": 0.7}
# A bar lower than this share of its axis is a line in the zero line.
_LEAST_SHARE = 0.004
# Room beside the first and the last bar, in layers.
BESIDE_BARS = 0.75


@dataclass(frozen=True)
class Panel:
    """One task, ready to be drawn: its axis, the rows that are cut, and the label of the axis."""

    drops: Drops
    scale: Scale
    cut: list[int]
    label: list[str]
    label_pt: float

    @property
    def room(self) -> float:
        """The inches left of the axes: tick labels and the lines of the axis label."""
        return room_beside(self.scale.labels, len(self.label), self.label_pt)

    @property
    def chance(self) -> float | None:
        """The drop down to chance, if that level lies on the axis."""
        if self.drops.chance is None or not self.drops.higher_is_better:
            return None
        drop = self.drops.chance - self.drops.baseline
        return drop if self.scale.low <= drop < 0 else None

    @property
    def unseen(self) -> NDArray[np.bool_]:
        """[row] whether a bar is too low to be seen: its drop is 0, or nearly so."""
        share = np.abs(self.drops.rows["drop"].to_numpy(dtype="float64")) / (self.scale.high - self.scale.low)
        return share < _LEAST_SHARE

    @property
    def task(self) -> str:
        """The task, and the filter of its answers if it has one."""
        return self.drops.task if self.drops.filter == "none" else f"{self.drops.task} ({self.drops.filter})"

    @property
    def note(self) -> str:
        """The level of the whole model and of chance, how many items, and what was cut."""
        drops = self.drops
        unit = " nats/token" if drops.metric == "loss" else ""
        words = [f"whole model {spoken(drops.baseline, 3 if abs(drops.baseline) < 100 else 1)}{unit}"]
        words += [] if drops.chance is None else [f"chance {drops.chance:.3g}"]
        words.append(f"{drops.items}{' (too few)' if drops.evidence.short else ''}")
        words += [f"only {drops.covered} removed"] if drops.covered else []
        far = []
        for row in drops.rows.iloc[self.cut].itertuples():
            drop, low, high = (
                spoken(value, 2 if abs(value) < 100 else 0, signed=True).replace("-", MINUS)
                for value in (row.drop, row.ci_low, row.ci_high)
            )
            layer = f"layer{'s' * (drops.block > 1)} {drops.removed(row.layer)}"
            far.append(f"{layer} at {drop} ({low} to {high})")
        return joined(", ".join(words), f"axis cut: {', '.join(far)}" if far else "")

    def shares(self, values: ArrayLike) -> NDArray[np.float64]:
        """Return where drops stand on the axis: 0 at its lower end, which is harm, 1 at its upper one."""
        shares = self.scale.shares(values)
        return shares if self.drops.higher_is_better else 1 - shares


def _axis_label(drops: Drops, room: float) -> tuple[float, list[str]]:
    """Return the size in points and the lines of an axis label: as few as possible, then as large."""
    phrases, harm = ["Performance drop \N{GREEK CAPITAL LETTER DELTA}P", f"({drops.words})"], []
    if not drops.higher_is_better:
        unit = ["(nats/token)"] if drops.metric == "loss" else []
        phrases, harm = [f"{capital(drops.words)} increase", *unit], ["downward = worse"]

    def lines(size_pt: float) -> list[str]:
        together = len(fit(" ".join(phrases), size_pt, room)) == 1
        texts = [" ".join(phrases), *harm] if together else [*phrases, *harm]
        return [line for text in texts for line in fit(text, size_pt, room)]

    return fewest_lines((size_pt, lines(size_pt)) for size_pt in (LABEL_PT, 7.5, TICK_PT))


def plan_panel(drops: Drops, height: float) -> Panel:
    """Return the panel of a task: its axis holds every bar and interval, except the few that are cut."""
    ends = drops.rows[["ci_low", "ci_high", "drop"]].to_numpy(dtype="float64")
    lows, highs = np.minimum(ends.min(axis=1), 0), np.maximum(ends.max(axis=1), 0)
    cut = cut_rows(np.maximum(-lows, highs))
    kept = np.setdiff1d(np.arange(len(ends)), cut)
    low, high = float(lows[kept].min()), float(highs[kept].max())
    if cut:
        # Room beyond the others, so that a cut bar clearly goes further.
        reach = 1.6 * max(-low, high)
        low = -reach if (lows[cut] < low).any() else low
        high = reach if (highs[cut] > high).any() else high
    if low == high:
        low, high = (-0.01, 0.01) if abs(drops.baseline) < 10 else (-1.0, 1.0)
    # The scale pads both ends.
    scale = scale_of([np.array([low, high])], logarithmic=False, from_zero=False)
    # A label may be a little longer than its axis.
    size_pt, label = _axis_label(drops, height + 0.2)
    return Panel(drops, scale, cut, label, size_pt)


def first_and_last(tasks: Sequence[_T], most: int) -> list[_T]:
    """Return the tasks, or as many as are drawn; the last one is kept, the calibration loss."""
    return list(tasks) if len(tasks) <= most else [*tasks[: most - 1], tasks[-1]]


def how_asked(findings: SweepFindings) -> list[str]:
    """Return how the tasks of a sweep were asked, in phrases: examples, items, template and instruction."""
    shots = findings.facts.get("num_fewshot")
    tasks = [task for task in findings.every if task != CALIBRATION]
    return [*([] if shots is None else [f"{shots}-shot"]), *asked_words(findings.facts, tasks)]


def draw(findings: SweepFindings, *, title: str = "", caption: str = "") -> Figure:
    """Return the drop of every layer as a figure, one panel for each task; nothing is written.

    Shown are the tasks that were asked for, each by its headline metric, and the calibration loss: at most
    eight, with the number of those left out in the caption. Bars that would flatten all others are cut: a
    broken bar, with its value above the panel.

    Args:
        findings: What the run says. A sweep over some layers leaves the places of the others empty.
        title, caption: Above the panels; how the tasks were run comes before the caption.
    """
    caption = joined(*how_asked(findings), caption)
    tasks = first_and_last(findings.tasks, MOST_PANELS)
    caption = with_more(caption, len(findings.tasks) - len(tasks), "task")
    height = _HEIGHTS_IN.get(len(tasks), _LOWEST_IN)
    panels = [plan_panel(drops, height) for drops in tasks]
    block = panels[0].drops.block
    last = max(int(panel.drops.rows["layer"].max()) for panel in panels)
    last = max(last, (findings.layers or 0) - block)
    left = max(panel.room for panel in panels)
    right = NAMED_RIGHT if any(panel.chance is not None for panel in panels) else RIGHT
    width = page_width((last + 1) * LAYER_IN + left + right)
    inside = width - left - right
    with style():
        page = Page(width, left, title=title, caption=caption, keys=keys(panels), sign_in=SPOT_SIGN)
        texts = [(PanelText(panel.task, panel.note), height) for panel in panels]
        tops, end = page.stack(texts, left, page.room, _PANEL_GAP)
        page.open(end + BOTTOM)
        for panel, top in zip(panels, tops, strict=True):
            axes = page.add_axes(left, top, inside, height)
            draw_panel(axes, panel, inside / (last + 2 * BESIDE_BARS))
            label_panel(axes, panel, left)
            set_layers(axes, 0, last, BESIDE_BARS, labelled=panel is panels[-1])
        axes.set_xlabel(
            "Layer index $l$" if block == 1 else f"Layers $l$ to $l+{block - 1}$ removed; first layer $l$"
        )
    return page.figure


def draw_panel(axes: Axes, panel: Panel, layer_in: float, layers: int | None = None) -> None:
    """Draw bars, intervals and zero line of one task, with layers ``layer_in`` inches wide; downward is harm.

    With the number of ``layers`` it is drawn over the relative depth, else over the layer index.
    """
    drops = panel.drops
    x, drop = drops.rows["layer"].to_numpy(), drops.rows["drop"].to_numpy(dtype="float64")
    bar = min(0.78, WIDEST_BAR_IN / layer_in)
    if layers is not None:
        x, bar = x / layers, bar / layers
    thin = float(np.clip(layer_in * 72 * 0.12, 0.4, 0.8))
    # A bar without a height is no mark at all.
    size_pt = float(np.clip(layer_in * 72 * 0.3, 1.4, 3.2))
    for found in (True, False):
        where = x[panel.unseen & (drops.detected == found)]
        if len(where):
            fill, edge = (BAR, BAR_EDGE) if found else ("white", FAINT)
            axes.plot(where, 0 * where, **_UNSEEN, ms=size_pt, mfc=fill, mec=edge, zorder=5)
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
        low, high = panel.scale.low, panel.scale.high
        for end, beyond in ((low, values.min() < low), (high, values.max() > high)):
            if beyond:
                _break(axes, x[row], bar, end)
    set_vertical(axes, panel)


def set_vertical(axes: Axes, panel: Panel) -> None:
    """Give the axes the scale of the drops, so that downward is harm."""
    panel.scale.set(axes)
    if not panel.drops.higher_is_better:
        axes.invert_yaxis()


def label_panel(axes: Axes, panel: Panel, room: float) -> None:
    """Write the label of a panel, given the inches left of its axes."""
    label_vertical(axes, "\n".join(panel.label), room, size=panel.label_pt, parse_math=False)


def _break(axes: Axes, layer: float, bar: float, end: float) -> None:
    """Draw two short lines across a bar near the end of the axis, as a sign that it goes on."""
    ends = layer - 0.65 * bar, layer + 0.65 * bar
    heights = np.array([0.84, 0.89]) * end
    axes.plot(ends, heights, color="white", linewidth=2.4, zorder=5, solid_capstyle="butt")
    for shift in (-0.022, 0.022):
        axes.plot(ends, heights + shift * abs(end), color=INK, linewidth=0.6, zorder=6)


def keys(panels: Iterable[Panel]) -> dict[str, Artist]:
    """Return the words and signs of the key; that of a bar without a height where there is one."""
    found: dict[str, Artist] = {
        KEYS[0]: Patch(facecolor=BAR, edgecolor=BAR_EDGE, linewidth=0.6),
        KEYS[1]: Patch(facecolor="white", edgecolor=FAINT, linewidth=0.6),
        KEYS[2]: Line2D([], [], color=INK, linewidth=0.8, linestyle="none", marker="|", markersize=5),
    }
    if any(panel.unseen.any() for panel in panels):
        found[UNSEEN_KEY] = Line2D([], [], **_UNSEEN, markersize=3.2, mfc="white", mec=FAINT)
    return found
