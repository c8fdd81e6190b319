"""The gguf package's reader of GGUF files, made faster, and lent to transformers.

A large vocabulary gives a header of a million entries, and transformers reads the header anew for every part
of a model. Nothing here changes what is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from depthprobe.errors import LoadError
from depthprobe.models.loading.stages import Stage, unseen

if TYPE_CHECKING:
    from gguf import GGUFReader, ReaderTensor

# What the reader raises for truncated and other files: short buffers, wrong magic, unknown types, no field.
UNREADABLE = (ValueError, IndexError, KeyError, OSError, UnicodeDecodeError)


def open_reader(name: str, path: Path) -> GGUFReader:
    """Return the gguf package's reader of a file, its header read.

    Every entry is a slice of numpy's memory map of the file, which runs Python code for each; slices of a
    plain array are four times as fast and take half the memory.

    Raises:
        LoadError: If the file is damaged, truncated, or not a GGUF file at all.
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
    stage: Stage = unseen,
) -> Iterator[None]:
    """Give transformers our reader whenever it opens the file while the body runs.

    It reads the whole header anew for the configuration and for the weights. A version that opens files in
    another way still works: only time, and the count of progress, depend on this.

    Args:
        name: What the user typed, for the message about a damaged file.
        path: The file.
        reader: Its reader, from :func:`open_reader`; None opens one when it is asked for.
        advance: Called with the number of weights just unpacked.
        stage: Shows the reading of the header.
    """
    import gguf

    original = gguf.GGUFReader
    count = _Count(advance)

    def lend(wanted: Any, *more: Any) -> GGUFReader:
        if more or Path(wanted) != path:
            return original(wanted, *more)
        lending = reader
        if lending is None:
            with stage("Reading the file's index", None, ""):
                lending = open_reader(name, path)
        lending.tensors = count.watch(lending.tensors)
        return lending

    gguf.GGUFReader = lend
    try:
        yield
        count.end()
    finally:
        gguf.GGUFReader = original


class _Count:
    """Reports how many weights are unpacked, by hundredths: tiny tensors say little about the pace."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self._advance = advance
        self._begun = self._untold = self._piece = 0

    def watch(self, tensors: list[ReaderTensor]) -> list[ReaderTensor]:
        """Return the same tensors; when the blocks of one are asked for, the one before it is done."""
        from gguf import ReaderTensor

        begin = self._begin

        class Counted(ReaderTensor):
            @property
            def data(self) -> np.ndarray:
                begin(int(self.n_elements))
                return super().data

        self._piece = sum(int(tensor.n_elements) for tensor in tensors) // 100
        return [Counted(*tensor) for tensor in tensors]

    def _begin(self, weights: int) -> None:
        self._untold, self._begun = self._untold + self._begun, weights
        if self._untold > self._piece:
            self._advance(self._untold)
            self._untold = 0

    def end(self) -> None:
        """Report the rest."""
        self._advance(self._untold + self._begun)


def damaged(name: str, path: Path) -> LoadError:
    """Return the error for a file that cannot be read."""
    problem = f"{path.name} of {name} is truncated, damaged or not a GGUF file."
    return LoadError(problem, "Download the file again.")
