"""A directory of files made anew from saved runs: written whole, and only in place of one of its kind."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from depthprobe.errors import RunError
from depthprobe.results.aside import folder_aside, moved_aside
from depthprobe.results.files import machine_error


def check_replaceable(folder: Path, ours: Collection[str], files: Collection[str] = ()) -> None:
    """Pass if the directory may be written: it does not exist, or holds only what its kind holds.

    Args:
        folder: The directory.
        ours: The names that may be in it.
        files: The files that may be in it, by path inside it, with ``/``; empty for any under those names.

    Raises:
        RunError: if something else is there.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise RunError(
            f"{folder} is not a directory.", "Move it away, or choose another place with --output."
        )
    strange = (
        sorted(path.name for path in folder.iterdir() if path.name not in ours) if folder.is_dir() else []
    )
    if files and not strange:
        inside = (path for path in folder.rglob("*") if not path.is_dir())
        strange = sorted({path.relative_to(folder).as_posix() for path in inside} - set(files))
    if strange:
        raise RunError(
            f"{folder} holds {strange[0]}, which is not part of a report.",
            "Move it away, or choose another place with --output.",
        )


def replace_folder(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Put a directory with these files at its name, in place of the one that was there.

    The files are written aside first. If the disk fails, what was there stays. Nothing is flushed to the
    medium: what a power cut destroys can be made again from the runs.

    Args:
        folder: The directory.
        contents: The bytes of each file, by path inside it, with ``/``.

    Raises:
        RunError: if its parent is a file.
        MachineError: if the disk is full or may not be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder_aside(folder) as fresh:
            for name, content in contents.items():
                path = fresh / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            if not folder.exists():
                fresh.rename(folder)
                return
            with moved_aside(folder) as old:
                try:
                    fresh.rename(folder)
                except BaseException:
                    old.rename(folder)
                    raise
    except (NotADirectoryError, FileExistsError) as error:
        raise RunError(f"Cannot write {folder}: {folder.parent} is not a directory.") from error
    except OSError as error:
        raise machine_error("write", folder, error) from error
