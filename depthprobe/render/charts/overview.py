"""One page of a model: everything that was measured of its layers, on one axis of layers.

The layers that turn the stream least are shaded in all panels, to show whether they are also quiet by the
other quantities, and whether they can be spared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from depthprobe.catalogue import ANGULAR, VARIANCE
from depthprobe.errors import RunError
from depthprobe.findings.angular import QuietStretch
from depthprobe.findings.findings import Findings
from depthprobe.findings.scores import proxies
from depthprobe.findings.words import layers_named
from depthprobe.render.charts import drops
from depthprobe.render.charts.kit.lines import draw_curve, joined
from depthprobe.render.charts.kit.page import (
    BOTTOM,
    LAYER_IN,
    NAMED_RIGHT,
    PANEL_GAP,
    RIGHT,
    Page,
    PanelText,
    room_beside,
    set_layers,
)
from depthprobe.render.charts.kit.page_sizes import broad_width, current_size, page_width
from depthprobe.render.charts.kit.scales import TICK_LABEL_IN
from depthprobe.render.charts.kit.style import FAINT, INK, style
from depthprobe.render.charts.scores import GROWTH, ShownScore, shown_score

QUIET = "#dfe5ea"
MEDIAN_KEY = "median"
MOST_TASKS = 4

# In inches: the height of panels, the gap between columns, signs in the key, and a printed page's text.
_CURVE_IN, _DROPS_IN = 0.62, 0.86
_COLUMN_GAP = 0.12
_SIGN_IN = 0.2
_HIGHEST_IN = 8.8
_MOST_COLUMNS = 3
_MEDIAN = {"color": FAINT, "linewidth": 0.7, "linestyle": (0, (3.0, 1.6))}


@dataclass(frozen=True)
class _Track:
    """One panel: what stands above it, the height of its axes in inches, and a curve or bars."""

    text: PanelText
    height: float
    shown: ShownScore | drops.Panel


def draw_overview(findings: Findings, *, title: str = "", caption: str = "") -> Figure:
    """Return all quantities of the layers as one figure, below each other; nothing is written.

    From the top down, as far as there are runs: angular distance, Block Influence, contribution ratio,
    gradient norm, growth of the variance, and the measured drops of up to four tasks, the calibration loss
    among them. Curves that span more than a decade have a logarithmic axis. On a low page, such as a slide,
    the panels stand in several columns.

    Raises:
        RunError: if nothing was measured of single layers, or a table cannot be used.
    """
    tracks, hidden = _tracks(findings)
    if not tracks:
        raise RunError(f"Nothing was measured of single layers of {findings.model}, so there is no overview.")
    caption = joined(caption, f"{hidden} more task{'s' * (hidden > 1)} not drawn" if hidden else "")
    angular = findings.study.found.get(ANGULAR.name)
    quiet = None if angular is None else angular.quiet
    keys = _keys(tracks, quiet)
    last = findings.layers - 1
    with style():
        plan = _plan(tracks, last, keys, title, caption)
        page, inside = plan.page, plan.panel_in
        page.open(plan.height)
        for left, column in plan.columns:
            for track, top in column:
                axes = page.add_axes(left, top, inside, track.height)
                lowest = track is column[-1][0]
                label = "Layer index $l$" if lowest else ""
                set_layers(axes, 0, last, drops.BESIDE_BARS, label, labelled=lowest)
                _draw(axes, track, quiet, inside / (last + 2 * drops.BESIDE_BARS))
    return page.figure


def _tracks(findings: Findings) -> tuple[list[_Track], int]:
    """Return the panels from the top down, and how many tasks are left out."""
    frame = findings.by_layer
    found = []
    for column in proxies():
        if column.startswith("drop_") or column not in frame:
            continue
        score = shown_score(column, frame[column].to_numpy(dtype="float64"))
        if score is not None:
            score = score.with_labels(int(_CURVE_IN / TICK_LABEL_IN))
            found.append(_Track(PanelText(score.words, _note(score, findings)), _CURVE_IN, score))
    shown = drops.first_and_last(findings.drops, MOST_TASKS)
    for drop in shown:
        panel = drops.plan_panel(drop, _DROPS_IN)
        panel = replace(panel, scale=panel.scale.with_labels(int(_DROPS_IN / TICK_LABEL_IN)))
        unit = " (nats/token)" if drop.metric == "loss" else ""
        name = f"{panel.task}: {drop.words} {drop.change}{unit}"
        note = joined("" if drop.higher_is_better else "downward is worse", panel.note)
        found.append(_Track(PanelText(name, note), _DROPS_IN, panel))
    asked = {each.task for sweep in findings.study.swept if sweep.block == 1 for each in sweep.tasks}
    return found, len(asked) - len(shown)


def _note(score: ShownScore, findings: Findings) -> str:
    """Return what the curve itself cannot show."""
    growth = ""
    if score.column == GROWTH:
        variances = findings.study.found.get(VARIANCE.name)
        # Older runs lack the median, and their growth is that of the mean.
        of = "variance" if variances is None or variances.median is None else "median token's variance"
        growth = f"{of} after a layer over that before it"
    absent = f"0 or less and so not drawn: {layers_named(score.absent)}" if score.absent else ""
    return joined(growth, score.cut_note, absent)


def _keys(tracks: Sequence[_Track], quiet: QuietStretch | None) -> dict[str, Artist]:
    """Return the words of the key, each with its sign."""
    found: dict[str, Artist] = {}
    if quiet is not None:
        which = layers_named(range(quiet.first, quiet.last + 1))
        found[f"quiet stretch ({which})"] = Patch(facecolor=QUIET, linewidth=0)
        found[MEDIAN_KEY] = Line2D([], [], **_MEDIAN)
    panels = [track.shown for track in tracks if isinstance(track.shown, drops.Panel)]
    if panels:
        found |= drops.keys(panels)
    return found


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
    """A page, and the columns on it: the left edge of each, and its panels with the tops of their axes."""

    page: Page
    height: float
    panel_in: float
    columns: list[tuple[float, list[tuple[_Track, float]]]]


def _plan(tracks: Sequence[_Track], last: int, keys: dict[str, Artist], title: str, caption: str) -> _Plan:
    """Return a page with the panels in one column, or in more where one would be too high for the page."""
    # No axis has a label: the names above the panels say what they are.
    left = room_beside([label for track in tracks for label in track.shown.scale.labels], 0)
    named = any(isinstance(track.shown, drops.Panel) and track.shown.chance is not None for track in tracks)
    right = NAMED_RIGHT if named else RIGHT
    between = right + _COLUMN_GAP + left
    wanted = (last + 2 * drops.BESIDE_BARS) * LAYER_IN
    highest = min(current_size().height, _HIGHEST_IN)
    plans = []
    for count in range(1, min(_MOST_COLUMNS, len(tracks)) + 1):
        wide = left + count * wanted + (count - 1) * between + right
        width = page_width(wide) if count == 1 else max(page_width(wide), broad_width())
        panel_in = (width - left - (count - 1) * between - right) / count
        page = Page(width, left, title=title, caption=caption, keys=keys, sign_in=_SIGN_IN)
        columns, ends = [], []
        for number, column in enumerate(_shared_out(tracks, count, panel_in)):
            edge = left + number * (panel_in + between)
            tops, end = page.stack([(track.text, track.height) for track in column], edge, panel_in)
            columns.append((edge, list(zip(column, tops, strict=True))))
            ends.append(end)
        plans.append(_Plan(page, max(ends) + BOTTOM, panel_in, columns))
        if plans[-1].height <= highest:
            return plans[-1]
    return min(plans, key=lambda plan: plan.height)


def _shared_out(tracks: Sequence[_Track], count: int, width: float) -> list[Sequence[_Track]]:
    """Return the panels in ``count`` columns, in order, the highest column as low as possible."""

    def height(column: Sequence[_Track]) -> float:
        return sum(track.text.height(width) + track.height + PANEL_GAP for track in column)

    choices = [
        [tracks[first:end] for first, end in pairwise((0, *cuts, len(tracks)))]
        for cuts in combinations(range(1, len(tracks)), count - 1)
    ]
    return min(choices, key=lambda columns: max(map(height, columns)))
