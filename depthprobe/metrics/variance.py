"""How large the vectors of the residual stream are, and how much one block changes them."""

from __future__ import annotations

import torch


def hidden_variance(x: torch.Tensor) -> torch.Tensor:
    """Return the variance over the hidden dimension, divisor hidden - 1.

    Args:
        x: ``[..., hidden]``, any floating dtype. MPS has no float64: pass a CPU tensor.

    Returns:
        float64 ``[...]``.

    Source: the layer output variance of The Curse of Depth (2502.05795) Fig. 4, unbiased as in
    2603.15389, which computes ``var(dim=-1)``.

    >>> hidden_variance(torch.tensor([1.0, 2.0, 3.0])).item()
    1.0
    """
    x = x.double()
    # Several times as fast as torch.var on a CPU, and as exact.
    centred = x - x.mean(dim=-1, keepdim=True)
    return centred.square().sum(dim=-1) / (x.shape[-1] - 1)


def root_mean_square(x: torch.Tensor) -> torch.Tensor:
    """Return the root mean square over the hidden dimension, without subtracting the mean.

    Args:
        x: ``[..., hidden]``, any floating dtype. MPS has no float64: pass a CPU tensor.

    Returns:
        float64 ``[...]``.

    >>> root_mean_square(torch.tensor([3.0, 4.0, 0.0, 0.0])).item()
    2.5
    """
    return torch.linalg.vector_norm(x.double(), dim=-1) / x.shape[-1] ** 0.5


def block_influence(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return 1 - cos(x, y), token by token: how far a block turns the stream.

    Computed as |x' - y'|^2 / 2 on unit vectors, which keeps the digits of nearly parallel ones and is
    exactly zero for equal ones.

    Args:
        x: ``[..., hidden]`` before the block, any floating dtype. MPS has no float64: pass a CPU tensor.
        y: ``[..., hidden]`` after it.

    Returns:
        float64 ``[...]`` in 0 (same direction) .. 2 (opposite); NaN where a vector is zero or not finite,
        since it has no direction.

    Source: ShortGPT (2403.03853) eq. 1, whose Block Influence is the mean of this over tokens.

    >>> block_influence(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0])).item()
    1.0
    """
    x = torch.nn.functional.normalize(x.double(), dim=-1, eps=0.0)
    y = torch.nn.functional.normalize(y.double(), dim=-1, eps=0.0)
    return (y - x).square().sum(dim=-1) / 2


def contribution_ratio(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return |y - x| / |x|, token by token: the length of what a block adds over that of what it received.

    Args:
        x: ``[..., hidden]`` before the block, any floating dtype. MPS has no float64: pass a CPU tensor.
        y: ``[..., hidden]`` after it.

    Returns:
        float64 ``[...]``; NaN or infinite where ``x`` is zero.

    >>> contribution_ratio(torch.tensor([2.0, 0.0]), torch.tensor([2.0, 1.0])).item()
    0.5
    """
    x = x.double()
    return torch.linalg.vector_norm(y.double() - x, dim=-1) / torch.linalg.vector_norm(x, dim=-1)
