"""Files of a model on disk, looked at before a library opens them: kind, permission, and sound JSON.

A named pipe or a device would make whoever reads it wait for ever; JSON that is nested without end overflows
the stack of whoever walks through it.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from depthprobe.errors import LoadError, MachineError, first_line

# Configurations are nested less than ten deep; copying one takes several calls a level.
DEEPEST = 100

_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_LFS = b"version https://git-lfs"


def check_readable(name: str, path: Path) -> None:
    """Raise if a file of a model cannot be read like any other file, or stands in for one that is elsewhere.

    Raises:
        LoadError: If it is missing, no regular file, or a Git LFS pointer.
        MachineError: If it may not be read, or the disk fails.
    """
    try:
        kind = path.stat().st_mode
        if not stat.S_ISREG(kind):
            what = next((words for is_kind, words in _KINDS if is_kind(kind)), "no file")
            problem = f"{path.name} of {name} is {what}, where a file should be."
            raise LoadError(problem, "Put the file there.")
        with path.open("rb") as file:
            start = file.read(len(_LFS))
    except FileNotFoundError as error:
        problem = f"{path.name} of {name} is a link to a file that is not there."
        raise LoadError(problem, "Complete the download.") from error
    except PermissionError as error:
        raise may_not_be_read(name, path) from error
    except OSError as error:
        problem = f"{path.name} of {name} cannot be read: {error.strerror}."
        raise MachineError(problem, "Check the disk.") from error
    if start == _LFS:
        raise LoadError(
            f"{path.name} of {name} is a Git LFS pointer, not the file itself.", "Run `git lfs pull`."
        )


def may_not_be_read(name: str, path: Path) -> MachineError:
    """Return the error for a file or directory of a model that this user may not read."""
    what = f"{path.name} of {name}" if path.name not in ("", Path(name).name) else f"The directory {name}"
    return MachineError(f"{what} may not be read: permission denied.", "Ask its owner, or use a copy.")


def names_in(name: str, folder: Path) -> list[str]:
    """Return the names in a model's directory.

    Raises:
        MachineError: If it may not be listed.
    """
    try:
        return os.listdir(folder)
    except PermissionError as error:
        raise may_not_be_read(name, folder) from error


def check_files(name: str, paths: Iterable[Path]) -> None:
    """Raise for the first of several files that cannot be read, as :func:`check_readable` does."""
    for path in sorted(paths):
        check_readable(name, path)


def read_json(name: str, path: Path) -> dict[str, Any]:
    """Return the object that a JSON file of a model holds.

    Raises:
        LoadError: If it is not valid JSON, holds something else than an object, or is nested without end.
        MachineError: If it may not be read.
    """
    check_readable(name, path)
    again = "Download the file again."
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise _too_deep(name, path) from error
    except (ValueError, OSError) as error:
        raise LoadError(f"{path.name} of {name} is not valid JSON ({first_line(error)}).", again) from error
    if not isinstance(found, dict):
        raise LoadError(f"{path.name} of {name} holds no JSON object ({{...}}).", again)
    if is_deeper(found, DEEPEST):
        raise _too_deep(name, path)
    return found


def is_deeper(value: Any, levels: int) -> bool:
    """Return whether lists and objects are nested deeper than so many levels."""
    layer = [value]
    for _ in range(levels):
        inside = (each.values() if isinstance(each, dict) else each for each in layer)
        layer = [item for items in inside for item in items if isinstance(item, dict | list)]
    return bool(layer)


def _too_deep(name: str, path: Path) -> LoadError:
    problem = f"{path.name} of {name} is nested more than {DEEPEST} levels deep, as no such file is."
    return LoadError(problem, "Download the file again.")
