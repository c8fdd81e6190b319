"""What a probe gets ready before it measures, and the work that it then does.

Most probes need nothing: their module has ``measure``, and the classes here serve them. One that needs
more, such as the tasks of prune-sweep, has ``prepare(options) -> Preparation`` in its module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from depthprobe.catalogue import PROBES
from depthprobe.declaring import Options, Probe
from depthprobe.machine.looks import Look
from depthprobe.machine.processes import Processes
from depthprobe.measurement import Measurement

if TYPE_CHECKING:
    from depthprobe.models.anatomy.anatomy import Anatomy
    from depthprobe.models.loading.checkpoint import Checkpoint
    from depthprobe.models.loading.loading import LoadedModel
    from depthprobe.models.loading.stages import Stage
    from depthprobe.results.journal import Journal
    from depthprobe.texts.samples import Samples


class Measuring:
    """The measuring itself, ready to begin.

    ``doing`` says what is done, ``total`` how much of it this process has to do, in units of ``unit``;
    ``pieces`` is how many pieces the journal will hold for all processes together, None where that is not
    known; ``notes`` are sentences for the user.
    """

    doing: str = "Measuring"
    unit: str = "tokens"
    total: int = 0
    pieces: int | None = None
    notes: Sequence[str] = ()

    def already(self, journal: Journal | None) -> int:
        """Return how much of this process's part the journal holds."""
        return 0

    def answer(self, journal: Journal | None, advance: Callable[[float], None]) -> None:
        """Do this process's part and report progress; what the journal holds is not done again."""
        raise NotImplementedError

    def result(self, journal: Journal | None) -> Measurement:
        """Return the measurement; called in the first process when all have done their parts."""
        raise NotImplementedError


@dataclass
class Preparation:
    """What a probe knows before the model is loaded; this class serves those that need nothing.

    ``rests_on`` is how the files looked that :meth:`read` has read, where there are any.
    """

    probe: Probe
    options: Options
    notes: Sequence[str] = ()
    rests_on: Mapping[str, Look | None] = field(default_factory=dict)

    def look(self, stage: Stage) -> None:
        """Raise an error for whatever is wrong with the options before the model is even looked up."""

    def check_layers(self, layers: int) -> None:
        """Raise if the options name layers that a model of ``layers`` layers does not have."""

    def read(self, stage: Stage) -> dict[str, Any]:
        """Read what is needed besides model and text; return, as settings, what of it decides the numbers."""
        return {}

    def check_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Raise if this model cannot be measured, before its weights are read."""

    def ask(self, checkpoint: Checkpoint, stage: Stage) -> None:
        """Prepare what is asked of this model, as far as that needs no weights."""

    def begin(
        self,
        model: LoadedModel,
        anatomy: Anatomy,
        samples: Samples,
        *,
        batch_size: int | None,
        processes: Processes,
        stage: Stage,
    ) -> Measuring:
        """Return the work on a loaded model.

        Args:
            model: The model.
            anatomy: Its anatomy.
            samples: Token samples.
            batch_size: Samples in a batch; None fits batches to the device.
            processes: Those among which the work is shared out.
            stage: Shows what takes a while.
        """
        return _MeasuringAtOnce(self, model, anatomy, samples, batch_size, processes)


class _MeasuringAtOnce(Measuring):
    """The work of a probe that measures in a single call."""

    def __init__(
        self,
        prepared: Preparation,
        model: LoadedModel,
        anatomy: Anatomy,
        samples: Samples,
        batch_size: int | None,
        processes: Processes,
    ) -> None:
        self._prepared, self._processes = prepared, processes
        self._asked = (model, anatomy, samples)
        self._batch_size = batch_size
        self._found: Measurement | None = None
        self.total = samples.facts["tokens"] // processes.count

    def answer(self, journal: Journal | None, advance: Callable[[float], None]) -> None:
        """Measure, together with the other processes."""
        probe, options = self._prepared.probe, self._prepared.options
        self._found = import_module(probe.module).measure(
            *self._asked,
            batch_size=self._batch_size,
            processes=self._processes,
            advance=advance,
            **({} if journal is None else {"journal": journal}),
            **options.of_role("numbers"),
            **options.of_role("means"),
        )
        self.notes = self._found.facts.get("notes", ())

    def result(self, journal: Journal | None) -> Measurement:
        """Return what was measured."""
        assert self._found is not None, "measured before it is asked for"
        return self._found


def prepare(probe: str, options: Options) -> Preparation:
    """Return what a probe gets ready for these options."""
    kind = PROBES[probe]
    made = getattr(import_module(kind.module), "prepare", None)
    return Preparation(kind, options) if made is None else made(options)
