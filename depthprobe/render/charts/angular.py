"""The map of angular distances, as the papers on layer pruning draw it.

Across: the layer l a block starts at. Upward: its size n. A cell is d(x^l, x^{l+n}), how far the n layers
from l on turn the residual stream; yellow is near, so the layers there can best be spared.

Source: the layout follows Gromov et al. 2403.17887 and "The Curse of Depth" 2502.05795, which rescale each
row; here values stay as measured unless asked otherwise, and the colour bar says which it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import QuadMesh
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from depthprobe.errors import OptionError
from depthprobe.findings.angular import AngularFindings
from depthprobe.render.charts.kit.presets import here, page_width
from depthprobe.render.charts.kit.style import (
    FAINT,
    INK,
    NOTE_PT,
    TICK_PT,
    fit,
    fit_title,
    style,
    text_height,
    write_lines,
)
from depthprobe.render.charts.kit.ticks import ticks

NORMALIZATIONS = ("none", "row")
COLOUR_MAP = "viridis_r"
RAW_LABEL = "Angular distance $d(l, l+n)$"
ROW_LABEL = "Angular distance, rescaled per row (0\N{EN DASH}1)"
MARK_LABEL = "smallest distance\nat each block size $n$"

# Margins in inches around the square map, and what one cell should have at least.
_LEFT, _RIGHT, _BOTTOM, _TOP = 0.46, 0.78, 0.42, 0.06
_BAR_GAP, _BAR_WIDTH = 0.09, 0.10
_HEAD_GAP = 0.05
_CELL_IN = 0.043
_LOWEST_IN = 1.0
_NARROWEST_SCALE = 0.02


def distance_matrix(frame: pd.DataFrame) -> np.ma.MaskedArray:
    """The distances as a masked array [n - 1, layer]; masked where l + n > L."""
    layers = int((frame["layer"] + frame["n"]).max())
    matrix = np.full((layers, layers), np.nan)
    matrix[frame["n"].to_numpy() - 1, frame["layer"].to_numpy()] = frame["distance"]
    return np.ma.array(matrix, mask=np.isnan(matrix))


def rescale_rows(matrix: np.ma.MaskedArray) -> np.ma.MaskedArray:
    """Each row between 0 and 1: clipped to its 1st and 99th percentile, then min-max scaled.

    A row with one value, or with equal values, is 0: it has nothing to compare.

    Source: the published figures of 2403.17887 and 2502.05795 (their plotting scripts).
    """
    scaled = matrix.copy()
    for row in scaled:
        values = row.compressed()
        if not values.size:
            continue
        low, high = np.percentile(values, [1, 99])
        # Rounding errors are no difference.
        even = high - low <= 1e-12
        row[~row.mask] = 0.0 if even else (np.clip(values, low, high) - low) / (high - low)
    return scaled


@dataclass(frozen=True)
class _Layout:
    """Where things stand on the figure, in inches from its lower left corner."""

    width: float
    height: float
    side: float
    title: list[str]
    title_pt: float
    caption: list[str]

    def box(
        self, left: float, bottom: float, width: float, height: float
    ) -> tuple[float, float, float, float]:
        """A box in inches as the fractions that matplotlib takes."""
        return left / self.width, bottom / self.height, width / self.width, height / self.height


def _lay_out(layers: int, title: str, caption: str) -> _Layout:
    """A figure as wide as its cells need and its page allows, and no higher than its page."""
    width = page_width(layers * _CELL_IN + _LEFT + _RIGHT)
    layout = _of_width(width, title, caption)
    # The map is square: what is too high is too wide by as much. Narrower, its title may need more lines.
    while layout.height > here().height and layout.side > _LOWEST_IN:
        width -= max(0.01, layout.height - here().height)
        layout = _of_width(width, title, caption)
    return layout


def _of_width(width: float, title: str, caption: str) -> _Layout:
    room = width - _LEFT - _TOP
    title_pt, title_lines = fit_title(title, room)
    caption_lines = fit(caption, NOTE_PT, room)
    side = width - _LEFT - _RIGHT
    height = _BOTTOM + side + _TOP + text_height(title_lines, title_pt) + text_height(caption_lines, NOTE_PT)
    if title_lines or caption_lines:
        height += _HEAD_GAP
    return _Layout(width, height, side, title_lines, title_pt, caption_lines)


def draw_angular(
    findings: AngularFindings, *, normalize: str = "none", title: str = "", caption: str = ""
) -> Figure:
    """The map of angular distances as a matplotlib figure; nothing is written and no global style changes.

    Args:
        findings: What the table of angular distances says.
        normalize: ``none`` shows distances as measured (fraction of pi); ``row`` rescales each row to 0..1
            as the papers do. The marked best blocks are those of the measured distances either way.
        title: Above the map, such as the model's id; broken into lines where it is long.
        caption: Below the title in small type, such as the data the distances were measured on.

    Raises:
        OptionError: if ``normalize`` is neither.
    """
    if normalize not in NORMALIZATIONS:
        raise OptionError(f"normalize is {normalize!r}.", f"Use one of: {', '.join(NORMALIZATIONS)}.")
    matrix = distance_matrix(findings.distances)
    layers = len(matrix)
    layout = _lay_out(layers, title, caption)
    cell_pt = layout.side * 72 / layers
    with style():
        figure = Figure(figsize=(layout.width, layout.height), facecolor="white")
        FigureCanvasAgg(figure)
        axes = figure.add_axes(layout.box(_LEFT, _BOTTOM, layout.side, layout.side))
        shown, limits = matrix, colour_limits(float(matrix.min()), float(matrix.max()))
        if normalize == "row":
            shown, limits = rescale_rows(matrix), (0.0, 1.0)
        mesh = draw_cells(axes, shown, limits, cell_pt)
        mark_best(axes, findings.best, layers, cell_pt)
        axes.set(xlim=(-0.5, layers - 0.5), ylim=(0.5, layers + 0.5))
        axes.set_xticks(ticks(0, layers - 1))
        axes.set_yticks(ticks(1, layers))
        axes.set_xlabel("Layer index $l$")
        axes.set_ylabel("Subsequent $n$-th layer")
        axes.spines[:].set_visible(False)
        bar_left = _LEFT + layout.side + _BAR_GAP
        bar_axes = figure.add_axes(layout.box(bar_left, _BOTTOM, _BAR_WIDTH, layout.side))
        bar = figure.colorbar(mesh, cax=bar_axes)
        label_bar(bar, normalize)
        _write_head(figure, layout)
    return figure


def label_bar(bar: Colorbar, normalize: str) -> None:
    """Ticks and words of a colour bar."""
    bar.outline.set_visible(False)
    bar.locator = MaxNLocator(6, steps=[1, 2, 2.5, 5, 10])
    bar.update_ticks()
    if normalize == "none":
        bar.set_label(RAW_LABEL)
    else:
        # Longer than a single-column map is high in the size of the other labels.
        bar.set_label(ROW_LABEL, size=TICK_PT)


def colour_limits(low: float, high: float) -> tuple[float, float]:
    """The ends of a colour scale: equal values would leave the colour bar without one."""
    if high - low < _NARROWEST_SCALE:
        middle = (low + high) / 2
        return max(0.0, middle - _NARROWEST_SCALE / 2), min(1.0, middle + _NARROWEST_SCALE / 2)
    return low, high


def draw_cells(
    axes: Axes, values: np.ma.MaskedArray, limits: tuple[float, float], cell_pt: float
) -> QuadMesh:
    """Square cells with thin white edges; neither colour nor edge outside the triangle."""
    layers = len(values)
    low, high = limits
    mesh = axes.pcolormesh(
        np.arange(layers + 1) - 0.5,
        np.arange(layers + 1) + 0.5,
        values,
        cmap=COLOUR_MAP,
        vmin=low,
        vmax=high,
        linewidth=float(np.clip(cell_pt * 0.05, 0.15, 0.6)),
    )
    inside = ~np.ma.getmaskarray(values).ravel()
    mesh.set_edgecolor([(1.0, 1.0, 1.0, 1.0 if shown else 0.0) for shown in inside])
    return mesh


def mark_best(axes: Axes, best: pd.DataFrame, layers: int, cell_pt: float, explained: bool = True) -> None:
    """A dot in the nearest cell of every row, explained in the empty triangle if asked for."""
    if layers == 1:
        return  # one cell: nothing to choose, and no empty triangle to say so in
    size_pt = float(np.clip(cell_pt * 0.5, 1.3, 4.5))
    # Dark inside, white outside: seen on yellow, on purple, and in grey.
    look = {
        "linestyle": "none",
        "marker": "o",
        "markerfacecolor": INK,
        "markeredgecolor": "white",
        "markeredgewidth": size_pt * 0.14,
    }
    axes.plot(best["layer"], best["n"], markersize=size_pt, clip_on=False, label=MARK_LABEL, **look)
    if not explained:
        return
    axes.legend(
        handles=[Line2D([], [], markersize=max(size_pt, 3.0), **look)],
        labels=[MARK_LABEL],
        loc="upper right",
        borderaxespad=0.0,
        borderpad=0.0,
        handlelength=0.8,
        handletextpad=0.4,
        labelcolor=FAINT,
    )


def _write_head(figure: Figure, layout: _Layout) -> None:
    """Title and caption above the map, from the top down; outside text, so no mathematics in it."""
    top = layout.height - _TOP
    top = write_lines(figure, _LEFT, top, layout.title, layout.title_pt, weight="bold")
    write_lines(figure, _LEFT, top, layout.caption, NOTE_PT, color=FAINT)
