"""The tables of a comparison: the rows of all subjects below each other, with differences to the first."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from depthprobe.catalogue import PROBES, PRUNE_SWEEP
from depthprobe.comparing.item_scores import ITSELF, drop_differences
from depthprobe.comparing.subjects import Subject
from depthprobe.declaring import TableOf
from depthprobe.errors import RunError
from depthprobe.findings.of_runs import findings_of
from depthprobe.measurement import Column, Table
from depthprobe.results.runs import Run

MODEL = Column("model", "", "the model compared, as named in the manifest")
RELATIVE_DEPTH = Column("relative_depth", "layer / layers", "l / L: 0 at the first layer, 1 behind the last")
_PAIRED_COLUMNS = (
    Column("difference_low", "as baseline", "lower end of the 95% interval of difference"),
    Column("difference_high", "as baseline", "upper end"),
    Column("difference_p", "", "two-sided p-value of no difference"),
    Column("difference_p_adjusted", "", "difference_p adjusted over the layers of this number (Holm)"),
    Column("pairing", "", "paired items, or independent where no items were kept or they are not the same"),
)


def layers_of(run: Run) -> int:
    """Return how many layers the model of a run has, by its manifest or else by its tables."""
    known = (run.manifest.get("model") or {}).get("layers")
    if isinstance(known, int) and known > 0:
        return known
    return findings_of(run).layers or int(run.frame["layer"].max()) + 1


def comparison_tables(subjects: Sequence[Subject], probe: str) -> list[Table]:
    """Return the tables of one probe: model, layer, relative_depth, what was measured, and differences.

    Differences are to the first model, layer by layer, and only there where all models have equally many
    layers. Rows that not every model has, such as a branch, are left out then.

    Raises:
        RunError: if a run lacks a table or a column.
    """
    runs = [subject.runs[probe] for subject in subjects]
    labels = [subject.label for subject in subjects]
    # Older runs lack tables that came later.
    kept = [
        table
        for table in PROBES[probe].tables
        if table.stem == PROBES[probe].stem or all(table.stem in run.tables for run in runs)
    ]
    return [_table(probe, table, labels, runs) for table in kept if table.compared]


def _table(probe: str, source: TableOf, labels: Sequence[str], runs: Sequence[Run]) -> Table:
    frames = [_rows(source, run) for run in runs]
    depths = [layers_of(run) for run in runs]
    if source.varying:
        shared = set.intersection(*(set(frame[source.varying]) for frame in frames))
        frames = [frame[frame[source.varying].isin(shared)].reset_index(drop=True) for frame in frames]
    names = [*source.keys, "layer"]
    equal = len(set(depths)) == 1
    if equal:
        common = frames[0][names]
        for frame in frames[1:]:
            common = common.merge(frame[names], on=names)
        frames = [common.merge(frame, on=names, how="left") for frame in frames]
    if any(frame.empty for frame in frames):
        raise RunError(
            f"The runs of {probe} share no row of {source.stem}.",
            "Measure them with the same options.",
        )
    shown = [column for column in _declared(source, runs[0]) if all(column.name in frame for frame in frames)]
    values = [column for column in shown if column.name not in names]
    layer = next(column for column in shown if column.name == "layer")
    keys = [column for column in shown if column.name in source.keys]
    columns = [MODEL, layer, RELATIVE_DEPTH, *keys, *values]
    parts = []
    for index, (label, frame, depth) in enumerate(zip(labels, frames, depths, strict=True)):
        part = frame.assign(model=label, relative_depth=frame["layer"] / depth)
        if equal:
            part["difference"] = frame[source.quantity] - frames[0][source.quantity]
            if source.stem == PRUNE_SWEEP.stem:
                part = _with_interval(part, index, runs, frames)
        parts.append(part)
    if equal:
        unit = next(column.unit for column in values if column.name == source.quantity)
        columns.append(
            Column("difference", unit, f"{source.quantity} minus that of the first model in the same row")
        )
        columns += _PAIRED_COLUMNS if source.stem == PRUNE_SWEEP.stem else ()
    whole = pd.concat(parts, ignore_index=True)[[column.name for column in columns]]
    return Table(f"compare_{source.stem}", whole, tuple(columns))


def _rows(source: TableOf, run: Run) -> pd.DataFrame:
    if source.stem not in run.tables:
        raise RunError(f"{run.directory} holds no table {source.stem}.csv.", "Run the measurement again.")
    frame = run.tables[source.stem]
    lacking = [name for name in (*source.keys, "layer", source.quantity) if name not in frame]
    if lacking:
        raise RunError(f"{source.stem}.csv of {run.directory} lacks: {', '.join(lacking)}.")
    if source.varying:
        frame = frame[~frame[source.varying].isin(source.outside)]
    return frame.reset_index(drop=True)


def _declared(source: TableOf, run: Run) -> list[Column]:
    return [
        Column(column["name"], column.get("unit", ""), column.get("meaning", ""))
        for column in run.manifest["columns"][source.stem]
    ]


def _with_interval(
    part: pd.DataFrame, index: int, runs: Sequence[Run], frames: Sequence[pd.DataFrame]
) -> pd.DataFrame:
    """The rows of one model with the interval of their difference to the first one's."""
    if index == 0:
        exact = {"difference_low": 0.0, "difference_high": 0.0, "difference_p": 1.0}
        return part.assign(**exact, difference_p_adjusted=1.0, pairing=ITSELF)
    differences = drop_differences(runs[0], runs[index], frames[0], frames[index])
    return part.assign(**{name: differences[name].to_numpy() for name in differences})
