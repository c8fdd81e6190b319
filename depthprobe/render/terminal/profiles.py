"""The two profiles over the depth as tables for the terminal: a row a layer, in 80 columns of plain text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich import box
from rich.table import Table
from rich.text import Text

from depthprobe.findings.checks import table_and_options
from depthprobe.findings.gradnorm import OUTSIDE, PARTS, grad_norms, gradnorm_quantity, gradnorm_reading
from depthprobe.findings.gradnorm import STEM as GRADNORM
from depthprobe.findings.gradnorm import WHAT as GRADIENT_NORMS
from depthprobe.findings.variance import (
    BRANCHES,
    INFLUENCE_STEM,
    influences,
    variance_quantity,
    variance_reading,
    variances,
)
from depthprobe.findings.variance import STEM as VARIANCE
from depthprobe.findings.variance import WHAT as VARIANCES
from depthprobe.findings.words import aligned
from depthprobe.render.charts.figures import model_title
from depthprobe.results.runs import Run

# Up to this many layers all are shown; beyond, both ends, a thinning of the rest, and the extremes.
_ALL_SHOWN = 40
_ENDS_SHOWN = 8
_BETWEEN = 16
_WIDE, _NARROW = 9, 7


def gradnorm_table(
    run: Run | pd.DataFrame, title: str | None = None, options: Mapping[str, Any] | None = None
) -> Table:
    """A table with the gradient norm of every layer, its share, its parts, and what is outside the layers.

    Models of more than 40 layers show both ends, every so-manieth layer between them and the extremes; a line
    below says so.

    Args:
        run: A run of gradnorm, or its frame.
        title: Above the table; by default it names the model, if a run was given.
        options: The options as in its manifest; a run's own if None.

    Raises:
        RunError: if it is no table of gradient norms.
    """
    frame, options = table_and_options(run, options, GRADNORM, GRADIENT_NORMS)
    norms = grad_norms(frame)
    layers = len(norms.norm)
    shown = shown_layers(layers, [norms.norm])
    ends = list(norms.outside)
    # All columns there can be need narrow ones.
    width = _NARROW if norms.varies and len(norms.parts) == len(PARTS) else _WIDE
    blank = [""] * len(ends)

    def numbers(values: NDArray[np.float64], after: Sequence[float] = ()) -> list[str]:
        return _numbers(values[shown], [*after], width=width)

    columns = [
        ("layer\n(0-based)", [*map(str, shown), *(OUTSIDE[part] for part in ends)]),
        ("norm", numbers(norms.norm, [norms.outside[part][0] for part in ends])),
    ]
    if norms.varies:
        columns.append(("std", numbers(norms.std, [norms.outside[part][1] for part in ends])))
    share = ["-" if np.isnan(part) else f"{part:.1%}" for part in norms.share[shown]]
    columns.append(("share", [*share, *blank]))
    for part, values in norms.parts.items():
        columns.append((_two_lines(PARTS[part]), [*numbers(values), *blank]))
    caption = [
        f"Norm: L2, {gradnorm_quantity(norms, options)}. Share: a block's squared norm in the sum of squared "
        "norms over the blocks.",
        *left_out(layers, shown, GRADNORM),
    ]
    return _table(_title(run, title, "gradient norm of every layer"), caption, columns, after=len(shown))


def variance_table(
    run: Run | pd.DataFrame, title: str | None = None, influence: pd.DataFrame | None = None
) -> Table:
    """A table with the stream behind every layer, what the layer's branches add to it, and its influence.

    The first row is the embedding, x^0; the row of layer l is x^{l+1}. Models of more than 40 layers are
    thinned as in :func:`gradnorm_table`.

    Args:
        run: A run of variance, or its first frame.
        title: Above the table; by default it names the model, if a run was given.
        influence: Its second frame; a run's own if None, and left out if there is none.

    Raises:
        RunError: if it is no table of variances.
    """
    frame, _ = table_and_options(run, None, VARIANCE, VARIANCES)
    if influence is None and isinstance(run, Run):
        influence = run.tables.get(INFLUENCE_STEM)
    found = variances(frame)
    layers = len(found.stream) - 1
    marks = [found.stream[1:]]
    extra: list[tuple[str, NDArray[np.float64]]] = []
    if influence is not None:
        ordered = influences(influence, layers)
        names = {"block_influence": "Block\nInfluence", "contribution_ratio": "contri-\nbution\nratio"}
        extra = [(head, ordered[name].to_numpy(dtype="float64")) for name, head in names.items()]
        marks.append(extra[0][1])
    shown = shown_layers(layers, marks)
    behind = [0, *(layer + 1 for layer in shown)]
    columns = [
        ("layer\n(0-based)", ["embedding", *map(str, shown)]),
        ("variance", _numbers(found.stream[behind])),
        ("RMS", _numbers(found.rms[behind])),
    ]
    for branch, values in found.branches.items():
        columns.append((f"added by\n{_two_lines(BRANCHES[branch])}", ["", *_numbers(values[shown])]))
    columns += [(head, ["", *_numbers(values[shown])]) for head, values in extra]
    caption = [
        f"The stream behind each layer, x^(l+1): {variance_quantity(found)}.",
        *left_out(layers, shown, VARIANCE),
    ]
    return _table(_title(run, title, "variance of the residual stream"), caption, columns, after=1)


def _two_lines(head: str) -> str:
    """A head on two lines where it has a hyphen."""
    return head.replace("-", "-\n")


def shown_layers(layers: int, marks: Iterable[NDArray[np.float64]]) -> list[int]:
    """The layers to show: all, or both ends, every so-manieth between, and the extremes of ``marks``."""
    if layers <= _ALL_SHOWN:
        return list(range(layers))
    between = range(_ENDS_SHOWN, layers - _ENDS_SHOWN, layers // _BETWEEN)
    shown = {*range(_ENDS_SHOWN), *between, *range(layers - _ENDS_SHOWN, layers)}
    for values in marks:
        shown |= {int(np.nanargmin(values)), int(np.nanargmax(values))}
    return sorted(shown)


def left_out(layers: int, shown: Sequence[int], stem: str) -> list[str]:
    """A sentence on how many layers are not shown; none if all are."""
    left = layers - len(shown)
    return [f"{left} of {layers} layers are not shown; {stem}.csv has all."] if left else []


def _numbers(values: NDArray[np.float64], after: Sequence[float] = (), width: int = _WIDE) -> list[str]:
    """The values as a column, with others after them; a dash for NaN."""
    return aligned([None if np.isnan(value) else float(value) for value in (*values, *after)], width=width)


def _title(run: Run | pd.DataFrame, title: str | None, what: str) -> str:
    if title is not None:
        return title
    if not isinstance(run, Run):
        return what[:1].upper() + what[1:]
    fresh = (run.manifest.get("model") or {}).get("initial_seed") is not None
    return f"{model_title(run)}{', freshly initialised' if fresh else ''}: {what}"


def _table(
    title: str, caption: Sequence[str], columns: Sequence[tuple[str, Sequence[str]]], after: int
) -> Table:
    """A table from its columns, with a rule after so many rows."""
    table = Table(
        # Text, not markup: a model's id may hold square brackets.
        title=Text(title) if title else None,
        caption=Text(" ".join(caption)),
        box=box.HORIZONTALS,
        collapse_padding=True,
        pad_edge=False,
        title_style="bold",
        caption_style="dim",
    )
    for index, (head, _) in enumerate(columns):
        table.add_column(head, justify="right", style="bold" if index == 0 else None, no_wrap=True)
    widths = [max(map(len, [*head.split("\n"), *cells])) for head, cells in columns]
    for number, row in enumerate(zip(*(cells for _, cells in columns), strict=True)):
        if number == after:
            table.add_section()
        # Left-justified and filled up: spaces on the right keep decimal points below each other.
        cells = [Text(cell.rjust(width), justify="left") for cell, width in zip(row, widths, strict=True)]
        table.add_row(*cells)
    return table


def gradnorm_lines(run: Run) -> list[Table | str]:
    """Return the table of a run of gradnorm, and what it says."""
    return [gradnorm_table(run), gradnorm_reading(run)]


def variance_lines(run: Run) -> list[Table | str]:
    """Return the table of a run of variance, and what it says."""
    return [variance_table(run), variance_reading(run)]
