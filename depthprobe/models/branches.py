"""What the blocks are made of inside: where their norms stand, and which modules' outputs they add.

One pass over ten tokens. A branch is believed only where stream in + branches = stream out holds for the
block, with the error taken relative to what the block adds.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from depthprobe.models.architectures import ADD_THE_STREAM_THEMSELVES
from depthprobe.models.norms import InnerCall, is_norm, place_norms
from depthprobe.models.sites import Site, wrapping
from depthprobe.models.stream import Layout, given, leaves, pick, run_backbone

# Right answers stay below 6e-5 in float32, wrong ones above 0.87 (all families of transformers 5.23).
TOLERANCE = 1e-3

ATTENTION = re.compile(
    r"attn|attention|mixer|mamba|ssm|rwkv|time_mix|conv|recurrent|temporal|delta|lstm|retention|linear_att",
    re.I,
)
FEEDFORWARD = re.compile(
    r"mlp|ffn|ff\b|ff_|feed_?forward|moe|expert|channel_mix|dense|fc\d|w2|intermediate|output", re.I
)
SCALE = re.compile(r"multiplier|scale|alpha|factor")
MOST_CANDIDATES = 24


@dataclass(frozen=True)
class Branch:
    """One thing a block adds to the stream: ``scale`` times what the module at ``path`` in it gives.

    ``kind`` is ``attention`` (or what stands in its place: a state-space mixer, a convolution) or
    ``feedforward``. With ``carries_stream`` the module adds the stream itself: its contribution is its output
    minus the argument ``residual``.
    """

    kind: str
    path: str
    scale: float = 1.0
    carries_stream: bool = False


@dataclass(frozen=True)
class Insides:
    """One block's norm placement and its branches, None where the identity fails."""

    norm_placement: str
    branches: tuple[Branch, ...] | None


def look_inside(
    backbone: nn.Module, sites: Sequence[Site], layout: Layout, ids: torch.Tensor
) -> tuple[Insides, ...]:
    """Return the insides of every layer, from one pass over ``ids`` ``[batch, token]``."""
    config = getattr(backbone, "config", None)
    text = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
    scales = list(_scales(text, len(sites)))
    whole = getattr(config, "model_type", None) in ADD_THE_STREAM_THEMSELVES
    found: list[Insides] = []
    calls: list[InnerCall] = []
    stream: list[torch.Tensor] = []
    busy = [False]  # while a norm is being tried out, its own hook must not speak

    def watched(layer: int, forward: Any) -> Any:
        site = sites[layer]

        @functools.wraps(forward)
        def watching(*args: Any, **kwargs: Any) -> Any:
            received = layout.tokens(pick(given(args, kwargs), site.source)).detach().clone()
            calls.clear()
            stream[:] = [received]
            output = forward(*args, **kwargs)
            returned = layout.tokens(pick(output, site.target)).detach().clone()
            stream.clear()
            busy[0] = True
            try:
                found.append(_insides(received, returned, calls, scales, whole))
            finally:
                busy[0] = False
            return output

        return watching

    def inside(path: str) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            if busy[0] or not stream:
                return
            like = stream[0]
            inputs = [_flat(tensor, like) for _, tensor in leaves(given(args, kwargs)) if _fits(tensor, like)]
            outputs = [tensor for _, tensor in leaves(output) if _fits(tensor, like)]
            call = InnerCall(path, module, inputs, _flat(outputs[0], like) if outputs else None)
            if whole and isinstance(residual := kwargs.get("residual", pick(args, (1,))), torch.Tensor):
                call.residual = _flat(residual, like) if _fits(residual, like) else None
            calls.append(call)

        return hook

    with ExitStack() as stack:
        for block in dict.fromkeys(site.block for site in sites):
            for path, module in block.named_modules():
                if module is not block:
                    stack.callback(module.register_forward_hook(inside(path), with_kwargs=True).remove)
        stack.enter_context(wrapping(sites, range(len(sites)), watched))
        run_backbone(backbone, ids, torch.ones_like(ids))
    return tuple(found)


def _insides(
    received: torch.Tensor,
    returned: torch.Tensor,
    calls: Sequence[InnerCall],
    scales: Sequence[float],
    whole: bool,
) -> Insides:
    placement = place_norms(received, returned, calls)
    if placement == "post":  # the stream itself is normalised: nothing is only added
        return Insides(placement, None)
    return Insides(placement, find_branches(received, returned, calls, scales, whole))


