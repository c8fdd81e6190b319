"""Tables of a comparison for the terminal: a row for each model, then for each layer if the depths agree."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from rich.table import Table
from rich.text import Text

from depthprobe.findings.angular import STEM as ANGULAR
from depthprobe.findings.comparison import PREFIX, Compared, Comparison
from depthprobe.findings.drops import ALPHA, CALIBRATION, Drops
from depthprobe.findings.drops import STEM as PRUNE_SWEEP
from depthprobe.findings.gradnorm import STEM as GRADNORM
from depthprobe.findings.gradnorm import WHOLE
from depthprobe.findings.layer_rows import LayerRows
from depthprobe.findings.thirds import FEWEST_LAYERS, thirds
from depthprobe.findings.variance import STEM as VARIANCE
from depthprobe.findings.variance import STREAM
from depthprobe.findings.words import aligned, significant, spans, spoken
from depthprobe.render.terminal.columns import empty_table, left_out, shown_layers, table_of_columns

# With more models a row of values and differences is wider than a terminal.
_MOST_WITH_DIFFERENCES = 4
_NOTHING = "-"  # as findings.words.aligned has it
_NAME_WIDTH, _NARROW_NAME, _HEAD_WIDTH = 26, 16, 14
# A head, and the cells of all models.
_Cells = tuple[str, list[str]]
# What each table's row of a layer shows, and what its numbers are called; of other probes see LayerRows.
_BY_LAYER = {
    ANGULAR: ("n", 1, "distance", "angular distance across each layer (angle / pi)"),
    VARIANCE: ("point", STREAM, "variance", "variance of the stream x^l at each boundary l"),
    GRADNORM: ("part", WHOLE, "grad_norm", "gradient norm of each layer (nats)"),
}


def comparison_tables(comparison: Comparison) -> list[Table]:
    """Return tables with a row for each model, then for each layer if the depths agree."""
    return [*summary_tables(comparison), *layer_tables(comparison)]


def summary_tables(comparison: Comparison) -> list[Table]:
    """Return tables with a row for each model: its layers, and what every probe says of its ends.

    One for the profiles and one for the measured drops.
    """
    profiles: list[_Cells] = []
    for stem, models in comparison.models.items():
        if stem != PRUNE_SWEEP:
            profiles += _SUMMARIES.get(stem, _layer_rows)(models)
    found = {"Side by side": profiles, "Side by side: measured drop without a layer": _drops(comparison)}
    # A column of dashes says nothing.
    told = {
        title: [(head, cells) for head, cells in columns if set(cells) != {_NOTHING}]
        for title, columns in found.items()
    }
    return [_summary(title, comparison, columns) for title, columns in told.items() if columns]


def _summary(title: str, comparison: Comparison, columns: Sequence[_Cells]) -> Table:
    table = empty_table(title, _thirds_note(comparison, columns))
    # All has to fit into 80 columns.
    width = _NAME_WIDTH if len(columns) < 6 else _NARROW_NAME
    table.add_column("model", style="bold", no_wrap=True)
    for head, _ in [("layers", []), *columns]:
        table.add_column(head, justify="right", no_wrap=True)
    for index, (label, layers) in enumerate(comparison.depths.items()):
        cells = [column[index] for _, column in columns]
        table.add_row(Text(_broken(label, width)), str(layers), *cells)
    return table


def _thirds_note(comparison: Comparison, columns: Sequence[_Cells]) -> str:
    """What the means of thirds are of, and of which models there are none."""
    few = [label for label, layers in comparison.depths.items() if layers < FEWEST_LAYERS]
    said = []
    if any(head.endswith("\nshallow") for head, _ in columns):
        said.append("shallow, deep: mean over the first and the last third of the layers")
    if few:
        which = ", ".join(few) if len(few) < len(comparison.depths) else "these models"
        said.append(f"too few layers to compare thirds ({FEWEST_LAYERS} are needed): {which}")
    return "; ".join(said)


def _angular(models: Sequence[Compared]) -> list[_Cells]:
    stretches = [one.found.quiet for one in models]
    quiet = [_NOTHING if found is None else spans(range(found.first, found.last + 1)) for found in stretches]
    return [*_thirds("turn", [one.found.turns for one in models]), ("quiet\nstretch", quiet)]


def _variance(models: Sequence[Compared]) -> list[_Cells]:
    streams = [one.found.stream for one in models]
    growths = [significant(stream[-1] / stream[1]) if stream[1] > 0 else _NOTHING for stream in streams]
    return [("variance\nx^L/x^1", growths)]


def _gradnorm(models: Sequence[Compared]) -> list[_Cells]:
    return _thirds("grad", [one.found.norm for one in models])


def _layer_rows(models: Sequence[Compared]) -> list[_Cells]:
    """Of a probe without a summary of its own the quantity, where its table has one row a layer."""
    if not _one_row_a_layer(models):
        return []
    return _thirds(_short(models[0].found.words), [next(iter(one.found.lines.values())) for one in models])


def _one_row_a_layer(models: Sequence[Compared]) -> bool:
    return all(isinstance(one.found, LayerRows) and not one.found.declared.keys for one in models)


def _drops(comparison: Comparison) -> list[_Cells]:
    columns: list[_Cells] = []
    for task, found in comparison.drops.items():
        name = "loss" if task == CALIBRATION else _short(task)
        values = [
            each.by_layer(layers) for each, layers in zip(found, comparison.depths.values(), strict=True)
        ]
        columns += _thirds(name, values, lambda means: [_signed_or_dash(mean) for mean in means])
    return columns[:6]  # three tasks; more are in the tables below


_SUMMARIES: dict[str, Callable[[Sequence[Compared]], list[_Cells]]] = {
    ANGULAR: _angular,
    VARIANCE: _variance,
    GRADNORM: _gradnorm,
}


def _thirds(
    what: str,
    values: Sequence[ArrayLike],
    written: Callable[[list[float | None]], list[str]] = aligned,
) -> list[_Cells]:
    """The means over the shallow and over the deep third, a column each."""
    found = [thirds(each) for each in values]
    shallow = [None if means is None else means.shallow for means in found]
    deep = [None if means is None else means.deep for means in found]
    return [(f"{what}\nshallow", written(shallow)), (f"{what}\ndeep", written(deep))]


def _signed_or_dash(value: float | None) -> str:
    return _NOTHING if value is None else spoken(value, 3, signed=True)


def _short(name: str) -> str:
    return name if len(name) <= 10 else f"{name[:9]}\N{HORIZONTAL ELLIPSIS}"


def layer_tables(comparison: Comparison) -> list[Table]:
    """Return tables with a row for each layer: every model's value and its difference to the first.

    None if depths differ. Up to four models stand with their differences, more with their values alone.
    """
    if not comparison.same_depth:
        return []
    found = []
    for stem, models in comparison.models.items():
        if stem in _BY_LAYER:
            column, value, quantity, title = _BY_LAYER[stem]
            rows = [one.frame[one.frame[column] == value].sort_values("layer") for one in models]
        elif _one_row_a_layer(models):
            quantity, title = models[0].found.declared.quantity, f"{models[0].found.words} of each layer"
            rows = [one.frame.sort_values("layer") for one in models]
        else:
            continue
        found.append(_layer_table(title, stem, [one.label for one in models], rows, quantity))
    labels = list(comparison.depths)
    return [*found, *(_drop_table(task, labels, drops) for task, drops in comparison.drops.items())]


def _layer_table(
    title: str, stem: str, labels: Sequence[str], rows: Sequence[pd.DataFrame], quantity: str
) -> Table:
    layers = rows[0]["layer"].to_numpy()
    shown = shown_layers(len(layers), [each[quantity].to_numpy(dtype="float64") for each in rows])
    columns = []
    for index, (label, each) in enumerate(zip(labels, rows, strict=True)):
        columns.append((label, aligned(each[quantity].to_numpy(dtype="float64")[shown].tolist())))
        if index and len(labels) <= _MOST_WITH_DIFFERENCES:
            columns.append(("difference", _signed(each["difference"].to_numpy(dtype="float64")[shown])))
    head = "boundary" if stem == VARIANCE else "layer"
    left = left_out(len(layers), shown, PREFIX + stem)
    return _by_layer(title, [f"difference: to {labels[0]}", *left], head, layers[shown], columns)


def _drop_table(task: str, labels: Sequence[str], found: Sequence[Drops]) -> Table:
    columns = []
    for index, (label, drops) in enumerate(zip(labels, found, strict=True)):
        columns.append((label, [spoken(drop, drops.decimals, signed=True) for drop in drops.rows["drop"]]))
        if index and len(labels) <= _MOST_WITH_DIFFERENCES:
            columns.append(("difference\n(95% interval)", _with_intervals(drops)))
    first = found[0]
    layers = first.rows["layer"].to_numpy()
    notes = [f"difference: to {labels[0]}; *: p < {ALPHA} (Holm over {len(layers)})."]
    if any((drops.rows["pairing"] == "independent").any() for drops in found[1:]):
        notes.append("Intervals are combined as if independent where no common items were kept.")
    return _by_layer(
        f"{task}: {first.change} of {first.words} without each layer", notes, "layer", layers, columns
    )


def _with_intervals(drops: Drops) -> list[str]:
    cells = []
    for row in drops.rows.itertuples():
        value, low, high = (
            spoken(number, drops.decimals, signed=True)
            for number in (row.difference, row.difference_low, row.difference_high)
        )
        mark = "*" if row.difference_p_adjusted < ALPHA else " "
        cells.append(f"{value}{mark} ({low} to {high})")
    return cells


def _signed(values: np.ndarray) -> list[str]:
    texts = aligned(np.abs(values).tolist())
    return [
        f"{'-' if value < 0 else '+' if value > 0 else ''}{text.strip()}"
        for value, text in zip(values, texts, strict=True)
    ]


def _by_layer(
    title: str, notes: Sequence[str], head: str, layers: np.ndarray, columns: Sequence[_Cells]
) -> Table:
    rows = (f"{head}\n(0-based)", [str(layer) for layer in layers])
    stripped = [(name, [cell.strip() for cell in cells]) for name, cells in columns]
    broken = [(_broken(name, max([_HEAD_WIDTH, *map(len, cells)])), cells) for name, cells in stripped]
    return table_of_columns(title, " ".join(notes), [rows, *broken])


def _broken(name: str, width: int) -> str:
    """A model's name as the head of a column: broken after separators, or within a long part."""
    lines = [""]
    for part in re.findall(r"[^/:\s_-]*[/:\s_-]?", name):
        while len(part) > width:
            lines, part = [*lines, part[:width]], part[width:]
        if len(lines[-1]) + len(part.rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.strip() for line in lines if line.strip())
