"""Normalisation layers, found by what they do, and where they are in a block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from depthprobe.models.anatomy.stream import equal, leaves


@dataclass
class InnerCall:
    """One call of a module inside a block: tensors of the stream's size that went in and came out.

    ``residual`` is the argument of that name, if a module adds the stream itself.
    """

    path: str
    module: nn.Module
    inputs: list[torch.Tensor]
    output: torch.Tensor | None
    residual: torch.Tensor | None = None


def place_norms(received: torch.Tensor, returned: torch.Tensor, calls: Sequence[InnerCall]) -> str:
    """Return where the norms of one block are, from what they read and where their output goes.

    A norm that reads the block's input is before its branch. One whose output is the block's
    output is on the stream itself (Post-LN). One whose output is added to the block's input, as
    the next module's input or the block's output shows, is after its branch. The additions are
    redone in the model's own dtype, so the comparison is exact in half precision too.
    """
    norms = [
        call
        for call in calls
        if call.output is not None
        and call.output.shape == received.shape
        and any(tensor.shape == received.shape for tensor in call.inputs)
        and is_norm(call.module, received)
    ]
    reached = [returned, *(tensor for call in calls for tensor in call.inputs)]
    before = any(equal(tensor, received) for norm in norms for tensor in norm.inputs)
    on_stream = any(norm.output is not None and equal(norm.output, returned) for norm in norms)
    behind = any(
        norm.output is not None and any(equal(received + norm.output.to(received.dtype), r) for r in reached)
        for norm in norms
    )
    if on_stream:
        return "post"
    if before and behind:
        return "sandwich"
    if before:
        return "pre"
    return "branch-post" if behind else "none"


def is_norm(module: nn.Module, x: torch.Tensor) -> bool:
    """Return whether a module normalises its input: no children, no matrices, blind to the input's scale.

    Judged by behaviour, so that LayerNorm, RMSNorm and all their variants count, and dropout,
    activations and learned scales do not.
    """
    if next(module.children(), None) is not None or any(p.dim() > 1 for p in module.parameters()):
        return False
    try:
        # Large inputs, so that the epsilon under the root does not matter.
        small, large = (next((t for _, t in leaves(module(k * x))), None) for k in (64, 128))
    except (RuntimeError, ValueError, TypeError):
        return False  # takes other arguments than one stream
    if small is None or large is None or small.shape != x.shape:
        return False
    return bool(torch.allclose(small.float(), large.float(), rtol=0.02, atol=1e-3) and small.abs().max() > 0)
