"""A saved run read back: its manifest, and its tables exactly as they were measured."""

from __future__ import annotations

import contextlib
import hashlib
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depthprobe.errors import RunError
from depthprobe.results.files import machine_error, read_file
from depthprobe.results.limits import check_values
from depthprobe.results.manifest import MANIFEST_NAME, check_format, check_seal, read_manifest
from depthprobe.results.schema import check_manifest
from depthprobe.results.tables import read_table

if TYPE_CHECKING:
    import pandas as pd

_MOST_LISTED = 8
# How a sweep's settings name what else was asked of its tasks, and what its facts call it.
_HOW_TASKS_WERE_ASKED = {
    "samples": "documents",
    "apply_chat_template": "apply_chat_template",
    "system_instruction": "system_instruction",
}


@dataclass(frozen=True)
class Run:
    """A saved measurement: its directory, its manifest, and its tables by stem."""

    directory: Path
    manifest: dict[str, Any]
    tables: dict[str, pd.DataFrame]

    @property
    def facts(self) -> dict[str, Any]:
        """What was asked of the probe, and the numbers found beside the tables.

        Earlier manifests have both under ``options``. How a sweep's items were picked and asked stands among
        its settings alone.
        """
        asked = (self.manifest.get("settings") or {}).get("tasks")
        asked = asked if isinstance(asked, dict) else {}
        how = {name: asked[key] for key, name in _HOW_TASKS_WERE_ASKED.items() if asked.get(key)}
        return {**how, **(self.manifest.get("options") or {}), **(self.manifest.get("results") or {})}

    @property
    def frame(self) -> pd.DataFrame:
        """The table with the probe's name, or else the first."""
        stem = str(self.manifest.get("probe")).replace("-", "_")
        return self.tables[stem] if stem in self.tables else next(iter(self.tables.values()))

    def content(self, name: str) -> bytes | None:
        """Return the bytes of a file of the run that is not a table; None where it is not kept.

        Raises:
            RunError: if the file has changed since, or is not one of this run.
            MachineError: if it cannot be read.
        """
        path, entry = self.directory / name, self.manifest["files"].get(name)
        try:
            content = read_file(path)
        except FileNotFoundError:
            return None
        if entry is None and self.manifest.get("format", 1) == 1:
            return content  # whoever reads it holds it against the tables
        if entry is None or entry.get("sha256") != hashlib.sha256(content).hexdigest():
            why = "its hash is not the one" if entry else "it is not named"
            raise RunError(
                f"{path} is not the file that this run wrote: {why} in the manifest.",
                f"Remove it, or remove or rename {self.directory} and measure again.",
            )
        return content


def _no_run(directory: Path) -> RunError:
    """Return the error for a directory without a manifest; its hint lists the runs below."""
    below = []
    with contextlib.suppress(OSError):
        for depth in ("*", "*/*"):
            below += [path.parent for path in sorted(directory.glob(f"{depth}/{MANIFEST_NAME}"))]
    # Hidden ones are being written, or are leftovers.
    below = [path for path in below if not path.name.startswith(".")]
    if not below:
        hint = f"The directory of a run is written by a measurement and holds {MANIFEST_NAME} and CSV files."
    else:
        more = f", and {len(below) - _MOST_LISTED} more" if len(below) > _MOST_LISTED else ""
        hint = f"It holds the runs {', '.join(map(str, below[:_MOST_LISTED]))}{more}."
    return RunError(f"{directory} is not a run: it has no {MANIFEST_NAME}.", hint)


def read_run(directory: Path) -> Run:
    """Return the run saved in a directory.

    Raises:
        RunError: if the directory does not exist or is not a run, or a file in it is missing, damaged,
            changed since, or does not match the manifest.
        MachineError: if a file cannot be read.
    """
    directory = Path(directory)
    path = directory / MANIFEST_NAME
    try:
        kind, has_manifest = directory.stat().st_mode, path.is_file()
    except PermissionError as error:
        raise machine_error("read", directory, error) from error
    except (OSError, ValueError) as error:  # also a name that no directory can have
        hint = "Give the directory of a run, such as reports/MODEL/angular."
        raise RunError(f"{directory} does not exist.", hint) from error
    if not stat.S_ISDIR(kind):
        raise RunError(f"{directory} is a file.", f"Give the directory of a run, such as {directory.parent}.")
    if not has_manifest:
        raise _no_run(directory)
    manifest = read_manifest(path)
    check_format(path, manifest)
    check_manifest(path, manifest)
    tables = {}
    for stem, columns in manifest["columns"].items():
        table, file = directory / f"{stem}.csv", manifest["files"][stem]
        tables[stem] = read_table(table, columns, file["rows"], file.get("sha256"))
        check_values(table, tables[stem], stem, manifest)
    # Last, since the errors above say more.
    check_seal(path, manifest)
    return Run(directory, manifest, tables)
