"""The gradient norm of every layer as a table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from depthprobe.findings.gradnorm import OUTSIDE, PARTS, STEM, GradNorms
from depthprobe.render.terminal.columns import (
    NARROW,
    WIDE,
    column,
    left_out,
    shown_layers,
    table_of_columns,
    two_lines,
)


def listing(findings: GradNorms, model: str = "") -> list[Table | str]:
    """Return what a terminal shows of gradient norms: the table, and what it says."""
    return [gradnorm_table(findings, model), *findings.sentences]


def gradnorm_table(norms: GradNorms, model: str = "") -> Table:
    """Return a table with the gradient norm of every layer, its share, its parts, and what is outside them.

    Models of more than 40 layers show both ends, a thinning of the layers between and the extremes; a line
    below says so.

    Args:
        norms: What the table of gradient norms says.
        model: What the title begins with, nothing if empty.
    """
    layers = len(norms.norm)
    shown = shown_layers(layers, [norms.norm])
    ends = list(norms.outside)
    # All columns there can be need narrow ones.
    width = NARROW if norms.varies and len(norms.parts) == len(PARTS) else WIDE
    blank = [""] * len(ends)

    def numbers(values: NDArray[np.float64], after: Sequence[float] = ()) -> list[str]:
        return column(values[shown], [*after], width=width)

    columns = [
        ("layer\n(0-based)", [*map(str, shown), *(OUTSIDE[part] for part in ends)]),
        ("norm", numbers(norms.norm, [norms.outside[part][0] for part in ends])),
    ]
    if norms.varies:
        columns.append(("std", numbers(norms.std, [norms.outside[part][1] for part in ends])))
    share = ["-" if np.isnan(part) else f"{part:.1%}" for part in norms.share[shown]]
    columns.append(("share", [*share, *blank]))
    for part, values in norms.parts.items():
        columns.append((two_lines(PARTS[part]), [*numbers(values), *blank]))
    caption = [
        f"Norm: L2, {norms.quantity}. Share: a block's squared norm in the sum of squared "
        "norms over the blocks.",
        *left_out(layers, shown, STEM),
    ]
    title = f"{model}: gradient norm of every layer" if model else "Gradient norm of every layer"
    return table_of_columns(title, " ".join(caption), columns, after=len(shown))
