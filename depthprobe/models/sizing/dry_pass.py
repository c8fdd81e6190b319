"""One forward pass without values, on the meta device, and how the stream ran through the blocks in it.

Tensors there have only shapes, so the stream is followed by object identity: the tensor that one block
returned is the one that the next receives. Additions are recorded as they happen.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from depthprobe.errors import first_line
from depthprobe.models.anatomy.block_sites import set_for_now
from depthprobe.models.anatomy.stream import Path, given, inputs_of, leaves
from depthprobe.models.anatomy.trace import BATCH, FORWARD_EXCEPTIONS, TOKENS, may_be_stream, why_not_in_order
from depthprobe.private_names import share_storage

NORM = re.compile(r"[Nn]orm|LN")
ADDITIONS = {"add", "add_", "__add__", "__radd__", "__iadd__"}


@dataclass
class _Call:
    """One call of a block: its tensors by path, what modules inside it did, and what was added."""

    block: nn.Module
    given: dict[Path, torch.Tensor]
    returned: dict[Path, torch.Tensor] = field(default_factory=dict)
    norms: list[tuple[list[torch.Tensor], list[torch.Tensor]]] = field(default_factory=list)
    added: list[tuple[Any, ...]] = field(default_factory=list)


@dataclass
class MetaPass:
    """What the pass showed: each layer's block, where its norms are, and the norm after the last block."""

    blocks: list[nn.Module] = field(default_factory=list)
    placements: list[str] = field(default_factory=list)
    hidden: int | None = None
    final_norm: nn.Module | None = None
    failure: str | None = None
    refusal: str | None = None


