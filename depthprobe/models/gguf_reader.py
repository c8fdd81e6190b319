"""The gguf package's reader of GGUF files, made quick, and lent to transformers.

A large vocabulary makes a header of a million entries, and transformers reads the header anew for every part
of a model. Nothing here changes what is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from depthprobe.errors import LoadError

if TYPE_CHECKING:
    from gguf import GGUFReader, ReaderTensor

# What the reader raises for cut and foreign files: short buffers, wrong magic, unknown types, no field.
UNREADABLE = (ValueError, IndexError, KeyError, OSError, UnicodeDecodeError)


def open_reader(name: str, path: Path) -> GGUFReader:
    """Return the gguf package's reader of a file, its header read.

    Every entry of it is a slice of numpy's map of the file, which runs Python for each; from a plain array it
    comes four times as fast and in half the memory.

    Raises:
        LoadError: If the file is damaged, truncated, or no GGUF file at all.
    """
    from gguf.gguf_reader import GGUFReader

    class PlainReader(GGUFReader):
        @property
        def data(self) -> np.ndarray:
            return self._plain

        @data.setter
        def data(self, mapped: np.ndarray) -> None:
            self._plain = mapped.view(np.ndarray)

    try:
        return PlainReader(path)
    except UNREADABLE as error:
        raise damaged(name, path) from error


@contextmanager
def lent(
    name: str,
    path: Path,
    reader: GGUFReader | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> Iterator[None]:
    """Let transformers have our reader whenever it opens a file while the body runs.

    It reads the whole header anew for the configuration and for the weights. A version that opens files in
    another way reads them in that way: nothing but time, and the count, depends on this.

    Args:
        name: What the user typed, for the sentence about a damaged file.
        path: The file.
        reader: Its reader, from :func:`open_reader`; None opens one when it is asked for.
        advance: Is called with 1 for each tensor whose blocks are taken.
    """
    import gguf

    original = gguf.GGUFReader

    def lend(wanted: Any, *more: Any) -> GGUFReader:
        if more or Path(wanted) != path:
            return original(wanted, *more)
        lending = open_reader(name, path) if reader is None else reader
        lending.tensors = _counted(lending.tensors, advance)
        return lending

    gguf.GGUFReader = lend  # type: ignore[assignment,misc]
    try:
        yield
    finally:
        gguf.GGUFReader = original  # type: ignore[misc]


def _counted(tensors: list[ReaderTensor], advance: Callable[[int], None]) -> list[ReaderTensor]:
    """Return the same tensors, which call ``advance`` when their blocks are asked for."""
    from gguf import ReaderTensor

    class Counted(ReaderTensor):
        @property
        def data(self) -> np.ndarray:  # type: ignore[override]
            advance(1)
            return super().data

    return [Counted(*tensor) for tensor in tensors]


def damaged(name: str, path: Path) -> LoadError:
    """Return the error for a file that cannot be read."""
    problem = f"{path.name} of {name} is truncated, damaged or no GGUF file."
    return LoadError(problem, "Download the file again.")