def find_branches(
    received: torch.Tensor,
    returned: torch.Tensor,
    calls: Sequence[InnerCall],
    scales: Sequence[float] = (1.0,),
    whole: bool = False,
) -> tuple[Branch, ...] | None:
    """Return the fewest module outputs whose sum is what a block adds, None if there are none.

    Args:
        received: ``[batch, token, hidden]`` before the block.
        returned: The same behind it.
        calls: The modules inside, in the order in which they ended.
        scales: Factors that the configuration knows.
        whole: Whether sub-layers add the stream themselves, as in BLOOM.
    """
    candidates = _candidates(received, calls, whole)
    for count in (1, 2, 3):
        if count == 3 and len(candidates) > MOST_CANDIDATES // 2:
            break
        for scale in scales:
            for chosen in itertools.combinations(candidates, count):
                outputs = [output for _, output in chosen]
                if _adds_up(received, outputs, [scale] * count, returned):
                    return _branches([call for call, _ in chosen], [scale] * count, calls, whole)
    # In half precision a fitted factor proves nothing.
    if returned.dtype.itemsize >= 4 and bool(returned.isfinite().all()):
        for chosen in itertools.combinations(candidates, 2):
            outputs = [output for _, output in chosen]
            columns = torch.stack([output.flatten().double() for output in outputs], dim=1)
            update = (returned.double() - received.double()).flatten()[:, None]
            fitted = torch.linalg.lstsq(columns.cpu(), update.cpu()).solution.flatten().tolist()
            if all(map(math.isfinite, fitted)) and _adds_up(received, outputs, fitted, returned):
                return _branches([call for call, _ in chosen], fitted, calls, whole)
    return None


def _candidates(
    received: torch.Tensor, calls: Sequence[InnerCall], whole: bool
) -> list[tuple[InnerCall, torch.Tensor]]:
    """Return the calls whose output may be added, outer modules before what they pass on from inside."""
    found: list[tuple[InnerCall, torch.Tensor]] = []
    for call in sorted(calls, key=lambda call: call.path.count(".")):
        if call.output is None or (whole and call.residual is None):
            continue
        output = call.output - call.residual if whole else call.output  # type: ignore[operator]
        if (
            output.ne(0).any()
            and output.isfinite().all()
            and not any(torch.equal(output, other) for _, other in found)
        ):
            found.append((call, output))
    order = {id(call): place for place, call in enumerate(calls)}
    return sorted(found[:MOST_CANDIDATES], key=lambda item: order[id(item[0])])


def _adds_up(
    received: torch.Tensor, outputs: Sequence[torch.Tensor], scales: Sequence[float], returned: torch.Tensor
) -> bool:
    """Return whether stream in + scaled outputs = stream out."""
    if returned.dtype.itemsize >= 4:  # some models keep a float32 stream around bf16 modules
        update = returned.double() - received.double()
        total = sum(scale * output.double() for scale, output in zip(scales, outputs, strict=True))
        return bool((total - update).norm() <= TOLERANCE * update.norm())
    # Half precision rounds more than a small update is worth, so the sum is redone as a model would.
    terms = [output * scale if scale != 1 else output for scale, output in zip(scales, outputs, strict=True)]
    terms = [term.to(received.dtype) for term in terms]
    sums = [functools.reduce(torch.add, order, received) for order in (terms, terms[::-1])]
    sums.append(received + functools.reduce(torch.add, terms))
    return any(torch.equal(total, returned) for total in sums)


def _branches(
    chosen: Sequence[InnerCall], scales: Sequence[float], calls: Sequence[InnerCall], whole: bool
) -> tuple[Branch, ...]:
    kinds = [_kind(call, calls) for call in chosen]
    if None in kinds:  # names that say nothing: tokens are mixed first
        kinds = [
            "attention" if place == 0 and len(chosen) > 1 else "feedforward" for place in range(len(kinds))
        ]
        if len(chosen) == 1:
            kinds = ["attention"]
    return tuple(
        Branch(str(kind), call.path, scale, whole)
        for kind, call, scale in zip(kinds, chosen, scales, strict=True)
    )


def _kind(call: InnerCall, calls: Sequence[InnerCall]) -> str | None:
    """Return what a call's module does by its name; a norm's by the name of what it normalises."""
    path = call.path
    if call.inputs and not list(call.module.children()) and is_norm(call.module, call.inputs[0]):
        producers = [
            other.path
            for other in calls
            if other is not call and other.output is not None and torch.equal(other.output, call.inputs[0])
        ]
        path = min(producers, key=lambda name: name.count("."), default=path)
    if ATTENTION.search(path):
        return "attention"
    return "feedforward" if FEEDFORWARD.search(path) else None


def _scales(config: Any, layers: int) -> Iterator[float]:
    """Yield 1, then the factors that a configuration names, whole and shared among the layers."""
    yield 1.0
    values = config.to_dict() if hasattr(config, "to_dict") else {}
    for name, value in values.items():
        if SCALE.search(str(name)) and isinstance(value, float) and value not in (0.0, 1.0):
            yield value
            yield value / math.sqrt(layers)


def _fits(tensor: torch.Tensor, like: torch.Tensor) -> bool:
    return (
        tensor.is_floating_point() and tensor.numel() == like.numel() and tensor.shape[-1] == like.shape[-1]
    )


def _flat(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return a copy with the stream's shape where only the batch and token axes were merged."""
    return tensor.detach().clone().reshape(like.shape)
