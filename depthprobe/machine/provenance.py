"""What a manifest says about how a run came about: versions, time and memory."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import sys
import time
from pathlib import Path

LIBRARIES = ("torch", "transformers", "tokenizers", "accelerate", "datasets", "lm-eval", "numpy")
# Variables that make a device compute in a coarser number format than its dtype says, far beyond rounding.
# Those that choose kernels of the same precision are no more part of a run than the device's name.
COARSER = {
    "cuda": ("NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"),
    "cpu": ("ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE"),
    "mps": ("PYTORCH_MPS_FAST_MATH",),
}
_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def libraries() -> dict[str, str | None]:
    """Return the version of Python and of every library whose version may move a number."""
    return {"python": platform.python_version(), **{library: _version(library) for library in LIBRARIES}}


def coarser_arithmetic(device: str) -> dict[str, str]:
    """Return the variables of the environment that make a type of device compute more coarsely."""
    return {name: os.environ[name] for name in COARSER.get(device, ()) if os.environ.get(name)}


def versions() -> dict[str, str | None]:
    """Return the versions of the libraries and of depthprobe, as a manifest records them."""
    return {"depthprobe": _version("depthprobe"), **libraries()}


def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


class Usage:
    """The time and memory that a run takes, from the making of this object at its start.

    Memory that the process released before then does not count. Of several in one process only the latest is
    right: each resets the system's high-water marks.
    """

    def __init__(self) -> None:
        import torch

        self._started = time.monotonic()
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            for index in range(torch.cuda.device_count()):
                torch.cuda.reset_peak_memory_stats(index)
        self._anew = _begin_host_mark_anew()
        self._before = _host_mark()

    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return round(time.monotonic() - self._started, 3)

    def peak_memory_bytes(self) -> dict[str, int]:
        """The most memory held since the start: ``host``, and ``cuda`` summed over GPUs.

        ``host_at_most`` instead of ``host`` if the system only knows the mark of the whole process, and the
        mark was set before the start.
        """
        import torch

        peak: dict[str, int] = {}
        mark = _host_mark()
        if mark is not None:
            known = self._anew or self._before is None or mark > self._before
            peak["host" if known else "host_at_most"] = mark
        if torch.cuda.is_available():
            peak["cuda"] = sum(
                torch.cuda.max_memory_allocated(index) for index in range(torch.cuda.device_count())
            )
        return peak


def _begin_host_mark_anew() -> bool:
    """Reset the high-water mark of this process to what it holds now; return whether the system can."""
    try:
        _CLEAR.write_text("5")  # proc(5): 5 resets the peak resident set size
    except OSError:  # not Linux, a kernel without it, or a sandbox that forbids it
        return False
    return True


def _host_mark() -> int | None:
    """Return the most bytes this process has held since its mark was reset; None if the system cannot say."""
    try:
        # Unlike getrusage's, this mark never includes the process before an exec.
        found = re.search(r"^VmHWM:\s*(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    except OSError:
        found = None
    if found is not None:
        return int(found[1]) * 1024
    if sys.platform == "win32":
        return None
    import resource

    # Linux counts kibibytes, macOS bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
