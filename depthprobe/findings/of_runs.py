"""What one run or measurement says: read once, by the function that its probe names in the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import pandas as pd

from depthprobe.catalogue import PROBES
from depthprobe.declaring import loaded_function
from depthprobe.errors import RunError
from depthprobe.findings import layer_rows
from depthprobe.measurement import Measurement
from depthprobe.results.runs import Run


class ProbeFindings(Protocol):
    """What a probe's tables say: a frozen value, of a class of its own for most probes."""

    @property
    def sentences(self) -> list[str]:
        """The same in words, a paragraph each."""


def findings_of(source: Run | Measurement) -> Any:
    """Return what the tables of a run, or of a measurement that was never saved, say.

    Raises:
        RunError: if the probe is unknown, or a table is missing or cannot be used.
    """
    if isinstance(source, Measurement):
        tables = {table.stem: table.frame for table in source.tables}
        return findings_in(source.probe, tables, source.facts)
    probe = PROBES.get(str(source.manifest.get("probe")))
    if probe is not None and probe.stem not in source.tables:
        raise RunError(f"{source.directory} holds no table {probe.stem}.csv.", "Run the measurement again.")
    layers = (source.manifest.get("model") or {}).get("layers")
    return findings_in(str(source.manifest.get("probe")), source.tables, source.facts, layers)


def findings_in(
    name: str, tables: Mapping[str, pd.DataFrame], facts: Mapping[str, Any], layers: int | None = None
) -> Any:
    """Return what the tables of a probe say.

    Args:
        name: The probe's.
        tables: By stem.
        facts: What was asked of the probe, and the numbers found beside its tables.
        layers: How many layers the model has, if that is known.

    Raises:
        RunError: if the probe is unknown, or a table cannot be used.
    """
    if name not in PROBES:
        raise RunError(f"{name!r} is no probe.", f"Use one of: {', '.join(PROBES)}.")
    probe = PROBES[name]
    if probe.findings is None:
        return layer_rows.read(probe, tables, facts, layers)
    return loaded_function(probe.findings)(tables, facts, layers)
