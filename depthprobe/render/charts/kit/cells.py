"""The cells of a map: a square of colour for each value."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection


def draw_cells(
    axes: Axes, values: np.ma.MaskedArray, limits: tuple[float, float], colour_map: str, cell_pt: float
) -> PolyCollection:
    """Draw cells with thin white edges, and nothing where there is no value.

    Args:
        axes: A cell is 1 wide and high there; the middle of the first one is at 0 across and 1 up.
        values: [row, layer], the rows from below.
        limits: The ends of the colour scale.
        colour_map: Its name.
        cell_pt: The smaller side of a cell in points.
    """
    shown = ~np.ma.getmaskarray(values)
    up, across = np.nonzero(shown)
    corners = np.array([[-0.5, 0.5], [0.5, 0.5], [0.5, 1.5], [-0.5, 1.5]])
    cells = PolyCollection(
        np.column_stack([across, up])[:, None] + corners,
        array=values.data[shown],
        clim=limits,
        cmap=colour_map,
        edgecolors="white",
        linewidths=float(np.clip(cell_pt * 0.05, 0.15, 0.6)),
        antialiaseds=False,
    )
    axes.add_collection(cells, autolim=False)
    axes.set(xlim=(-0.5, values.shape[1] - 0.5), ylim=(0.5, len(values) + 0.5))
    axes.spines[:].set_visible(False)
    return cells
