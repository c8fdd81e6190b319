"""Bytes on disk: flushed to the medium, and each file either whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from pathlib import Path
from typing import BinaryIO

from depthprobe.errors import MachineError, RunError
from depthprobe.results.aside import file_aside

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


def machine_error(doing: str, path: Path, error: OSError, hint: str | None = None) -> MachineError:
    """Return our error for a failed file operation.

    Args:
        doing: The verb, such as "write in" or "read".
        path: What it was done to.
        error: What the system raised.
        hint: What to do about it; None for what follows from the error.
    """
    reason = (error.strerror or str(error) or type(error).__name__).lower()
    return MachineError(f"Cannot {doing} {path}: {reason}.", _way_out(doing, error) if hint is None else hint)


def _way_out(doing: str, error: OSError) -> str:
    """Return what the user can do about a failed file operation; empty if that is not known."""
    if error.errno in FULL:
        return "Free some space there, or choose another place with --output."
    if error.errno in _FORBIDDEN and doing != "read":
        return "Choose a place that you may write in with --output."
    return ""


def read_file(path: Path) -> bytes:
    """Return the bytes of a regular file.

    Raises:
        FileNotFoundError: if there is none.
        RunError: if it is something else, such as a pipe, which would never end.
        MachineError: if it cannot be read.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise RunError(f"{path} is not a file.", "Move it away.")
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise machine_error("read", path, error) from error


def failed_writing(error: BaseException) -> OSError | None:
    """Return the failed write behind what a library raised: a full disk, or one that may not be written.

    Libraries in Rust put the system's number into the text of an error of their own; torch writes no reason.
    """
    if isinstance(error, OSError):
        return error if error.errno in FULL | _FORBIDDEN | {errno.EIO} else None
    found = re.search(r"\(os error (\d+)\)", str(error))
    if found is not None:
        number = int(found[1])
        return OSError(number, os.strerror(number)) if number in FULL | _FORBIDDEN | {errno.EIO} else None
    torch_failed = "inline_container.cc" in str(error) or "PytorchStreamWriter failed" in str(error)
    return OSError(errno.EIO, "the disk is full or fails") if torch_failed else None


def flush(file: BinaryIO) -> None:
    """Flush what was written to a file to the medium."""
    file.flush()
    os.fsync(file.fileno())


def write_through(path: Path, content: bytes) -> None:
    """Write bytes to a new file, and flush them to the medium."""
    with path.open("xb") as file:
        file.write(content)
        flush(file)


def flush_directory(directory: Path) -> None:
    """Flush the names in a directory to the medium, if the system can."""
    # Windows cannot open directories, and some network file systems refuse; the files themselves are safe.
    with contextlib.suppress(OSError):
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def replace_file(path: Path, content: bytes) -> None:
    """Put bytes at ``path``, replacing what was there in one step.

    Raises:
        RunError: if the file's directory is a file.
        MachineError: if the disk is full or read-only, or the directory may not be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with file_aside(path) as (temporary, file):
            file.write(content)
            flush(file)
            if os.name == "nt":
                file.close()  # open files cannot be renamed there
            temporary.replace(path)
        flush_directory(path.parent)
    except (NotADirectoryError, FileExistsError) as error:
        raise RunError(f"Cannot write {path}: {path.parent} is not a directory.") from error
    except OSError as error:
        raise machine_error("write", path, error) from error
