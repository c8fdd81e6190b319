"""Files on this machine: whether they can be read, unpacked and decoded, and every failure as a sentence."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

from depthprobe.errors import TextError, first_line
from depthprobe.texts.options import is_there

LOOKED_AT_CHARACTERS = 65_536

_BYTE_ORDER_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)


def no_file(path: Path | str) -> TextError:
    """Return the error for a file that is not there."""
    return TextError(f"There is no file {path}.", "Check the path given to --dataset.")


def is_empty(path: Path | str) -> TextError:
    """Return the error for a file that holds nothing."""
    return TextError(f"{path} is empty.", "Name another --dataset.")


def check_file(path: Path | str) -> None:
    """Raise a TextError unless a path is that of a regular file that may be read and is not empty.

    A pipe or a device would be waited for, or never end.
    """
    if not is_there(str(path)):
        raise no_file(path)
    with errors_told(path):
        found = os.stat(path)
    if stat.S_ISFIFO(found.st_mode):
        raise TextError(
            f"{path} is a pipe, which can be read only once.", "Write its contents to a file and name that."
        )
    if not stat.S_ISREG(found.st_mode):
        what = "a directory" if stat.S_ISDIR(found.st_mode) else "a device or a socket"
        raise TextError(f"{path} is {what}, not a file.", "Check the path given to --dataset.")
    with errors_told(path), open(path, "rb"):
        pass
    if found.st_size == 0:
        raise is_empty(path)


@contextmanager
def errors_told(path: Path | str) -> Iterator[None]:
    """Turn what reading a file raises into a sentence about it."""
    try:
        yield
    except FileNotFoundError as error:
        raise no_file(path) from error
    except UnicodeDecodeError as error:
        raise TextError(f"{path} is not UTF-8 text ({error.reason}).", "Convert it first.") from error
    except RecursionError as error:
        raise TextError(
            f"{path} is nested too deeply to be read.", "Name a file with rows of text."
        ) from error
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        said = first_line(error, kind=False)
        raise TextError(f"{path} cannot be unpacked ({said}).", "Is it complete?") from error
    except OSError as error:
        raise TextError(
            f"{path} cannot be read: {error.strerror or first_line(error, kind=False)}."
        ) from error


def open_bytes(path: Path | str) -> io.BufferedReader:
    """Return a file opened for reading, unpacked as the end of its name says."""
    match Path(path).suffix.lower():
        case ".gz":
            return cast(Any, gzip.open(path))
        case ".bz2":
            return cast(Any, bz2.open(path))
        case ".xz":
            return cast(Any, lzma.open(path))
        case ".zst":
            import pyarrow as pa

            return io.BufferedReader(cast(Any, pa.input_stream(str(path), compression="zstd")))
    return open(path, "rb")


@contextmanager
def opened_text(path: Path | str) -> Iterator[TextIO]:
    """Give a file as text while the body runs: UTF-8, or what a byte order mark at its beginning says.

    Raises:
        TextError: if it cannot be opened, or what the body reads of it is broken.
    """
    check_file(path)
    with errors_told(path), open_bytes(path) as file:
        beginning = file.peek(4)[:4]
        encoding = next((name for mark, name in _BYTE_ORDER_MARKS if beginning.startswith(mark)), "utf-8")
        yield io.TextIOWrapper(cast(BinaryIO, file), encoding=encoding)


def check_text_file(path: Path | str) -> None:
    """Raise what :func:`read_text` would raise, as far as the file's beginning shows it.

    Raises:
        TextError: if the file is missing, cannot be read, is empty or is not text.
    """
    with opened_text(path) as file:
        _check_text(path, file.read(LOOKED_AT_CHARACTERS))


def read_text(path: Path | str) -> str:
    """Return the whole text of a file.

    Raises:
        TextError: if the file is missing, cannot be read, is empty or is not text.
    """
    with opened_text(path) as file:
        text = file.read()
    _check_text(path, text)
    return text


def _check_text(path: Path | str, text: str) -> None:
    if not text:
        raise is_empty(path)
    if "\0" in text:
        raise TextError(f"{path} is not text: null characters stand in it.", "Name a file of text.")
