"""Unfinished work of a run: where it is kept, and that only the same run continues it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from depthprobe.evaluation.journal import Journal, read_settings
from depthprobe.processes import Processes
from depthprobe.results.manifest import canonical
from depthprobe.results.naming import differences
from depthprobe.results.places import Place


def open_in_turn(unfinished: Path, settings: dict[str, Any], processes: Processes) -> Journal:
    """Return the journal, opened by the first process before the others."""
    journal = Journal.open(unfinished, settings) if processes.rank == 0 else None
    processes.wait()
    return journal or Journal.open(unfinished, settings, writer=processes.rank)


def unfinished_of(place: Place, settings: dict[str, Any]) -> tuple[Path, str]:
    """Return the directory of a place's unfinished work, and why it is not that of an earlier start.

    Args:
        place: Where the run will be.
        settings: What decides the numbers; work under others is left alone.
    """
    usual = place.directory.with_name(f".{place.directory.name}.unfinished")
    there = read_settings(usual)
    if there is None or canonical(there) == canonical(settings):
        return usual, ""
    changed = ", ".join(f"{key} {value}" for key, value in sorted(differences(there, settings).items()))
    digest = hashlib.sha256(canonical(settings).encode()).hexdigest()[:8]
    return (
        usual.with_name(f".{place.directory.name}-{digest}.unfinished"),
        f"An unfinished run with other settings ({changed}) stays in {usual}; this one starts anew.",
    )
