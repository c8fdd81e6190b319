"""Locks between processes, which the system drops when their holder dies, however it dies.

``flock`` on a file, and not a file whose mere existence is the lock: that one would survive a kill. Linux
passes ``flock`` on to NFS servers, so processes of several machines exclude each other there too; some file
systems of clusters have no locks, or only such as hold within one machine.
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import time
import weakref
from collections.abc import Callable
from pathlib import Path

from depthprobe.errors import RunError

try:
    import fcntl
except ImportError:  # Windows has no flock; users have to take care there
    fcntl = None  # type: ignore[assignment]

NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
_LOOKS, _BETWEEN_S = 4, 0.05
_BUSY = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}


def try_lock(handle: int) -> bool:
    """Lock an open file for this process; return whether nobody else holds it.

    Raises:
        OSError: if the file system has no locks.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        raise
    return True


def _soon(handle: int) -> bool:
    """Lock an open file, and bear with those who only look whether it is free."""
    for _ in range(_LOOKS):
        if try_lock(handle):
            return True
        time.sleep(_BETWEEN_S)
    return try_lock(handle)


def remove_if_free(path: Path) -> None:
    """Remove a lock file that a dead process left."""
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDWR)
        try:
            if try_lock(handle) and still_named(path, handle):
                path.unlink()
        finally:
            os.close(handle)


def still_named(path: Path, handle: int) -> bool:
    """Whether a path still leads to an open file: somebody may have removed it before it was locked."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


class Lock:
    """A lock file that this process holds, made by :meth:`take`; it names the holder.

    Released by :meth:`release`, when nothing refers to it any more, or by the death of the process.
    """

    def __init__(self, path: Path, handle: int, remove: bool) -> None:
        self._end = weakref.finalize(self, _let_go, path, handle, os.getpid() if remove else None)
        if hasattr(os, "register_at_fork"):
            # A child forked by some library must not keep the lock alive after this process has died.
            os.register_at_fork(after_in_child=_forgetting(self))

    @classmethod
    def take(cls, path: Path, doing: str, hint: str, *, remove: bool = True) -> Lock:
        """Return the lock of a file, which is made if it does not exist.

        Args:
            path: The file; its directory exists.
            doing: What its holder is doing, such as ``reports/m/angular is being written``.
            hint: What to do if another process holds it.
            remove: Whether the file goes when the lock is released; after a kill it stays, and is no lock.

        Raises:
            RunError: if another process holds it.
            OSError: if the file cannot be written, or the file system has no locks.
        """
        while True:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                if not _soon(handle):
                    holder = b""
                    with contextlib.suppress(OSError):
                        holder = os.read(handle, 300)
                    told = " ".join(holder.decode("utf-8", "replace").split())
                    raise RunError(f"{doing} by {told or 'another process'}.", hint)
                if not still_named(path, handle):
                    os.close(handle)
                    continue  # its last holder has just removed it
                os.ftruncate(handle, 0)
                os.write(handle, f"process {os.getpid()} on {platform.node()}\n".encode())
            except BaseException:
                os.close(handle)
                raise
            return cls(path, handle, remove)

    def release(self) -> None:
        """Let others have the lock; nothing happens the second time."""
        self._end()


def _let_go(path: Path, handle: int, remover: int | None) -> None:
    # While it is still locked: whoever opened it meanwhile sees that it is gone, and makes a new one.
    if remover == os.getpid():
        with contextlib.suppress(OSError):
            path.unlink()
    os.close(handle)


def _forgetting(lock: Lock) -> Callable[[], None]:
    """Return what a forked child does first: close its copy; it keeps no lock alive."""
    reference = weakref.ref(lock)

    def forget() -> None:
        mine = reference()
        if mine is not None:
            mine.release()

    return forget
