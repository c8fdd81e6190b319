"""Saving runs: a run appears under its name whole or not at all, and never over anything.

The door of this package: reserve a place, measure, save; or read a saved run.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from depthprobe.errors import RunError
from depthprobe.measurement import Measurement
from depthprobe.results.aside import folder_aside
from depthprobe.results.files import flush_directory, machine_error, write_through
from depthprobe.results.manifest import MANIFEST_NAME, read_manifest, write_manifest
from depthprobe.results.naming import run_directory_name
from depthprobe.results.places import Place, free_directory, reserve
from depthprobe.results.runs import Run, read_run
from depthprobe.results.tables import stored

__all__ = ["Place", "Run", "read_manifest", "read_run", "reserve", "run_directory_name", "save"]

# How systems say that a directory cannot be renamed because something already has its new name.
_TAKEN = {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR}


def save(
    place: Place,
    measurement: Measurement,
    manifest: dict[str, Any],
    extra: Mapping[str, bytes] | None = None,
) -> Run:
    """Save every table as CSV, and the manifest; return the run, read back from disk.

    CSVs have full precision (every float comes back bit for bit), no index and LF. Everything is written
    into a hidden sibling directory that then takes the run's name. If that name has been taken since it was
    reserved, the run goes beside it: see ``directory`` of the result.

    Args:
        place: From :func:`reserve`; its settings become the manifest's.
        measurement: What was measured.
        manifest: What else to record, as JSON values; gets the keys ``probe``, ``settings``, ``columns``
            (by table: name, type, unit and meaning) and ``files`` (by table: name, rows and sha256; the
            others by name: name and sha256).
        extra: Other files of the run: name -> content.

    Raises:
        RunError: if the manifest holds what JSON cannot.
        MachineError: if the disk is full or may not be written. Nothing is left behind then.
    """
    parent = place.directory.parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with folder_aside(place.directory) as temporary:
            contents, declared = stored(measurement.tables)
            for name, content in contents.items():
                write_through(temporary / name, content)
            for name, content in (extra or {}).items():
                write_through(temporary / name, content)
                declared["files"][name] = {"name": name, "sha256": hashlib.sha256(content).hexdigest()}
            known = {"probe": measurement.probe, "settings": place.settings, **declared}
            write_manifest(temporary / MANIFEST_NAME, {**manifest, **known})
            flush_directory(temporary)
            directory = _give_name(temporary, place)
        flush_directory(parent)
        return read_run(directory)
    except OSError as error:
        raise machine_error("write in", parent, error) from error
    finally:
        place.abandon()


def _give_name(temporary: Path, place: Place) -> Path:
    """Rename a finished directory to the reserved name, or to one beside it if that was taken meanwhile."""
    directory = place.directory
    for _ in range(100):
        # rename would silently replace an empty directory, hence this check.
        if not directory.exists() and not directory.is_symlink():
            try:
                return temporary.rename(directory)
            except OSError as error:
                if error.errno not in _TAKEN:
                    raise
        directory = free_directory(place.directory.parent, place.directory.name, place.settings, None)
    raise RunError(f"Other processes keep taking names in {directory.parent}.", "Choose a name with --name.")
