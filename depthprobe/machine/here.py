"""What is on this machine under a name that somebody typed."""

from __future__ import annotations

from pathlib import Path


def exists_here(name: str) -> bool:
    """Return whether a name is that of a file or directory; what cannot be looked at or be a name is not."""
    try:
        return Path(name).expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # RuntimeError: the home of somebody who is not there
        return False
