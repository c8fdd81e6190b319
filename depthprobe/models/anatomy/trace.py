"""One short forward pass that shows how the stream runs through a list of modules."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from depthprobe.errors import first_line
from depthprobe.models.anatomy.architectures import CARRY_MORE_THAN_THE_STREAM
from depthprobe.models.anatomy.block_sites import Site, set_for_now
from depthprobe.models.anatomy.norms import is_norm
from depthprobe.models.anatomy.stream import Path, StreamAxes, equal, given, leaves, pick, run_backbone

BATCH, TOKENS = 2, 5  # different from each other, so that a transposed stream shows

# What models raise for an input that they are not made to take.
FORWARD_EXCEPTIONS = (
    *(RuntimeError, ValueError, TypeError, LookupError, AttributeError, NotImplementedError),
    *(ArithmeticError, AssertionError),
)


@dataclass
class Trace:
    """What the pass showed; ``refusal`` says why the modules are not a stack of blocks, or is None."""

    refusal: str | None = None
    sites: tuple[Site, ...] = ()
    layout: StreamAxes = field(default_factory=StreamAxes)
    hidden: int = 0
    final_norm: nn.Module | None = None
    boundaries: list[torch.Tensor] = field(default_factory=list)

    def agrees_with(self, other: Trace) -> bool:
        """Return whether both passes saw the same stream, up to the noise of reordered sums."""
        return len(self.boundaries) == len(other.boundaries) and all(
            a.shape == b.shape
            and torch.allclose(a.float(), b.to(a.device).float(), rtol=1e-2, atol=1e-3, equal_nan=True)
            for a, b in zip(self.boundaries, other.boundaries, strict=True)
        )


@dataclass
class _Call:
    """One call of a block: the tensors that went in and came out, by their paths."""

    block: nn.Module
    given: dict[Path, torch.Tensor]
    returned: dict[Path, torch.Tensor]


class NoChain(Exception):
    """Says why the modules are not a stack of blocks."""


def trace_blocks(backbone: nn.Module, blocks: Sequence[nn.Module]) -> Trace:
    """Return how ten tokens ran through ``blocks`` when ``backbone`` was called.

    The blocks are accepted if each ran, in order, on a ``[batch, token, hidden]`` stream (or one with these
    axes in another order), and received exactly what the one before it returned. A block that is called
    several times in a row counts as that many layers.
    """
    ids = probe_ids(backbone)
    config: Any = getattr(backbone, "config", None)
    try:
        calls, after = _record(backbone, blocks, ids)
        links = _links(calls, blocks, getattr(config, "model_type", None) in CARRY_MORE_THAN_THE_STREAM)
        stream = [call.given[source] for call, (source, _) in zip(calls, links, strict=True)]
        last = calls[-1].returned[links[-1][1]]
        layout = _layout([*stream, last])
        layout = StreamAxes(layout.axes, _first_token(backbone, blocks, ids, links[0][0], layout, stream[0]))
        _refuse_wide(backbone, layout.tokens(last).shape[-1])
    except NoChain as reason:
        return Trace(refusal=str(reason))
    except FORWARD_EXCEPTIONS as error:
        return Trace(refusal=f"the forward pass failed with {first_line(error)[:200]}")
    final_norm = next((m for m, tensor in after if equal(tensor, last) and is_norm(m, last)), None)
    sites = []
    seen: dict[nn.Module, int] = {}
    for layer, (call, (source, target)) in enumerate(zip(calls, links, strict=True)):
        carried = _carried(calls, layer, {source, target})
        index = next(place for place, block in enumerate(blocks) if block is call.block)
        sites.append(Site(call.block, index, seen.get(call.block, 0), source, target, carried))
        seen[call.block] = sites[-1].call + 1
    boundaries = [layout.tokens(tensor) for tensor in (*stream, last)]
    return Trace(None, tuple(sites), layout, boundaries[0].shape[-1], final_norm, boundaries)


def probe_ids(backbone: nn.Module) -> torch.Tensor:
    """Return ``[BATCH, TOKENS]`` ids, skipping the first ones: special tokens in most vocabularies."""
    device = next((parameter.device for parameter in backbone.parameters()), torch.device("cpu"))
    config: Any = getattr(backbone, "config", None)
    text = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else None
    size = getattr(text, "vocab_size", None)
    size = size if isinstance(size, int) and size > 1 else 64
    return (torch.arange(BATCH * TOKENS) + min(5, size - 1)).remainder(size).view(BATCH, TOKENS).to(device)


def _record(
    backbone: nn.Module, blocks: Sequence[nn.Module], ids: torch.Tensor
) -> tuple[list[_Call], list[tuple[nn.Module, torch.Tensor]]]:
    """Return the blocks' calls, in order, and what modules outside them received after the last one."""
    calls: list[_Call] = []
    after: list[tuple[nn.Module, torch.Tensor]] = []

    def watched(block: nn.Module, forward: Any) -> Any:
        @functools.wraps(forward)
        def noting(*args: Any, **kwargs: Any) -> Any:
            inputs = {path: _kept(tensor) for path, tensor in leaves(given(args, kwargs))}
            output = forward(*args, **kwargs)
            calls.append(_Call(block, inputs, {path: _kept(tensor) for path, tensor in leaves(output)}))
            after.clear()
            return output

        return noting

    def outside(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if calls:
            after.extend((module, _kept(tensor)) for _, tensor in leaves(given(args, kwargs)))

    inside = {module for block in blocks for module in block.modules()}
    with ExitStack() as stack:
        for block in dict.fromkeys(blocks):
            set_for_now(block, "forward", watched(block, block.forward), stack)
        for module in backbone.modules():
            if module not in inside:
                stack.callback(module.register_forward_hook(outside, with_kwargs=True).remove)
        run_backbone(backbone, ids, torch.ones_like(ids))
    return calls, after


def why_not_in_order(called: Sequence[nn.Module], blocks: Sequence[nn.Module]) -> str | None:
    """Return why the modules that were called, in this order, are not a stack; None if they may be."""
    unique = list(dict.fromkeys(blocks))
    order = [unique.index(block) for block in called]
    if not order:
        return "none of them ran as a module"
    if 2 * len(set(order)) < len(unique):  # cross-attention to images does not run on text (Llama 3.2 Vision)
        return f"of {len(unique)} modules only {len(set(order))} ran"
    if order != sorted(order) and len(order) == len(set(order)):
        return f"they did not run in order, but as {order[:12]}"
    return None


def _links(calls: Sequence[_Call], blocks: Sequence[nn.Module], beside: bool) -> list[tuple[Path, Path]]:
    """Return where the stream enters and leaves each call: what one returned is what the next received."""
    refusal = why_not_in_order([call.block for call in calls], blocks)
    if refusal is not None:
        raise NoChain(refusal)
    pairs = []
    for layer, (call, following) in enumerate(pairwise(calls)):
        matches = [
            (target, source)
            for source, received in following.given.items()
            for target, tensor in call.returned.items()
            if may_be_stream(tensor) and equal(tensor, received)
        ]
        # What a block hands on unchanged is not the stream, unless there is nothing else.
        moved = [m for m in matches if not any(equal(call.returned[m[0]], x) for x in call.given.values())]
        if not matches:
            raise NoChain(_why_no_chain(call, layer))
        streams: list[torch.Tensor] = []
        for target, _ in moved:
            tensor = call.returned[target]
            if not any(equal(tensor, other) for other in streams):
                streams.append(tensor)
        if sum(tensor.shape == streams[0].shape for tensor in streams) > 1 and not beside:
            raise NoChain(f"the blocks hand on {len(streams)} residual streams, not one")
        pairs.append((moved or matches)[0])
    # The first block is assumed to receive the stream as the second does, the last to return it as the one
    # before it does.
    first, last = calls[0], calls[-1]
    shape = first.returned[pairs[0][0]].shape if pairs else None
    inputs = {p: x for p, x in first.given.items() if may_be_stream(x) and shape in (None, x.shape)}
    outputs = {p: x for p, x in last.returned.items() if may_be_stream(x) and shape in (None, x.shape)}
    if not inputs or not outputs:
        raise NoChain(_other_shapes([*first.given.values()] if not inputs else [*last.returned.values()]))
    enters = pairs[0][1] if pairs and pairs[0][1] in inputs else next(iter(inputs))
    leaves_at = pairs[-1][0] if pairs and pairs[-1][0] in outputs else next(iter(outputs))
    sources = [enters, *(source for _, source in pairs)]
    return list(zip(sources, [*(target for target, _ in pairs), leaves_at], strict=True))


def may_be_stream(tensor: torch.Tensor) -> bool:
    """Return whether a tensor has the form of a stream: three axes, more than one sample and token."""
    return tensor.is_floating_point() and tensor.dim() == 3 and tensor.shape[0] > 1 and tensor.shape[1] > 1


def _why_no_chain(call: _Call, layer: int) -> str:
    several = [x.shape for x in call.returned.values() if x.is_floating_point() and x.dim() == 4]
    if several and not any(may_be_stream(tensor) for tensor in call.returned.values()):
        return f"the blocks hand on several residual streams at once, of shape {tuple(several[0])}"
    if not any(may_be_stream(tensor) for tensor in call.returned.values()):
        return _other_shapes(call.returned.values())
    return f"block {layer + 1} does not receive what block {layer} returned"


def _other_shapes(tensors: Iterable[torch.Tensor]) -> str:
    shapes = sorted({str(tuple(tensor.shape)) for tensor in tensors if tensor.is_floating_point()})
    text = f"{BATCH} samples of {TOKENS} tokens"
    return f"the stream is not [batch, token, hidden]: {text} gave the shapes {shapes}"


def _layout(stream: Sequence[torch.Tensor]) -> StreamAxes:
    """Return which axis of the stream is which."""
    shape = tuple(stream[0].shape)
    if all(tensor.shape == shape for tensor in stream):
        for axes in ((0, 1, 2), (1, 0, 2), (0, 2, 1)):
            if (shape[axes[0]], shape[axes[1]]) == (BATCH, TOKENS):
                return StreamAxes(axes)
        if shape[0] == BATCH and shape[1] > TOKENS:
            return StreamAxes()
    raise NoChain(_other_shapes(stream))


def _first_token(
    backbone: nn.Module,
    blocks: Sequence[nn.Module],
    ids: torch.Tensor,
    source: Path,
    layout: StreamAxes,
    before: torch.Tensor,
) -> int:
    """Return the place of the first token in the stream: where it makes a change."""
    other = ids.clone()
    other[:, 0] = ids[:, -1]
    changed = layout.tokens(_first_input(backbone, blocks, other, source))
    same = layout.tokens(before)
    if changed.shape != same.shape:
        raise NoChain("the shape of the stream depends on the text")
    places = (changed != same).any(dim=-1).any(dim=0)
    if places.all() or not places.any():
        raise NoChain(
            "what the first block receives is not an embedding of single tokens: something ran before it"
        )
    return int(places.nonzero()[0])


def _first_input(
    backbone: nn.Module, blocks: Sequence[nn.Module], ids: torch.Tensor, source: Path
) -> torch.Tensor:
    """Return what the first block to run receives as the stream; nothing after it is computed."""
    received: list[torch.Tensor] = []

    def ending(*args: Any, **kwargs: Any) -> Any:
        received.append(_kept(pick(given(args, kwargs), source)))
        raise _Enough

    with ExitStack() as stack:
        for block in dict.fromkeys(blocks):
            set_for_now(block, "forward", ending, stack)
        try:
            run_backbone(backbone, ids, torch.ones_like(ids))
        except _Enough:
            pass
    return received[0]


class _Enough(Exception):
    """Ends a pass whose rest is not needed."""


def _refuse_wide(backbone: nn.Module, hidden: int) -> None:
    """Raise if the stream is several hidden sizes wide: it is then several streams side by side."""
    config: Any = getattr(backbone, "config", None)
    text = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else None
    size = getattr(text, "hidden_size", None)
    if isinstance(size, int) and hidden > size and hidden % size == 0:
        raise NoChain(f"the blocks hand on {hidden // size} residual streams side by side, not one")


def _carried(calls: Sequence[_Call], layer: int, stream: set[Path]) -> tuple[tuple[Path, Path], ...]:
    """Return what else a block hands to the next, as (path in its output, path among its own arguments)."""
    if layer + 1 >= len(calls):
        return ()
    call, following = calls[layer], calls[layer + 1]
    return tuple(
        (target, source)
        for target, tensor in call.returned.items()
        if target not in stream
        for source, received in following.given.items()
        if equal(tensor, received)
    )


def _kept(tensor: torch.Tensor) -> torch.Tensor:
    """Return a copy: blocks may add to the stream in place."""
    return tensor.detach().clone()
