"""Finished work, on disk before the next begins: what a killed sweep continues from.

A journal is a directory with

- ``settings.json``: what decides the numbers; a journal is only continued under equal settings,
- ``lock``: held by the process that writes (``flock``: the system drops it when the process dies),
- ``pieces.log``: one record after another, only ever appended to (``pieces-1.log`` and so on if several
  processes of one run write: see ``writer``).

A record is a mark, the lengths, the piece's name, its compressed content and a checksum of all that,
written in one go and flushed. Thousands of pieces are thus one file, which suits network disks, at the
price of one flush each. A record cut short by a kill, a full disk or a power cut fails its checksum and
counts as not done; records after a damaged one are found again by their mark.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from depthprobe.errors import MachineError, RunError
from depthprobe.results.files import FULL, flush_directory, machine_error, replace_file
from depthprobe.results.locks import NO_LOCKS, Lock
from depthprobe.results.log_file import CHECKSUM_BYTES, HEAD, MARK, record_at, records
from depthprobe.results.manifest import canonical
from depthprobe.results.naming import flat

_FORMAT = 1
_ELSEWHERE = "Wait until that has ended, or give this run another --name or --output."
_AGAIN = "Everything finished so far is kept: start the same command again to continue."


class Journal:
    """The finished pieces of one run; made by :meth:`open`, and used as a context manager or closed.

    A piece is a dict of arrays and JSON values under a name such as ``mmlu/layer-12/chunk-3``. For a resumed
    run to end with the same bytes as an uninterrupted one, both must take the values from :meth:`read` (JSON
    turns tuples into lists).
    """

    def __init__(self, directory: Path, log: Path, lock: Lock) -> None:
        self.directory = directory
        self._log = log
        self._lock = lock
        self._places: dict[str, tuple[Path, int, int]] = {}
        self._end = 0
        self._file: BinaryIO | None = None

    @classmethod
    def open(cls, directory: Path, settings: dict[str, Any], writer: int = 0) -> Journal:
        """Return the journal in ``<directory>/journal/``, new or with what an earlier process had finished.

        Args:
            directory: The run's directory; made if it does not exist.
            settings: Everything that decides the numbers, as JSON values.
            writer: Rank of this process among those of one run, which write side by side; each one sees what
                all had finished when it opened the journal.

        Raises:
            RunError: if a run with other settings is there, another process writes to it, or it cannot be
                read as a journal.
            MachineError: if the directory cannot be written or locked.
        """
        place = Path(directory) / "journal"
        suffix = f"-{writer}" if writer else ""
        try:
            place.mkdir(parents=True, exist_ok=True)
            lock = Lock.take(
                place / f"lock{suffix}", f"{directory} is being written", _ELSEWHERE, remove=False
            )
        except (FileExistsError, NotADirectoryError) as error:
            raise RunError(f"Cannot write {place}: it is not a directory.") from error
        except OSError as error:
            raise _machine_error("write in", place, error) from error
        journal = cls(place, place / f"pieces{suffix}.log", lock)
        try:
            journal._begin(settings)
        except BaseException as error:
            journal.close()
            if isinstance(error, OSError):
                raise _machine_error("read or write", place, error) from error
            raise
        return journal

    def _begin(self, settings: dict[str, Any]) -> None:
        """Check or write the settings, index all logs, and cut off the torn end of this process's log."""
        there = read_settings(self.directory.parent)
        if there is None:
            content = {"format": _FORMAT, "settings": settings}
            text = json.dumps(content, sort_keys=True, allow_nan=False, indent=2) + "\n"
            # Several writers of one run may do so at once, with equal content.
            replace_file(self.directory / "settings.json", text.encode("ascii"))
        elif canonical(there) != canonical(settings):
            raise RunError(
                f"{self.directory.parent} holds an unfinished run with other settings: "
                f"{_difference(settings, there)}.",
                "Give the new run another --name or --output, or remove that directory.",
            )
        self._log.touch()
        self._file = self._log.open("r+b", buffering=0)
        self.refresh()
        for _, start, content_bytes in records(self._file):
            self._end = start + content_bytes + CHECKSUM_BYTES
        # Only this process's log: what looks torn at the end of another may be a record being written.
        self._file.truncate(self._end)
        os.fsync(self._file.fileno())
        flush_directory(self.directory)

    def refresh(self) -> None:
        """Read all logs again, with what the run's other writers have finished meanwhile."""
        for log in sorted(self.directory.glob("pieces*.log")):
            with log.open("rb") as file:
                self._places |= {piece: (log, start, size) for piece, start, size in records(file)}

    @property
    def pieces(self) -> tuple[str, ...]:
        """The names of all finished pieces."""
        return tuple(self._places)

    def done(self, piece: str) -> bool:
        """Whether a piece is finished and on disk."""
        return piece in self._places

    def write(self, piece: str, values: Mapping[str, Any]) -> None:
        """Put a finished piece on disk; when this returns it outlives the process and a power cut.

        Args:
            piece: Its name. If it is written again, the later one counts.
            values: By name: NumPy arrays of numbers, booleans or fixed-width text, or JSON values.

        Raises:
            MachineError: if the disk is full or fails; all earlier pieces stay readable.
            TypeError: if a value is neither.
            ValueError: if a JSON value holds NaN or an infinity; arrays may.
        """
        name, content = piece.encode("utf-8"), _pack(values)
        body = HEAD.pack(MARK, len(name), len(content)) + name + content
        record = memoryview(body + hashlib.blake2b(body, digest_size=CHECKSUM_BYTES).digest())
        if self._file is None:
            raise ValueError(f"The journal {self.directory} is closed.")
        written = 0
        try:
            self._file.seek(self._end)
            while written < len(record):
                written += self._file.write(record[written:])
            os.fsync(self._file.fileno())
        except BaseException as error:
            # Also after Ctrl-C: the next record must not follow half of one.
            with contextlib.suppress(OSError):
                self._file.truncate(self._end)
            if isinstance(error, OSError):
                raise _machine_error("write", self._log, error) from error
            raise
        self._places[piece] = (self._log, self._end + HEAD.size + len(name), len(content))
        self._end += len(record)

    def read(self, piece: str) -> dict[str, Any]:
        """Return the values of a finished piece, as they were written.

        Raises:
            KeyError: if it is not finished.
            RunError: if it has been damaged since the journal was opened.
            MachineError: if it cannot be read.
        """
        log, start, content_bytes = self._places[piece]
        head = HEAD.size + len(piece.encode("utf-8"))
        try:
            with log.open("rb") as file:
                found = record_at(file, start - head, start + content_bytes + CHECKSUM_BYTES)
                if found is None or found[0] != piece:
                    raise RunError(f"{log} was damaged while it was in use: {piece} is gone.", _AGAIN)
                file.seek(start)
                return _unpack(file.read(content_bytes))
        except OSError as error:
            raise _machine_error("read", log, error) from error

    def close(self) -> None:
        """Release the files and the lock; what was written stays."""
        if self._file is not None:
            self._file.close()
        self._file = None
        self._lock.release()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def pieces_in(directory: Path) -> set[str]:
    """Return the names of the finished pieces in a directory of unfinished work; looking needs no lock."""
    pieces: set[str] = set()
    for log in (Path(directory) / "journal").glob("pieces*.log"):
        with contextlib.suppress(OSError), log.open("rb") as file:
            pieces |= {piece for piece, *_ in records(file)}
    return pieces


