"""Context managers that read the residual stream as a forward pass goes by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from depthprobe.models.anatomy import Anatomy
from depthprobe.models.sites import Forward, wrapping
from depthprobe.models.stream import given, pick

Reader = Callable[[int, torch.Tensor], None]


@contextmanager
def reading_stream(anatomy: Anatomy, read: Reader) -> Iterator[None]:
    """Call ``read(boundary, stream)`` at x^0 .. x^L, in order, in every forward pass inside.

    ``stream`` is a view ``[batch, token, hidden]`` of the model's own tensor that begins with the first
    token of the text (behind the last one there may be more places): take from it what is wanted and keep no
    reference, so that nothing outlives the pass. The blocks are as before on leaving, also when the
    body raises.
    """
    sites, layout = anatomy.sites, anatomy.layout

    def reading(layer: int, forward: Forward) -> Forward:
        def run(*args: Any, **kwargs: Any) -> Any:
            if layer == 0:  # what the first block receives is x^0, whatever is done to it later
                read(0, layout.tokens(pick(given(args, kwargs), sites[0].source)))
            output = forward(*args, **kwargs)
            read(layer + 1, layout.tokens(pick(output, sites[layer].target)))
            return output

        return run

    with wrapping(sites, range(anatomy.layers), reading):
        yield
