"""Context managers that read the residual stream as a forward pass goes by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from depthprobe.models.anatomy import Anatomy
from depthprobe.models.stream import stream_in, stream_out

Reader = Callable[[int, torch.Tensor], None]


@contextmanager
def reading_stream(anatomy: Anatomy, read: Reader) -> Iterator[None]:
    """Call ``read(boundary, stream)`` at x^0 .. x^L, in order, in every forward pass inside.

    ``stream`` is the model's own ``[batch, token, hidden]`` tensor: take from it what is wanted and
    keep no reference, so that nothing outlives the pass. The hooks are removed on leaving, also when
    the body raises.
    """

    def first(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        stream = stream_in(args, kwargs)
        assert stream is not None, "the anatomy's pass has shown that the first block receives a stream"
        read(0, stream)

    def after(boundary: int) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            stream = stream_out(output)
            assert stream is not None, "the anatomy's pass has shown that every block returns a stream"
            read(boundary, stream)

        return hook

    with ExitStack() as stack:
        # Before any other hook of the first block: what it receives is x^0, whatever is done to it later.
        handle = anatomy.blocks[0].register_forward_pre_hook(first, with_kwargs=True)
        stack.callback(handle.remove)
        for layer, block in enumerate(anatomy.blocks):
            stack.callback(block.register_forward_hook(after(layer + 1)).remove)
        yield
