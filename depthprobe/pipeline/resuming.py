"""Unfinished work of a run: where it is kept, and how only the same run continues it."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import Any

from depthprobe.errors import DepthprobeError
from depthprobe.machine.processes import Processes
from depthprobe.results.aside import remove_folder
from depthprobe.results.journal import Journal, pieces_in, read_settings
from depthprobe.results.manifest import canonical
from depthprobe.results.naming import told_differences
from depthprobe.results.places import Place, clear

# A journal holds one more piece beside the work itself: what was asked.
ASKED = "work"


def kept(unfinished: Path, total: int | None = None) -> str:
    """Return the sentence that says what an interrupted run leaves, judged by what is on disk.

    Args:
        unfinished: The directory of the unfinished work.
        total: How many pieces the whole run has, if known.
    """
    done = len(pieces_in(unfinished) - {ASKED})
    if not done:
        return "Interrupted before the first piece of work was finished; nothing is kept."
    of = f"{done} of {total} pieces" if total else "1 piece" if done == 1 else f"{done} pieces"
    are = "is" if done == 1 else "are"
    return f"Interrupted: {of} {are} on disk in {unfinished}; the same command continues."


def drop_empty(unfinished: Path) -> None:
    """Remove a directory of unfinished work if it holds no finished piece."""
    if not pieces_in(unfinished) - {ASKED}:
        remove_folder(unfinished)


def drop_leftovers(finished: Place, usual_name: str) -> None:
    """Remove what a process killed just after it had saved a run left beside it.

    Args:
        finished: The run's place.
        usual_name: The name that the run would have taken first.
    """
    parent = finished.directory.parent
    for name in {finished.directory.name, usual_name}:
        for unfinished in (parent / f".{name}.unfinished", *parent.glob(f".{name}-*.unfinished")):
            with contextlib.suppress(DepthprobeError, OSError):
                settings = read_settings(unfinished) or {}
                same = canonical({key: settings.get(key) for key in finished.settings})
                if same == canonical(finished.settings):
                    Journal.open(unfinished, settings).close()  # raises where another process works on it
                    remove_folder(unfinished)
    clear(parent)


def open_in_turn(unfinished: Path, settings: dict[str, Any], processes: Processes) -> Journal:
    """Return the journal, opened by the first process before the others."""
    journal = Journal.open(unfinished, settings) if processes.rank == 0 else None
    processes.wait()
    return journal or Journal.open(unfinished, settings, writer=processes.rank)


def usual_place(place: Place) -> Path:
    """Return the directory of a place's unfinished work, unless other work is there."""
    return place.directory.with_name(f".{place.directory.name}.unfinished")


def unfinished_of(place: Place, settings: dict[str, Any]) -> tuple[Path, str]:
    """Return the directory of a place's unfinished work, and why it is not the usual one, if so.

    Args:
        place: Where the run will be.
        settings: What decides the numbers; work with other settings is left alone.
    """
    usual = usual_place(place)
    there = read_settings(usual)
    if there is None or canonical(there) == canonical(settings):
        return usual, ""
    changed = told_differences(settings, there) or told_differences(there, settings)
    digest = hashlib.sha256(canonical(settings).encode()).hexdigest()[:8]
    return (
        usual.with_name(f".{place.directory.name}-{digest}.unfinished"),
        f"An unfinished run with other settings ({changed}) stays in {usual}; this one starts afresh.",
    )


def continued(journal: Journal | None, total: int | None) -> str:
    """Return the news that earlier work is there; empty if there is none."""
    done = 0 if journal is None else len(set(journal.pieces) - {ASKED})
    if not done:
        return ""
    pieces = f"{done} of {total} pieces are" if total else "1 piece is" if done == 1 else f"{done} pieces are"
    return f"Continuing an interrupted run: {pieces} done."
