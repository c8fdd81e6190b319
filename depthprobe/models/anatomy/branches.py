"""What the blocks are made of inside: where their norms are, and which modules' outputs they add.

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

from depthprobe.models.anatomy.architectures import ADD_THE_STREAM_THEMSELVES
from depthprobe.models.anatomy.block_kinds import kind_of, prefix_of
from depthprobe.models.anatomy.block_sites import Site, wrapping
from depthprobe.models.anatomy.norms import InnerCall, is_norm, place_norms
from depthprobe.models.anatomy.stream import equal, given, leaves, pick, run_backbone

# Right answers stay below 6e-5 in float32, wrong ones above 0.87 (all families of transformers 5.23).
TOLERANCE = 1e-3

# What a path says about a branch whatever the module is: a convolution after the MLP belongs to the MLP.
ATTENTION = re.compile(r"attn|attention|mamba|rwkv|time_mix", re.I)
FEEDFORWARD = re.compile(r"mlp|ffn|feed_?forward|moe|expert|channel_mix", re.I)
SCALE = re.compile(r"multiplier|scale|alpha|factor")
MOST_CANDIDATES = 24
FEW = 64  # components on which combinations of candidates are tried first


@dataclass(frozen=True)
class Branch:
    """One thing a block adds to the stream: ``scale`` times the output of its module at ``path``.

    ``kind`` is ``attention`` (or what takes its place: a state-space mixer, a convolution) or
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


def look_inside(backbone: nn.Module, sites: Sequence[Site], ids: torch.Tensor) -> tuple[Insides, ...]:
    """Return the insides of every layer, from one pass over ``ids`` ``[batch, token]``.

    The stream is taken as the model lays it out, with all its places, so that the outputs of modules inside
    can be compared with it.
    """
    config: Any = getattr(backbone, "config", None)
    text = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
    scales = list(_scales(text, len(sites)))
    whole = getattr(config, "model_type", None) in ADD_THE_STREAM_THEMSELVES
    found: list[Insides] = []
    calls: list[InnerCall] = []
    running: list[tuple[nn.Module, torch.Tensor]] = []
    prefix = prefix_of(backbone)
    busy = [False]  # while a norm is being tried out, its own hook must do nothing

    def watched(layer: int, forward: Any) -> Any:
        site = sites[layer]

        @functools.wraps(forward)
        def watching(*args: Any, **kwargs: Any) -> Any:
            received = pick(given(args, kwargs), site.source).detach().clone()
            calls.clear()
            running[:] = [(site.block, received)]
            output = forward(*args, **kwargs)
            returned = pick(output, site.target).detach().clone()
            running.clear()
            busy[0] = True
            try:
                found.append(_insides(received, returned, calls, scales, whole, prefix))
            finally:
                busy[0] = False
            return output

        return watching

    def inside(block: nn.Module, path: str) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            if busy[0] or not running or running[0][0] is not block:  # blocks may share modules
                return
            shape = running[0][1].shape
            there = [tensor for _, tensor in leaves(given(args, kwargs)) if _fits(tensor, shape)]
            inputs = [tensor.detach().clone().reshape(shape) for tensor in there]
            residual = _residual(args, kwargs, shape) if whole else None
            call = InnerCall(
                path, module, inputs, _kept(_output(output, shape), shape), _kept(residual, shape)
            )
            calls.append(call)

        return hook

    with ExitStack() as stack:
        for block in dict.fromkeys(site.block for site in sites):
            for path, module in block.named_modules():
                if module is not block:
                    hook = module.register_forward_hook(inside(block, path), with_kwargs=True)
                    stack.callback(hook.remove)
        stack.enter_context(wrapping(sites, range(len(sites)), watched))
        run_backbone(backbone, ids, torch.ones_like(ids))
    return tuple(found)


def _insides(
    received: torch.Tensor,
    returned: torch.Tensor,
    calls: Sequence[InnerCall],
    scales: Sequence[float],
    whole: bool,
    prefix: str,
) -> Insides:
    placement = place_norms(received, returned, calls)
    if placement == "post":  # the stream itself is normalised: the block does more than add to it
        return Insides(placement, None)
    return Insides(placement, find_branches(received, returned, calls, scales, whole, prefix))


def find_branches(
    received: torch.Tensor,
    returned: torch.Tensor,
    calls: Sequence[InnerCall],
    scales: Sequence[float] = (1.0,),
    whole: bool = False,
    prefix: str = "",
) -> tuple[Branch, ...] | None:
    """Return the fewest module outputs whose sum is what a block adds, None if there are none.

    Args:
        received: The stream before the block.
        returned: The same after it.
        calls: The modules inside, in the order in which they ended.
        scales: Factors that the configuration names.
        whole: Whether sub-layers add the stream themselves, as in BLOOM.
        prefix: The common prefix of the model's class names, see ``block_kinds.prefix_of``.
    """
    candidates = _candidates(received, returned, calls, whole)
    for count in (1, 2, 3):
        for scale in scales:
            for chosen in _promising(received, candidates, count, scale, returned):
                outputs = [output for _, output in chosen]
                if _adds_up(received, outputs, [scale] * count, returned):
                    return _branches([call for call, _ in chosen], [scale] * count, calls, whole, prefix)
    # In half precision a fitted factor proves nothing.
    if returned.dtype.itemsize >= 4 and bool(returned.isfinite().all()):
        for chosen in itertools.combinations(candidates, 2):
            outputs = [output for _, output in chosen]
            columns = torch.stack([output.flatten().double() for output in outputs], dim=1)
            update = (returned.double() - received.double()).flatten()[:, None]
            fitted = torch.linalg.lstsq(columns.cpu(), update.cpu()).solution.flatten().tolist()
            if all(map(math.isfinite, fitted)) and _adds_up(received, outputs, fitted, returned):
                return _branches([call for call, _ in chosen], fitted, calls, whole, prefix)
    return None


