"""Ctrl-C and SIGTERM: a sentence about what is on disk, from where the work is done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NOTHING = "Interrupted before anything was measured; nothing is kept."


class Terminated(KeyboardInterrupt):
    """SIGTERM, which batch systems send before they kill; handled like Ctrl-C."""


def exit_status(interrupt: KeyboardInterrupt) -> int:
    """Return what shells expect from a process that a signal ended: 128 plus its number."""
    return 128 + (signal.SIGTERM if isinstance(interrupt, Terminated) else signal.SIGINT)


def sentence(interrupt: KeyboardInterrupt) -> str:
    """Return what was said about an interrupt where it came, or the one word that is always true."""
    return next(iter(getattr(interrupt, "__notes__", ())), "Interrupted.")


@contextmanager
def told(what: str | Callable[[], str]) -> Iterator[None]:
    """Attach to an interrupt of the body what is on disk, unless a sentence from nearer to the work is there.

    Args:
        what: A sentence that begins with Interrupted, or a function that makes it when the interrupt comes.
    """
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if not hasattr(interrupt, "__notes__"):
            interrupt.add_note(what if isinstance(what, str) else what())
        raise


@contextmanager
def several_told(finished: Sequence[Path]) -> Iterator[None]:
    """Add to the sentence about an interrupt which runs of earlier measurements are on disk."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        said = sentence(interrupt)
        if finished:
            listed = ", ".join(map(str, finished))
            said += f" Finished runs are on disk ({listed}); the same command measures the rest."
        interrupt.__notes__ = [said]
        raise


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM interrupt the body as Ctrl-C does, so that unfinished work is cleaned up."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread receives signals
        return

    def terminate(*_: Any) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
