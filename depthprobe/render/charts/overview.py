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
from matplotlib.backends.backend_agg import FigureCanvasAgg
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
from depthprobe.render.charts.kit.lines import draw_curve, set_axis
from depthprobe.render.charts.kit.presets import broad_width, here, page_width
from depthprobe.render.charts.kit.style import (
    FAINT,
    INK,
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
from depthprobe.render.charts.quantities import CUT_LOOK, GROWTH, Quantity, quantity_of

QUIET = "#dfe5ea"
MEDIAN_KEY = "median"
MOST_TASKS = 4

# In inches: margins, the height of the axes, the gaps, what a layer and a tick label should have at least.
_RIGHT, _CHANCE_RIGHT, _BOTTOM, _TOP, _HEAD_RIGHT = 0.10, 0.42, 0.40, 0.06, 0.14
_CURVE_IN, _DROPS_IN = 0.62, 0.86
_GAP, _HEAD_GAP, _COLUMN_GAP = 0.10, 0.04, 0.12
_EDGE, _TICK_ROOM = 0.03, 0.07
_LAYER_IN, _LABEL_IN = 0.0475, 0.19
_SIGN_IN = 0.2
# In layers: room beside the first and the last one, as beside bars.
_SIDE = 0.75
_MOST_COLUMNS = 3
# The text of a printed page is about so high.
_HIGHEST_IN = 8.8


@dataclass(frozen=True)
class _Track:
    """One panel: its name, what else there is to say, its height in inches, and a curve or bars."""

    name: str
    note: str
    height: float
    shown: Quantity | drops.Panel

    @property
    def labels_in(self) -> float:
        """The width of its tick labels."""
        labels = self.shown.axis.labels if isinstance(self.shown, Quantity) else self.shown.tick_labels
        return max(width_in(label, TICK_PT, mathematics=True) for label in labels)

    @property
    def chance(self) -> bool:
        """Whether a line on it is named at its right end."""
        return isinstance(self.shown, drops.Panel) and self.shown.chance is not None


def draw_overview(study: Findings, *, title: str = "", caption: str = "") -> Figure:
    """All quantities of the layers as one matplotlib figure, below each other; nothing is written.

    From the top down, as far as their runs are there: angular distance, Block Influence, contribution ratio,
    gradient norm, growth of the variance, and the measured drops of up to four tasks, the calibration loss
    among them. Curves that span more than a decade have a logarithmic axis. Where a page is low, such as a
    slide, the panels stand in several columns.

    Args:
        study: What the runs say.
        title: Above the figure, such as the model's id.
        caption: Below the title in small type.

    Raises:
        RunError: if nothing was measured of single layers, or a table cannot be used.
    """
    tracks, hidden = _tracks(study)
    if not tracks:
        raise RunError(f"Nothing was measured of single layers of {study.model}, so there is no overview.")
    if hidden:
        more = f"{hidden} more task{'s' * (hidden > 1)} not drawn"
        caption = f"{caption}; {more}" if caption else more
    angular = study.study.found.get(ANGULAR.name)
    quiet = angular.quiet if angular is not None else None
    keys = _keys(tracks, quiet)

    page = _lay_out(study, tracks, list(keys), title, caption)

    with style():
        figure = Figure(figsize=(page.width, page.height), facecolor="white")
        FigureCanvasAgg(figure)
        top = write_lines(figure, page.left, page.height - _TOP, page.title, page.title_pt, weight="bold")
        top = write_lines(figure, page.left, top, page.caption, NOTE_PT, color=FAINT) - _HEAD_GAP
        if keys:
            signs = list(keys.values())
            write_keys(figure, page.left, top, list(keys), signs, page.key_columns, _SIGN_IN)
        for column, numbers in enumerate(page.columns):
            x = page.left + column * (page.panel_in + page.between)
            top = page.height - page.above
            for number in numbers:
                track, (name, note) = tracks[number], page.heads[number]
                top = write_lines(figure, x, top, name, TICK_PT, weight="bold")
                top = write_lines(figure, x, top, note, NOTE_PT, color=FAINT) - _HEAD_GAP - track.height
                box = (x, top, page.panel_in, track.height)
                axes = figure.add_axes(page.fractions(*box))
                axes.set_xlim(-_SIDE, study.layers - 1 + _SIDE)
                _draw(axes, track, quiet, page.panel_in / (study.layers - 1 + 2 * _SIDE))
                lowest = number == numbers[-1]
                axes.set_xticks(ticks(0, study.layers - 1), labels=None if lowest else [])
                if lowest:
                    axes.set_xlabel("Layer index $l$")
                top -= _GAP
    return figure


def _tracks(study: Findings) -> tuple[list[_Track], int]:
    """The panels from the top down, and how many tasks have none."""
    frame = study.by_layer
    found = []
    for column in proxies():
        if column.startswith("drop_") or column not in frame:
            continue
        quantity = quantity_of(column, frame[column].to_numpy(dtype="float64"))
        if quantity is not None:
            quantity = quantity.with_labels(int(_CURVE_IN / _LABEL_IN))
            found.append(_Track(quantity.words, _note(quantity), _CURVE_IN, quantity))
    tasks = study.drops
    shown = tasks if len(tasks) <= MOST_TASKS else [*tasks[: MOST_TASKS - 1], tasks[-1]]
    for drop in shown:
        panel = drops.plan_panel(drop, _DROPS_IN)
        kept = sparser(panel.ticks, int(_DROPS_IN / _LABEL_IN))
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


def _note(quantity: Quantity) -> str:
    """What a curve does not say itself."""
    said = ["variance behind a layer over that before it"] if quantity.column == GROWTH else []
    if quantity.cut:
        said.append(quantity.cut_note)
    if quantity.absent:
        said.append(f"0 or less and so not drawn: {layers_named(quantity.absent)}")
    return "; ".join(said)


def _keys(tracks: Sequence[_Track], quiet: QuietStretch | None) -> dict[str, Artist]:
    """What shade, lines and bars mean, with a sign each."""
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
    """A curve or bars, and the quiet stretch behind them."""
    if quiet is not None:
        axes.axvspan(quiet.first - 0.5, quiet.last + 0.5, color=QUIET, linewidth=0, zorder=0)
    if isinstance(track.shown, drops.Panel):
        drops.draw_panel(axes, track.shown, layer_in, 0.0)
        axes.set_ylabel("")  # its name above says it
        return
    quantity = track.shown
    set_axis(axes, quantity.axis, quantity.logarithmic)
    draw_curve(axes, quantity.curve, layer_in * 72)
    if quantity.cut:
        ends = [quantity.at(layer) for layer in quantity.cut]
        axes.plot(quantity.cut, ends, **CUT_LOOK)
    if quantity.column == "angular_distance" and quiet is not None:
        axes.axhline(float(np.nanmedian(quantity.values)), zorder=1, **_MEDIAN)
    if quantity.column == GROWTH and quantity.axis.low < 1 < quantity.axis.high:
        axes.axhline(1, color=INK, linewidth=0.5, zorder=1)
    axes.spines[["top", "right"]].set_visible(False)


@dataclass(frozen=True)
class _Page:
    """Where things stand, in inches: head, keys, and the panels by number in their columns.

    ``heads`` are the lines above each panel, ``above`` is what stands over the columns, ``between`` from the
    end of one panel to the beginning of that beside it.
    """

    width: float
    height: float
    title_pt: float
    title: list[str]
    caption: list[str]
    key_columns: int
    above: float
    left: float
    between: float
    panel_in: float
    heads: list[tuple[list[str], list[str]]]
    columns: list[list[int]]

    def fractions(
        self, left: float, bottom: float, width: float, height: float
    ) -> tuple[float, float, float, float]:
        """A box in inches as the fractions that matplotlib takes."""
        return left / self.width, bottom / self.height, width / self.width, height / self.height


def _lay_out(study: Findings, tracks: Sequence[_Track], keys: list[str], title: str, caption: str) -> _Page:
    """A page with the panels in one column, or in as many as it is too low for."""
    left = _EDGE + max(track.labels_in for track in tracks) + _TICK_ROOM
    right = _CHANCE_RIGHT if any(track.chance for track in tracks) else _RIGHT
    between = right + _COLUMN_GAP + left
    wanted = (study.layers - 1 + 2 * _SIDE) * _LAYER_IN
    highest = min(here().height, _HIGHEST_IN)
    pages = []
    for count in range(1, min(_MOST_COLUMNS, len(tracks)) + 1):
        wide = left + count * wanted + (count - 1) * between + right
        width = page_width(wide) if count == 1 else max(page_width(wide), broad_width())
        panel_in = (width - left - (count - 1) * between - right) / count
        heads = [
            (fit(track.name, TICK_PT, panel_in, weight="bold"), fit(track.note, NOTE_PT, panel_in))
            for track in tracks
        ]
        heights = [
            text_height(name, TICK_PT) + text_height(note, NOTE_PT) + _HEAD_GAP + track.height
            for track, (name, note) in zip(tracks, heads, strict=True)
        ]
        columns, high = _shared_out(heights, count)
        # The letters of a PNG stand on whole pixels: a line can be a little wider than measured.
        room = width - left - _HEAD_RIGHT
        title_pt, title_lines = fit_title(title, room)
        caption_lines = fit(caption, NOTE_PT, room)
        rows, key_columns = key_grid(keys, room, _SIGN_IN) if keys else (0, 1)
        above = _TOP + text_height(title_lines, title_pt) + text_height(caption_lines, NOTE_PT)
        above += text_height([""] * rows, NOTE_PT) + 3 * _HEAD_GAP
        total = above + high + _BOTTOM
        head = (title_pt, title_lines, caption_lines, key_columns, above)
        pages.append(_Page(width, total, *head, left, between, panel_in, heads, columns))
        if total <= highest:
            break
    # Where none is low enough: the lowest one.
    return pages[-1] if pages[-1].height <= highest else min(pages, key=lambda page: page.height)


def _shared_out(heights: Sequence[float], count: int) -> tuple[list[list[int]], float]:
    """The panels in so many columns, in order, so that the highest column is as low as can be; its height."""
    numbers = range(len(heights))
    choices = []
    for cuts in combinations(range(1, len(heights)), count - 1):
        columns = [list(numbers[first:end]) for first, end in pairwise((0, *cuts, len(heights)))]
        high = max(sum(heights[n] for n in column) + (len(column) - 1) * _GAP for column in columns)
        choices.append((columns, high))
    return min(choices, key=lambda choice: choice[1])
