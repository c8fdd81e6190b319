"""What one run or measurement says: read once, by the function that its probe names in the catalogue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pandas as pd

from depthprobe.catalogue import PROBES
from depthprobe.declaring import loaded_function
from depthprobe.errors import RunError
from depthprobe.findings import layer_rows
from depthprobe.measurement import Measurement
from depthprobe.results.forms import shortened
from depthprobe.results.manifest import way_out
from depthprobe.results.runs import Run

# Of what is said of a table, which may quote its cells.
_LONGEST = 240


def findings_of(source: Run | Measurement) -> Any:
    """Return what the tables of a run, or of a measurement that was never saved, say.

    Raises:
        RunError: if the probe is unknown, or a table is missing or cannot be used.
    """
    if isinstance(source, Measurement):
        tables = {table.stem: table.frame for table in source.tables}
        return findings_in(source.probe, tables, source.facts)
    name = str(source.manifest["probe"])
    if name in PROBES and PROBES[name].stem not in source.tables:
        raise RunError(
            f"{source.directory} holds no table {PROBES[name].stem}.csv.", way_out(source.directory)
        )
    layers = (source.manifest.get("model") or {}).get("layers")
    with named(source):
        return findings_in(name, source.tables, source.facts, layers)


@contextmanager
def named(run: Run) -> Iterator[None]:
    """Put the file first in what is said of a run's tables while the body reads them."""
    try:
        yield
    except RunError as error:
        place = run.directory / f"{next(iter(run.tables))}.csv" if len(run.tables) == 1 else run.directory
        problem = shortened(f"{error.problem[:1].lower()}{error.problem[1:]}", _LONGEST)
        raise RunError(f"{place} cannot be used: {problem}", way_out(run.directory)) from error


def findings_in(
    name: str, tables: Mapping[str, pd.DataFrame], facts: Mapping[str, Any], layers: int | None = None
) -> Any:
    """Return what the tables of a probe say: a frozen value with ``sentences``, a paragraph each.

    Args:
        name: The probe's.
        tables: By stem.
        facts: What was asked of the probe, and the numbers found beside its tables.
        layers: How many layers the model has; by default as many as the tables cover.

    Raises:
        RunError: if the probe is unknown, a column or a row is missing, a row stands there twice, or a number
            cannot be: it is NaN, infinite, or negative where it must not be.
    """
    if name not in PROBES:
        raise RunError(f"{name!r} is not a probe.", f"Use one of: {', '.join(PROBES)}.")
    probe = PROBES[name]
    if probe.findings is None:
        return layer_rows.read(probe, tables, facts, layers)
    return loaded_function(probe.findings)(tables, facts, layers)
