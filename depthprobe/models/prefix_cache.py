"""Keys and values of one text's beginning, kept once and read by every row that continues it."""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer


class _PrefixLayer(DynamicLayer):
    """One block's keys and values, ``[1, head, token, size]``; once frozen, what rows add is not kept."""

    frozen = False

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the keys and values to attend to: the prefix, then the rows' own."""
        if not self.frozen:
            return super().update(key_states, value_states, *args, **kwargs)
        batch = len(key_states)
        return (
            torch.cat([self.keys.expand(batch, -1, -1, -1), key_states], dim=-2),
            torch.cat([self.values.expand(batch, -1, -1, -1), value_states], dim=-2),
        )


class PrefixCache(Cache):
    """A cache that a pass over one prefix fills, and that passes over rows after it leave unchanged.

    Every slot keeps the whole prefix, even for blocks with a sliding window: what a block may see is left
    to the mask.
    """

    def __init__(self) -> None:
        super().__init__(layer_class_to_replicate=_PrefixLayer)

    def freeze(self, slots: int, length: int) -> None:
        """End the prefix of ``length`` tokens.

        Slots of blocks that did not run become dummies of the right length: transformers asks the first
        slot how long the cache is.
        """
        while len(self.layers) < slots:
            self.layers.append(_PrefixLayer())
        for layer in self.layers:
            if not layer.is_initialized:
                dummy = torch.zeros(1, 1, length, 1)
                layer.lazy_initialization(dummy, dummy)
                layer.keys, layer.values = dummy, dummy
            layer.frozen = True
