"""Where a model goes and in which precision: device, dtype, and whether memory holds it."""

from __future__ import annotations

from pathlib import Path

import psutil
import torch
from safetensors import safe_open
from transformers import PretrainedConfig

from depthprobe.errors import LoadError, MachineError, OptionError

DTYPES = {
    "float32": torch.float32, "fp32": torch.float32,
    "float16": torch.float16, "fp16": torch.float16,
    "bfloat16": torch.bfloat16, "bf16": torch.bfloat16,
    "float64": torch.float64, "fp64": torch.float64,
}  # fmt: skip

MEMORY_MARGIN = 1.1  # times the weights' own bytes: buffers, and what the allocator rounds up


def choose_device(device: str | torch.device) -> torch.device:
    """Return the device that a name refers to; ``auto`` is cuda, then mps, then cpu.

    Raises:
        OptionError: If the name is unknown.
        LoadError: If this machine has no such device.
    """
    device = str(device).lower()
    if device == "auto":
        kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(kind, 0) if kind == "cuda" else torch.device(kind)
    kind, _, index = str(device).partition(":")
    if kind not in ("cuda", "mps", "cpu") or (index and not (index.isdecimal() and kind == "cuda")):
        raise OptionError(f"Unknown device {str(device)!r}.", "Choose auto, cuda, cuda:N, mps or cpu.")
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count == 0:
            has_cuda = torch.version.cuda or torch.version.hip
            why = "" if has_cuda else f" (torch {torch.__version__} is built without CUDA)"
            raise LoadError(
                f"There is no CUDA GPU here{why}.", "Use --device cpu, or install a torch with CUDA."
            )
        if int(index or 0) >= count:
            raise LoadError(f"There is no {device} here.", f"Choose from cuda:0 to cuda:{count - 1}, or cpu.")
        return torch.device("cuda", int(index or 0))
    if kind == "mps" and not torch.backends.mps.is_available():
        raise LoadError("There is no Apple GPU (mps) here.", "Use --device cpu or --device auto.")
    return torch.device(kind)


def parse_dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype | None:
    """Return the dtype asked for, None for ``auto``."""
    if dtype == "auto":
        return None
    wanted = DTYPES.get(str(dtype).lower().removeprefix("torch."))
    if wanted is None:
        raise OptionError(f"Unknown dtype {str(dtype)!r}.", f"Choose auto, {', '.join(DTYPES)}.")
    if not _has_dtype(device, wanted):
        usable = [
            name for name in ("float32", "float16", "bfloat16", "float64") if _has_dtype(device, DTYPES[name])
        ]
        problem = f"{device} cannot compute in {dtype_name(wanted)}."
        raise LoadError(problem, f"Use --dtype {' or '.join(usable)}.")
    return wanted


def dtype_name(dtype: torch.dtype) -> str:
    """Return ``bfloat16`` for ``torch.bfloat16``."""
    return str(dtype).lower().removeprefix("torch.")


def _has_dtype(device: torch.device, dtype: torch.dtype) -> bool:
    if (
        device.type == "cuda" and dtype == torch.bfloat16
    ):  # emulated before Ampere: correct, but slower than float32
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "mps":
        return True
    try:  # what Metal computes in depends on the version of macOS
        torch.ones(1, dtype=dtype, device=device).add_(1)
    except (TypeError, RuntimeError):
        return False
    return True


def choose_dtype(
    wanted: torch.dtype | None, stored: torch.dtype, device: torch.device
) -> tuple[torch.dtype, tuple[str, ...]]:
    """Return the dtype of the weights in memory, with a note where the checkpoint's own cannot be used."""
    if wanted is not None:
        return wanted, ()
    if device.type == "cpu":  # half precision is slow on most CPUs and gains nothing there
        return torch.float32, ()
    if _has_dtype(device, stored):
        return stored, ()
    note = f"{device} cannot compute in {dtype_name(stored)}: loaded in float32 (--dtype float16 halves it)."
    return torch.float32, (note,)


def stored_dtype(config: PretrainedConfig, files: list[Path]) -> torch.dtype:
    """Return the dtype of a checkpoint: as its config says, else that of its first floating-point tensors."""
    dtype = getattr(config, "dtype", None) or getattr(config.get_text_config(), "dtype", None)
    if isinstance(dtype, torch.dtype):
        return dtype
    if files[0].suffix == ".safetensors":
        with safe_open(files[0], framework="pt") as file:
            kinds = {file.get_slice(key).get_dtype() for key in list(file.keys())[:8]}
        names = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
        return next((names[kind] for kind in ("F32", "BF16", "F16", "F64") if kind in kinds), torch.float32)
    return torch.float32


def needed_bytes(files: list[Path], stored: torch.dtype, dtype: torch.dtype) -> float:
    """Return the bytes that weight files take in memory: ``stored`` on disk, ``dtype`` when loaded."""
    return sum(path.stat().st_size for path in files) * dtype.itemsize / stored.itemsize


def placement(name: str, weights: float, dtype: torch.dtype, device: torch.device) -> torch.device | None:
    """Return the device that holds the whole model, None where only several together do.

    Args:
        name: The model's name, for the message.
        weights: Bytes of the loaded weights, as :func:`needed_bytes` gives them.
        dtype: Their dtype, for the advice.
        device: Where they are wanted.

    Raises:
        MachineError: If the weights are larger than the main memory (the system would kill the process).
    """
    needed = weights * MEMORY_MARGIN
    if device.type == "cuda":
        return device if needed <= torch.cuda.mem_get_info(device)[0] else None
    memory = psutil.virtual_memory()
    free = memory.available + psutil.swap_memory().free
    if needed > free:
        half = "; --dtype bfloat16 halves it" if dtype.itemsize == 4 else ""
        raise MachineError(
            f"{name} needs {needed / 2**30:.1f} GiB in {dtype_name(dtype)}, but only "
            f"{free / 2**30:.1f} GiB of memory are free.",
            f"Free some memory or choose a smaller model{half}.",
        )
    return device
