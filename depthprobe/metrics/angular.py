"""Angular distance between vectors, alone and for all pairs of boundaries at once."""

from __future__ import annotations

import math

import torch


def angular_distance(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Return the angle between ``u`` and ``v`` divided by pi, along the last axis.

    Computed as 2 * atan2(|u' - v'|, |u' + v'|) / pi on unit vectors, which keeps full precision for
    nearly parallel and nearly opposite vectors; arccos of the cosine loses half the digits there and
    is NaN as soon as rounding pushes a cosine above 1.

    Args:
        u: ``[..., hidden]``, any floating dtype.
        v: ``[..., hidden]``, broadcastable to ``u``.

    Returns:
        float64 ``[...]`` in 0 (same direction) .. 1 (opposite); NaN where a vector is zero or not
        finite, since it has no direction.

    Source: Curse of Depth (2502.05795) eq. 1; Gromov et al. (2403.17887) eq. 7.

    >>> angular_distance(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0])).item()
    0.5
    """
    u = torch.nn.functional.normalize(u.double(), dim=-1, eps=0.0)
    v = torch.nn.functional.normalize(v.double(), dim=-1, eps=0.0)
    return 2 / math.pi * torch.atan2((u - v).norm(dim=-1), (u + v).norm(dim=-1))


def pairwise_angular_distance(points: torch.Tensor) -> torch.Tensor:
    """Return the angular distance between every two boundaries of every sample.

    One batched Gram product in float64 gives |u - v| and |u + v| of all pairs. Taking lengths from
    inner products cancels digits, which float64 can afford: the error stays below 2e-8.

    Args:
        points: ``[sample, boundary, hidden]``, any floating dtype. MPS has no float64: pass a CPU tensor.

    Returns:
        float64 ``[sample, boundary, boundary]``, symmetric, zero diagonal, NaN for zero vectors.
    """
    unit = torch.nn.functional.normalize(points.double(), dim=-1, eps=0.0)
    gram = unit @ unit.transpose(-1, -2)
    square = gram.diagonal(dim1=-2, dim2=-1)
    # |u|^2 + |v|^2 from the same product instead of the constant 2: equal vectors give exactly zero.
    both = square.unsqueeze(-1) + square.unsqueeze(-2)
    apart = (both - 2 * gram).clamp_min(0).sqrt()
    together = (both + 2 * gram).clamp_min(0).sqrt()
    return 2 / math.pi * torch.atan2(apart, together)
