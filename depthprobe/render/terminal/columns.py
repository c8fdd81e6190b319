"""Tables made of columns, with the rules of a table in a paper, to be read in 80 columns of plain text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.table import Table
from rich.text import Text

from depthprobe.findings.words import aligned, capital

# Up to this many layers all are shown; beyond, both ends, a thinning of the rest, and the extremes.
_ALL_SHOWN = 40
_ENDS_SHOWN = 8
_BETWEEN = 16


def empty_table(title: str, caption: str, *, narrow: bool = True) -> Table:
    """Return a table without columns, whose rules stand at the top, below the head and at the bottom.

    Args:
        title: Above the table. Not markup: a model's id may hold square brackets.
        caption: Below it.
        narrow: Whether columns stand close to each other.
    """
    return Table(
        title=Text(title),
        caption=Text(caption) if caption else None,
        box=box.HORIZONTALS,
        collapse_padding=narrow,
        pad_edge=not narrow,
        title_style="bold",
        caption_style="dim",
    )


def table_of_columns(
    title: str, caption: str, columns: Sequence[tuple[str, Sequence[str]]], after: int | None = None
) -> Table:
    """Return a table from its columns, with a rule after ``after`` rows if that is given.

    Args:
        title, caption: As for :func:`empty_table`.
        columns: Head and cells of each, blank where there are too few; the first names the rows.
        after: How many rows stand above the rule; None for no rule.
    """
    table = empty_table(title, caption)
    for index, (head, _) in enumerate(columns):
        table.add_column(Text(head), justify="right", style="bold" if index == 0 else None, no_wrap=True)
    widths = [max(map(len, [*head.split("\n"), *cells])) for head, cells in columns]
    for number, row in enumerate(zip_longest(*(cells for _, cells in columns), fillvalue="")):
        if number == after:
            table.add_section()
        # Spaces on the right keep decimal points below each other; to the right they would be cut off.
        filled = [Text(cell.rjust(width), justify="left") for cell, width in zip(row, widths, strict=True)]
        table.add_row(*(full if cell.endswith(" ") else cell for cell, full in zip(row, filled, strict=True)))
    return table


def shown_layers(layers: int, marks: Iterable[NDArray[np.float64]]) -> list[int]:
    """Return the layers to show: all, or both ends, a thinning of the rest, and the extremes of ``marks``."""
    if layers <= _ALL_SHOWN:
        return list(range(layers))
    between = range(_ENDS_SHOWN, layers - _ENDS_SHOWN, layers // _BETWEEN)
    shown = {*range(_ENDS_SHOWN), *between, *range(layers - _ENDS_SHOWN, layers)}
    for values in marks:
        shown |= {int(np.nanargmin(values)), int(np.nanargmax(values))}
    return sorted(shown)


def left_out(layers: int, shown: Sequence[int], stem: str) -> list[str]:
    """Return a sentence on how many layers are not shown; none if all are."""
    left = layers - len(shown)
    return [f"{left} of {layers} layers are not shown; {stem}.csv has all."] if left else []


def column(values: Iterable[float], width: int = 9) -> list[str]:
    """Return the values as a column; a dash for NaN."""
    return aligned([None if np.isnan(value) else float(value) for value in values], width=width)


def titled(model: str, words: str) -> str:
    """Return a title that names the model, if there is a name."""
    return f"{model}: {words}" if model else capital(words)
