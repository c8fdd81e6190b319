"""Several processes of one run, as torchrun or ``accelerate launch`` start them, and each one's share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed

from depthprobe.machine.launcher import Launched, launched

Item = TypeVar("Item")
Result = TypeVar("Result")

# The slowest process may need hours more than the fastest; noticing a dead one is the launcher's task.
PATIENCE = timedelta(days=30)


@dataclass(frozen=True)
class Processes(Launched):
    """This process among those of one run, which can tell each other something."""

    @classmethod
    def here(cls) -> Processes:
        """Return this process as the launcher set it, joined over gloo; a single one without a launcher."""
        here = launched()
        if here.count > 1 and not torch.distributed.is_initialized():
            # The model runs in each process separately: only names, signals and sums are exchanged.
            torch.distributed.init_process_group("gloo", timeout=PATIENCE)
        return cls(here.rank, here.count, here.local)

    @property
    def which(self) -> str:
        """Which of several processes this is, in words to append to a stage's name; empty if alone."""
        return f", process {self.rank + 1} of {self.count}" if self.count > 1 else ""

    def mine(self, work: Sequence[Item]) -> list[Item]:
        """Return this process's share of some work: every ``count``-th piece from ``rank`` on."""
        return list(work[self.rank :: self.count])

    def device(self, name: str) -> str:
        """Return the device of this process: its own GPU if the name leaves that open."""
        own = self.count > 1 and name in ("auto", "cuda") and torch.cuda.is_available()
        return f"cuda:{self.local}" if own else name

    def first(self, decide: Callable[[], Result]) -> Result:
        """Return in every process what the first one decided, or raise everywhere what it raised."""
        if self.count == 1:
            return decide()
        told: list[Any] = [None, None]
        if self.rank == 0:
            try:
                told[0] = decide()
            except Exception as error:  # sent to all, and raised there and here
                told[1] = error
        torch.distributed.broadcast_object_list(told)
        if told[1] is not None:
            raise told[1]
        return told[0]

    def gather(self, value: Item) -> list[Item]:
        """Return in every process the values of all, in the order of their ranks."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(values, value)
        return values

    def add(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return in every process the sum of all processes' tensors, of the same shape, dtype and device."""
        if self.count == 1:
            return tensor
        summed = tensor.detach().cpu().contiguous()  # gloo adds on the CPU
        torch.distributed.all_reduce(summed)
        return summed.to(tensor.device)

    def wait(self) -> None:
        """Return when every process has arrived here."""
        if self.count > 1:
            torch.distributed.barrier()

    def part(self) -> None:
        """Leave the group."""
        if self.count > 1 and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


ALONE = Processes()
