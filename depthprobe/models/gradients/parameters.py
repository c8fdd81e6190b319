"""Which of a model's parameters belong to which layer, and to which part of its block."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import nn

from depthprobe.models.anatomy.anatomy import Anatomy
from depthprobe.models.anatomy.block_kinds import CONTAINER, kind_of, prefix_of

ATTENTION, FEEDFORWARD, NORM, OTHER = "attention", "feedforward", "norm", "other"
PARTS = (ATTENTION, FEEDFORWARD, NORM, OTHER)

# Outside the blocks, as the stream meets them; the first counts as layer -1, the others as layer L.
EMBEDDING, FINAL_NORM, HEAD = "embedding", "final_norm", "head"

_NORM = re.compile("norm", re.I)
_FEEDFORWARD_NAME = re.compile("intermediate|^output$")
_PART_OF_KIND = {"feed-forward": FEEDFORWARD, "experts": FEEDFORWARD}


@dataclass
class Holding:
    """The parameters of one layer, or of one part outside the layers.

    ``parts`` lists the names of each part's parameters; ``parameters`` maps these names, relative to
    ``module``, to tensors, each once. Those in ``packed`` are stored as integers and have no gradient.
    """

    layer: int
    module: nn.Module
    is_block: bool
    parameters: dict[str, nn.Parameter] = field(default_factory=dict)
    parts: dict[str, list[str]] = field(default_factory=dict)
    packed: dict[str, nn.Parameter] = field(default_factory=dict)


def holdings_of(model: nn.Module, anatomy: Anatomy) -> list[Holding]:
    """Return what each layer holds, in order, then embedding, final norm and head, where there are any.

    Every norm of a block counts as ``norm``, even inside its attention; ``attention`` is whatever mixes
    tokens, ``feedforward`` includes experts and their router. A parameter used in several places outside
    the blocks (a tied head) is listed at the first.
    """
    prefix = prefix_of(model)
    found = [_holding(layer, block, prefix) for layer, block in enumerate(anatomy.blocks)]
    seen = {id(parameter) for holding in found for parameter in holding.parameters.values()}
    ends = [
        (EMBEDDING, -1, anatomy.embedding),
        (FINAL_NORM, anatomy.layers, anatomy.final_norm),
        (HEAD, anatomy.layers, anatomy.head),
    ]
    for name, layer, module in ends:
        if module is None:
            continue
        holding = Holding(layer, module, is_block=False)
        for path, parameter in module.named_parameters():
            if id(parameter) in seen:
                continue
            seen.add(id(parameter))
            if parameter.is_floating_point():
                holding.parameters[path] = parameter
                holding.parts.setdefault(name, []).append(path)
            else:
                holding.packed[path] = parameter
        if holding.parameters or holding.packed:
            found.append(holding)
    return found


def _holding(layer: int, block: nn.Module, prefix: str) -> Holding:
    holding = Holding(layer, block, is_block=True)
    for path, parameter in block.named_parameters():
        if parameter.is_floating_point():
            holding.parameters[path] = parameter
            holding.parts.setdefault(part_of(block, path, prefix), []).append(path)
        else:
            holding.packed[path] = parameter
    return holding


def part_of(block: nn.Module, path: str, prefix: str = "") -> str:
    """Return the part of a block that a parameter belongs to, one of :data:`PARTS`.

    Args:
        block: The block.
        path: The parameter's name in it.
        prefix: The common prefix of the model's class names, as ``block_kinds.prefix_of`` gives it.
    """
    modules = list(_way(block, path))
    if modules and _is_norm_layer(modules[-1][1]):
        return NORM
    around = None
    for name, module in modules:
        cls = type(module).__name__.removeprefix(prefix)
        kind = kind_of(name, cls, module)
        if kind == "convolution" and _FEEDFORWARD_NAME.search(name):  # SqueezeBERT's matrices
            kind = "feed-forward"
        if kind is None:
            continue
        if not (CONTAINER.search(cls) and any(True for _ in module.children())):
            return _PART_OF_KIND.get(kind, ATTENTION)
        around = around or kind  # may hold parts of several kinds; decides if nothing inside does
    return OTHER if around is None else _PART_OF_KIND.get(around, ATTENTION)


def _way(block: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules from a block down to the owner of a parameter, outermost first."""
    module = block
    for name in path.split(".")[:-1]:
        module = getattr(module, name) if not isinstance(module, nn.ModuleDict) else module[name]
        yield name, module


def _is_norm_layer(module: nn.Module) -> bool:
    return next(module.children(), None) is None and _NORM.search(type(module).__name__) is not None


def names_in(model: nn.Module, module: nn.Module) -> str:
    """Return the dotted path of a module in its model, for messages; its class name if it has none."""
    return next((path for path, other in model.named_modules() if other is module), type(module).__name__)


def count(parameters: dict[str, torch.Tensor]) -> int:
    """Return how many numbers some parameters hold."""
    return sum(parameter.numel() for parameter in parameters.values())