def _candidates(
    received: torch.Tensor, returned: torch.Tensor, calls: Sequence[InnerCall], whole: bool
) -> list[tuple[InnerCall, torch.Tensor]]:
    """Return the calls whose output may be added; where inner modules give the same, only the outer one.

    Not the stream itself, before or after the block: x - x + y = y holds for anything (MobileBERT).
    """
    found: list[tuple[InnerCall, torch.Tensor]] = []
    for call in sorted(calls, key=lambda call: call.path.count(".")):
        if call.output is None or (whole and call.residual is None):
            continue
        output = call.output - call.residual if whole else call.output  # type: ignore[operator]
        if (
            output.ne(0).any()
            and output.isfinite().all()
            and not any(equal(output, other) for other in (received, returned))
            and not any(torch.equal(output, other) for _, other in found)
        ):
            found.append((call, output))
    order = {id(call): place for place, call in enumerate(calls)}
    return sorted(found[:MOST_CANDIDATES], key=lambda item: order[id(item[0])])


def _promising(
    received: torch.Tensor,
    candidates: Sequence[tuple[InnerCall, torch.Tensor]],
    count: int,
    scale: float,
    returned: torch.Tensor,
) -> Iterator[tuple[tuple[InnerCall, torch.Tensor], ...]]:
    """Yield the combinations of candidates that nearly add up on a few components.

    There may be thousands (triples in a T5 decoder), too many to try each on all components.
    """
    chosen = torch.combinations(torch.arange(len(candidates)), count)
    if not len(chosen):
        return
    step = max(received.numel() // FEW, 1)
    x, y = (tensor.flatten()[::step].double().cpu() for tensor in (received, returned))
    outputs = torch.stack([scale * output.flatten()[::step].double().cpu() for _, output in candidates])
    terms = outputs[chosen]
    error = (x + terms.sum(dim=1) - y).norm(dim=-1)
    rounding = torch.finfo(received.dtype).eps * (x.norm() + y.norm() + terms.norm(dim=-1).sum(dim=1))
    for places in chosen[error <= 0.1 * (y - x).norm() + count * rounding].tolist():
        yield tuple(candidates[place] for place in places)


def _adds_up(
    received: torch.Tensor, outputs: Sequence[torch.Tensor], scales: Sequence[float], returned: torch.Tensor
) -> bool:
    """Return whether stream in + scaled outputs = stream out."""
    if returned.dtype.itemsize >= 4:  # some models keep a float32 stream around bf16 modules
        update = returned.double() - received.double()
        total = sum(scale * output.double() for scale, output in zip(scales, outputs, strict=True))
        return bool((total - update).norm() <= TOLERANCE * update.norm())
    # Half precision may round by more than a small update, so the sum is redone as a model would.
    ways = [list(zip(scales, outputs, strict=True))]
    for first in range(len(outputs) - 1):  # neighbours that are added before they are scaled
        together = functools.reduce(torch.add, outputs[first : first + 2])
        ways.append([*ways[0][:first], (scales[first], together), *ways[0][first + 2 :]])
    sums = []
    for way in ways:
        terms = [(output * scale if scale != 1 else output).to(received.dtype) for scale, output in way]
        sums += [functools.reduce(torch.add, order, received) for order in (terms, terms[::-1])]
        sums.append(received + functools.reduce(torch.add, terms))
    return any(torch.equal(total, returned) for total in sums)


def _branches(
    chosen: Sequence[InnerCall],
    scales: Sequence[float],
    calls: Sequence[InnerCall],
    whole: bool,
    prefix: str,
) -> tuple[Branch, ...]:
    kinds = [_kind(call, calls, prefix) for call in chosen]
    if None in kinds:  # names say nothing: assume that tokens are mixed first
        kinds = [
            "attention" if place == 0 and len(chosen) > 1 else "feedforward" for place in range(len(kinds))
        ]
        if len(chosen) == 1:
            kinds = ["attention"]
    return tuple(
        Branch(str(kind), call.path, scale, whole)
        for kind, call, scale in zip(kinds, chosen, scales, strict=True)
    )


def _kind(call: InnerCall, calls: Sequence[InnerCall], prefix: str) -> str | None:
    """Return what a call's module does, by its path, then its class; a norm does what it normalises."""
    if call.inputs and not list(call.module.children()) and is_norm(call.module, call.inputs[0]):
        producers = [
            other
            for other in calls
            if other is not call and other.output is not None and torch.equal(other.output, call.inputs[0])
        ]
        call = min(producers, key=lambda other: other.path.count("."), default=call)
    if ATTENTION.search(call.path):
        return "attention"
    if FEEDFORWARD.search(call.path):
        return "feedforward"
    name, cls = call.path.rpartition(".")[2], type(call.module).__name__.removeprefix(prefix)
    kind = kind_of(name, cls, call.module)
    return "feedforward" if kind in ("feed-forward", "experts") else kind and "attention"


def _scales(config: Any, layers: int) -> Iterator[float]:
    """Yield 1, then the factors that a configuration names, as they are and divided by sqrt(layers)."""
    yield 1.0
    values = config.to_dict() if hasattr(config, "to_dict") else {}
    for name, value in values.items():
        if SCALE.search(str(name)) and isinstance(value, float) and value not in (0.0, 1.0):
            yield value
            yield value / math.sqrt(layers)


def contribution(
    branch: Branch, args: Any, kwargs: dict[str, Any], output: Any, shape: torch.Size
) -> torch.Tensor | None:
    """Return what a branch adds to the stream in one call of its module, in the stream's shape.

    Args:
        branch: The branch.
        args: What the module was called with.
        kwargs: The same, by name.
        output: What it returned.
        shape: Of the stream, as the model lays it out.

    Returns:
        The module's own dtype, float32 at least where something is computed; often a view of ``output``. None
        if nothing of the stream's size came out.
    """
    added = _output(output, shape)
    residual = _residual(args, kwargs, shape) if branch.carries_stream else None
    if added is None or (branch.carries_stream and residual is None):
        return None
    if branch.carries_stream or branch.scale != 1:  # half precision must not be rounded again
        added = added.to(torch.promote_types(added.dtype, torch.float32))
    if residual is not None:
        added = added.reshape(shape) - residual.to(added.device, added.dtype).reshape(shape)
    return (added if branch.scale == 1 else added * branch.scale).reshape(shape)


def identity_holds(
    received: torch.Tensor, returned: torch.Tensor, added: Sequence[torch.Tensor], tokens_at_once: int
) -> bool:
    """Return whether stream in + branches = stream out for a block's tokens, up to rounding.

    A model that adds n branches b rounds n sums, each at most |x| + sum |b| and the last one y, and rounds
    once what it scales. So rounding explains an error of n u (|x| + |y| + sum |b|) per component, u being
    half the machine epsilon of the stream, and nothing beyond.

    Args:
        received: ``[token, hidden]`` before the block, any floating dtype, on a device that has float64.
        returned: The same after it, in the stream's own dtype.
        added: What each branch adds.
        tokens_at_once: How many tokens are converted to float64 at a time.
    """
    parts = list(zip(*(t.split(tokens_at_once) for t in (received, returned, *added)), strict=True))
    error, update = torch.stack([_squared_errors(*part) for part in parts]).sum(dim=0)
    if error <= TOLERANCE**2 * update:
        return True
    return all(_is_rounding(returned.dtype, *part) for part in parts)


def _squared_errors(x: torch.Tensor, y: torch.Tensor, *added: torch.Tensor) -> torch.Tensor:
    """Return the squared norms of what the branches leave unexplained, and of what the block adds."""
    update = y.double() - x.double()
    error = functools.reduce(torch.sub, added, update)
    return torch.stack([error.square().sum(), update.square().sum()])


def _is_rounding(dtype: torch.dtype, x: torch.Tensor, y: torch.Tensor, *added: torch.Tensor) -> bool:
    """Return whether rounding explains all that the branches leave unexplained."""
    x, y, terms = x.double(), y.double(), [term.double() for term in added]
    error = functools.reduce(torch.sub, terms, y - x)
    largest = functools.reduce(torch.add, [term.abs() for term in terms], x.abs() + y.abs())
    limits = torch.finfo(dtype)
    rounding = len(terms) * (limits.eps / 2 * largest + limits.eps * limits.smallest_normal)
    return not bool((error.abs() > rounding).any())


def _fits(tensor: torch.Tensor, shape: torch.Size) -> bool:
    return tensor.is_floating_point() and tensor.numel() == math.prod(shape) and tensor.shape[-1] == shape[-1]


def _output(output: Any, shape: torch.Size) -> torch.Tensor | None:
    """Return the first tensor of the stream's size in what a module returned."""
    return next((tensor for _, tensor in leaves(output) if _fits(tensor, shape)), None)


def _residual(args: Any, kwargs: dict[str, Any], shape: torch.Size) -> torch.Tensor | None:
    """Return the argument ``residual``, by name or in the second place."""
    residual = kwargs.get("residual", pick(args, (1,)))
    return residual if isinstance(residual, torch.Tensor) and _fits(residual, shape) else None


def _kept(tensor: torch.Tensor | None, shape: torch.Size) -> torch.Tensor | None:
    """Return a copy with the stream's shape where only the batch and token axes were merged."""
    return None if tensor is None else tensor.detach().clone().reshape(shape)
