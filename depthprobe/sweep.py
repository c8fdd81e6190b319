"""The whole way of a sweep: tasks -> reserve a place -> load -> texts -> measure, journalled -> save."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from depthprobe import interruption
from depthprobe.checks import check_request, declared_layers, text_told
from depthprobe.errors import LoadError
from depthprobe.evaluation.harness import build_work, check_checkpoint, find_tasks
from depthprobe.evaluation.records import items_of, logged
from depthprobe.evaluation.requests import count_documents
from depthprobe.evaluation.tasks import Tasks, check_names
from depthprobe.models.loading import Checkpoint, ModelSource
from depthprobe.pipeline import Silent, Watcher, loaded, looked_up, manifest_of, refuse_splitting
from depthprobe.probes import prune_sweep
from depthprobe.processes import ALONE, Processes
from depthprobe.provenance import Usage
from depthprobe.request import SweepRequest, before_measuring
from depthprobe.results.journal import Journal
from depthprobe.results.places import Place, may_be_finished
from depthprobe.results.runs import Run
from depthprobe.results.store import reserve, save
from depthprobe.resuming import ASKED, drop_empty, kept, open_in_turn, unfinished_of
from depthprobe.texts import NO_SAMPLES, Samples
from depthprobe.workbench import Workbench

GENERATE_TOGETHER = 8

# What the text is, and what may be done without it, for who has not named it.
CALIBRATION = (
    "the calibration text that prune-sweep measures beside the tasks",
    "or leave it out: prune-sweep --no-calibration",
)


def run_sweep(
    request: SweepRequest, watch: Watcher | None = None, bench: Workbench | None = None
) -> Run | None:
    """Return the saved sweep that the request describes, continued where an earlier start left it.

    Under torchrun or ``accelerate launch`` every process answers its part; the first one gathers, saves
    and returns the run, the others return None. What several measurements share is fetched once if they are
    given the same ``bench``.
    """
    bench = bench or Workbench()
    usage = Usage()
    processes = Processes.here()
    watch = Silent() if watch is None or processes.rank else watch  # one of several tells what all do
    refuse_splitting(request.model.load, processes)
    try:
        with interruption.told(lambda: before_measuring(request)):
            return _run(request, watch, bench, processes, usage)
    finally:
        processes.part()


def _run(
    request: SweepRequest, watch: Watcher, bench: Workbench, processes: Processes, usage: Usage
) -> Run | None:
    """Return the run that is already there, or the one measured now; None in all processes but the first."""
    wanted = request.model
    known = request.settings()
    check_request(wanted.load, wanted.output, wanted.name)
    # A run that is there already needs no text.
    if not processes.first(
        lambda: may_be_finished(wanted.output, wanted.model, request.name, known, wanted.name)
    ):
        _reach_text(request, watch, bench)
    with watch.stage("Looking up the tasks", None, ""):
        check_names(request.tasks)
    source = looked_up(wanted, watch, bench)
    _check_layers(request, declared_layers(source))
    with watch.stage("Reading tasks", None, ""):
        tasks = find_tasks(request.tasks)
    for note in tasks.notes:
        watch.say(note)
    versions = {name: str(task.VERSION) for name, task in tasks.tasks.items()}
    settings = {**wanted.settings(source), **known, "task_versions": versions}
    place = processes.first(lambda: reserve(wanted.output, source.name, request.name, settings, wanted.name))
    if place.finished is not None:
        watch.say(f"Already measured: {place.finished.directory} (--name measures again).")
        return None if processes.rank else place.finished
    try:
        unfinished, note = processes.first(lambda: unfinished_of(place, place.settings))
        for news in filter(None, (place.note, note)):
            watch.say(news)
        with interruption.told(lambda: kept(unfinished)):
            return _measure(request, tasks, source, place, unfinished, watch, bench, processes, usage)
    except BaseException:
        place.abandon()
        raise


def _check_layers(request: SweepRequest, declared: int | None) -> None:
    if declared is not None:  # checked again when the blocks are known, but that costs the weights
        prune_sweep.variants_of(request.layers, request.block, declared)


def _reach_text(request: SweepRequest, watch: Watcher, bench: Workbench) -> None:
    """Open the calibration text: it may be out of reach, or not have what was asked for."""
    text = request.model.text
    if text is not None:
        with watch.stage(f"Looking up {text.dataset}", None, ""), text_told(text, *CALIBRATION):
            bench.text(text)


def _measure(
    request: SweepRequest,
    tasks: Tasks,
    source: ModelSource,
    place: Place,
    unfinished: Path,
    watch: Watcher,
    bench: Workbench,
    processes: Processes,
    usage: Usage,
) -> Run | None:
    """Return the run, measured and saved in its place; None in all processes but the first."""
    wanted = request.model
    _reach_text(request, watch, bench)
    checkpoint, samples = _read(request, source, watch, bench)
    model, anatomy = loaded(bench, checkpoint, wanted.load, samples, processes, watch)
    variants = prune_sweep.variants_of(request.layers, request.block, anatomy.layers)
    with watch.stage("Building requests", count_documents(tasks), "documents") as advance:
        work = build_work(tasks, model, batch_size=wanted.batch_size or GENERATE_TOGETHER, advance=advance)
    with watch.stage("Trying ways to share work", len(variants) + 1, "tries") as advance:
        sweep = prune_sweep.prepare(model, anatomy, samples, work, variants, advance=advance)
    for news in (*model.notes, *anatomy.notes, *work.notes):
        watch.say(news)
    with _journal(place, unfinished, sweep.pieces, processes) as journal:
        done = len(set(journal.pieces) - {ASKED})
        if done:
            watch.say(f"Continuing an interrupted sweep: {done} of {sweep.pieces} pieces are done.")
        total, already = sweep.answers(processes), sweep.answered(journal, processes)
        with watch.stage("Sweeping" + processes.which, total, "answers", already) as advance:
            prune_sweep.answer(sweep, journal, processes, advance)
    processes.wait()
    if processes.rank:
        processes.wait()
        return None
    with _journal(place, unfinished, sweep.pieces) as journal, watch.stage("Comparing answers", None, ""):
        measurement, outcomes = prune_sweep.measure(sweep, journal, request.log_samples)
    manifest = manifest_of(wanted, model, anatomy, samples, measurement, usage)
    manifest["options"] |= {
        "tasks": list(request.tasks.tasks),
        "num_fewshot": request.tasks.num_fewshot,
        "limit": request.tasks.limit,
        "block": request.block,
        "processes": processes.count,
    }
    files = {"items.npz": items_of(outcomes)} | (logged(outcomes) if request.log_samples else {})
    run = save(place, measurement, manifest, files)
    shutil.rmtree(unfinished, ignore_errors=True)
    processes.wait()
    return run


def _read(
    request: SweepRequest, source: ModelSource, watch: Watcher, bench: Workbench
) -> tuple[Checkpoint, Samples]:
    """Return what is read before the weights: configuration, tokenizer and calibration text."""
    load, text = request.model.load, request.model.text
    with watch.stage("Reading configuration and tokenizer", None, ""):
        checkpoint = bench.checkpoint(source, load, watch.stage)
    if checkpoint.tower is not None:
        raise LoadError(
            f"{source.name} is an encoder-decoder model, which prune-sweep does not support: lm-eval "
            "scores decoder-only models here.",
            "Choose a decoder-only model.",
        )
    check_checkpoint(request.tasks, checkpoint)
    _check_layers(
        request, getattr(checkpoint.config and checkpoint.config.get_text_config(), "num_hidden_layers", None)
    )
    if text is None:
        return checkpoint, NO_SAMPLES
    text.length(checkpoint.context_tokens)
    with (
        watch.stage("Reading calibration text", text.wanted, "samples") as advance,
        text_told(text, *CALIBRATION),
    ):
        return checkpoint, bench.samples(text, checkpoint, advance)


@contextmanager
def _journal(place: Place, unfinished: Path, pieces: int, processes: Processes = ALONE) -> Iterator[Journal]:
    """Keep the journal while the body runs; what it held is told when that is interrupted."""
    with open_in_turn(unfinished, place.settings, processes) as journal:
        try:
            with interruption.told(lambda: kept(unfinished, pieces)):
                yield journal
        except BaseException:
            if processes.rank == 0:
                drop_empty(unfinished)
            raise
