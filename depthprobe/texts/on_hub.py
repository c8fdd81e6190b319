"""Which commit of a data set the hub has now."""

from __future__ import annotations

from depthprobe.machine.connection import NETWORK_EXCEPTIONS
from depthprobe.machine.looks import ANSWER_WITHIN_S


def newest_commit(dataset: str) -> str | None:
    """Return the newest commit of a data set, asked once; None if the hub cannot be asked."""
    import huggingface_hub

    try:
        return huggingface_hub.HfApi().dataset_info(dataset, timeout=ANSWER_WITHIN_S).sha
    except (*NETWORK_EXCEPTIONS, OSError, ValueError):
        return None
