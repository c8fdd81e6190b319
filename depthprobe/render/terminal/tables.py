"""Tables for the terminal; they read well in 80 columns and as plain text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from rich import box
from rich.table import Table
from rich.text import Text

from depthprobe.catalogue import PROBES
from depthprobe.declaring import loaded_function
from depthprobe.findings.angular import best_blocks, decimals_for, reading
from depthprobe.findings.drops import ALPHA, drop_reading, drops_of, headline_tasks, p_text
from depthprobe.findings.words import spoken
from depthprobe.render.charts.figures import model_title
from depthprobe.results.runs import Run

# Up to this many block sizes all are shown; beyond, the first ones and a thinning of the rest.
_ALL_SHOWN = 40
_FIRST_SHOWN = 32


def angular_table(run: Run | pd.DataFrame, title: str | None = None) -> Table:
    """A table with the best block to remove for every block size n: its layers, distance and deviation.

    Models of more than 40 layers show sizes 1 to 32 and every so-manieth larger one; a line below says so.

    Args:
        run: A run of the angular probe, or its frame.
        title: Above the table; by default it names the model, if a run was given.

    Raises:
        RunError: if the frame is no table of angular distances.
    """
    frame = run.tables["angular"] if isinstance(run, Run) else run
    if title is None:
        title = "Best block to remove" + (f" from {model_title(run)}" if isinstance(run, Run) else "")
    best = best_blocks(frame)
    layers = len(best)
    shown = best
    if layers > _ALL_SHOWN:
        step = layers // 16
        shown = best[
            (best["n"] <= _FIRST_SHOWN) | ((best["n"] - _FIRST_SHOWN) % step == 0) | (best["n"] == layers)
        ]
    left_out = layers - len(shown)
    # Text, not markup: a model's id may hold square brackets.
    table = Table(
        title=Text(title) if title else None,
        caption=Text(f"{left_out} of {layers} block sizes are not shown; angular.csv has all.")
        if left_out
        else None,
        # The rules of a table in a paper: top, under the head, bottom.
        box=box.HORIZONTALS,
        title_style="bold",
        caption_style="dim",
    )
    table.add_column("block size n", justify="right")
    table.add_column("best block (layers removed, 0-based)", justify="center", style="bold")
    table.add_column("distance", justify="right")
    table.add_column("std", justify="right")
    decimals = max(4, decimals_for(float(best["distance"].median())) + 1)
    for row in shown.itertuples():
        numbers = (f"{row.distance:.{decimals}f}", f"{row.std:.{decimals}f}")
        table.add_row(str(row.n), str(row.removed), *numbers)
    return table


def drop_table(
    run: Run | pd.DataFrame,
    task: str,
    options: Mapping[str, Any] | None = None,
    title: str | None = None,
) -> Table:
    """A table with the drop of every layer on one task: 95% interval, adjusted p, flips, and what is noise.

    All layers are shown, however many: each row cost an evaluation.

    Args:
        run: A run of prune-sweep, or its frame.
        task: One of its tasks; its headline metric is shown.
        options: The sweep's options as in its manifest; a run's own if None.
        title: Above the table; by default it names the task, the metric and, if a run was given, the model.

    Raises:
        RunError: if it is no table of drops, or the task is not in it.
    """
    drops = drops_of(run, task, options)
    removed = "a layer" if drops.block == 1 else f"{drops.block} layers"
    change, worse = ("drop", "lower") if drops.higher_is_better else ("increase", "higher")
    if title is None:
        whole = f"whole model {spoken(drops.baseline, max(3, drops.decimals - 1))}"
        chance = "" if drops.chance is None else f", chance {drops.chance:.3g}"
        model = f"{model_title(run)}, " if isinstance(run, Run) else ""
        title = f"{model}{task}: {drops.words} without {removed} ({whole}{chance})"
    table = Table(
        title=Text(title) if title else None,
        caption=Text(
            f"{worse} is worse; detectable: p < {ALPHA} (Holm over {len(drops.rows)}); "
            f"{int(drops.rows['docs'].max()):,} items"
        ),
        box=box.HORIZONTALS,
        # Intervals of perplexities are wide, and all has to fit into 80 columns.
        collapse_padding=True,
        pad_edge=False,
        title_style="bold",
        caption_style="dim",
    )
    table.add_column("removed\n(0-based)", justify="right", style="bold")
    table.add_column(change, justify="right")
    table.add_column("95% interval", justify="center", no_wrap=True)
    table.add_column("p (Holm)", justify="right")
    table.add_column("flips", justify="right")
    table.add_column("detectable", justify="center")
    flips = drops.flips
    for index, (row, found, harm) in enumerate(
        zip(drops.rows.itertuples(), drops.detected, drops.harm, strict=True)
    ):
        low, high = (spoken(end, drops.decimals, signed=True) for end in (row.ci_low, row.ci_high))
        table.add_row(
            drops.removed(int(row.layer)),
            spoken(row.drop, drops.decimals, signed=True),
            f"{low} to {high}",
            p_text(row.p_adjusted),
            "-" if flips is None else f"{flips[index]:,}",
            "no" if not found else "better" if harm < 0 else "worse",
            style=None if found else "dim",
        )
    return table


def lines_of(run: Run) -> list[Table | str]:
    """Return what is printed of a run: the tables and sentences of its probe."""
    listing = PROBES[str(run.manifest["probe"])].listing
    return [] if listing is None else loaded_function(listing)(run)


def angular_lines(run: Run) -> list[Table | str]:
    """Return the best blocks of a run of angular, and what the map says."""
    frame = run.tables["angular"]
    model = run.manifest["model"]["id"]
    return [angular_table(frame, title=f"{model}: best block of each size to remove"), reading(frame)]


def drop_lines(run: Run) -> list[Table | str]:
    """Return the drops of each task of a run of prune-sweep, and what they say."""
    tasks = headline_tasks(run)
    return [line for task in tasks for line in (drop_table(run, task), drop_reading(run, task))]
