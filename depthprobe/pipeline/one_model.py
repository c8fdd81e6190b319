"""Every measurement that a report needs of one model, with the model loaded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from depthprobe.errors import DepthprobeError, MachineError, OptionError
from depthprobe.interruption import several_told
from depthprobe.machine.launcher import launched
from depthprobe.pipeline.checks import check_request
from depthprobe.pipeline.request import Request
from depthprobe.pipeline.run import looked_up, run
from depthprobe.pipeline.session import Session
from depthprobe.pipeline.watch import Silent, Watcher
from depthprobe.probes.preparation import prepare
from depthprobe.results.runs import Run


@dataclass(frozen=True)
class Measured:
    """The runs of a model, and the machine's first failure (full disk, no memory), if any."""

    runs: list[Run]
    failure: MachineError | None


def measure_all(requests: Sequence[Request], watch: Watcher | None = None) -> Measured:
    """Return the runs of a model, each measured now unless it is already there.

    A probe that fails on this model is reported, and the others go on.

    Args:
        requests: One for each probe, of one model, loaded in one way.
        watch: Shows how it is going.

    Raises:
        OptionError: if several processes were started, or a task is unknown.
        DepthprobeError: if the model cannot be found, or nothing could be measured.
    """
    watch = watch or Silent()
    if launched().count > 1:
        raise OptionError(
            "report measures in one process, but several were started.",
            f"Run {', '.join(each.probe for each in requests)} with torchrun first, then report without it.",
        )
    session = Session()
    check_all(requests, session, watch)
    runs: list[Run] = []
    failures: list[DepthprobeError] = []
    for request in requests:
        watch.say(f"Measuring {request.probe}.")
        try:
            with several_told([each.directory for each in runs]):
                found = run(request, watch, session)
        except DepthprobeError as error:
            watch.say(f"The report goes on without {request.probe}: {error}")
            failures.append(error)
            continue
        if found is not None:
            runs.append(found)
    if failures and not runs:
        raise failures[-1]
    return Measured(runs, next((each for each in failures if isinstance(each, MachineError)), None))


def check_all(requests: Sequence[Request], session: Session, watch: Watcher) -> None:
    """Raise if anything is wrong with a request, before the first is measured; cheap checks come first."""
    for request in requests:
        check_request(request.load, request.output, request.name)
        if request.text is not None and not request.text.is_on_hub:
            session.text(request.text)
    prepared = [prepare(request.probe, request.asked) for request in requests]
    for each in prepared:
        each.look(watch.stage)
    for request in requests:
        looked_up(request.model, request.load, session, watch)
    for each in prepared:
        each.read(watch.stage)
