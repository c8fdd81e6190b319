"""Profiles over the layers as tables for the terminal: gradient norms, variances, any probe's quantity.

Models of more than 40 layers show both ends, a thinning of the layers between, and the extremes; a line below
says so. Every function returns the table and the sentences that go with it, the title naming ``model``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from rich.table import Table

from depthprobe.findings.gradnorm import OUTSIDE, PARTS, GradNorms
from depthprobe.findings.gradnorm import STEM as GRADNORM
from depthprobe.findings.layer_rows import LayerRows
from depthprobe.findings.variance import BRANCHES, Variances
from depthprobe.findings.variance import STEM as VARIANCE
from depthprobe.render.terminal.columns import column, left_out, shown_layers, table_of_columns, titled

_LAYER = "layer\n(0-based)"
# In characters: the width of a column, and of one where all columns there can be stand side by side.
_WIDE, _NARROW = 9, 7
# More lines than these are wider than a terminal; the CSV has all.
_MOST_LINES = 5


def list_gradnorm(norms: GradNorms, model: str = "") -> list[Table | str]:
    """Return the gradient norm of every layer, its share and its parts, then what is outside the layers."""
    shown, ends = shown_layers(norms.layers, [norms.norm]), list(norms.outside.values())
    cells = partial(column, width=_NARROW if norms.varies and len(norms.parts) == len(PARTS) else _WIDE)
    columns: list[tuple[str, Sequence[str]]] = [
        (_LAYER, [*map(str, shown), *(OUTSIDE[part] for part in norms.outside)]),
        ("norm", cells([*norms.norm[shown], *(norm for norm, _ in ends)])),
    ]
    if norms.varies:
        columns.append(("std", cells([*norms.std[shown], *(std for _, std in ends)])))
    columns.append(("share", ["-" if np.isnan(part) else f"{part:.1%}" for part in norms.share[shown]]))
    columns += [(_broken(PARTS[part]), cells(values[shown])) for part, values in norms.parts.items()]
    said = (
        f"Norm: L2, {norms.quantity}. Share: a block's squared norm in the sum of squared norms over the "
        "blocks."
    )
    caption = " ".join([said, *left_out(norms.layers, shown, GRADNORM)])
    title = titled(model, "gradient norm of every layer")
    return [table_of_columns(title, caption, columns, after=len(shown)), *norms.sentences]


def list_variance(found: Variances, model: str = "") -> list[Table | str]:
    """Return the stream behind every layer, x^{l+1}, what its branches add to it, and its influence.

    The first row is the embedding, x^0.
    """
    extra = {}
    if found.influence is not None:
        heads = {"block_influence": "Block\nInfluence", "contribution_ratio": "contri-\nbution\nratio"}
        extra = {head: found.influence[name].to_numpy(dtype="float64") for name, head in heads.items()}
    shown = shown_layers(found.layers, [found.stream[1:], *list(extra.values())[:1]])
    behind = [0, *(layer + 1 for layer in shown)]
    of_layers = {f"added by\n{_broken(BRANCHES[branch])}": line for branch, line in found.branches.items()}
    # The three tell more than the root mean square, which older runs show beside the mean.
    second = {"RMS": found.rms}
    if found.median is not None and found.without_first is not None:
        second = {"without\nfirst": found.without_first, "median": found.median}
    columns = [
        (_LAYER, ["embedding", *map(str, shown)]),
        ("variance" if "RMS" in second else "mean\nvariance", column(found.stream[behind])),
        *((head, column(values[behind])) for head, values in second.items()),
        *((head, ["", *column(values[shown])]) for head, values in {**of_layers, **extra}.items()),
    ]
    said = f"The stream behind each layer, x^(l+1): {found.quantity}."
    caption = " ".join([said, *left_out(found.layers, shown, VARIANCE)])
    title = titled(model, "variance of the residual stream")
    return [table_of_columns(title, caption, columns, after=1), *found.sentences]


def list_layer_rows(findings: LayerRows, model: str = "") -> list[Table | str]:
    """Return the quantity of every layer; a column for each value of the other key columns."""
    lines = dict(list(findings.lines.items())[:_MOST_LINES])
    known = [values for values in lines.values() if not np.isnan(values).all()]
    shown, stem = shown_layers(findings.layers, known), findings.declared.stem
    head = findings.words.replace(" ", "\n")
    columns = [
        (head if len(findings.lines) == 1 else name, column(values[shown])) for name, values in lines.items()
    ]
    more = len(findings.lines) - len(lines)
    caption = [findings.meaning, *left_out(findings.layers, shown, stem)]
    caption += [f"{more} more columns are in {stem}.csv."] if more else []
    title = titled(model, f"{findings.words} of every layer")
    table = table_of_columns(title, " ".join(caption), [(_LAYER, list(map(str, shown))), *columns])
    return [table, *findings.sentences]


def _broken(head: str) -> str:
    """A head on two lines where it has a hyphen."""
    return head.replace("-", "-\n")
