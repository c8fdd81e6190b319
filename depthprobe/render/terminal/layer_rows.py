"""The quantity of a probe without a table of its own, for the terminal: a row a layer."""

from __future__ import annotations

import numpy as np
from rich.table import Table

from depthprobe.findings.layer_rows import LayerRows
from depthprobe.findings.words import capital
from depthprobe.render.terminal.columns import column, left_out, shown_layers, table_of_columns

# More lines than these are wider than a terminal; the CSV has all.
_MOST_LINES = 5


def listing(findings: LayerRows, model: str = "") -> list[Table | str]:
    """Return what a terminal shows of a quantity: the table, and where it is highest and lowest."""
    return [layer_table(findings, model), *findings.sentences]


def layer_table(findings: LayerRows, model: str = "") -> Table:
    """Return a table with the quantity of every layer; a column for each value of the other key columns.

    Args:
        findings: What the probe's table says.
        model: What the title begins with, nothing if empty.
    """
    lines = dict(list(findings.lines.items())[:_MOST_LINES])
    known = [values for values in lines.values() if not np.isnan(values).all()]
    shown = shown_layers(findings.layers, known)
    head = findings.words.replace(" ", "\n")
    columns = [
        (head if len(findings.lines) == 1 else name, column(values[shown])) for name, values in lines.items()
    ]
    stem = findings.declared.stem
    caption = [findings.meaning, *left_out(findings.layers, shown, stem)]
    more = len(findings.lines) - len(lines)
    caption += [f"{more} more columns are in {stem}.csv."] if more else []
    words = f"{findings.words} of every layer"
    title = f"{model}: {words}" if model else capital(words)
    return table_of_columns(title, " ".join(caption), [("layer\n(0-based)", list(map(str, shown))), *columns])
