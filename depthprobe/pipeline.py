"""The whole way of a measurement: reserve a place -> load -> texts -> measure -> save."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from depthprobe import interruption
from depthprobe.builtin import PREFIX
from depthprobe.checks import check_request, text_told
from depthprobe.errors import OptionError
from depthprobe.measurement import Measurement
from depthprobe.models.anatomy import Anatomy
from depthprobe.models.loading import Checkpoint, LoadedModel, LoadOptions, ModelSource
from depthprobe.probes.registry import PROBES
from depthprobe.processes import Processes
from depthprobe.provenance import Usage, versions
from depthprobe.request import Request, before_measuring
from depthprobe.results.journal import Journal
from depthprobe.results.places import Place
from depthprobe.results.runs import Run
from depthprobe.results.store import reserve, save
from depthprobe.resuming import drop_empty, kept, open_in_turn, unfinished_of
from depthprobe.texts import Samples
from depthprobe.workbench import Workbench


class Watcher(Protocol):
    """Who is told how a run is going."""

    def say(self, news: str) -> None:
        """Take one line of news."""

    def stage(self, what: str, total: int | None, unit: str, already: int = 0) -> Any:
        """Return a context manager around one stage; it yields the function that counts it on.

        Args:
            what: What is done, as a person would say it.
            total: How many units there are to do; None where that is not known.
            unit: What is counted.
            already: How many of these an earlier start has done, which say nothing of the pace.
        """


class Silent:
    """Tells nobody."""

    def say(self, news: str) -> None:
        """Ignore the news."""

    @contextmanager
    def stage(
        self, what: str, total: int | None, unit: str, already: int = 0
    ) -> Iterator[Callable[[int], None]]:
        """Yield a function that does nothing."""
        yield lambda count: None


def run(request: Request, watch: Watcher | None = None, bench: Workbench | None = None) -> Run | None:
    """Return the saved run that the request describes, measured now unless it is already there.

    Everything that can be wrong with the request is found before the weights are read, and nothing
    appears under the run's name unless it is whole. Under torchrun or ``accelerate launch`` every process
    measures its part; the first one saves and returns the run, the others return None. What several
    measurements share is fetched once if they are given the same ``bench``.
    """
    usage = Usage()
    bench = bench or Workbench()
    processes = Processes.here()
    watch = Silent() if watch is None or processes.rank else watch  # one of several tells what all do
    refuse_splitting(request.load, processes)
    try:
        with interruption.told(lambda: before_measuring(request)):
            return _run(request, processes, watch, usage, bench)
    finally:
        processes.part()


def refuse_splitting(load: LoadOptions, processes: Processes) -> None:
    """Raise an OptionError where several processes would each split a model over all GPUs."""
    if load.device_map is not None and processes.count > 1:
        raise OptionError(
            "--device-map auto gives all GPUs to one model, and several processes each load one.",
            "Start a single process, or leave out --device-map.",
        )


def _run(
    request: Request, processes: Processes, watch: Watcher, usage: Usage, bench: Workbench
) -> Run | None:
    """Return the run that is already there, or the one measured now; None in all processes but the first."""
    assert request.text is not None, "only a sweep may be without"
    check_request(request.load, request.output, request.name)
    if not request.text.is_on_hub:
        bench.text(request.text)
    source = looked_up(request, watch, bench)
    settings = request.settings(source)
    place = processes.first(
        lambda: reserve(request.output, source.name, request.probe, settings, request.name)
    )
    if place.finished is not None:
        watch.say(f"Already measured: {place.finished.directory} (--name measures again).")
        return None if processes.rank else place.finished
    if place.note:
        watch.say(place.note)
    try:
        return _measure(request, source, place, processes, watch, usage, bench)
    except BaseException:
        place.abandon()
        raise


def looked_up(request: Request, watch: Watcher, bench: Workbench) -> ModelSource:
    """Return what the name of the model stands for; what there is to note of it is said."""
    is_here = request.model.startswith(PREFIX) or Path(request.model).expanduser().exists()
    # Of a repository of GGUF files the one that is meant is fetched, with a bar of the library's own.
    unit = "bytes" if "gguf" in request.model.lower() and not is_here else ""
    with watch.stage("Hashing the weights" if is_here else "Looking up the model", None, unit):
        source = bench.source(request.model, request.load)
    for note in source.notes:
        watch.say(note)
    return source


def _measure(
    request: Request,
    source: ModelSource,
    place: Place,
    processes: Processes,
    watch: Watcher,
    usage: Usage,
    bench: Workbench,
) -> Run | None:
    """Return the run, measured and saved in its place; None in all processes but the first."""
    text = request.text
    assert text is not None, "only a sweep may be without"
    role = f"the text that {request.probe} is measured on"
    if text.is_on_hub:
        with watch.stage(f"Looking up {text.dataset}", None, ""), text_told(text, role):
            bench.text(text)
    with watch.stage("Reading configuration and tokenizer", None, ""):
        checkpoint = bench.checkpoint(source, request.load, watch.stage)
    text.length(checkpoint.context_tokens)
    with watch.stage("Reading text", text.wanted, "samples") as advance, text_told(text, role):
        samples = bench.samples(text, checkpoint, advance)
    if samples.facts["samples"] < text.wanted:
        watch.say(f"{text.dataset} gave {samples.facts['samples']} of {text.wanted} samples.")
    model, anatomy = loaded(bench, checkpoint, request.load, samples, processes, watch)
    for note in (*model.notes, *anatomy.notes):
        watch.say(note)
    with _journal_of(request, place, samples, processes, watch) as journal:
        mine = samples.facts["tokens"] // processes.count
        with watch.stage("Measuring" + processes.which, mine, "tokens") as advance:
            measurement = PROBES[request.probe].measure(
                model,
                anatomy,
                samples,
                batch_size=request.batch_size,
                processes=processes,
                advance=advance,
                **({} if journal is None else {"journal": journal}),
                **request.options,
                **request.means,
            )
        for note in measurement.facts.get("notes", ()):
            watch.say(note)
        if processes.rank:
            processes.wait()
            return None
        manifest = manifest_of(request, model, anatomy, samples, measurement, usage)
        if processes.count > 1:
            manifest["options"]["processes"] = processes.count
        run = save(place, measurement, manifest)
        if journal is not None:
            shutil.rmtree(journal.directory.parent, ignore_errors=True)
        if run.directory != place.directory:
            watch.say(f"{place.directory} was taken meanwhile; this run is in {run.directory}.")
        processes.wait()
        return run


def loaded(
    bench: Workbench,
    checkpoint: Checkpoint,
    load: LoadOptions,
    samples: Samples,
    processes: Processes,
    watch: Watcher,
) -> tuple[LoadedModel, Anatomy]:
    """Return the model on this process's device, and its anatomy.

    Raises:
        TextError: if the samples do not fit the model.
        DepthprobeError: as loading and describing a model raise it.
    """
    if checkpoint.source.revision is not None and load.initial_seed is None:
        with watch.stage("Fetching weights", None, "bytes"):
            bench.fetch(checkpoint)
    with watch.stage("Loading weights", None, ""):
        device = processes.device(str(load.device))
        model = bench.model(checkpoint, load, device, watch.stage)
    samples.check_fits(model.context_tokens, model.vocabulary)
    with watch.stage("Finding the blocks", None, ""):
        anatomy = bench.anatomy(model)
    return model, anatomy


@contextmanager
def _journal_of(
    request: Request, place: Place, samples: Samples, processes: Processes, watch: Watcher
) -> Iterator[Journal | None]:
    """Keep a journal of finished work while the body runs, for a probe that resumes; an empty one goes."""
    if not PROBES[request.probe].resumes:
        with interruption.told(f"Interrupted: {request.probe} keeps nothing of its work; start it again."):
            yield None
        return
    # Numbers of other texts or libraries must not be mixed.
    settings = place.settings | {
        "tokens_sha256": samples.facts["tokens_sha256"],
        "versions": versions(),
    }
    unfinished, note = processes.first(lambda: unfinished_of(place, settings))
    if note:
        watch.say(note)
    with open_in_turn(unfinished, settings, processes) as journal:
        if journal.pieces:
            watch.say(f"Continuing an interrupted run: {len(journal.pieces)} pieces are done.")
        try:
            with interruption.told(lambda: kept(unfinished)):
                yield journal
        except BaseException:
            drop_empty(unfinished)
            raise


def manifest_of(
    request: Request,
    model: LoadedModel,
    anatomy: Anatomy,
    samples: Samples,
    measurement: Measurement,
    usage: Usage,
) -> dict[str, Any]:
    """Return what really happened, for the manifest; ``usage`` began with the run."""
    return {
        "model": {"id": request.model, **model.describe(), **anatomy.describe()},
        "data": samples.facts,
        "options": {**request.options, **measurement.facts},
        "command": ["depthprobe", *sys.argv[1:]],
        "versions": versions(),
        "elapsed_s": usage.elapsed_s(),
        "peak_memory_bytes": usage.peak_memory_bytes(),
    }
