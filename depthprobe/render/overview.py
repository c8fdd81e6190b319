"""One page of a model: every measure over one axis of layers, so that one sees where layers go quiet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from depthprobe.render.lines import Curve, Look, draw_curve, set_axis, spans_a_decade, y_axis
from depthprobe.render.panels import Cell, Group, Margins, Sheet
from depthprobe.render.reading import quiet_stretch
from depthprobe.render.study import ANGULAR, PROXIES, Study, layer_frame
from depthprobe.render.style import TICK_PT, style, width_in
from depthprobe.render.ticks import MINUS, even_ticks, tick_labels, ticks
from depthprobe.render.words import layers_named

LOOK = Look("#0b3c5d", 1.1, marker="o", filled=True, level=5)
DROP = "#2b6496"
QUIET = "#e4e0d4"
MOST_TASKS = 4

_HEIGHT_IN, _SIDE, _SIGN_IN = 0.72, 0.6, 0.16
_TICK_ROOM, _RIGHT, _BELOW, _LAST_BELOW = 0.14, 0.10, 0.02, 0.36
# Measures whose sign carries no meaning as an amount start at 0; the growth of variance may be negative.
_SIGNED = "variance_growth"
_SHOWN = ("angular_distance", "block_influence", "contribution_ratio", "grad_norm", _SIGNED)


@dataclass(frozen=True)
class _Panel:
    """One measure: its name, a value a layer (NaN where unknown), and for drops the interval."""

    name: str
    values: NDArray[np.float64]
    low: NDArray[np.float64] | None = None
    high: NDArray[np.float64] | None = None
    signed: bool = False


def draw_overview(study: Study, *, title: str = "", caption: str = "") -> Figure:
    """The measures of a model as a matplotlib figure, a panel each, over one axis of layers.

    Drops are drawn as harm, so that in every panel up is "does more"; of more than four tasks the first are
    drawn. The quiet stretch of the angular distance is shaded through all panels.

    Args:
        study: The runs.
        title: Above the figure, such as the model's id.
        caption: Below the title in small type.

    Raises:
        RunError: if a table cannot be used.
    """
    panels = _panels(study)
    stretch = quiet_stretch(study.runs[ANGULAR].tables[ANGULAR]) if ANGULAR in study.runs else None
    x = np.arange(study.layers, dtype="float64")
    curves = [Curve(panel.name, x, panel.values, LOOK) for panel in panels]
    axes_of = []
    for panel, curve in zip(panels, curves, strict=True):
        logarithmic = not panel.signed and panel.low is None and spans_a_decade([curve])
        axes_of.append((logarithmic, None if panel.signed or panel.low is not None else logarithmic))
    labels = [
        label
        for panel, curve, (logarithmic, plain) in zip(panels, curves, axes_of, strict=True)
        for label in (_signed_ticks(panel)[1] if plain is None else y_axis([curve], None, logarithmic).labels)
    ]
    left = max(width_in(label, TICK_PT, mathematics=True) for label in labels) + _TICK_ROOM
    words = "" if stretch is None else layers_named(range(stretch.first, stretch.last + 1))
    with style():
        sheet = Sheet(
            [Group("", tuple(Cell(panel.name) for panel in panels))],
            columns=1,
            height=_HEIGHT_IN,
            margins=Margins(left, _RIGHT, 0.0, _BELOW),
            title=title,
            caption=caption,
            keys=[f"quiet stretch: {words}"] if words else [],
            sign_in=_SIGN_IN,
            footer=_LAST_BELOW,
        )
        figure = sheet.figure()
        FigureCanvasAgg(figure)
        layer_pt = sheet.panel_in * 72 / (study.layers - 1 + 2 * _SIDE)
        for index, (panel, curve, (logarithmic, plain)) in enumerate(
            zip(panels, curves, axes_of, strict=True)
        ):
            spot = sheet.spot(0, index)
            axes = figure.add_axes(spot.box)
            axes.set_xlim(-_SIDE, study.layers - 1 + _SIDE)
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_xticks(ticks(0, study.layers - 1))
            axes.tick_params(axis="x", labelbottom=spot.lowest)
            if stretch is not None:
                axes.axvspan(stretch.first - 0.5, stretch.last + 0.5, color=QUIET, linewidth=0, zorder=0)
            if plain is None:
                places, texts, (low, high) = _signed_ticks(panel)
                axes.set_ylim(low, high)
                axes.set_yticks(places, labels=texts)
                axes.axhline(0, color="#808080", linewidth=0.5, zorder=1)
            else:
                set_axis(axes, y_axis([curve], None, logarithmic), logarithmic)
            if panel.low is None or panel.high is None:
                draw_curve(axes, curve, layer_pt)
            else:
                axes.bar(x, panel.values, width=0.7, color="#9cc3e4", edgecolor=DROP, linewidth=0.5, zorder=2)
                axes.vlines(x, panel.low, panel.high, color=DROP, linewidth=0.9, zorder=3)
            if spot.lowest:
                axes.set_xlabel("Layer index $l$")
        if words:
            sheet.write_keys(figure, [Patch(facecolor=QUIET, linewidth=0)])
    return figure


def _panels(study: Study) -> list[_Panel]:
    frame = layer_frame(study)
    panels = [
        _Panel(_capital(PROXIES[name]), frame[name].to_numpy(dtype="float64"), signed=name == _SIGNED)
        for name in _SHOWN
        if name in frame and np.isfinite(frame[name]).any()
    ]
    for drops in study.drops[:MOST_TASKS]:
        sign = -1 if drops.higher_is_better else 1
        ends = [
            sign * frame[f"{end}_{drops.task}"].to_numpy(dtype="float64") for end in ("ci_low", "ci_high")
        ]
        panels.append(
            _Panel(
                f"Harm without the layer, with 95% interval: {drops.task}, {drops.words}",
                sign * frame[f"drop_{drops.task}"].to_numpy(dtype="float64"),
                np.minimum(*ends),
                np.maximum(*ends),
            )
        )
    return panels


def _signed_ticks(panel: _Panel) -> tuple[list[float], list[str], tuple[float, float]]:
    """Ticks, labels and ends of an even axis that has 0 on it."""
    parts = [panel.values] if panel.low is None or panel.high is None else [panel.low, panel.high]
    values = np.concatenate(parts)
    values = values[np.isfinite(values)]
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    span = (high - low) or 1.0
    low, high = low - 0.06 * span * (low < 0), high + 0.06 * span
    places = even_ticks(low, high)
    places = places[:: 2 if len(places) > 4 else 1]
    return places, [label.replace("-", MINUS) for label in tick_labels(places)], (low, high)


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]
