"""Gradients of chosen parameters, summed in float32 as each is ready; afterwards the model is as before.

A backward pass of one micro-batch gives gradients in the model's own dtype. Each is added to its sum as soon
as autograd has it and is then freed, so that besides the sums at most one parameter's gradient exists.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from depthprobe.models.anatomy.anatomy import Anatomy
from depthprobe.models.anatomy.block_sites import Forward, Site, wrapping
from depthprobe.models.anatomy.stream import given, pick, put
from depthprobe.models.gradients.parameters import Holding
from depthprobe.private_names import own_parameters

# (place in the list of holdings, name of the parameter in it)
Key = tuple[int, str]


class GradientSums:
    """Sums of gradients, float32 (float64 for float64 parameters), by :data:`Key`; zero where none came."""

    def __init__(self) -> None:
        self.sums: dict[Key, torch.Tensor] = {}

    def add(self, key: Key, gradient: torch.Tensor) -> None:
        """Add one micro-batch's gradient of a parameter; the tensor itself may be kept."""
        known = self.sums.get(key)
        if known is None:
            wide = torch.promote_types(gradient.dtype, torch.float32)
            self.sums[key] = gradient.detach().to(wide)
        else:
            known.add_(gradient.detach().to(known.device))


def shared_parameters(holdings: Sequence[Holding]) -> set[int]:
    """Return the ids of parameters that several layers use."""
    uses = Counter(id(parameter) for holding in holdings for parameter in holding.parameters.values())
    return {parameter for parameter, count in uses.items() if count > 1}


@contextmanager
def summing_gradients(
    model: nn.Module,
    anatomy: Anatomy,
    holdings: Sequence[Holding],
    places: Collection[int],
    checkpointed: Collection[int] = (),
) -> Iterator[GradientSums]:
    """Sum the gradients of the parameters of some holdings over all backward passes inside.

    No other parameter gets a gradient, so that autograd stops below the lowest of these. A parameter that
    several layers share is seen by each through a leaf of its own: a layer's row holds the gradient
    through that layer alone; the sum over layers is what an optimiser would see.

    Args:
        model: Every parameter on a device. Frozen ones get gradients here like all others.
        anatomy: Its blocks.
        holdings: What :func:`depthprobe.models.gradients.parameters.holdings_of` gives.
        places: Which of them.
        checkpointed: Layers for which the forward pass keeps only their input; the backward pass runs them
            again. The numbers are the same: blocks in evaluation mode draw nothing at random.
    """
    sums = GradientSums()
    shared = shared_parameters(holdings)
    leaves: dict[Key, torch.Tensor] = {}
    aliases: dict[int, dict[int, torch.Tensor]] = {}
    for place in places:
        layer = holdings[place].layer
        for name, parameter in holdings[place].parameters.items():
            leaf: torch.Tensor = parameter
            if id(parameter) in shared:
                leaf = parameter.detach().requires_grad_()  # the same memory
                aliases.setdefault(layer, {})[id(parameter)] = leaf
            leaves[place, name] = leaf
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.callback(_drop_graphs, model)
        for parameter in model.parameters():
            stack.callback(_restore, parameter, parameter.requires_grad, parameter.grad)
            parameter.grad = None
            parameter.requires_grad_(False)
        for key, leaf in leaves.items():
            leaf.requires_grad_(True)
            stack.callback(leaf.register_post_accumulate_grad_hook(_taking(sums, key)).remove)

        def wrap(layer: int, forward: Forward) -> Forward:
            if layer in aliases:
                forward = _seeing(anatomy.blocks[layer], aliases[layer], forward)
            return _checkpointing(anatomy.sites[layer], forward) if layer in checkpointed else forward

        # One wrapping for both: a block called for several layers distinguishes them by counting.
        stack.enter_context(wrapping(anatomy.sites, {*aliases, *checkpointed}, wrap))
        yield sums


def _drop_graphs(model: nn.Module) -> None:
    """Detach what modules keep of a pass (RecurrentGemma its states) from its graph, which would live on."""
    for module in model.modules():
        for name, value in vars(module).items():
            if isinstance(value, torch.Tensor) and value.grad_fn is not None:
                vars(module)[name] = value.detach()


def _restore(parameter: nn.Parameter, requires_grad: bool, gradient: torch.Tensor | None) -> None:
    parameter.requires_grad_(requires_grad)
    parameter.grad = gradient


def _taking(sums: GradientSums, key: Key) -> Callable[[torch.Tensor], None]:
    def take(leaf: torch.Tensor) -> None:
        assert leaf.grad is not None, "autograd has just accumulated it"
        sums.add(key, leaf.grad)
        leaf.grad = None

    return take


def _seeing(block: nn.Module, aliases: dict[int, torch.Tensor], forward: Forward) -> Forward:
    """Return a block's forward that computes with other tensors for some parameters, given by their ids."""

    def run(*args: Any, **kwargs: Any) -> Any:
        with ExitStack() as stack:
            for module in block.modules():
                parameters = own_parameters(module)
                for name, parameter in parameters.items():
                    if parameter is not None and id(parameter) in aliases:
                        stack.callback(parameters.__setitem__, name, parameter)
                        parameters[name] = aliases[id(parameter)]
            return forward(*args, **kwargs)

    return run


def _checkpointing(site: Site, forward: Forward) -> Forward:
    """Return a block's forward that keeps only its input, and runs again when gradients are taken."""

    def on_a_copy(*args: Any, **kwargs: Any) -> Any:
        # A block may write into the stream it receives, which the second run starts from.
        named = given(args, kwargs)
        named = put(named, site.source, pick(named, site.source).clone())
        return forward(
            *(value for name, value in named.items() if isinstance(name, int)),
            **{name: value for name, value in named.items() if isinstance(name, str)},
        )

    def run(*args: Any, **kwargs: Any) -> Any:
        return checkpoint(on_a_copy, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)

    return run
