"""A run that grows while something goes on, such as training: after every write it can be read and drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from depthprobe.errors import RunError
from depthprobe.measurement import Table
from depthprobe.results.files import replace_file
from depthprobe.results.manifest import MANIFEST_NAME, manifest_bytes
from depthprobe.results.runs import Run, csv_bytes, declared, read_run


def known_run(directory: Path) -> Run | None:
    """The run that was growing in a directory before; None where there is none, or its files do not fit.

    A kill between the writing of a table and of the manifest leaves such files: the log then begins anew.
    """
    if not (directory / MANIFEST_NAME).is_file():
        return None
    try:
        return read_run(directory)
    except RunError:
        return None


def write_run(directory: Path, probe: str, tables: Sequence[Table], manifest: dict[str, Any]) -> None:
    """Write a run's tables and then its manifest, each file whole or not at all, over what was there.

    Args:
        directory: Of the run; it is made.
        probe: What the run is of.
        tables: As they are now.
        manifest: What else there is to tell, as JSON values; ``settings`` in it or none.

    Raises:
        RunError: if the manifest holds what JSON cannot.
        MachineError: if the disk is full or may not be written.
    """
    columns: dict[str, Any] = {}
    files: dict[str, Any] = {}
    for table in tables:
        content = csv_bytes(table.frame)
        replace_file(directory / f"{table.stem}.csv", content)
        digest = hashlib.sha256(content).hexdigest()
        files[table.stem] = {"name": f"{table.stem}.csv", "rows": len(table.frame), "sha256": digest}
        columns[table.stem] = declared(table)
    known = {"probe": probe, "columns": columns, "files": files}
    replace_file(directory / MANIFEST_NAME, manifest_bytes({"settings": {}, **manifest, **known}))
