"""What torchrun or ``accelerate launch`` set for each process that they start; read without torch."""

from __future__ import annotations

import os
from dataclasses import dataclass

from depthprobe.errors import OptionError

_WAY_OUT = (
    "Start several processes with torchrun or accelerate launch, which set it, or unset WORLD_SIZE and RANK "
    "for a single one."
)


@dataclass(frozen=True)
class Launched:
    """One process among those of a run: ``rank`` of ``count``, ``local`` on its machine."""

    rank: int = 0
    count: int = 1
    local: int = 0


def launched() -> Launched:
    """Return this process as its launcher set it; a single one without a launcher.

    Raises:
        OptionError: if what is set cannot be.
    """
    count = _number("WORLD_SIZE", 1, least=1)
    if count == 1 or "RANK" not in os.environ:
        return Launched()
    rank, local = _number("RANK", 0), _number("LOCAL_RANK", 0)
    if rank >= count:
        raise OptionError(f"RANK must be less than WORLD_SIZE {count}, got {rank}.", _WAY_OUT)
    if not os.environ.get("MASTER_ADDR"):
        raise OptionError(f"WORLD_SIZE is {count}, but MASTER_ADDR is not set.", _WAY_OUT)
    if not 0 < _number("MASTER_PORT", 0) < 2**16:
        raise OptionError(
            f"WORLD_SIZE is {count}, but MASTER_PORT is {os.environ.get('MASTER_PORT', 'not set')}.", _WAY_OUT
        )
    return Launched(rank, count, local)


def _number(name: str, default: int, least: int = 0) -> int:
    text = os.environ.get(name, "").strip()
    if not text:
        return default
    if not text.isdecimal() or int(text) < least:
        raise OptionError(f"{name} must be a whole number of at least {least}, got {text[:40]!r}.", _WAY_OUT)
    return int(text)
