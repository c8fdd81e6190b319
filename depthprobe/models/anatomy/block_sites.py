"""Where each layer runs: which module is called, at which call of it; and how its forward is wrapped.

Most models call each block once. ALBERT and its like call one block for several layers: there a layer is
the n-th call in a pass. Forwards are replaced on the module itself, as accelerate does it: that also
reaches blocks whose ``forward`` is called directly, where no hook would fire.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn

from depthprobe.models.anatomy.stream import Path

Forward = Callable[..., Any]


@dataclass(frozen=True)
class Site:
    """Where one layer runs: a call of a module in the block list, and where the stream is in that call.

    ``block`` is the module, ``index`` its place in the list of blocks, and ``call`` counts its earlier
    calls in the same pass. ``source`` is the stream's path among the arguments, ``target`` its path in the
    return value. ``carried`` are pairs of such paths (in the return value, among the arguments) for
    everything else that one block hands to the next.
    """

    block: nn.Module
    index: int
    call: int
    source: Path
    target: Path
    carried: tuple[tuple[Path, Path], ...] = ()


@contextmanager
def wrapping(
    sites: Sequence[Site], layers: Collection[int], wrap: Callable[[int, Forward], Forward]
) -> Iterator[None]:
    """Give the blocks of ``layers`` the forward ``wrap(layer, forward)``; on leaving they get back their own.

    Nested contexts wrap what they find: the innermost one sees a call first.
    """
    calls: dict[nn.Module, list[int]] = {}
    for layer, site in enumerate(sites):
        calls.setdefault(site.block, []).append(layer)
    with ExitStack() as stack:
        for block, own in calls.items():
            if not any(layer in layers for layer in own):
                continue
            forward = block.forward
            forwards = [wrap(layer, forward) if layer in layers else forward for layer in own]
            new = forwards[0] if len(own) == 1 else _in_turn(forwards)
            set_for_now(block, "forward", functools.wraps(forward)(new), stack)
        yield


def _in_turn(forwards: Sequence[Forward]) -> Forward:
    """Return a forward that is each of ``forwards`` in turn: a pass calls a shared block once for each."""
    count = 0

    def forward(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        now = forwards[count % len(forwards)]
        count += 1
        return now(*args, **kwargs)

    return forward


def set_for_now(owner: Any, name: str, value: Any, stack: ExitStack) -> None:
    """Set an attribute; ``stack`` restores it, or removes it if the object had none of its own."""
    own = vars(owner)
    if name in own:
        stack.callback(own.__setitem__, name, own[name])
    else:
        stack.callback(own.pop, name, None)
    own[name] = value
