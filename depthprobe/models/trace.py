"""One short forward pass that shows how the stream runs through a list of modules."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from depthprobe.models.stream import run_backbone, stream_in, stream_out, tensors

BATCH, TOKENS = 2, 5  # different from each other, so that a transposed stream shows


@dataclass
class Trace:
    """What the pass showed; ``refusal`` says why the modules are no stack of blocks, or is None."""

    refusal: str | None = None
    hidden: int = 0
    norm_placements: list[str] = field(default_factory=list)
    final_norm: nn.Module | None = None
    boundaries: list[torch.Tensor] = field(default_factory=list)

    def agrees_with(self, other: Trace) -> bool:
        """Return whether both passes saw the same stream, up to the noise of reordered sums."""
        return len(self.boundaries) == len(other.boundaries) and all(
            torch.allclose(a.float(), b.to(a.device).float(), rtol=1e-2, atol=1e-3, equal_nan=True)
            for a, b in zip(self.boundaries, other.boundaries, strict=True)
        )


@dataclass
class _Call:
    """One call of a module inside a block: tensors of the stream's size that went in and came out."""

    module: nn.Module
    inputs: list[torch.Tensor]
    output: torch.Tensor | None


def trace_blocks(backbone: nn.Module, blocks: Sequence[nn.Module]) -> Trace:
    """Return how ten tokens ran through ``blocks`` when ``backbone`` was called.

    The blocks are accepted if each ran once and in order, on a ``[batch, token, hidden]`` stream, and
    received exactly what the one before it returned. Norms are placed by what they read and feed: see
    :func:`place_norms`.
    """
    recorder = _Recorder(blocks)
    device = next((parameter.device for parameter in backbone.parameters()), torch.device("cpu"))
    vocab = getattr(getattr(backbone, "config", None), "get_text_config", lambda: None)()
    size = getattr(vocab, "vocab_size", None) or 64
    # Past the first ids, which are special tokens in most vocabularies (padding among them).
    ids = (torch.arange(BATCH * TOKENS) + min(5, size - 1)).remainder(size).view(BATCH, TOKENS).to(device)
    with ExitStack() as stack:
        recorder.attach(backbone, stack)
        try:
            run_backbone(backbone, ids, torch.ones_like(ids))
        except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
            first = str(error).strip().splitlines() or [""]
            return Trace(refusal=f"the forward pass failed with {type(error).__name__}: {first[0][:200]}")
    return recorder.trace()


