"""A process that dies at a file operation: what it leaves is what a kill at that moment leaves.

Work runs in a forked child, which has everything imported already. The interpreter tells of every file that
it opens, renames, makes or removes, and before the chosen one the child ends at once, with whatever its
buffers held lost. What libraries in Rust and C++ write goes unseen, so that such files end whole.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

DIED = 137
_WATCHED = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.utime"}


def run_until(work: Callable[[], object], folder: Path, operation: int | None = None) -> tuple[int, int]:
    """Run ``work`` in a child that dies before an operation below ``folder``.

    Args:
        work: What to do.
        folder: Only files below it count.
        operation: Its number, from 0; None lets the child live.

    Returns:
        The child's status (:data:`DIED` if it came to the operation), and how many operations it began.
    """
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(told)
            status = _watched(work, str(folder), operation, tell)
        finally:
            os._exit(status)
    os.close(tell)
    counted = 0
    while block := os.read(told, 65536):
        counted += len(block)
    os.close(told)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), counted


def _watched(work: Callable[[], object], folder: str, operation: int | None, tell: int) -> int:
    begun = 0
    below = folder + os.sep

    def watch(event: str, arguments: tuple) -> None:
        nonlocal begun
        if event not in _WATCHED or not _leads_below(arguments[0], below):
            return
        if begun == operation:
            os._exit(DIED)
        begun += 1
        os.write(tell, b".")

    sys.addaudithook(watch)
    try:
        work()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def _leads_below(path: object, below: str) -> bool:
    return isinstance(path, (str, bytes, os.PathLike)) and os.path.abspath(os.fsdecode(path)).startswith(
        below
    )


def files_in(folder: Path, volatile: dict[str, Callable[[bytes], object]]) -> dict[str, object]:
    """Return what is below a folder by path: the bytes of files, None for directories.

    Args:
        folder: The folder.
        volatile: What to compare instead of the bytes, by name of the file.
    """
    return {
        path.relative_to(folder).as_posix(): None
        if path.is_dir()
        else volatile.get(path.name, bytes)(path.read_bytes())
        for path in sorted(folder.rglob("*"))
    }
