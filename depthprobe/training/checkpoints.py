"""The Trainer's checkpoints: which is the newest whole one, and what a kill left of others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from depthprobe.errors import LoadError
from depthprobe.models.loading.weights import weight_files

STATE = "trainer_state.json"


def last_checkpoint(directory: Path) -> str | None:
    """Return the newest whole checkpoint below ``directory``."""
    whole = [path for path in directory.glob("checkpoint-*") if _is_whole(path)]
    newest = max(whole, key=step_of, default=None)
    return None if newest is None else str(newest)


def step_of(checkpoint: str | Path) -> int:
    """Return after how many steps a checkpoint was written."""
    return int(Path(checkpoint).name.rpartition("-")[2])


def _is_whole(checkpoint: Path) -> bool:
    """Whether all of a checkpoint is there.

    The Trainer writes its state file last. Without the states of optimiser and schedule, these would silently
    start from the beginning.
    """
    try:
        json.loads((checkpoint / STATE).read_bytes())
        states = all((checkpoint / name).is_file() for name in ("optimizer.pt", "scheduler.pt"))
        return states and bool(weight_files(checkpoint.name, checkpoint))
    except (OSError, ValueError, LoadError):
        return False


def clear_broken(directory: Path) -> None:
    """Remove checkpoints that a kill or a full disk left incomplete: they take up room, and are of no use."""
    for path in directory.glob("checkpoint-*"):
        if path.is_dir() and not _is_whole(path):
            shutil.rmtree(path, ignore_errors=True)
