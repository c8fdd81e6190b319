"""What a user asks for with one command: the model, the text, the tasks, and what decides the numbers.

Nothing heavy is imported for it: a run that is already there is recognised by what was asked.
"""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import depthprobe
from depthprobe.evaluation.options import DECISIVE_LIBRARIES, TaskOptions
from depthprobe.interruption import NOTHING
from depthprobe.models.options import LoadOptions
from depthprobe.results.naming import run_directory_name
from depthprobe.texts import TextOptions

if TYPE_CHECKING:
    from depthprobe.models.sources import ModelSource


@dataclass(frozen=True)
class Request:
    """Everything a user asks for with one command.

    ``options`` are the probe's own and decide its numbers; ``means`` are those that leave them as they are.
    Only a sweep may be without ``text``.
    """

    probe: str
    model: str
    text: TextOptions | None
    options: dict[str, Any] = field(default_factory=dict)
    load: LoadOptions = LoadOptions()
    means: dict[str, Any] = field(default_factory=dict)
    batch_size: int | None = None
    output: Path = Path("reports")
    name: str | None = None

    def settings(self, source: ModelSource) -> dict[str, Any]:
        """Return what decides the numbers: two runs with equal settings are the same run."""
        from depthprobe.models.placement import choose_device, dtype_name, parse_dtype

        device = choose_device(self.load.device)
        dtype = parse_dtype(self.load.dtype, device)
        return {
            "model": source.identity,
            "commit": source.revision,
            "fingerprint": source.fingerprint,
            "dtype": "auto" if dtype is None else dtype_name(dtype),
            "device": device.type,
            # Only where they are used, so that runs without them stay the runs they were.
            **({"adapter": source.adapter.identity} if source.adapter else {}),
            **({"tower": "encoder"} if self.load.tower == "encoder" else {}),
            **({"remote_code": True} if self.load.trust_remote_code else {}),
            **({} if self.load.initial_seed is None else {"initial_seed": self.load.initial_seed}),
            "text": None if self.text is None else self.text.settings(),
            **self.options,
            "depthprobe": depthprobe.__version__,
        }


@dataclass(frozen=True)
class SweepRequest:
    """Everything a user asks for with ``prune-sweep``: a model, tasks, what to remove, and calibration text.

    A ``model`` without text is measured on the tasks alone.
    """

    model: Request
    tasks: TaskOptions
    layers: tuple[int, ...] | None = None
    block: int = 1
    log_samples: bool = False

    @property
    def name(self) -> str:
        """The default name of the run's directory: the probe and the tasks."""
        return "-".join(["prune-sweep", *(Path(task).stem for task in self.tasks.tasks)])

    def settings(self) -> dict[str, Any]:
        """Return what decides the numbers beside the model, as far as it is known before the tasks are."""
        return {
            "text": None if self.model.text is None else self.model.text.settings(),
            "tasks": self.tasks.settings(),
            "layers": None if self.layers is None else list(self.layers),
            "block": self.block,
            "libraries": {name: importlib.metadata.version(name) for name in DECISIVE_LIBRARIES},
        }


def before_measuring(request: Request | SweepRequest) -> str:
    """Return the sentence on an interrupt before anything was measured, by what an earlier start has left."""
    wanted, usual = (
        (request.model, request.name) if isinstance(request, SweepRequest) else (request, request.probe)
    )
    folder = wanted.output / run_directory_name(wanted.model) / f".{wanted.name or usual}.unfinished"
    if any(log.stat().st_size for log in folder.glob("journal/pieces*.log")):
        return (
            f"Interrupted before anything new was measured; what an earlier start has done stays in {folder}."
        )
    return NOTHING
