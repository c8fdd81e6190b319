"""One page of a model: every quantity that was measured of its layers, on one axis of layers.

The layers that turn the stream least are shaded from the top to the bottom, so that it is seen whether they
are also quiet by the other quantities, and whether they can be spared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from depthprobe.catalogue import ANGULAR
from depthprobe.errors import RunError
from depthprobe.findings.angular import QuietStretch
from depthprobe.findings.findings import Findings
from depthprobe.findings.scores import proxies
from depthprobe.findings.words import layers_named
from depthprobe.render.charts import drops
from depthprobe.render.charts.kit.lines import draw_curve
from depthprobe.render.charts.kit.page import (
    BOTTOM,
    GAP,
    LAYER_IN,
    NAMED_RIGHT,
    RIGHT,
    Page,
    room_beside,
    set_layers,
)
from depthprobe.render.charts.kit.page_sizes import broad_width, current_size, page_width
from depthprobe.render.charts.kit.scales import TICK_LABEL_IN
from depthprobe.render.charts.kit.style import FAINT, INK, NOTE_PT, TICK_PT, fit, style, text_height
from depthprobe.render.charts.kit.ticks import sparser
from depthprobe.render.charts.scores import GROWTH, ShownScore, shown_score

QUIET = "#dfe5ea"
MEDIAN_KEY = "median"
MOST_TASKS = 4

# In inches: the height of panels, the gaps below and beside them, and of signs in the key.
_CURVE_IN, _DROPS_IN = 0.62, 0.86
_PANEL_GAP, _COLUMN_GAP = 0.10, 0.12
_SIGN_IN = 0.2
_MOST_COLUMNS = 3
# The text of a printed page is about so high.
_HIGHEST_IN = 8.8


@dataclass(frozen=True)
class _Track:
    """One panel: its name, what else there is to say, its height in inches, and a curve or bars."""

    name: str
    note: str
    height: float
    shown: ShownScore | drops.Panel

    @property
    def tick_labels(self) -> list[str]:
        """What its vertical axis says."""
        return self.shown.scale.labels if isinstance(self.shown, ShownScore) else self.shown.tick_labels

    @property
    def chance(self) -> bool:
        """Whether a line on it is named at its right end."""
        return isinstance(self.shown, drops.Panel) and self.shown.chance is not None


def draw_overview(findings: Findings, *, title: str = "", caption: str = "") -> Figure:
    """Return all quantities of the layers as one figure, below each other; nothing is written.

    From the top down, as far as their runs are there: angular distance, Block Influence, contribution ratio,
    gradient norm, growth of the variance, and the measured drops of up to four tasks, the calibration loss
    among them. Curves that span more than a decade have a logarithmic axis. Where a page is low, such as a
    slide, the panels stand in several columns.

    Args:
        findings: What the runs say.
        title: Above the figure, such as the model's id.
        caption: Below the title in small type.

    Raises:
        RunError: if nothing was measured of single layers, or a table cannot be used.
    """
    tracks, hidden = _tracks(findings)
    if not tracks:
        raise RunError(f"Nothing was measured of single layers of {findings.model}, so there is no overview.")
    if hidden:
        more = f"{hidden} more task{'s' * (hidden > 1)} not drawn"
        caption = f"{caption}; {more}" if caption else more
    angular = findings.study.found.get(ANGULAR.name)
    quiet = None if angular is None else angular.quiet
    keys = _keys(tracks, quiet)
    last = findings.layers - 1
    with style():
        plan = _plan(tracks, last, list(keys), title, caption)
        page, inside = plan.page, plan.panel_in
        page.open(plan.height)
        if keys:
            page.write_key(list(keys.values()))
        for column, numbers in enumerate(plan.columns):
            left, top = page.left + column * (inside + plan.between), page.head
            for number in numbers:
                track, (name, note) = tracks[number], plan.heads[number]
                top = page.write(left, top, name, TICK_PT, weight="bold")
                top = page.write(left, top, note, NOTE_PT, color=FAINT) + GAP
                axes = page.add_axes(left, top, inside, track.height)
                lowest = number == numbers[-1]
                set_layers(
                    axes, 0, last, drops.BESIDE_BARS, "Layer index $l$" if lowest else "", labelled=lowest
                )
                _draw(axes, track, quiet, inside / (last + 2 * drops.BESIDE_BARS))
                top += track.height + _PANEL_GAP
    return page.figure


def _tracks(findings: Findings) -> tuple[list[_Track], int]:
    """Return the panels from the top down, and how many tasks have none."""
    frame = findings.by_layer
    found = []
    for column in proxies():
        if column.startswith("drop_") or column not in frame:
            continue
        score = shown_score(column, frame[column].to_numpy(dtype="float64"))
        if score is not None:
            score = score.with_labels(int(_CURVE_IN / TICK_LABEL_IN))
            found.append(_Track(score.words, _note(score), _CURVE_IN, score))
    tasks = findings.drops
    shown = tasks if len(tasks) <= MOST_TASKS else [*tasks[: MOST_TASKS - 1], tasks[-1]]
    for drop in shown:
        panel = drops.plan_panel(drop, _DROPS_IN)
        kept = sparser(panel.ticks, int(_DROPS_IN / TICK_LABEL_IN))
        labels = [panel.tick_labels[number] for number in kept]
        panel = replace(panel, ticks=[panel.ticks[number] for number in kept], tick_labels=labels)
        unit = " (nats/token)" if drop.metric == "loss" else ""
        # Broken into lines where it stands.
        _, notes = drops.panel_notes(panel, math.inf)
        task = drop.task if drop.filter == "none" else f"{drop.task} ({drop.filter})"
        name = f"{task}: {drop.words} {drop.change}{unit}"
        note = "; ".join([*([] if drop.higher_is_better else ["downward is worse"]), *notes])
        found.append(_Track(name, note, _DROPS_IN, panel))
    return found, len(tasks) - len(shown)


def _note(score: ShownScore) -> str:
    """Return what a curve does not say itself."""
    said = ["variance behind a layer over that before it"] if score.column == GROWTH else []
    if score.cut:
        said.append(score.cut_note)
    if score.absent:
        said.append(f"0 or less and so not drawn: {layers_named(score.absent)}")
    return "; ".join(said)


def _keys(tracks: Sequence[_Track], quiet: QuietStretch | None) -> dict[str, Artist]:
    """Return what shade, lines and bars mean, with a sign each."""
    found: dict[str, Artist] = {}
    if quiet is not None:
        which = layers_named(range(quiet.first, quiet.last + 1))
        found[f"quiet stretch ({which})"] = Patch(facecolor=QUIET, linewidth=0)
        found[MEDIAN_KEY] = Line2D([], [], **_MEDIAN)
    if any(isinstance(track.shown, drops.Panel) for track in tracks):
        found |= dict(zip(drops.KEYS, drops.key_signs(), strict=True))
    return found


_MEDIAN = {"color": FAINT, "linewidth": 0.7, "linestyle": (0, (3.0, 1.6))}


def _draw(axes: Axes, track: _Track, quiet: QuietStretch | None, layer_in: float) -> None:
    """Draw a curve or bars, and the quiet stretch behind them."""
    if quiet is not None:
        axes.axvspan(quiet.first - 0.5, quiet.last + 0.5, color=QUIET, linewidth=0, zorder=0)
    if isinstance(track.shown, drops.Panel):
        drops.draw_panel(axes, track.shown, layer_in)
        return
    score = track.shown
    score.scale.set(axes)
    draw_curve(axes, score.curve, layer_in * 72)
    score.draw_cut(axes)
    if score.column == "angular_distance" and quiet is not None:
        axes.axhline(float(np.nanmedian(score.values)), zorder=1, **_MEDIAN)
    if score.column == GROWTH and score.scale.low < 1 < score.scale.high:
        axes.axhline(1, color=INK, linewidth=0.5, zorder=1)


@dataclass(frozen=True)
class _Plan:
    """Where the panels stand, by number in their columns; lengths in inches.

    ``heads`` are the lines above each panel, ``between`` is from the end of one panel to the beginning of
    that beside it.
    """

    page: Page
    height: float
    between: float
    panel_in: float
    heads: list[tuple[list[str], list[str]]]
    columns: list[list[int]]


def _plan(tracks: Sequence[_Track], last: int, keys: list[str], title: str, caption: str) -> _Plan:
    """Return a page with the panels in one column, or in as many as it is too low for."""
    # No axis has a label: the names above the panels say what they are.
    left = room_beside([label for track in tracks for label in track.tick_labels], 0)
    right = NAMED_RIGHT if any(track.chance for track in tracks) else RIGHT
    between = right + _COLUMN_GAP + left
    wanted = (last + 2 * drops.BESIDE_BARS) * LAYER_IN
    highest = min(current_size().height, _HIGHEST_IN)
    plans = []
    for count in range(1, min(_MOST_COLUMNS, len(tracks)) + 1):
        wide = left + count * wanted + (count - 1) * between + right
        width = page_width(wide) if count == 1 else max(page_width(wide), broad_width())
        panel_in = (width - left - (count - 1) * between - right) / count
        heads = [
            (fit(track.name, TICK_PT, panel_in, weight="bold"), fit(track.note, NOTE_PT, panel_in))
            for track in tracks
        ]
        heights = [
            text_height(name, TICK_PT) + text_height(note, NOTE_PT) + GAP + track.height
            for track, (name, note) in zip(tracks, heads, strict=True)
        ]
        columns, high = _shared_out(heights, count)
        page = Page(width, left, title=title, caption=caption, keys=keys, sign_in=_SIGN_IN)
        plans.append(_Plan(page, page.head + high + BOTTOM, between, panel_in, heads, columns))
        if plans[-1].height <= highest:
            break
    # Where none is low enough: the lowest one.
    return plans[-1] if plans[-1].height <= highest else min(plans, key=lambda plan: plan.height)


def _shared_out(heights: Sequence[float], count: int) -> tuple[list[list[int]], float]:
    """Return the panels in so many columns, in order, the highest as low as can be, and its height."""
    numbers = range(len(heights))
    choices = []
    for cuts in combinations(range(1, len(heights)), count - 1):
        columns = [list(numbers[first:end]) for first, end in pairwise((0, *cuts, len(heights)))]
        high = max(sum(heights[n] for n in column) + (len(column) - 1) * _PANEL_GAP for column in columns)
        choices.append((columns, high))
    return min(choices, key=lambda choice: choice[1])
