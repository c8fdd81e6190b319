"""Forward passes over samples, batch by batch: shared by every probe that only reads the stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Generic, TypeVar

import torch

from depthprobe.machine.batches import pad_batch, run_batches, token_budget
from depthprobe.machine.processes import ALONE, Processes
from depthprobe.models.anatomy.anatomy import Anatomy
from depthprobe.models.sizing.footprint import bytes_per_token
from depthprobe.probes.together import how_together

if TYPE_CHECKING:
    from depthprobe.models.loading.loading import LoadedModel
    from depthprobe.texts.samples import Samples

Found = TypeVar("Found")


class Batches(Generic[Found]):
    """What is found in each batch, to be iterated over once; ``notes`` say how texts share batches."""

    def __init__(self, found: Iterator[Found], notes: list[str]) -> None:
        self._found, self.notes = found, notes

    def __iter__(self) -> Iterator[Found]:
        return self._found


def forward_batches(
    model: LoadedModel,
    anatomy: Anatomy,
    samples: Samples,
    look: Callable[[torch.Tensor, torch.Tensor], Found],
    *,
    bytes_beside: int = 0,
    batch_size: int | None = None,
    processes: Processes = ALONE,
    advance: Callable[[int], None] = lambda count: None,
) -> Batches[Found]:
    """Return what is found in each of this process's batches, one by one as they are run.

    Args:
        model: The loaded model.
        anatomy: Its anatomy.
        samples: Token samples.
        look: Runs the model on ids and mask, int64 ``[batch, token]`` on the model's device, padded on the
            right (not at all where padding would change the numbers). Called again with halves of a batch
            that does not fit into memory.
        bytes_beside: Bytes that a token costs besides those inside a block.
        batch_size: The most samples in a batch; None fits batches to the device's memory.
        processes: Those among which the batches are shared out.
        advance: Called with the number of tokens just done.

    Raises:
        OptionError: if ``batch_size`` is not a number of at least 1.
        MeasureError: if the order of the samples would decide the numbers.
        MachineError: if one sample alone does not fit into memory.
    """
    token_bytes = bytes_per_token(model.model.config, anatomy.layers, anatomy.hidden) + bytes_beside
    budget = token_budget(model.device, token_bytes, model.weight_bytes)
    together = how_together(model, anatomy, samples.tokens, budget, batch_size, processes=processes)
    plan = together.batches(samples.lengths, budget, batch_size)

    def step(batch: list[int]) -> Found:
        ids, mask = pad_batch([samples.tokens[index] for index in batch], model.pad_token_id)
        together.begin()
        return look(ids.to(model.device), mask.to(model.device))

    def found() -> Iterator[Found]:
        for batch, part in run_batches(processes.mine(plan), step):
            yield part
            advance(sum(samples.lengths[index] for index in batch))

    return Batches(found(), together.notes)
