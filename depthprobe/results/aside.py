"""Writing aside: a hidden sibling takes the real name when it is whole, and what dead writers left goes.

A writer holds a lock on what it writes aside, and the system drops that when the writer dies: what can be
locked is a leftover, whatever killed its writer. Locks of some network disks hold within one machine only,
so the names say which machine writes; elsewhere, and without locks, age decides.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from depthprobe.results.locks import still_named, try_lock

# Writing aside takes minutes at most, so what was written a day ago is a leftover.
_STALE_S = 24 * 3600
_HERE = hashlib.sha256(platform.node().encode("utf-8", "replace")).hexdigest()[:6]


def aside(path: Path) -> Path:
    """Return a sibling name for writing ``path`` aside: hidden, and used by no other process.

    The process number is for people who find a leftover; the random part is for containers, where every
    process has the same number.
    """
    return path.with_name(f".{path.name}.partial-{_HERE}-{os.getpid()}-{secrets.token_hex(3)}")


@contextmanager
def file_aside(path: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """Yield a new file beside ``path``, by name and open for writing; it is removed unless it was renamed."""
    clear_leftovers(path.parent, path.name)
    while True:
        temporary = aside(path)
        file = temporary.open("xb")
        if _claim(temporary, file.fileno()) is not False:
            break
        file.close()
    try:
        with file:
            yield temporary, file
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def folder_aside(path: Path) -> Iterator[Path]:
    """Yield a new directory beside ``path``; it is removed unless it was renamed."""
    clear_leftovers(path.parent, path.name)
    while True:
        temporary = aside(path)
        temporary.mkdir()
        handle = _opened(temporary)
        if _claim(temporary, handle) is not False:
            break
        _close(handle)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        _close(handle)


@contextmanager
def moved_aside(folder: Path) -> Iterator[Path]:
    """Rename a directory, yield its new name, and remove what then still has that name."""
    handle, old = _opened(folder), aside(folder)
    _claim(folder, handle)
    try:
        folder.rename(old)
        yield old
    finally:
        shutil.rmtree(old, ignore_errors=True)
        _close(handle)


def remove_folder(folder: Path) -> None:
    """Remove a directory in one step, as far as its name goes: a kill leaves no half of it there."""
    with contextlib.suppress(OSError), moved_aside(folder):
        pass


def clear_leftovers(directory: Path, name: str | None = None) -> None:
    """Remove what dead processes have written aside in a directory, for one name or for all."""
    begins = "." if name is None else f".{name}.partial-"
    found: list[Path] = []
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        found = [
            Path(entry.path)
            for entry in entries
            if entry.name.startswith(begins) and ".partial-" in entry.name
        ]
    for path in found:
        with contextlib.suppress(OSError):
            _remove_if_left(path)


def _remove_if_left(path: Path) -> None:
    handle = _opened(path)
    try:
        dead = _claim(path, handle)
        stale = time.time() - path.lstat().st_mtime > _STALE_S
        if (dead and f".partial-{_HERE}-" in path.name) or (dead is not False and stale):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    finally:
        _close(handle)


def _opened(path: Path) -> int | None:
    """Return a handle that can be locked; None where directories cannot be opened."""
    with contextlib.suppress(OSError):
        return os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    return None


def _claim(path: Path, handle: int | None) -> bool | None:
    """Lock what is written aside.

    Returns:
        False if somebody else has it, or has removed it; None if the file system cannot say.
    """
    try:
        return None if handle is None else try_lock(handle) and still_named(path, handle)
    except OSError:
        return None


def _close(handle: int | None) -> None:
    if handle is not None:
        os.close(handle)
