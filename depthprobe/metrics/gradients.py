"""Norms of gradients, which may be too large for a float64 copy to fit into memory beside them."""

from __future__ import annotations

from collections.abc import Iterable

import torch

# Numbers squared at once in float64: a few megabytes beside a gradient of any size.
_AT_ONCE = 1 << 20


def squared_norm(tensors: Iterable[torch.Tensor]) -> float:
    """Return the sum of squares of all numbers in some tensors, summed in float64.

    Args:
        tensors: Any shapes, floating dtypes and devices.

    Returns:
        Zero for no tensors; NaN or infinity where a tensor holds one.

    >>> squared_norm([torch.tensor([3.0]), torch.tensor([[4.0]])])
    25.0
    """
    total = 0.0
    for tensor in tensors:
        flat = tensor.detach().reshape(-1)
        if flat.device.type == "mps":  # which has no float64
            flat = flat.cpu()
        parts = [part.double().square().sum() for part in flat.split(_AT_ONCE)]
        total += float(torch.stack(parts).sum()) if parts else 0.0
    return total