class _Watching(TorchFunctionMode):
    """Notes the operands of every addition while a block runs, and answers for a mask that hides nothing.

    Models ask whether all of a mask is one, or any of it zero, to choose a kernel. The mask is all ones, so
    ``all`` is true and ``any`` is false. Anything else that asks for a value fails.
    """

    def __init__(self, running: list[_Call]) -> None:
        super().__init__()
        self.running = running
        self.known: list[tuple[torch.Tensor, bool]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in ("__bool__", "item"):
            for tensor, answer in self.known:
                if tensor is args[0]:
                    return answer
        if self.running and name in ADDITIONS:
            self.running[-1].added.append(tuple(args[:2]))
        result = func(*args, **(kwargs or {}))
        if name in ("all", "any") and isinstance(result, torch.Tensor) and result.dim() == 0:
            self.known.append((result, name == "all"))
        return result


def prefer_plain_kernels(model: nn.Module) -> None:
    """Choose implementations without control flow that depends on values, where a model has a choice."""
    for setter, kind in (("set_attn_implementation", "eager"), ("set_experts_implementation", "batched_mm")):
        try:
            getattr(model, setter)(kind)
        except (AttributeError, ValueError, NotImplementedError, ImportError):
            continue


def run_on_meta(model: nn.Module, blocks: Sequence[nn.Module]) -> MetaPass:
    """Return how the stream ran through ``blocks``; if the model fails, the part below its head is tried."""
    body = getattr(model, "base_model", model)
    failure = ""
    for part, masked in itertools.product(dict.fromkeys((model, body)), (True, False)):
        calls: list[_Call] = []
        after: list[tuple[nn.Module, list[torch.Tensor]]] = []
        try:
            _record(part, blocks, calls, after, masked)
        except FORWARD_EXCEPTIONS as error:
            failure = failure or first_line(error)[:120]
            continue
        return _follow(calls, blocks, after)
    return MetaPass(failure=failure)


def _record(
    part: nn.Module,
    blocks: Sequence[nn.Module],
    calls: list[_Call],
    after: list[tuple[nn.Module, list[torch.Tensor]]],
    masked: bool = True,
) -> None:
    """Run ten tokens without values; note blocks' calls, and what other modules received after the last."""
    running: list[_Call] = []

    def watched(block: nn.Module, forward: Any) -> Any:
        @functools.wraps(forward)
        def noting(*args: Any, **kwargs: Any) -> Any:
            call = _Call(block, dict(leaves(given(args, kwargs))))
            running.append(call)
            try:
                output = forward(*args, **kwargs)
            finally:
                running.pop()
            call.returned = dict(leaves(output))
            calls.append(call)
            after.clear()
            return output

        return noting

    def inside(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        inputs = [tensor for _, tensor in leaves(given(args, kwargs))]
        if running:
            if is_named_norm(module):
                running[-1].norms.append((inputs, [tensor for _, tensor in leaves(output)]))
        elif calls:
            after.append((module, inputs))

    with ExitStack() as stack:
        for block in dict.fromkeys(blocks):
            set_for_now(block, "forward", watched(block, block.forward), stack)
        for module in part.modules():
            stack.callback(module.register_forward_hook(inside, with_kwargs=True).remove)
        stack.enter_context(torch.device("meta"))  # also for tensors that models create on the way
        stack.enter_context(torch.no_grad())
        stack.enter_context(_Watching(running))
        ids = torch.zeros(BATCH, TOKENS, dtype=torch.long)
        inputs = inputs_of(part, ids, torch.ones_like(ids))
        part(**{name: value for name, value in inputs.items() if masked or "mask" not in name})


def _follow(
    calls: list[_Call], blocks: Sequence[nn.Module], after: list[tuple[nn.Module, list[torch.Tensor]]]
) -> MetaPass:
    """Return the chain of the calls, or why there is none."""
    refusal = why_not_in_order([call.block for call in calls], blocks)
    if refusal is not None:
        return MetaPass(refusal=refusal)
    links: list[tuple[Path, Path]] = []
    for layer, (call, following) in enumerate(pairwise(calls)):
        matches = [
            (target, source)
            for source, received in following.given.items()
            for target, tensor in call.returned.items()
            if _same(tensor, received) and may_be_stream(tensor)
        ]
        moved = [m for m in matches if not any(_same(call.returned[m[0]], x) for x in call.given.values())]
        if not matches:
            if not any(may_be_stream(tensor) for tensor in call.returned.values()):
                shapes = sorted({str(tuple(t.shape)) for t in call.returned.values()})
                return MetaPass(
                    refusal=f"the stream is not [batch, token, hidden], but of the shapes {shapes}"
                )
            return MetaPass(refusal=f"block {layer + 1} does not receive what block {layer} returned")
        links.append((moved or matches)[0])
    first = {path: x for path, x in calls[0].given.items() if may_be_stream(x)}
    last = {path: x for path, x in calls[-1].returned.items() if may_be_stream(x)}
    if not first or not last:
        return MetaPass(refusal="the stream is not [batch, token, hidden]")
    enters = links[0][1] if links and links[0][1] in first else next(iter(first))
    leaves_at = links[-1][0] if links and links[-1][0] in last else next(iter(last))
    sources = [enters, *(source for _, source in links)]
    targets = [*(target for target, _ in links), leaves_at]
    placements = [
        _place_norms(call, call.given[source], call.returned[target])
        for call, source, target in zip(calls, sources, targets, strict=True)
    ]
    end = last[leaves_at]
    norm = next((m for m, inputs in after if is_named_norm(m) and any(_same(x, end) for x in inputs)), None)
    return MetaPass([call.block for call in calls], placements, _width(end), norm)


def _place_norms(call: _Call, received: torch.Tensor, returned: torch.Tensor) -> str:
    """Return where a block's norms are, as :func:`depthprobe.models.anatomy.norms.place_norms` names it."""
    norms = [pair for pair in call.norms if pair[1] and pair[1][0].shape == received.shape]
    before = any(_same(tensor, received) for inputs, _ in norms for tensor in inputs)
    if any(_same(outputs[0], returned) for _, outputs in norms):
        return "post"
    behind = any(
        (_same(a, received) and _same(b, outputs[0])) or (_same(b, received) and _same(a, outputs[0]))
        for _, outputs in norms
        for a, b in call.added
    )
    if before and behind:
        return "sandwich"
    if before:
        return "pre"
    return "branch-post" if behind else "none"


def is_named_norm(module: nn.Module) -> bool:
    """Return whether a module is named as a norm: without values, what it does cannot be tested."""
    name = type(module).__name__
    return next(module.children(), None) is None and bool(NORM.search(name)) and "NoNorm" not in name


def _same(a: Any, b: Any) -> bool:
    """Return whether two values are one tensor, or views that show the same part of one in the same way."""
    if a is b or not (isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor)):
        return a is b
    return (
        share_storage(a, b)
        and (a.shape, a.stride(), a.storage_offset()) == (b.shape, b.stride(), b.storage_offset())
        and a.dtype == b.dtype
    )


def _width(stream: torch.Tensor) -> int:
    """Return the size of the axis that is neither batch nor token."""
    behind_tokens = stream.shape[0] == BATCH and stream.shape[2] == TOKENS and stream.shape[1] != TOKENS
    return stream.shape[1 if behind_tokens else 2]