class _Recorder:
    """Hooks that note the order of the blocks, the stream between them and the norms inside."""

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        self.blocks = blocks
        self.order: list[int] = []
        self.received: list[torch.Tensor | None] = []
        self.returned: list[torch.Tensor | None] = []
        self.placements: list[str] = []
        self.final_norm: nn.Module | None = None
        self.calls: list[_Call] = []
        self.testing = False

    def attach(self, backbone: nn.Module, stack: ExitStack) -> None:
        """Register every hook; ``stack`` removes them."""
        for index, block in enumerate(self.blocks):
            hook = self._block_starts(index)
            stack.callback(block.register_forward_pre_hook(hook, with_kwargs=True).remove)
            for module in block.modules():
                if module is not block:
                    stack.callback(module.register_forward_hook(self._inside, with_kwargs=True).remove)
            stack.callback(block.register_forward_hook(self._block_ends).remove)
        in_blocks = {module for block in self.blocks for module in block.modules()}
        for module in backbone.modules():
            if module not in in_blocks:
                stack.callback(module.register_forward_hook(self._outside, with_kwargs=True).remove)

    def _block_starts(self, index: int) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self.order.append(index)
            self.received.append(_kept(stream_in(args, kwargs)))
            self.calls = []

        return hook

    def _block_ends(self, module: nn.Module, args: Any, output: Any) -> None:
        self.returned.append(_kept(stream_out(output)))
        received, returned = self.received[-1], self.returned[-1]
        if received is not None and returned is not None and received.shape == returned.shape:
            self.testing = True
            self.placements.append(place_norms(received, returned, self.calls))
            self.testing = False
        self.calls = []

    def _inside(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        stream = self.received[-1] if self.received else None
        if self.testing or stream is None:
            return
        same = [tensor for tensor in tensors((*args, kwargs)) if tensor.numel() == stream.numel()]
        out = stream_out(output)
        self.calls.append(_Call(module, [_flat(tensor, stream) for tensor in same], _kept(out)))

    def _outside(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if self.testing or self.final_norm is not None or len(self.returned) != len(self.blocks):
            return
        given, last = stream_in(args, kwargs), self.returned[-1]
        if given is None or last is None or not _equal(given, last):
            return
        self.testing = True
        if is_norm(module, last):
            self.final_norm = module
        self.testing = False

    def trace(self) -> Trace:
        """Return the verdict."""
        count = len(self.blocks)
        if not self.order:
            return Trace(refusal="none of them ran as a module")
        if self.order != list(range(count)):
            return Trace(refusal=f"they did not run once each and in order, but as {self.order[:12]}")
        shapes = [None if tensor is None else tuple(tensor.shape) for tensor in self.received + self.returned]
        stream = shapes[0]
        if stream is None or len(stream) != 3 or stream[:2] != (BATCH, TOKENS) or len(set(shapes)) != 1:
            return Trace(
                refusal=f"the stream is not [batch, token, hidden]: {BATCH} samples of {TOKENS} tokens "
                f"gave the shapes {sorted({str(shape) for shape in shapes})}"
            )
        for layer in range(count - 1):
            returned, received = self.returned[layer], self.received[layer + 1]
            if returned is None or received is None or not _equal(returned, received):
                return Trace(refusal=f"block {layer + 1} does not receive what block {layer} returned")
        boundaries = [tensor for tensor in (*self.received, self.returned[-1]) if tensor is not None]
        return Trace(None, stream[2], self.placements, self.final_norm, boundaries)


def place_norms(received: torch.Tensor, returned: torch.Tensor, calls: Sequence[_Call]) -> str:
    """Return where the norms of one block stand, from what they read and where their output goes.

    A norm that reads the block's input stands before its branch. One whose output is the block's
    output stands on the stream itself (Post-LN). One whose output is added to the block's input, as
    the next module's input or the block's output shows, stands behind its branch. The additions are
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
    before = any(_equal(tensor, received) for norm in norms for tensor in norm.inputs)
    on_stream = any(norm.output is not None and _equal(norm.output, returned) for norm in norms)
    behind = any(
        norm.output is not None and any(_equal(received + norm.output.to(received.dtype), r) for r in reached)
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

    Found by behaviour, so that LayerNorm, RMSNorm and everybody's own variants count, and dropout,
    activations and learned scales do not.
    """
    if next(module.children(), None) is not None or any(p.dim() > 1 for p in module.parameters()):
        return False
    try:
        # Large inputs, so that the epsilon under the root does not matter.
        small, large = stream_out(module(64 * x)), stream_out(module(128 * x))
    except (RuntimeError, ValueError, TypeError):
        return False  # takes other arguments than one stream
    if small is None or large is None or small.shape != x.shape:
        return False
    return bool(torch.allclose(small.float(), large.float(), rtol=0.02, atol=1e-3) and small.abs().max() > 0)


def _kept(tensor: torch.Tensor | None) -> torch.Tensor | None:
    """Return a copy: blocks may add to the stream in place."""
    return None if tensor is None else tensor.detach().clone()


def _flat(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return a copy with the stream's shape where only the batch and token axes were merged."""
    kept = tensor.detach().clone()
    return kept.view(like.shape) if kept.is_contiguous() and kept.shape[-1] == like.shape[-1] else kept


def _equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Return whether two tensors hold the same numbers (NaN equals NaN), on whatever devices.

    Compared in the coarser of both dtypes: some models keep a float32 stream around bf16 modules.
    """
    if a.shape != b.shape:
        return False
    dtype = min(a.dtype, b.dtype, key=lambda kind: kind.itemsize)
    return torch.allclose(a.to(b.device, dtype), b.to(dtype), rtol=0.0, atol=0.0, equal_nan=True)
