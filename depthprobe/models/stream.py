"""The residual stream: how a backbone is run, and which tensor among a block's is the stream."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """Yield the floating-point tensors of nested tuples, lists and dicts, in order."""
    if isinstance(value, torch.Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, dict):  # transformers' ModelOutput is one
        for item in value.values():
            yield from tensors(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors(item)


def stream_in(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor | None:
    """Return what a block receives as the stream: its first floating-point tensor, positional first."""
    return next(tensors((*args, kwargs)), None)


def stream_out(output: Any) -> torch.Tensor | None:
    """Return what a block gives back as the stream: a bare tensor, or the first of a tuple or dict."""
    return next(tensors(output), None)


def run_backbone(backbone: nn.Module, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> None:
    """Run the blocks over ``[batch, token]`` ids without a cache; what they compute is read by hooks.

    Args:
        backbone: The model without its head, see :func:`depthprobe.models.anatomy.backbone_of`.
        input_ids: int64 ``[batch, token]``, padded on the right: position ids counted from the left
            are then those of the unpadded text in every model.
        attention_mask: int64 ``[batch, token]``, 1 for real tokens.
    """
    accepted = inspect.signature(backbone.forward).parameters
    extra: dict[str, Any] = {"attention_mask": attention_mask} if "attention_mask" in accepted else {}
    if "use_cache" in accepted:
        extra["use_cache"] = False
    with torch.inference_mode():
        backbone(input_ids=input_ids, **extra)
