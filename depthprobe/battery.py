"""Every measurement that a report wants of one model, with the model loaded once."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

from depthprobe.checks import check_request
from depthprobe.errors import DepthprobeError, OptionError
from depthprobe.evaluation.harness import TaskOptions, find_tasks
from depthprobe.evaluation.tasks import check_names
from depthprobe.interruption import several_told
from depthprobe.pipeline import Silent, Watcher, looked_up, run
from depthprobe.probes.registry import PROBES
from depthprobe.request import Request, SweepRequest
from depthprobe.results.runs import Run
from depthprobe.sweep import run_sweep
from depthprobe.texts import TextOptions
from depthprobe.workbench import Workbench


@dataclass(frozen=True)
class Battery:
    """What a report wants of a model.

    Args:
        model: The model, how it is loaded, and the text of all measurements but the sweep; its probe and the
            options of a probe do not count.
        tasks: The tasks of the sweep.
        calibration: The text of the sweep's calibration loss.
    """

    model: Request
    tasks: TaskOptions
    calibration: TextOptions

    def measurements(self, watch: Watcher, bench: Workbench) -> dict[str, Callable[[], Run | None]]:
        """Return by name what measures each, with the options that the single commands have by default."""

        def probe(name: str) -> Callable[[], Run | None]:
            request = replace(self.model, probe=name, options=dict(PROBES[name].defaults))
            return lambda: run(request, watch, bench)

        sweep = SweepRequest(
            model=replace(self.model, probe="prune-sweep", text=self.calibration), tasks=self.tasks
        )
        return {
            "angular": probe("angular"),
            "variance": probe("variance"),
            "gradnorm": probe("gradnorm"),
            "prune-sweep": lambda: run_sweep(sweep, watch, bench),
        }


def measure_all(battery: Battery, watch: Watcher | None = None) -> list[Run]:
    """Return the runs of a model, each measured now unless it is already there.

    What cannot be measured of this model is told, and the others go on.

    Raises:
        OptionError: if several processes were started, or a task is unknown.
        DepthprobeError: if the model cannot be found, or nothing could be measured.
    """
    watch = watch or Silent()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise OptionError(
            "report measures in one process, and several were started.",
            "Run angular, variance, gradnorm and prune-sweep with torchrun first, then report alone.",
        )
    bench = Workbench()
    # What is wrong is told before anything is measured, what shows at once first.
    wanted = battery.model
    check_request(wanted.load, wanted.output, None)
    if wanted.text is not None and not wanted.text.is_on_hub:
        bench.text(wanted.text)
    with watch.stage("Looking up the tasks", None, ""):
        check_names(battery.tasks)
    looked_up(wanted, watch, bench)
    with watch.stage("Reading tasks", None, ""):
        find_tasks(battery.tasks)
    runs: list[Run] = []
    failed: DepthprobeError | None = None
    for name, measure in battery.measurements(watch, bench).items():
        watch.say(f"Measuring {name}.")
        try:
            with several_told([run.directory for run in runs]):
                measured = measure()
        except DepthprobeError as error:
            watch.say(f"The report goes on without {name}: {error}")
            failed = error
            continue
        if measured is not None:
            runs.append(measured)
    if not runs and failed is not None:
        raise failed
    return runs
