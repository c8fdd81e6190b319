"""What the table of a probe without findings of its own says: its quantity by layer, and the extremes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from depthprobe.declaring import Probe, TableOf
from depthprobe.errors import RunError
from depthprobe.findings.checks import check_table
from depthprobe.findings.words import capital, plain, significant
from depthprobe.measurement import Column

# Of more lines only the extremes of all are named.
_MOST_LINES = 5


@dataclass(frozen=True)
class LayerRows:
    """The quantity of a probe's main table, by layer.

    Args:
        probe: The declared probe.
        rows: The table, sorted by layer.
        lines: By the values of the other key columns, such as ``attention`` or ``mmlu, acc``, the quantity
            ``[layer]``; NaN where it is not known. A table with one row a layer has one line, named like the
            quantity.
        layers: How many layers there are.
    """

    probe: Probe
    rows: pd.DataFrame
    lines: Mapping[str, NDArray[np.float64]]
    layers: int

    @property
    def declared(self) -> TableOf:
        """What the catalogue says of the table."""
        return self.probe.tables[0]

    @property
    def column(self) -> Column:
        """The quantity with its unit and meaning."""
        return self.declared.column(self.declared.quantity)

    @property
    def meaning(self) -> str:
        """What the quantity is, with its unit, as a sentence."""
        unit = f" [{self.column.unit}]" if self.column.unit else ""
        return f"{capital(self.column.meaning)}{unit}."

    @property
    def words(self) -> str:
        """What the quantity is called."""
        return self.declared.quantity.replace("_", " ")

    @property
    def sentences(self) -> list[str]:
        """Where the quantity is highest and lowest: of each line, or of them all where these are many."""
        if len(self.lines) == 1:
            return [_extremes(self.words, next(iter(self.lines.values())))]
        if len(self.lines) <= _MOST_LINES:
            return [_extremes(f"{self.words} ({name})", line) for name, line in self.lines.items()]
        return [_extremes_of_all(self)]


def read(
    probe: Probe, tables: Mapping[str, pd.DataFrame], facts: Mapping[str, Any], layers: int | None
) -> LayerRows:
    """Return what a probe's main table says; arguments and errors as :func:`of_runs.findings_in`."""
    declared = probe.tables[0]
    frame, what, keys = tables[declared.stem], declared.stem, [*declared.keys, "layer"]
    check_table(frame, what, [*keys, declared.quantity], [declared.quantity], keys=keys)
    if declared.varying is not None:
        frame = frame[~frame[declared.varying].isin(declared.outside)]
    # What comes before the first layer is not one.
    frame = frame[frame["layer"] >= 0]
    if frame.empty:
        raise RunError(f"The table of {what} has no row of a layer.")
    rows = frame.sort_values("layer", kind="stable").reset_index(drop=True)
    count = max(layers or 0, int(rows["layer"].max()) + 1)
    lines = {}
    for values, mine in rows.groupby(keys[:-1], sort=False) if declared.keys else [((), rows)]:
        line = np.full(count, np.nan)
        line[mine["layer"].to_numpy()] = mine[declared.quantity]
        lines[", ".join(map(str, values)) or declared.quantity] = line
    return LayerRows(probe, rows, lines, count)


def _extremes(words: str, values: NDArray[np.float64]) -> str:
    known = np.flatnonzero(~np.isnan(values))
    least, most = (int(known[pick(values[known])]) for pick in (np.argmin, np.argmax))
    head = plain(capital(words))
    if values[least] == values[most]:
        return f"{head}: {significant(values[most])} in each of {len(known)} layers."
    return (
        f"{head}: highest in layer {most} ({significant(values[most])}), lowest in layer {least} "
        f"({significant(values[least])})."
    )


def _extremes_of_all(found: LayerRows) -> str:
    quantity, keys = found.declared.quantity, found.declared.keys
    ends = []
    for index in (found.rows[quantity].idxmax(), found.rows[quantity].idxmin()):
        where = ", ".join(f"{key} {found.rows.at[index, key]}" for key in ("layer", *keys))
        ends.append(plain(f"{where} ({significant(float(found.rows.at[index, quantity]))})"))
    return f"{capital(plain(found.words))}: highest at {ends[0]}, lowest at {ends[1]}."
