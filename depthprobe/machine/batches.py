"""Batches by length within a token budget; running out of memory halves a batch and goes on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from depthprobe.errors import MachineError, OptionError

if TYPE_CHECKING:
    import numpy as np
    import torch

Result = TypeVar("Result")

# Two cores gain nothing from more at once, and small batches stay in cache.
CPU_TOKENS = 2048

LARGEST_BATCH_TOKENS = 65_536


def parse_batch_size(text: str) -> int | None:
    """Return the samples in a batch that ``--batch-size`` asks for; None for ``auto``.

    lm-eval's ``auto:N``, which looks for the size N times, is ``auto``: batches follow the texts' lengths.

    Raises:
        OptionError: if it is neither ``auto`` nor a whole number of at least 1.
    """
    if text == "auto" or (text.startswith("auto:") and text[5:].isdecimal()):
        return None
    if not text.isdecimal() or int(text) < 1:
        raise OptionError(f"--batch-size must be auto or at least 1, got {text or 'nothing'}.")
    return int(text)


def token_budget(device: torch.device, bytes_per_token: int, weight_bytes: int) -> int:
    """Return how many tokens one batch may hold on ``device``.

    On a GPU, as many as fit into half of the memory beside the weights, rounded down to a power of two. Total
    memory counts, not what happens to be free, so that a repeated run has the same batches.
    """
    import torch

    if device.type != "cuda":
        return CPU_TOKENS
    room = (torch.cuda.get_device_properties(device).total_memory - weight_bytes) // 2
    tokens = max(room // max(bytes_per_token, 1), 256)
    return min(1 << (tokens.bit_length() - 1), LARGEST_BATCH_TOKENS)


def plan_batches(
    lengths: Sequence[int],
    tokens: int,
    batch_size: int | None = None,
    kind: Callable[[int], Hashable] = lambda length: None,
) -> list[list[int]]:
    """Return batches of sample indices, longest samples first, so that there is little padding.

    Args:
        lengths: Tokens of each sample.
        tokens: The most tokens a batch may hold, padding included; a longer sample goes alone.
        batch_size: Samples in a batch, instead of the token budget.
        kind: Samples share a batch only if this is the same of their lengths: the length itself, for example,
            where there may be no padding.

    Raises:
        OptionError: if ``batch_size`` is not a whole number of at least 1.
    """
    if batch_size is not None and (not isinstance(batch_size, int) or batch_size < 1):
        raise OptionError(f"batch_size must be at least 1, or None; got {batch_size!r}.")
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    batches: list[list[int]] = []
    for index in order:
        # The first sample of a batch is its longest.
        longest = lengths[batches[-1][0]] if batches else 0
        full = batch_size or max(tokens // max(longest, 1), 1)
        if batches and len(batches[-1]) < full and kind(lengths[index]) == kind(longest):
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def pad_batch(samples: Sequence[np.ndarray], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ``(input_ids, attention_mask)``, int64 ``[batch, token]``, padded on the right."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    rows = [torch.from_numpy(sample) for sample in samples]
    ids = pad_sequence(rows, batch_first=True, padding_value=pad)
    mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    return ids, mask


def restarting_smaller(
    batches: Sequence[list[int]], attempt: Callable[[Sequence[list[int]]], Result]
) -> Result:
    """Return ``attempt(batches)``; if memory runs out, start again from nothing with batches half as large.

    For work that accumulates as it goes, so that half a batch cannot be undone.

    Raises:
        MachineError: if a single sample does not fit.
    """
    from accelerate.utils.memory import clear_device_cache

    while True:
        try:
            return attempt(batches)
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            if max(map(len, batches)) == 1:
                raise _too_large() from error
        clear_device_cache(garbage_collection=True)  # outside the handler, whose traceback holds tensors
        most = (max(map(len, batches)) + 1) // 2
        batches = [batch[i : i + most] for batch in batches for i in range(0, len(batch), most)]


def run_batches(
    batches: Sequence[list[int]], step: Callable[[list[int]], Result]
) -> Iterator[tuple[list[int], Result]]:
    """Yield ``(batch, step(batch))``; if memory runs out, halve this batch and all later ones.

    ``step`` must leave nothing behind when it fails, so that it can be called again with half.

    Raises:
        MachineError: if a single sample does not fit.
    """
    from accelerate.utils.memory import clear_device_cache

    waiting = deque(batches)
    most: int | None = None
    while waiting:
        batch = waiting.popleft()
        if most is not None and len(batch) > most:
            waiting.extendleft(reversed([batch[i : i + most] for i in range(0, len(batch), most)]))
            continue
        try:
            result = step(batch)
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            if len(batch) == 1:
                raise _too_large() from error
            most = (len(batch) + 1) // 2
            waiting.appendleft(batch)
            result = None
        if result is None:
            clear_device_cache(garbage_collection=True)  # outside the handler, whose traceback holds tensors
            continue
        yield batch, result


def _is_out_of_memory(error: Exception) -> bool:
    from accelerate.utils.memory import should_reduce_batch_size

    return isinstance(error, MemoryError) or should_reduce_batch_size(error)


def _too_large() -> MachineError:
    return MachineError(
        "A single sample does not fit into memory.", "Use a shorter --seq-len or another --device."
    )
