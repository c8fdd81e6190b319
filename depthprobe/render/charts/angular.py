"""The map of angular distances, as the papers on layer pruning draw it.

Across: the layer l at which a block starts. Upward: its size n. A cell is d(x^l, x^{l+n}), how far the n
layers from l on turn the residual stream; yellow is near, so those layers can best be spared.

Source: the layout follows Gromov et al. 2403.17887 and "The Curse of Depth" 2502.05795, which rescale each
row; here values stay as measured unless asked otherwise, and the colour bar says which.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from depthprobe.findings.angular import AngularFindings
from depthprobe.render.charts.kit.cells import draw_cells
from depthprobe.render.charts.kit.page import Page
from depthprobe.render.charts.kit.page_sizes import current_size, page_width
from depthprobe.render.charts.kit.style import INK, TICK_PT, style
from depthprobe.render.charts.kit.ticks import ticks

COLOUR_MAP = "viridis_r"
RAW_LABEL = "Angular distance $d(l, l+n)$"
ROW_LABEL = "Angular distance, rescaled per row (0\N{EN DASH}1)"
VERTICAL_LABEL = "Subsequent $n$-th layer"
MARK_LABEL = "smallest distance\nat each block size $n$"

# Margins in inches around the square map, and the least size of a cell.
_LEFT, _RIGHT, _BOTTOM = 0.46, 0.78, 0.42
_CELL_IN = 0.043
_LOWEST_IN = 1.0
_NARROWEST_SCALE = 0.02


def distance_matrix(frame: pd.DataFrame) -> np.ma.MaskedArray:
    """Return the distances as a masked array [n - 1, layer]; masked where l + n > L."""
    layers = int((frame["layer"] + frame["n"]).max())
    matrix = np.full((layers, layers), np.nan)
    matrix[frame["n"].to_numpy() - 1, frame["layer"].to_numpy()] = frame["distance"]
    return np.ma.array(matrix, mask=np.isnan(matrix))


def rescale_rows(matrix: np.ma.MaskedArray) -> np.ma.MaskedArray:
    """Return each row between 0 and 1: clipped to its 1st and 99th percentile, then min-max scaled.

    A row with one value, or with equal values, becomes 0.

    Source: the published figures of 2403.17887 and 2502.05795 (their plotting scripts).
    """
    scaled = matrix.copy()
    for row in scaled:
        values = row.compressed()
        if not values.size:
            continue
        low, high = np.percentile(values, [1, 99])
        # Rounding errors do not count as a difference.
        even = high - low <= 1e-12
        row[~row.mask] = 0.0 if even else (np.clip(values, low, high) - low) / (high - low)
    return scaled


def draw(findings: AngularFindings, *, normalize: str = "none", title: str = "", caption: str = "") -> Figure:
    """Return the map of angular distances; nothing is written and no global style changes.

    Args:
        findings: What the run says.
        normalize: ``none`` shows distances as measured (fraction of pi); ``row`` rescales each row to 0..1
            as the papers do. The marked best blocks are those of the measured distances either way.
        title, caption: Above the map, such as the model's id and the data.
    """
    matrix = distance_matrix(findings.distances)
    count = len(matrix)
    page = _fitting_page(count, title, caption)
    side = page.width - _LEFT - _RIGHT
    with style():
        page.open(page.head + side + _BOTTOM)
        axes = page.add_axes(_LEFT, page.head, side, side)
        mesh = draw_map(axes, findings, matrix, normalize, colour_limits([matrix]), side * 72 / count)
        axes.set_ylabel(VERTICAL_LABEL)
        explain_mark(axes, count, side * 72 / count)
        add_distance_bar(page, axes, mesh, normalize)
    return page.figure


def _fitting_page(layers: int, title: str, caption: str) -> Page:
    """Return a page as wide as the cells of a map need, as far as the page size allows."""
    page = Page(page_width(layers * _CELL_IN + _LEFT + _RIGHT), _LEFT, title=title, caption=caption)
    # The map is square: what is too high is too wide by as much. A narrower title may need more lines.
    while (side := page.width - _LEFT - _RIGHT) > _LOWEST_IN:
        over = page.head + side + _BOTTOM - current_size().height
        if over <= 0:
            break
        page = Page(page.width - max(0.01, over), _LEFT, title=title, caption=caption)
    return page


def draw_map(
    axes: Axes,
    findings: AngularFindings,
    matrix: np.ma.MaskedArray,
    normalize: str,
    limits: tuple[float, float],
    cell_pt: float,
) -> PolyCollection:
    """Draw a map with its best blocks and cells of ``cell_pt`` points; return its cells, for a colour bar.

    ``limits`` are the ends of the colour scale for distances as measured.
    """
    count = len(matrix)
    shown = matrix
    if normalize == "row":
        shown, limits = rescale_rows(matrix), (0.0, 1.0)
    mesh = draw_cells(axes, shown, limits, COLOUR_MAP, cell_pt)
    if count > 1:  # a single cell leaves nothing to choose
        best = findings.best
        axes.plot(best["layer"], best["n"], clip_on=False, label=MARK_LABEL, **mark_look(cell_pt))
    axes.set_xticks(ticks(0, count - 1))
    axes.set_yticks(ticks(1, count))
    axes.set_xlabel("Layer index $l$")
    return mesh


def mark_look(cell_pt: float, least_pt: float = 1.3) -> dict[str, Any]:
    """Return how the best block of a size is marked: visible on yellow, on purple, and in grey."""
    size_pt = float(np.clip(cell_pt * 0.5, 1.3, 4.5))
    return {
        "linestyle": "none",
        "marker": "o",
        "markersize": max(size_pt, least_pt),
        "markerfacecolor": INK,
        "markeredgecolor": "white",
        "markeredgewidth": size_pt * 0.14,
    }


def explain_mark(axes: Axes, layers: int, cell_pt: float) -> None:
    """Explain the marks in the empty triangle; a single cell has neither."""
    if layers == 1:
        return
    axes.legend(
        handles=[Line2D([], [], **mark_look(cell_pt, 3.0))],
        labels=[MARK_LABEL],
        loc="upper right",
        borderpad=0.0,
        handlelength=0.8,
        handletextpad=0.4,
    )


def add_distance_bar(page: Page, axes: Axes, mesh: PolyCollection, normalize: str) -> None:
    """Add the colour bar of a map."""
    # In the usual size the label for rescaled rows would be longer than a single-column map is high.
    words = {"label": RAW_LABEL} if normalize == "none" else {"label": ROW_LABEL, "size": TICK_PT}
    bar = page.add_colour_bar(axes, mesh, **words)
    bar.locator = MaxNLocator(6, steps=[1, 2, 2.5, 5, 10])
    bar.update_ticks()


def colour_limits(matrices: Sequence[np.ma.MaskedArray]) -> tuple[float, float]:
    """Return the ends of a colour scale for these values; they are never equal, as a bar needs a range."""
    low, high = min(float(each.min()) for each in matrices), max(float(each.max()) for each in matrices)
    if high - low < _NARROWEST_SCALE:
        middle = (low + high) / 2
        return max(0.0, middle - _NARROWEST_SCALE / 2), min(1.0, middle + _NARROWEST_SCALE / 2)
    return low, high
