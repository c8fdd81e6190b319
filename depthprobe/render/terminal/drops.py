"""The drops of every layer as tables for the terminal, one for each task."""

from __future__ import annotations

from rich.table import Table

from depthprobe.findings.drops import ALPHA, Drops, SweepFindings, p_text
from depthprobe.findings.words import spoken
from depthprobe.render.terminal.columns import empty_table


def listing(findings: SweepFindings, model: str = "") -> list[Table | str]:
    """Return of each task the drops as a table, and what they say."""
    return [line for drops in findings.tasks for line in (drop_table(drops, model), drops.reading)]


def drop_table(drops: Drops, model: str = "") -> Table:
    """Return a table with the drop of every layer on one task: interval, adjusted p, flips, what is noise.

    All layers are shown, however many: each row cost an evaluation.
    """
    removed = "a layer" if drops.block == 1 else f"{drops.block} layers"
    change, worse = ("drop", "lower") if drops.higher_is_better else ("increase", "higher")
    whole = f"whole model {spoken(drops.baseline, max(3, drops.decimals - 1))}"
    chance = "" if drops.chance is None else f", chance {drops.chance:.3g}"
    table = empty_table(
        f"{f'{model}, ' if model else ''}{drops.task}: {drops.words} without {removed} ({whole}{chance})",
        f"{worse} is worse; detectable: p < {ALPHA} (Holm over {len(drops.rows)}); "
        f"{int(drops.rows['docs'].max()):,} items",
    )
    table.add_column("removed\n(0-based)", justify="right", style="bold")
    table.add_column(change, justify="right")
    table.add_column("95% interval", justify="center", no_wrap=True)
    table.add_column("p (Holm)", justify="right")
    table.add_column("flips", justify="right")
    table.add_column("detectable", justify="center")
    flips = drops.flips
    for row, found, harm in zip(drops.rows.itertuples(), drops.detected, drops.harm, strict=True):
        low, high = (spoken(end, drops.decimals, signed=True) for end in (row.ci_low, row.ci_high))
        table.add_row(
            drops.removed(int(row.layer)),
            spoken(row.drop, drops.decimals, signed=True),
            f"{low} to {high}",
            p_text(row.p_adjusted),
            "-" if flips is None else f"{flips[row.Index]:,}",
            "no" if not found else "better" if harm < 0 else "worse",
            style=None if found else "dim",
        )
    return table
