"""What comes with depthprobe: embedded weights, and text from the user's own Python.

``corpus`` finds text in the standard library of the running interpreter; the directories beside it
(``pre-ln``, ...) hold the embedded models as :mod:`depthprobe.training` made them.
"""

from __future__ import annotations

from pathlib import Path

PREFIX = "builtin:"

DEFAULT = "builtin:pre-ln"


def embedded_models() -> dict[str, Path]:
    """Return every embedded model, ``builtin:NAME`` -> its checkpoint directory, sorted by name."""
    folders = sorted(path.parent for path in Path(__file__).parent.glob("*/config.json"))
    return {PREFIX + folder.name: folder for folder in folders}
