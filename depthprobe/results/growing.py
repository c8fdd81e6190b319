"""A run that grows while something else goes on, such as training; it can be read and drawn at any time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from depthprobe.errors import RunError
from depthprobe.measurement import Table
from depthprobe.results.files import replace_file
from depthprobe.results.manifest import MANIFEST_NAME, manifest_bytes
from depthprobe.results.runs import Run, read_run
from depthprobe.results.tables import stored


def known_run(directory: Path) -> Run | None:
    """Return the run that was growing in a directory; None if there is none, or its files do not match.

    A process killed between writing a table and the manifest leaves such files; the log then starts again.
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
