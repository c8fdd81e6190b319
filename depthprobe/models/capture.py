"""Context managers that read the residual stream, and what is added to it, during a forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from depthprobe.models.anatomy.anatomy import Anatomy
from depthprobe.models.anatomy.block_sites import Forward, wrapping
from depthprobe.models.anatomy.branches import Branch, contribution
from depthprobe.models.anatomy.stream import given, pick

Reader = Callable[[int, torch.Tensor], None]
BranchReader = Callable[[int, str, torch.Tensor], None]


@contextmanager
def reading_stream(anatomy: Anatomy, read: Reader) -> Iterator[None]:
    """Call ``read(boundary, stream)`` at x^0 .. x^L, in order, in every forward pass inside.

    ``stream`` is a view ``[batch, token, hidden]`` of the model's own tensor that begins with the first
    token of the text (after the last one there may be more places): take from it what is wanted and keep no
    reference, so that nothing outlives the pass. The blocks are restored on leaving, even when the body
    raises.
    """
    sites, layout = anatomy.sites, anatomy.layout

    def reading(layer: int, forward: Forward) -> Forward:
        def run(*args: Any, **kwargs: Any) -> Any:
            if layer == 0:  # what the first block receives is x^0, whatever happens to it later
                read(0, layout.tokens(pick(given(args, kwargs), sites[0].source)))
            output = forward(*args, **kwargs)
            read(layer + 1, layout.tokens(pick(output, sites[layer].target)))
            return output

        return run

    with wrapping(sites, range(anatomy.layers), reading):
        yield


@contextmanager
def reading_branches(anatomy: Anatomy, read: BranchReader) -> Iterator[None]:
    """Call ``read(layer, kind, added)`` for what each branch adds to the stream, in every pass inside.

    The calls of a layer come between those of :func:`reading_stream` for its two boundaries; layers
    without branches have none. ``kind`` is that of ``branches.Branch``, and may come
    more than once in a layer. ``added`` is ``[batch, token, hidden]``, like the stream there: take from it at
    once what is wanted, as the block may write into it afterwards. The modules are restored on leaving.
    """
    sites, layout = anatomy.sites, anatomy.layout
    running: list[tuple[int, torch.Size]] = []

    def noting(layer: int, forward: Forward) -> Forward:
        def run(*args: Any, **kwargs: Any) -> Any:
            running[:] = [(layer, pick(given(args, kwargs), sites[layer].source).shape)]
            try:
                return forward(*args, **kwargs)
            finally:
                running.clear()

        return run

    def hook(own: dict[int, list[Branch]]) -> Callable[..., None]:
        def reading(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            for layer, shape in running:
                for branch in own.get(layer, ()):
                    added = contribution(branch, args, kwargs, output, shape)
                    if added is not None:
                        read(layer, branch.kind, layout.tokens(added))

        return reading

    # A module may serve several layers: in a block that is called again, or shared by several blocks.
    found: dict[nn.Module, dict[int, list[Branch]]] = {}
    for layer, inside in enumerate(anatomy.insides):
        for branch in inside.branches or ():
            module = sites[layer].block.get_submodule(branch.path)
            found.setdefault(module, {}).setdefault(layer, []).append(branch)
    with ExitStack() as stack:
        for module, own in found.items():
            stack.callback(module.register_forward_hook(hook(own), with_kwargs=True).remove)
        stack.enter_context(wrapping(sites, range(anatomy.layers), noting))
        yield
