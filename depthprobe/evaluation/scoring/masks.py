"""Masks of rows in which several branches follow one another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Masks = torch.Tensor | dict[str, torch.Tensor]
MakeMask = Callable[[torch.Tensor, torch.Tensor, int], Masks]


def mask_of(form: str, config: Any, window: int | None, dtype: torch.dtype) -> MakeMask:
    """Return a function from ``depths``, ``until`` and the prefix length (seen by all) to a batch's 4-d mask.

    Args:
        form: ``full`` (the tree alone), ``window`` (the tree within the sliding window) or ``types`` (a
            mask for each of the configuration's ``layer_types``).
        config: The text configuration.
        window: Tokens that a sliding block sees, itself included.
        dtype: The model's.
    """
    # Additive: every kernel takes it, and those that also take booleans convert them to this in each block.
    seen, hidden = torch.zeros((), dtype=dtype), torch.tensor(torch.finfo(dtype).min, dtype=dtype)

    def ready(mask: torch.Tensor) -> torch.Tensor:
        return torch.where(mask[:, None], seen.to(mask.device), hidden.to(mask.device))

    def make(depths: torch.Tensor, until: torch.Tensor, prefix: int) -> Masks:
        place = torch.arange(depths.shape[1], device=depths.device)
        tree = (place[None, None, :] <= place[None, :, None]) & (place[None, :, None] < until[:, None, :])
        if prefix:
            tree = torch.cat([tree.new_ones(*tree.shape[:2], prefix), tree], dim=2)
        if form == "full":
            return ready(tree)
        near = tree
        if window is not None:
            ahead = torch.arange(prefix, device=depths.device).expand(len(depths), -1)
            keys = torch.cat([ahead, depths], dim=1)
            near = tree & (depths[:, :, None] - keys[:, None, :] < window)
        if form == "window":
            return ready(near)
        full, sliding = ready(tree), ready(near)
        return {kind: full if kind.startswith("full") else sliding for kind in set(config.layer_types)}

    return make
