"""A run that grows while something goes on, such as training: after every write it can be read and drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from depthprobe.errors import RunError
from depthprobe.measurement import Table
from depthprobe.results.files import replace_file
from depthprobe.results.manifest import MANIFEST_NAME, manifest_bytes
from depthprobe.results.runs import Run, read_run, stored


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
    contents, declared = stored(tables)
    for name, content in contents.items():
        replace_file(directory / name, content)
    known = {"probe": probe, **declared}
    replace_file(directory / MANIFEST_NAME, manifest_bytes({"settings": {}, **manifest, **known}))
