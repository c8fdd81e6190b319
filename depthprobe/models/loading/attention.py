"""Which kernel computes attention: the one asked for, the checkpoint's own, or what transformers takes.

Kernels round differently, so a choice moves numbers in their last digits. One that is a repository on the hub
is code that comes with a model; it is never fetched, and nothing says how it could be.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers.utils import (
    is_flash_attn_2_available,
    is_flash_attn_3_available,
    is_torch_flex_attn_available,
)

from depthprobe.errors import LoadError, OptionError
from depthprobe.models.loading.options import ATTENTION_KERNELS
from depthprobe.models.loading.sanity import KERNELS

_PACKAGES = {
    "flash_attention_2": ("flash-attn", is_flash_attn_2_available),
    "flash_attention_3": ("flash-attn-3", is_flash_attn_3_available),
}


def kernel_named(name: str, settings: Mapping[str, Any], device: torch.device) -> tuple[str | None, str]:
    """Return the kernel that a config.json names, None where transformers may choose, and a note on it.

    Args:
        name: The model's name, for messages.
        settings: What the file holds.
        device: Where the model will be.
    """
    said = next((settings[key] for key in KERNELS if settings.get(key) is not None), None)
    if isinstance(said, Mapping):  # one for each part of a model that sees and reads
        said = said.get("", said.get("text_config"))
    if said is None:
        return None, ""
    shown = str(said)[:60]
    asks = f"config.json of {name} asks for the attention kernel {shown!r}"
    if isinstance(said, str) and "/" in said:
        return None, (
            f"{asks}, which is code on the hub: it is not fetched, and transformers' own choice is used "
            "instead."
        )
    if not isinstance(said, str) or said not in ATTENTION_KERNELS:
        return None, f"{asks}, which there is not: transformers' own choice is used instead."
    lacking = _lacking(said, device)
    if lacking:
        return None, f"{asks}, but {lacking}: transformers' own choice is used instead."
    return said, ""


def check_kernel(kernel: str, device: torch.device) -> str:
    """Return a kernel that was asked for if this machine has it.

    Raises:
        LoadError: If it does not.
    """
    lacking = _lacking(kernel, device)
    if lacking:
        problem = f"The attention kernel {kernel} cannot be used: {lacking}."
        raise LoadError(problem, "Use --attn-implementation sdpa or eager.")
    return kernel


def check_precision(kernel: str | None, dtype: torch.dtype) -> None:
    """Raise if a kernel does not compute in a dtype.

    Raises:
        OptionError: If it does not.
    """
    if kernel in _PACKAGES and dtype.itemsize != 2:
        raise OptionError(
            f"{kernel} computes in bfloat16 or float16, not in {str(dtype).removeprefix('torch.')}.",
            "Use --dtype bfloat16, or --attn-implementation sdpa.",
        )


def _lacking(kernel: str, device: torch.device) -> str:
    """Return what this machine lacks for a kernel, as the end of a sentence; nothing if it has all."""
    if kernel in ("eager", "sdpa"):
        return ""
    if device.type != "cuda":  # on a CPU flex_attention is compiled anew, for minutes
        return f"it needs a CUDA GPU, and the model is on {device.type}"
    if kernel == "flex_attention":
        return "" if is_torch_flex_attn_available() else f"torch {torch.__version__} does not have it"
    package, is_there = _PACKAGES[kernel]
    return "" if is_there() else f"the Python package {package} is not installed"
