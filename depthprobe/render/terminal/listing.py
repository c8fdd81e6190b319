"""What the terminal shows of a saved run: the tables and sentences of its probe."""

from __future__ import annotations

from rich.table import Table

from depthprobe.catalogue import PROBES
from depthprobe.declaring import loaded_function
from depthprobe.findings.captions import model_title
from depthprobe.findings.of_runs import findings_of
from depthprobe.render.terminal.profiles import list_layer_rows
from depthprobe.results.runs import Run


def lines_of(run: Run) -> list[Table | str]:
    """Return what a terminal shows of a run, from the top down.

    Raises:
        RunError: if a table cannot be used.
    """
    findings, place = findings_of(run), PROBES[str(run.manifest["probe"])].listing
    listing = list_layer_rows if place is None else loaded_function(place)
    fresh = (run.manifest.get("model") or {}).get("initial_seed") is not None
    return list(listing(findings, f"{model_title(run)}{', freshly initialised' if fresh else ''}"))
