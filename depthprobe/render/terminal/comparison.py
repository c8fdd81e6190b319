"""Tables of a comparison for the terminal: a row a model, then a row a layer where the depths agree."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from rich import box
from rich.table import Table
from rich.text import Text

from depthprobe.findings.angular import quiet_stretch
from depthprobe.findings.comparison import PREFIX, Compared, compared_of
from depthprobe.findings.drops import ALPHA, CALIBRATION, Drops, drops_of
from depthprobe.findings.gradnorm import WHOLE
from depthprobe.findings.thirds import Thirds, thirds
from depthprobe.findings.variance import STREAM
from depthprobe.findings.words import aligned, layers_named, significant, spans, spoken
from depthprobe.render.charts.comparison import shared_tasks
from depthprobe.render.terminal.profiles import left_out, shown_layers
from depthprobe.results.runs import Run

# Beyond so many models a row a layer with all differences is wider than a terminal.
_MOST_WITH_DIFFERENCES = 4
_NAME_WIDTH, _NARROW_NAME, _HEAD_WIDTH = 26, 16, 14
# What each table's row of a layer shows, and what its numbers are called.
_BY_LAYER = {
    "angular": ("n", 1, "distance", "angular distance across each layer (angle / pi)"),
    "variance": ("point", STREAM, "variance", "variance of the stream x^l at each boundary l"),
    "gradnorm": ("part", WHOLE, "grad_norm", "gradient norm of each layer (nats)"),
}


def summary_tables(run: Run) -> list[Table]:
    """Tables with a row a model: layers, and what every probe says of its shallow and its deep third.

    One for the profiles and one for the measured drops.

    Raises:
        RunError: if the run is no comparison, or a table in it is damaged.
    """
    found = []
    for title, stems in _SUMMARIES:
        columns: list[tuple[str, list[str]]] = []
        sides: list[Compared] = []
        for stem, columns_of in stems.items():
            if PREFIX + stem in run.tables:
                sides = compared_of(run, stem)
                columns += columns_of(sides)
        if columns:
            found.append(_summary(title, sides, columns))
    return found


def _summary(title: str, sides: Sequence[Compared], columns: list[tuple[str, list[str]]]) -> Table:
    table = Table(
        title=Text(title),
        caption=Text("shallow, deep: mean over the first and the last third of the layers"),
        box=box.HORIZONTALS,
        collapse_padding=True,
        pad_edge=False,
        title_style="bold",
        caption_style="dim",
    )
    # All has to fit into 80 columns.
    width = _NAME_WIDTH if len(columns) < 6 else _NARROW_NAME
    table.add_column("model", style="bold", no_wrap=True)
    for head, _ in [("layers", []), *columns]:
        table.add_column(head, justify="right", no_wrap=True)
    for index, side in enumerate(sides):
        cells = [column[index] for _, column in columns]
        table.add_row(Text(_broken(side.label, width)), str(side.layers), *cells)
    return table


def _angular(sides: Sequence[Compared]) -> list[tuple[str, list[str]]]:
    singles = [_by_layer(side, "angular") for side in sides]
    stretches = [quiet_stretch(side.frame) for side in sides]
    quiet = ["-" if found is None else spans(range(found.first, found.last + 1)) for found in stretches]
    return [*_two("turn", [thirds(values) for values in singles]), ("quiet\nstretch", quiet)]


def _variance(sides: Sequence[Compared]) -> list[tuple[str, list[str]]]:
    growths = []
    for side in sides:
        stream = _by_layer(side, "variance")
        growths.append(significant(stream[-1] / stream[1]) if stream[1] > 0 else "-")
    return [("variance\nx^L/x^1", growths)]


def _gradnorm(sides: Sequence[Compared]) -> list[tuple[str, list[str]]]:
    return _two("grad", [thirds(_by_layer(side, "gradnorm")) for side in sides])


def _prune_sweep(sides: Sequence[Compared]) -> list[tuple[str, list[str]]]:
    columns = []
    for task in shared_tasks(list(sides)):
        found = [drops_of(side.frame, task, side.options) for side in sides]
        means = [thirds(each.rows["drop"].to_numpy(dtype="float64")) for each in found]
        words = ["-" if pair is None else spoken(pair.shallow, 3, signed=True) for pair in means]
        deep = ["-" if pair is None else spoken(pair.deep, 3, signed=True) for pair in means]
        name = "loss" if task == CALIBRATION else _short(task)
        columns += [(f"{name}\nshallow", words), (f"{name}\ndeep", deep)]
    return columns[:6]  # three tasks; more are in the tables below


_SUMMARIES = (
    ("Side by side", {"angular": _angular, "variance": _variance, "gradnorm": _gradnorm}),
    ("Side by side: measured drop without a layer", {"prune_sweep": _prune_sweep}),
)


def _two(what: str, means: Sequence[Thirds | None]) -> list[tuple[str, list[str]]]:
    shallow = aligned([None if pair is None else pair.shallow for pair in means])
    deep = aligned([None if pair is None else pair.deep for pair in means])
    return [(f"{what}\nshallow", shallow), (f"{what}\ndeep", deep)]


def _short(name: str) -> str:
    return name if len(name) <= 10 else f"{name[:9]}\N{HORIZONTAL ELLIPSIS}"


def _by_layer(side: Compared, stem: str) -> np.ndarray:
    """[layer] what the table of one probe says of single layers."""
    kind, value, quantity, _ = _BY_LAYER[stem]
    rows = side.frame[side.frame[kind] == value].sort_values("layer", kind="stable")
    return rows[quantity].to_numpy(dtype="float64")


def layer_tables(run: Run) -> list[Table]:
    """Tables with a row a layer: every model's value and its difference to the first; none if depths differ.

    Up to four models stand with their differences, more with their values alone.

    Raises:
        RunError: if the run is no comparison, or a table in it is damaged.
    """
    found = []
    for stem, (kind, value, quantity, title) in _BY_LAYER.items():
        if PREFIX + stem not in run.tables:
            continue
        sides = compared_of(run, stem)
        if "difference" not in sides[0].frame:
            continue
        rows = [side.frame[side.frame[kind] == value].sort_values("layer") for side in sides]
        found.append(_layer_table(title, stem, [side.label for side in sides], rows, quantity))
    if f"{PREFIX}prune_sweep" in run.tables:
        sides = compared_of(run, "prune_sweep")
        if "difference" in sides[0].frame:
            found += [_drop_table(sides, task) for task in shared_tasks(sides)]
    return found


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
    head = "boundary" if stem == "variance" else "layer"
    left = left_out(len(layers), shown, PREFIX + stem)
    return _plain(title, [f"difference: to {labels[0]}", *left], head, layers[shown], columns)


def _drop_table(sides: Sequence[Compared], task: str) -> Table:
    found = [drops_of(side.frame, task, side.options) for side in sides]
    columns = []
    for index, (side, drops) in enumerate(zip(sides, found, strict=True)):
        columns.append(
            (side.label, [spoken(drop, drops.decimals, signed=True) for drop in drops.rows["drop"]])
        )
        if index and len(sides) <= _MOST_WITH_DIFFERENCES:
            columns.append(("difference\n(95% interval)", _with_intervals(drops)))
    first = found[0]
    layers = first.rows["layer"].to_numpy()
    notes = [f"difference: to {sides[0].label}; *: p < {ALPHA} (Holm over {len(layers)})."]
    if any((drops.rows["pairing"] == "independent").any() for drops in found[1:]):
        notes.append("Intervals are combined as if independent where no common items were kept.")
    return _plain(
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


def _plain(
    title: str,
    notes: Sequence[str],
    head: str,
    layers: np.ndarray,
    columns: Sequence[tuple[str, Sequence[str]]],
) -> Table:
    table = Table(
        title=Text(title),
        caption=Text(" ".join(notes)),
        box=box.HORIZONTALS,
        collapse_padding=True,
        pad_edge=False,
        title_style="bold",
        caption_style="dim",
    )
    table.add_column(f"{head}\n(0-based)", justify="right", style="bold", no_wrap=True)
    for name, cells in columns:
        lines = _broken(name, max([_HEAD_WIDTH, *map(len, cells)]))
        table.add_column(Text(lines), justify="right", no_wrap=True)
    for index, layer in enumerate(layers):
        table.add_row(str(layer), *(cells[index] for _, cells in columns))
    return table


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


def _of_other_depth(run: Run, sides: list[Compared]) -> str:
    """How the figures set layers side by side; maps have no relative depth, since n counts layers too."""
    shown = []
    if any(stem != f"{PREFIX}angular" for stem in run.tables):
        shown.append("curves and drops over the relative depth l/L")
    if f"{PREFIX}angular" in run.tables:
        shown.append("each map of angular distances over its own model's layers")
    depths = ", ".join(f"{side.label} {side.layers}" for side in sides)
    return f"The depths differ ({depths} layers). The figures show {' and '.join(shown)}."


def comparison_reading(run: Run) -> str:
    """A few sentences: the depths where they differ, and which layers' drops differ detectably.

    Raises:
        RunError: if the run is no comparison, or a table in it is damaged.
    """
    stem = next(iter(run.tables)).removeprefix(PREFIX)
    sides = compared_of(run, stem)
    said = []
    if len({side.layers for side in sides}) > 1:
        said.append(_of_other_depth(run, sides))
    if f"{PREFIX}prune_sweep" in run.tables:
        sides = compared_of(run, "prune_sweep")
        for task in shared_tasks(sides) if "difference" in sides[0].frame else []:
            for side in sides[1:]:
                rows = drops_of(side.frame, task, side.options).rows
                apart = rows.loc[rows["difference_p_adjusted"] < ALPHA, "layer"].tolist()
                which = f"detectably in {layers_named(apart)}" if apart else "detectably in no layer"
                said.append(f"{task}: {side.label} differs from {sides[0].label} {which} (Holm).")
    return " ".join(said)
