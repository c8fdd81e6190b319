"""How far the cheap measures can be trusted, as a table for the terminal in 80 columns of plain text."""

from __future__ import annotations

import pandas as pd
from rich.table import Table
from rich.text import Text

from depthprobe.findings.scores import words_of
from depthprobe.findings.trust import RESAMPLES
from depthprobe.findings.words import spoken
from depthprobe.render.terminal.columns import empty_table

# With this size of correlation, rounded to two digits, a reader loses nothing: intervals are far wider.
_DECIMALS = 2
# So that the numbers beside them fit into 80 columns.
_WORDS_WIDTH = 29


def trust_table(frame: pd.DataFrame) -> Table:
    """Return a table of the correlations of a ``Trust``, with a section for each task."""
    table = empty_table(
        "Rank correlation with the measured drop",
        "1: orders the layers as the measured harm does; 0: says nothing; -1: the wrong way round. "
        f"In brackets 95% over {RESAMPLES:,} resamples of the layers, which are not independent draws.",
    )
    # Text, not markup: a task's name may hold square brackets.
    table.add_column("task: measurement", style="bold", max_width=_WORDS_WIDTH, overflow="fold")
    for head in ("Spearman", "Kendall", "layers"):
        table.add_column(head, justify="right", no_wrap=True)
    for task, rows in frame.groupby("task", sort=False):
        table.add_section()
        table.add_row(Text(f"{task} ({rows['metric'].iloc[0]}):"), "", "", "")
        for row in rows.to_dict("records"):
            numbers = [_with_interval(row, name) for name in ("spearman", "kendall")]
            table.add_row(Text(words_of(row["proxy"])), *map(Text, numbers), f"{row['layers']}")
    return table


def _with_interval(row: dict[str, float], name: str) -> str:
    """A correlation with its interval, all of one width: `` 0.48 (-0.20,  0.93)``."""
    here, low, high = (spoken(row[key], _DECIMALS).rjust(5) for key in (name, f"{name}_low", f"{name}_high"))
    return f"{here} ({low}, {high})"
