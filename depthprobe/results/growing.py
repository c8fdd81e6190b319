"""A run that grows while something else goes on, such as training; it can be read and drawn at any time."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from depthprobe.errors import RunError
from depthprobe.measurement import Column, Table
from depthprobe.results.files import replace_file
from depthprobe.results.manifest import MANIFEST_NAME, manifest_bytes, read_manifest
from depthprobe.results.runs import Run, read_run
from depthprobe.results.tables import stored


def known_run(directory: Path) -> Run | None:
    """Return the run that was growing in a directory; None if there is none, or its files do not match."""
    if not (directory / MANIFEST_NAME).is_file():
        return None
    try:
        return read_run(directory)
    except RunError:
        return None


def known_model(directory: Path) -> dict[str, Any]:
    """Return what the manifest of a run that was growing says of its model; empty if there is none."""
    try:
        found = read_manifest(directory / MANIFEST_NAME).get("model")
    except RunError:
        return {}
    return found if isinstance(found, dict) else {}


def known_rows(directory: Path, tables: Mapping[str, Sequence[Column]]) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows of the tables that were growing in a directory, by stem; none of what cannot be read.

    Each file is whole, but a process killed while it wrote leaves some as they are now and others, perhaps
    the manifest, as they were one step before. So the manifest is not asked; what is common to all is for the
    caller to take.

    Args:
        directory: The run's directory.
        tables: The columns of each table.
    """
    rows: dict[str, list[tuple[Any, ...]]] = {stem: [] for stem in tables}
    for stem, columns in tables.items():
        try:
            # As text: the reader's own numbers are exact only from pandas 3 on.
            cells = pd.read_csv(directory / f"{stem}.csv", dtype=str, na_filter=False)
        except (OSError, ValueError):
            continue
        if list(cells.columns) == [column.name for column in columns]:
            rows[stem] = list(zip(*(_values(cells[name]) for name in cells), strict=True))
    return rows


def _values(cells: pd.Series) -> list[Any]:
    """Return a column's cells as whole numbers, as numbers, or as the text that they are."""
    for kind in ("int64", "float64"):
        with contextlib.suppress(ValueError):
            return cells.astype(kind).tolist()
    return cells.tolist()


def write_run(directory: Path, probe: str, tables: Sequence[Table], manifest: dict[str, Any]) -> None:
    """Write a run's tables and then its manifest, each file whole or not at all, over what was there.

    Args:
        directory: The run's directory; made if missing.
        probe: The name of what the run measures.
        tables: The tables as they are now.
        manifest: What else to record, as JSON values; ``settings`` may be missing.

    Raises:
        RunError: if the manifest holds what JSON cannot.
        MachineError: if the disk is full or may not be written.
    """
    contents, declared = stored(tables)
    for name, content in contents.items():
        replace_file(directory / name, content)
    known = {"probe": probe, **declared}
    replace_file(directory / MANIFEST_NAME, manifest_bytes({"settings": {}, **manifest, **known}))
