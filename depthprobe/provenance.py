"""What a manifest says about the machine: versions and peak memory."""

from __future__ import annotations

import importlib.metadata
import platform
import sys

LIBRARIES = ("torch", "transformers", "tokenizers", "accelerate", "datasets", "lm-eval", "numpy")


def versions() -> dict[str, str | None]:
    """Return the version of depthprobe, of Python and of every library whose version may move a number."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for library in ("depthprobe", *LIBRARIES):
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            found[library] = None
    return found


def peak_memory() -> dict[str, int]:
    """Return the most memory this process has held, in bytes: ``host``, and ``cuda`` summed over GPUs."""
    import torch

    peak: dict[str, int] = {}
    if sys.platform != "win32":
        import resource

        # Linux counts kibibytes, macOS bytes.
        unit = 1 if sys.platform == "darwin" else 1024
        peak["host"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    if torch.cuda.is_available():
        peak["cuda"] = sum(
            torch.cuda.max_memory_allocated(index) for index in range(torch.cuda.device_count())
        )
    return peak
