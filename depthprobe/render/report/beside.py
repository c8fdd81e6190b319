"""Figures drawn by copies of this process, one for each core, while it does something else."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from matplotlib.figure import Figure

from depthprobe.render.charts.kit.encoding import FORMATS, render_bytes

Drawing = Callable[[], Figure]
Files = dict[str, bytes]


@contextmanager
def drawing(drawings: Sequence[Drawing]) -> Iterator[Callable[[], list[Files]]]:
    """A function that waits for what is drawn while the body runs: for every drawing its files by format.

    A copy of a process is safe only while it has no threads: with torch in it, or on a system that makes no
    copies, one figure follows another once they are waited for. So does what a copy could not draw: what went
    wrong then comes up here. When the body ends, however it ends, no copy is left.
    """
    copies = _start(drawings)
    try:
        yield lambda: _collected(drawings, [connection for _, connection in copies])
    finally:
        for process, _ in copies:
            process.terminate()
        for process, connection in copies:
            process.join()
            connection.close()


def _start(drawings: Sequence[Drawing]) -> list[tuple[BaseProcess, Connection]]:
    """The copies that draw, and where each of them leaves what it has drawn; none where there can be none."""
    forks = "fork" in multiprocessing.get_all_start_methods() and sys.platform != "darwin"
    count = min(len(os.sched_getaffinity(0)) if forks else 1, len(drawings))
    # A byte names each drawing.
    if count < 2 or len(drawings) > 256 or "torch" in sys.modules or threading.active_count() > 1:
        return []
    context = multiprocessing.get_context("fork")
    # Each copy takes the next number from a pipe that holds them all: one that dies leaves no lock behind.
    numbers, written = os.pipe()
    os.write(written, bytes(range(len(drawings))))
    os.close(written)
    copies: list[tuple[BaseProcess, Connection]] = []
    # Ctrl-C meets all processes of a terminal, and copies keep it blocked: this one ends them, by a SIGTERM
    # that they must not take for an interrupt as this one does.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        for _ in range(count):
            here, there = context.Pipe(duplex=False)
            process = context.Process(target=_copy, args=(drawings, numbers, there), daemon=True)
            process.start()
            there.close()
            copies.append((process, here))
    except OSError:
        pass  # some machines allow no further processes
    finally:
        os.close(numbers)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return copies


def _copy(drawings: Sequence[Drawing], numbers: int, there: Connection) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    _draw(drawings, numbers, there)


def _draw(drawings: Sequence[Drawing], numbers: int, there: Connection) -> None:
    """What a copy does: draw what no other one has taken."""
    # A quarter of the time would go into looking through all that was imported, for a process of seconds.
    gc.disable()
    while number := os.read(numbers, 1):
        try:
            files = files_of(drawings[number[0]])
        except Exception:
            continue
        try:
            there.send((number[0], files))
        except OSError:
            return  # nobody is there any more


def _collected(drawings: Sequence[Drawing], connections: Sequence[Connection]) -> list[Files]:
    """The files of every drawing: from the copies, as long as they have any, else drawn here."""
    found: dict[int, Files] = {}
    waiting = list(connections)
    while waiting:
        for connection in wait(waiting):
            try:
                number, files = connection.recv()
            except (EOFError, OSError):
                waiting.remove(connection)
            else:
                found[number] = files
    return [found[number] if number in found else files_of(draw) for number, draw in enumerate(drawings)]


def files_of(draw: Drawing) -> Files:
    """What is drawn, as the bytes of a file of each format."""
    figure = draw()
    return {kind: render_bytes(figure, kind) for kind in FORMATS}
