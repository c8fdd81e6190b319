"""The curve of best blocks: how far removing the best block of each size turns the stream, and where it lies.

Source: Gromov et al. 2403.17887, figure of the distance at the best block against its size.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from depthprobe.render.lines import Curve, Look, draw_lines
from depthprobe.render.reading import best_blocks

BEST = Look("#0b3c5d", 1.3, marker="o", filled=True, level=5)
MEDIAN = Look("#dd8500", 0.9, (4.0, 1.6), "^")


def draw_best_blocks(frame: pd.DataFrame, *, title: str = "", caption: str = "") -> Figure:
    """The distance of the best block of each size n, beside that of the median block, as a figure.

    Where the two are far apart it matters which layers are removed.

    Args:
        frame: Columns layer, n, distance, std, samples.
        title: Above the figure, such as the model's id.
        caption: Below the title in small type.

    Raises:
        RunError: if it is no table of angular distances.
    """
    best = best_blocks(frame)
    median = frame.groupby("n")["distance"].median().reindex(best["n"])
    sizes = best["n"].to_numpy(dtype="float64")
    curves = [
        Curve("best block of $n$ layers", sizes, best["distance"].to_numpy(dtype="float64"), BEST),
        Curve("median block of $n$ layers", sizes, median.to_numpy(dtype="float64"), MEDIAN),
    ]
    return draw_lines(
        curves,
        logarithmic=False,
        last=int(np.max(sizes)),
        x_label="Block size $n$",
        y_label="Angular distance $d(l, l+n)$",
        title=title,
        caption=caption,
    )
