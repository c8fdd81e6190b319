"""The variance of the residual stream behind every layer as a table for the terminal."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from depthprobe.findings.variance import BRANCHES, STEM, Variances
from depthprobe.render.terminal.columns import column, left_out, shown_layers, table_of_columns, two_lines


def listing(findings: Variances, model: str = "") -> list[Table | str]:
    """Return what a terminal shows of variances: the table, and what it says."""
    return [variance_table(findings, model), *findings.sentences]


def variance_table(found: Variances, model: str = "") -> Table:
    """Return a table with the stream behind every layer, what its branches add to it, and its influence.

    The first row is the embedding, x^0; the row of layer l is x^{l+1}. Models of more than 40 layers are
    thinned as by :func:`depthprobe.render.terminal.gradnorm.gradnorm_table`.

    Args:
        found: What the tables of the run say.
        model: What the title begins with, nothing if empty.
    """
    layers = found.layers
    marks = [found.stream[1:]]
    extra: list[tuple[str, NDArray[np.float64]]] = []
    if found.influence is not None:
        names = {"block_influence": "Block\nInfluence", "contribution_ratio": "contri-\nbution\nratio"}
        extra = [(head, found.influence[name].to_numpy(dtype="float64")) for name, head in names.items()]
        marks.append(extra[0][1])
    shown = shown_layers(layers, marks)
    behind = [0, *(layer + 1 for layer in shown)]
    columns = [
        ("layer\n(0-based)", ["embedding", *map(str, shown)]),
        ("variance", column(found.stream[behind])),
        ("RMS", column(found.rms[behind])),
    ]
    for branch, values in found.branches.items():
        columns.append((f"added by\n{two_lines(BRANCHES[branch])}", ["", *column(values[shown])]))
    columns += [(head, ["", *column(values[shown])]) for head, values in extra]
    caption = [
        f"The stream behind each layer, x^(l+1): {found.quantity}.",
        *left_out(layers, shown, STEM),
    ]
    title = f"{model}: variance of the residual stream" if model else "Variance of the residual stream"
    return table_of_columns(title, " ".join(caption), columns, after=1)
