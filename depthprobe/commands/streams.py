"""Standard input, output and error as they may come: closed, full, a pipe that nobody reads."""

from __future__ import annotations

import errno
import os
import sys
from typing import TextIO

_UNPRINTABLE = {errno.EPIPE, errno.ENOSPC, errno.EBADF, errno.EIO, errno.EDQUOT, errno.EFBIG}


def prepare() -> None:
    """Open the standard streams that are closed, and let each print what its encoding lacks as ``?``.

    Otherwise the next file that is opened, such as a table, would get the free number, and with it all that
    libraries print. What is said on a closed error stream goes nowhere. What is printed on a closed output
    fails, as on a full disk: whoever asked for results is to know that nobody has them.
    """
    for number, how in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, how)  # takes the lowest number that is free: this one
    if sys.stdout is None:
        sys.stdout = _opened(1)
    if sys.stderr is None:
        sys.stderr = _opened(2)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure") and stream.errors == "strict":
            stream.reconfigure(errors="replace")


def _opened(number: int) -> TextIO:
    return open(number, "w", encoding="utf-8", closefd=False)


def unprintable(error: OSError, rest: str = "") -> int | None:
    """Say why nothing more can be printed; return the exit status, or None if the error is another one.

    Args:
        error: What printing raised.
        rest: What else is to be said.
    """
    if error.errno not in _UNPRINTABLE:
        return None
    sys.stdout = None  # nothing more can be written there, not even at exit
    if error.errno == errno.EPIPE:
        return 0  # whoever read has read enough
    reason = "the output is closed" if error.errno == errno.EBADF else (error.strerror or "").lower()
    say(f"Error: The output cannot be printed: {reason}. {rest}".rstrip())
    return 1


def say(text: str) -> None:
    """Print a line on stderr; if that is full or closed, nobody is there to be told."""
    try:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        # Otherwise the interpreter tries again at its end, and fails for it.
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def flush() -> None:
    """Print what is still held back of the results.

    Raises:
        OSError: if that is not possible.
    """
    if sys.stdout is not None and not sys.stdout.closed:
        sys.stdout.flush()
