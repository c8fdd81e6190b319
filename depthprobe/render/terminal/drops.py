"""The drops of every layer as tables for the terminal, one for each task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table

from depthprobe.findings.drops import ALPHA, Drops, SweepFindings, p_text
from depthprobe.findings.words import layers_named, spoken
from depthprobe.render.terminal.columns import empty_table

# Of plain text. Beyond, these columns go: the title has the one, the drop tells the other.
_WIDTH, _GAP = 80, 2
_WHOLE, _WITHOUT = "whole\nmodel", "with-\nout"
_SPARED = (_WHOLE, _WITHOUT)


def listing(findings: SweepFindings, model: str = "") -> list[Table | str]:
    """Return of each task the drops as a table, what they say, and which other metrics there are."""
    lines: list[Table | str] = []
    for drops in findings.tasks:
        lines += [drop_table(drops, model), drops.reading, *_others(findings.others.get(drops.task, ()))]
    return lines


def drop_table(drops: Drops, model: str = "") -> Table:
    """Return a table with the drop of every layer on one task: scores, interval, p, flips, what is noise.

    All layers are shown, however many: each row cost an evaluation.
    """
    removed = "a layer" if drops.block == 1 else f"{drops.block} layers"
    worse = "lower" if drops.higher_is_better else "higher"
    digits = max(3, drops.decimals - 1)
    whole = f"whole model {spoken(drops.baseline, digits)}"
    chance = "" if drops.chance is None else f", chance {drops.chance:.3g}"
    table = empty_table(
        f"{f'{model}, ' if model else ''}{drops.name}: {drops.words} without {removed} ({whole}{chance})",
        f"{worse} is worse; detectable: p < {ALPHA} (Holm over {len(drops.rows)}); {drops.items}",
    )
    columns = _columns(drops, digits)
    for head in _SPARED:
        if _width(columns) > _WIDTH:
            del columns[head]
    for head in columns:
        first, interval = head.startswith("removed"), head.startswith("95%")
        table.add_column(
            head,
            justify="center" if interval or head.startswith("detect") else "right",
            style="bold" if first else None,
            no_wrap=True,
        )
    for found, cells in zip(drops.detected, zip(*columns.values(), strict=True), strict=True):
        table.add_row(*cells, style=None if found else "dim")
    return table


def _width(columns: Mapping[str, Sequence[str]]) -> int:
    widths = [max(map(len, [*head.split("\n"), *cells])) for head, cells in columns.items()]
    return sum(widths) + _GAP * len(widths)  # half of one stands at either edge


def _columns(drops: Drops, digits: int) -> dict[str, list[str]]:
    """By head the cells of each column."""
    rows, flips = drops.rows, drops.flips

    def signed(name: str) -> list[str]:
        return [spoken(value, drops.decimals, signed=True) for value in rows[name]]

    return {
        "removed\n(0-based)": [drops.removed(int(layer)) for layer in rows["layer"]],
        _WHOLE: [spoken(value, digits) for value in rows["baseline"]],
        _WITHOUT: [spoken(value, digits) for value in rows["pruned"]],
        drops.change: signed("drop"),
        "95% interval": [
            f"{low} to {high}" for low, high in zip(signed("ci_low"), signed("ci_high"), strict=True)
        ],
        "p\n(Holm)": list(map(p_text, rows["p_adjusted"])),
        "flips": ["-"] * len(rows) if flips is None else [f"{count:,}" for count in flips],
        "detect-\nable": [
            "no" if not found else "better" if harm < 0 else "worse"
            for found, harm in zip(drops.detected, drops.harm, strict=True)
        ],
    }


def _others(metrics: Sequence[Drops]) -> list[str]:
    """What was measured of a task by other metrics, and where it is; none if one metric is all."""
    if not metrics:
        return []
    said = []
    for drops in metrics:
        name = drops.metric if drops.filter == "none" else f"{drops.metric}, {drops.filter}"
        worst = int(drops.harm.argmax())
        layer = int(drops.rows["layer"].iloc[worst])
        which = layers_named(range(layer, layer + drops.block))
        most = spoken(float(drops.rows["drop"].iloc[worst]), drops.decimals, signed=True)
        none = f"no {drops.change}"
        harm = f"largest {drops.change} {most}, {which}" if drops.harm[worst] > 0 else none
        said.append(f"{name} (whole model {spoken(drops.baseline, 3)}, {harm})")
    return [f"{metrics[0].name}, by other metrics in prune_sweep.csv: {'; '.join(said)}."]
