"""The whole way of a sweep: tasks -> reserve a place -> load -> texts -> measure, journalled -> save."""

from __future__ import annotations

import importlib.metadata
import io
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from depthprobe.errors import LoadError
from depthprobe.evaluation.harness import Outcome, TaskOptions, build_work, check_checkpoint, find_tasks
from depthprobe.evaluation.journal import Journal
from depthprobe.evaluation.scores import Variant
from depthprobe.pipeline import Request, Silent, Watcher, manifest_of, refuse_splitting
from depthprobe.probes import prune_sweep
from depthprobe.processes import Processes
from depthprobe.results.runs import Run
from depthprobe.results.store import reserve, save
from depthprobe.resuming import open_in_turn, unfinished_of
from depthprobe.workbench import Workbench

# A change of these may move a number in the last digits, or a prompt.
DECISIVE_LIBRARIES = ("lm-eval", "torch", "transformers", "datasets")

GENERATE_TOGETHER = 8


@dataclass(frozen=True)
class SweepRequest:
    """Everything a user asks for with ``prune-sweep``: a model and a text, tasks, and what to remove."""

    model: Request
    tasks: TaskOptions
    layers: tuple[int, ...] | None = None
    block: int = 1
    log_samples: bool = False

    @property
    def name(self) -> str:
        """The default name of the run's directory: the probe and the tasks."""
        return "-".join(["prune-sweep", *(Path(task).stem for task in self.tasks.tasks)])


def run_sweep(
    request: SweepRequest, watch: Watcher | None = None, bench: Workbench | None = None
) -> Run | None:
    """Return the saved sweep that the request describes, continued where an earlier start left it.

    Under torchrun or ``accelerate launch`` every process answers its part; the first one gathers, saves
    and returns the run, the others return None. What several measurements share is fetched once if they are
    given the same ``bench``.
    """
    watch = watch or Silent()
    bench = bench or Workbench()
    started = time.monotonic()
    processes = Processes.here()
    wanted = request.model
    refuse_splitting(wanted.load, processes)
    with watch.stage("Reading tasks", None, ""):
        tasks = find_tasks(request.tasks)
    for note in tasks.notes:
        watch.say(note)
    source = bench.source(wanted.model, wanted.load)
    for note in source.notes:
        watch.say(note)
    settings = {
        **wanted.settings(source),
        "tasks": request.tasks.settings(),
        "task_versions": {name: str(task.VERSION) for name, task in tasks.tasks.items()},
        "layers": None if request.layers is None else list(request.layers),
        "block": request.block,
        "libraries": {name: importlib.metadata.version(name) for name in DECISIVE_LIBRARIES},
    }
    place = processes.first(lambda: reserve(wanted.output, source.name, request.name, settings, wanted.name))
    if place.finished is not None:
        watch.say(f"Already measured: {place.finished.directory} (--name measures again).")
        return None if processes.rank else place.finished
    try:
        unfinished, note = processes.first(lambda: unfinished_of(place, place.settings))
        for news in filter(None, (place.note, note)):
            watch.say(news)
        checkpoint = bench.checkpoint(source, wanted.load)
        if checkpoint.tower is not None:
            raise LoadError(
                f"{source.name} is an encoder-decoder model, which prune-sweep does not support: lm-eval "
                "scores decoder-only models here.",
                "Choose a decoder-only model.",
            )
        check_checkpoint(request.tasks, checkpoint)
        declared = getattr(
            checkpoint.config and checkpoint.config.get_text_config(), "num_hidden_layers", None
        )
        if isinstance(declared, int):  # checked again when the blocks are known, but that costs the weights
            prune_sweep.variants_of(request.layers, request.block, declared)
        samples = bench.samples(wanted.text, checkpoint)
        with watch.stage("Loading model", None, "bytes"):
            model = bench.model(checkpoint, wanted.load, processes.device(str(wanted.load.device)))
            samples.check_fits(model.context_tokens, model.vocabulary)
            anatomy = bench.anatomy(model)
        variants = prune_sweep.variants_of(request.layers, request.block, anatomy.layers)
        with watch.stage("Building requests", None, ""):
            work = build_work(tasks, model, batch_size=wanted.batch_size or GENERATE_TOGETHER)
            sweep = prune_sweep.prepare(model, anatomy, samples, work, variants)
        for news in (*model.notes, *anatomy.notes, *work.notes):
            watch.say(news)
        with open_in_turn(unfinished, place.settings, processes) as journal:
            if len(journal.pieces) > 1:
                watch.say(f"Continuing an interrupted sweep: {len(journal.pieces) - 1} pieces are done.")
            with watch.stage("Sweeping", sweep.answers(processes), "answers") as advance:
                prune_sweep.answer(sweep, journal, processes, advance)
        processes.wait()
        if processes.rank:
            processes.wait()
            return None
        with Journal.open(unfinished, place.settings) as journal:
            measurement, outcomes = prune_sweep.measure(sweep, journal, request.log_samples)
        manifest = manifest_of(wanted, model, anatomy, samples, measurement, started)
        manifest["options"] |= {
            "tasks": list(request.tasks.tasks),
            "num_fewshot": request.tasks.num_fewshot,
            "limit": request.tasks.limit,
            "block": request.block,
            "processes": processes.count,
        }
        files = {"items.npz": _items(outcomes)} | (_logged(outcomes) if request.log_samples else {})
        run = save(place, measurement, manifest, files)
        shutil.rmtree(unfinished, ignore_errors=True)
        processes.wait()
        return run
    except BaseException:
        place.abandon()
        raise
    finally:
        processes.part()


def _items(outcomes: Mapping[Variant, Outcome]) -> bytes:
    """Return every document's score for every variant, compressed: what the statistics are made of.

    For each number ``task/metric/filter``: ``.docs`` [doc] and ``.scores`` [variant, doc] or
    [variant, doc, part]; ``variants`` are the removed layers, row by row, -1 for none.
    """
    variants = list(outcomes)
    width = max(map(len, variants)) or 1
    arrays = {"variants": np.array([[*variant, *[-1] * (width - len(variant))] for variant in variants])}
    for key, scores in outcomes[()].per_doc.items():
        values = [outcome.per_doc[key].values for outcome in outcomes.values()]
        if all(value is not None for value in values):
            arrays["/".join(key) + ".docs"] = scores.doc_ids
            arrays["/".join(key) + ".scores"] = np.stack([value for value in values if value is not None])
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def _logged(outcomes: Mapping[Variant, Outcome]) -> dict[str, bytes]:
    """Return lm-eval's own sample rows, a JSON Lines file for each task and variant."""
    files = {}
    for variant, outcome in outcomes.items():
        without = f"without-{'-'.join(map(str, variant))}" if variant else "whole"
        for task, rows in outcome.samples.items():
            lines = (json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)
            files[f"samples_{task}_{without}.jsonl"] = "".join(lines).encode("utf-8")
    return files
