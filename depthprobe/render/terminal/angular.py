"""The best block of every size as a table for the terminal."""

from __future__ import annotations

from rich.table import Table

from depthprobe.findings.angular import AngularFindings, decimals_for
from depthprobe.render.terminal.columns import empty_table, titled

# Up to this many block sizes all are shown; beyond, the first ones and a thinning of the rest.
_ALL_SHOWN = 40
_FIRST_SHOWN = 32


def listing(findings: AngularFindings, model: str = "") -> list[Table | str]:
    """Return the best block to remove for every block size n, and where the model is quiet.

    The whole model is no block to remove and has no row.

    Models of more than 41 layers show sizes 1 to 32 and a thinning of the larger ones; a line below says so.
    """
    best = findings.removable
    sizes = len(best)
    shown = best
    if sizes > _ALL_SHOWN:
        step = sizes // 16
        shown = best[
            (best["n"] <= _FIRST_SHOWN) | ((best["n"] - _FIRST_SHOWN) % step == 0) | (best["n"] == sizes)
        ]
    left = sizes - len(shown)
    caption = f"{left} of {sizes} block sizes are not shown; angular.csv has all." if left else ""
    table = empty_table(titled(model, "best block of each size to remove"), caption, narrow=False)
    table.add_column("block size n", justify="right")
    table.add_column("best block (layers removed, 0-based)", justify="center", style="bold")
    table.add_column("distance", justify="right")
    table.add_column("std", justify="right")
    decimals = max(4, decimals_for(float(best["distance"].median())) + 1)
    for row in shown.itertuples():
        numbers = (f"{row.distance:.{decimals}f}", f"{row.std:.{decimals}f}")
        table.add_row(str(row.n), str(row.removed), *numbers)
    return [table, *findings.sentences]
