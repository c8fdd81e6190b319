"""How a model's gradients are taken in the available memory: all at once, or a few blocks in each pass.

Both ways are exact. All at once costs one backward pass. Each group costs a forward pass and a backward
pass down to its lowest block, and no more than one group's gradients are ever held.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from transformers import PretrainedConfig

from depthprobe.errors import OptionError
from depthprobe.models.gradients.parameters import Holding
from depthprobe.models.sizing.footprint import gradient_token_bytes, room_on, widths_of

AUTO, WHOLE = "auto", "whole"

# Share of free memory, which leaves room for the allocator's rounding and fragments.
USABLE = 0.8

# Enough for matrix products to run at full speed; larger micro-batches only cost memory.
MOST_TOKENS = {"cuda": 16_384}
MOST_TOKENS_ELSEWHERE = 2048


@dataclass(frozen=True)
class GradientPlan:
    """How to take the gradients.

    ``groups`` are places in the list of holdings, one pass each, the deepest first; with ``checkpoint``
    blocks are run again in the backward pass instead of keeping what they computed; ``tokens`` is the most
    that a micro-batch may hold.
    """

    groups: tuple[tuple[int, ...], ...]
    checkpoint: bool
    tokens: int


def check_memory(memory: str | int) -> None:
    """Raise an OptionError unless ``memory`` is ``auto``, ``whole`` or a number of blocks."""
    if memory in (AUTO, WHOLE) or (isinstance(memory, int) and memory >= 1):
        return
    raise OptionError(f"--memory must be auto, whole or a number of blocks of at least 1, got {memory}.")


def plan_gradients(
    holdings: Sequence[Holding],
    config: PretrainedConfig,
    hidden: int,
    dtype: torch.dtype,
    device: torch.device,
    memory: str | int = AUTO,
    free_bytes: int | None = None,
    done: Collection[int] = (),
) -> GradientPlan:
    """Return how to take all gradients.

    Args:
        holdings: The layers' parameters, and those outside.
        config: Of the model; its widths decide what a token in flight costs.
        hidden: Width of the stream.
        dtype: Of the weights.
        device: Where they are.
        memory: ``auto`` takes all at once where gradients and activations fit; ``whole`` in any case; a
            number takes that many blocks in each pass.
        free_bytes: What is free besides the weights; None asks the device.
        done: Places of holdings that are not wanted.

    Raises:
        OptionError: if ``memory`` is anything else.
    """
    check_memory(memory)
    free = room_on(device).free if free_bytes is None else free_bytes
    usable = int(USABLE * free)
    layers = sum(holding.is_block for holding in holdings)
    kept, rerun = gradient_token_bytes(widths_of(config, layers, hidden), dtype.itemsize)
    sizes = [0 if place in done else gradient_bytes(holding) for place, holding in enumerate(holdings)]
    most = MOST_TOKENS.get(device.type, MOST_TOKENS_ELSEWHERE)
    everything = sum(sizes)
    if memory == WHOLE or (memory == AUTO and everything + rerun * MOST_TOKENS_ELSEWHERE <= usable):
        checkpoint = everything + kept * MOST_TOKENS_ELSEWHERE > usable
        room = usable - everything
        together = tuple(place for place, size in enumerate(sizes) if size)
        groups: tuple[tuple[int, ...], ...] = (together,) if together else ()
    else:
        checkpoint = True
        if isinstance(memory, int):
            capacity = memory * max(gradient_bytes(holding) for holding in holdings if holding.is_block)
        else:
            capacity = usable - rerun * MOST_TOKENS_ELSEWHERE
        groups = _pack(holdings, sizes, capacity)
        room = usable - max((sum(sizes[place] for place in group) for group in groups), default=0)
    tokens = max(room // (rerun if checkpoint else kept), 1)
    return GradientPlan(groups, checkpoint, min(1 << (int(tokens).bit_length() - 1), most))


def gradient_bytes(holding: Holding) -> int:
    """Return the bytes of a holding's summed gradients: in float32, or float64 for float64 parameters."""
    return sum(
        parameter.numel() * max(parameter.element_size(), 4) for parameter in holding.parameters.values()
    )


def _pack(holdings: Sequence[Holding], sizes: Sequence[int], capacity: int) -> tuple[tuple[int, ...], ...]:
    """Return consecutive holdings in groups of about ``capacity`` bytes, at least one, the deepest first.

    Together, neighbours cost one backward pass down to the lower one. A small holding (a final norm) goes
    with its neighbour in any case.
    """
    order = sorted(
        (place for place, size in enumerate(sizes) if size),
        key=lambda place: (holdings[place].layer, place),
        reverse=True,
    )
    groups: list[list[int]] = []
    left = 0
    for place in order:
        if groups and sizes[place] <= max(left, capacity // 100):
            groups[-1].append(place)
        else:
            groups.append([place])
            left = capacity
        left -= sizes[place]
    return tuple(map(tuple, groups))
