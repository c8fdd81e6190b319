"""Whether all weights of a model are numbers: one that is not makes every measurement meaningless."""

from __future__ import annotations

import torch
from torch import nn

from depthprobe.errors import LoadError

# Formats of eight bits and fewer are unpacked by their own code; torch does not look into all of them.
_KINDS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def check_finite(name: str, model: nn.Module) -> None:
    """Raise if a weight is NaN or infinite, naming the first such tensor.

    Args:
        name: The model's name, for the message.
        model: The model. Weights that are on no device are not looked at.

    Raises:
        LoadError: If there is one.
    """
    wrong = [
        (key, tensor)
        for key, tensor in model.named_parameters()
        if tensor.dtype in _KINDS and tensor.device.type != "meta" and not _is_finite(tensor)
    ]
    if not wrong:
        return
    key, tensor = wrong[0]
    nan = int(tensor.isnan().sum())
    infinite = tensor.numel() - nan - int(tensor.isfinite().sum())
    counts = " and ".join(
        f"{count:,} {what}" for count, what in ((nan, "NaN"), (infinite, "infinite")) if count
    )
    others = len(wrong) - 1
    more = (
        "" if not others else f", and {others:,} more {'tensors are' if others > 1 else 'tensor is'} like it"
    )
    small = tensor.dtype == torch.float16 and infinite
    raise LoadError(
        f"The weights of {name} are damaged: {key} holds {counts} among {tensor.numel():,} values{more}.",
        "They may be too large for float16: use --dtype bfloat16 or float32."
        if small
        else "Download them again, or use a checkpoint from before its training failed.",
    )


@torch.no_grad()
def _is_finite(tensor: torch.Tensor) -> bool:
    if not tensor.numel():
        return True
    # NaN is both. One pass, and no mask as large as the tensor.
    least, largest = tensor.aminmax()
    return bool(least.isfinite() and largest.isfinite())