def read_settings(directory: Path) -> dict[str, Any] | None:
    """Return the settings of the unfinished run in a run directory; None if no journal was begun there.

    Raises:
        RunError: if the file is damaged or of another version.
        MachineError: if it cannot be read.
    """
    path = Path(directory) / "journal" / "settings.json"
    try:
        found = json.loads(path.read_bytes())
        if found["format"] == _FORMAT and isinstance(found["settings"], dict):
            return found["settings"]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _machine_error("read", path, error) from error
    except (ValueError, KeyError, TypeError):
        pass
    raise RunError(
        f"{path} is damaged, or was written by another version of depthprobe.",
        f"Remove {path.parent} to start again, or choose another --name.",
    )


def _pack(values: Mapping[str, Any]) -> bytes:
    """Return values as compressed bytes, equal for equal values: a line of JSON, then the arrays' bytes."""
    entries: list[list[Any]] = []
    raw = io.BytesIO()
    for name, value in values.items():
        if isinstance(value, np.ndarray):
            if value.dtype.kind not in "biufcUS":
                raise TypeError(f"{name} is an array of {value.dtype}, which a journal cannot hold.")
            entries.append([name, value.dtype.str, list(value.shape)])
            raw.write(value.tobytes())
        else:
            entries.append([name, None, value])
    line = json.dumps(entries, allow_nan=False, separators=(",", ":")).encode("ascii")
    return zlib.compress(line + b"\n" + raw.getvalue(), 6)


def _unpack(content: bytes) -> dict[str, Any]:
    """Return the values that :func:`_pack` packed; arrays are writable."""
    plain = zlib.decompress(content)
    position = plain.index(b"\n") + 1
    values: dict[str, Any] = {}
    for name, dtype, value in json.loads(plain[: position - 1]):
        if dtype is None:
            values[name] = value
            continue
        array = np.ndarray(tuple(value), np.dtype(dtype), plain, position)
        values[name] = array.copy()
        position += array.nbytes
    return values


def _difference(settings: dict[str, Any], there: dict[str, Any]) -> str:
    """Return what differs, in words: ``limit 5 there, 10 here``; only the first few keys."""
    here, old = ({key: canonical(value) for key, value in flat(each).items()} for each in (settings, there))
    told = [
        f"{key} {old.get(key, 'unset')[:60]} there, {here.get(key, 'unset')[:60]} here"
        for key in dict.fromkeys([*here, *old])
        if here.get(key) != old.get(key)
    ]
    return "; ".join(told[:4]) + (f"; and {len(told) - 4} more" if len(told) > 4 else "")


def _machine_error(doing: str, path: Path, error: OSError) -> MachineError:
    """Return our error for a failed file operation, which says that finished work stays."""
    hint = _AGAIN
    if error.errno in FULL:
        hint = f"Free some space there. {_AGAIN}"
    elif error.errno in NO_LOCKS:
        hint = "Choose a file system that has locks with --output."
    return machine_error(doing, path, error, hint)
