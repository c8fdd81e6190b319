"""The one way of every measurement: reserve a place -> load -> text -> measure, journalled -> save."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from depthprobe import interruption
from depthprobe.builtin import PREFIX
from depthprobe.errors import MachineError, TextError
from depthprobe.machine.here import exists_here
from depthprobe.machine.looks import HUB, Look, is_offline, looks_of
from depthprobe.machine.processes import ALONE, Processes
from depthprobe.machine.provenance import Usage, libraries, versions
from depthprobe.measurement import Measurement
from depthprobe.models.anatomy.anatomy import Anatomy
from depthprobe.models.loading.loading import Checkpoint, LoadedModel, LoadOptions, ModelSource
from depthprobe.pipeline.checks import check_request, declared_layers, refuse_splitting, text_told
from depthprobe.pipeline.request import Request, before_measuring
from depthprobe.pipeline.resuming import (
    continued,
    drop_empty,
    drop_leftovers,
    kept,
    open_in_turn,
    unfinished_of,
)
from depthprobe.pipeline.session import Session
from depthprobe.pipeline.watch import Silent, Watcher
from depthprobe.probes.preparation import Measuring, Preparation, prepare
from depthprobe.results.aside import remove_folder
from depthprobe.results.journal import Journal
from depthprobe.results.places import Place, may_be_finished
from depthprobe.results.runs import Run
from depthprobe.results.store import reserve, save
from depthprobe.results.unsaved import Unsaved
from depthprobe.texts.on_hub import newest_commit
from depthprobe.texts.options import TextOptions
from depthprobe.texts.samples import NO_SAMPLES, Samples


def run(
    request: Request,
    watch: Watcher | None = None,
    session: Session | None = None,
    rests_on: dict[str, Look | None] | None = None,
) -> Run | None:
    """Return the saved run that the request describes, measured now unless it is already there.

    Whatever can be wrong with the request is found before the weights are read, and nothing appears under
    the run's name unless it is whole. Under torchrun or ``accelerate launch`` every process measures its
    part; the first one saves and returns the run, the others return None. Measurements that are given the
    same ``session`` fetch what they share once. ``rests_on`` gets the files that were read, as they looked.
    """
    usage = Usage()
    processes = Processes.here()
    try:
        with interruption.told(lambda: before_measuring(request)):
            way = _Way(request, watch, session, processes, usage)
            try:
                return way.run()
            finally:
                if rests_on is not None:
                    rests_on.update(way.rests_on)
    finally:
        processes.part()


def measure(
    request: Request,
    watch: Watcher | None = None,
    session: Session | None = None,
    per_sample: bool = False,
) -> Unsaved:
    """Return what the request describes, measured now in this process; nothing is left on disk.

    With ``per_sample`` every sample is measured once more alone, see :mod:`depthprobe.pipeline.per_sample`.
    """
    return _Way(request, watch, session, ALONE, Usage()).measure(per_sample)


@dataclass
class _Ready:
    """All that measuring needs."""

    model: LoadedModel
    anatomy: Anatomy
    samples: Samples
    measuring: Measuring


class _Way:
    """One request on its way."""

    def __init__(
        self,
        request: Request,
        watch: Watcher | None,
        session: Session | None,
        processes: Processes,
        usage: Usage,
    ) -> None:
        self.request, self.processes, self.usage = request, processes, usage
        # One of several processes reports for all.
        self.watch: Watcher = Silent() if watch is None or processes.rank else watch
        self.alone = session is None
        self.session = session or Session()
        self.prepared: Preparation = prepare(request.probe, request.asked)
        self.rests_on: dict[str, Look | None] = {}

    def run(self) -> Run | None:
        """Return the run, found or measured now; None in all processes but the first."""
        request, processes = self.request, self.processes
        refuse_splitting(request.load, processes)
        check_request(request.load, request.output, request.name)
        source = self.looked_up()
        self.rests_on |= {**source.looks, **(source.adapter.looks if source.adapter else {})}
        if isinstance(request.text, TextOptions):
            self.rests_on |= looks_of(request.text.files())
            if request.text.is_on_hub:
                self.rests_on |= looks_of([HUB + request.text.dataset])
        settings = request.settings(source) | self.prepared.read(self.watch.stage)
        self.rests_on |= self.prepared.rests_on
        self.say(self.prepared.notes)
        place = processes.first(
            lambda: reserve(
                request.output,
                source.name,
                request.usual_name,
                settings,
                request.name,
                lambda run: request.asked.lacks(run.directory) or self.text_moved(source, run),
            )
        )
        if place.finished is not None:
            # Among several measurements nobody has given this one a name.
            hint = " (--name measures again)" if self.alone else ""
            self.watch.say(f"Already measured: {place.finished.directory}{hint}.")
            if processes.rank == 0:
                drop_leftovers(place, request.name or request.usual_name)
            return None if processes.rank else place.finished
        self.say([place.note])
        try:
            return self.saved(source, place)
        except BaseException:
            place.abandon()
            raise

    def text_moved(self, source: ModelSource, run: Run) -> str:
        """Return that a run's text is another by now, as in "holds this run, but ..."; empty if it is not.

        Only a data set of the hub can be: all others are known by their contents. Its commit tells, and where
        that is another or unknown, the tokens do.
        """
        text, there = self.request.text, run.manifest.get("data") or {}
        if not isinstance(text, TextOptions) or not text.is_on_hub:
            return ""
        commit = self.rests_on.get(HUB + text.dataset)
        if commit is None:
            commit = newest_commit(text.dataset)
        if commit is not None and commit == there.get("revision"):
            return ""
        try:
            if commit is None and not is_offline():
                raise MachineError(f"{text.dataset} is out of reach.")
            _, samples = self.read(source)
        except (MachineError, TextError) as error:
            self.say(
                [f"{error.problem} So it is not known whether {run.directory} was measured on it as it is."]
            )
            return ""
        same = samples.facts.get("tokens_sha256") == there.get("tokens_sha256")
        return "" if same else f"of other samples than {text.dataset} gives now"

    def measure(self, per_sample: bool) -> Unsaved:
        """Return the measurement; the journal of a probe that resumes is temporary."""
        source = self.looked_up()
        settings = self.request.settings(source) | self.prepared.read(self.watch.stage)
        self.say(self.prepared.notes)
        ready = self.ready(*self.read(source))
        with tempfile.TemporaryDirectory(prefix="depthprobe-") as folder, ExitStack() as stack:
            journal = None
            if self.request.kind.resumes:
                journal = stack.enter_context(Journal.open(Path(folder) / "unfinished", {}))
            self.answer(ready.measuring, journal)
            found = ready.measuring.result(journal)
            self.say(found.facts.get("notes", ()))
        arrays = self.each_sample(ready, found) if per_sample else None
        manifest = self.manifest(ready, found)
        return Unsaved(found, source.name, self.request.usual_name, settings, manifest, arrays)

    def each_sample(self, ready: _Ready, found: Measurement) -> dict[str, Any]:
        """Return what each sample alone shows; of tasks, the scores of each item."""
        from depthprobe.pipeline.per_sample import each_item, each_sample

        if "items.npz" in found.files:
            return each_item(found.files["items.npz"])

        def measured(samples: Samples) -> Measurement:
            work = self.prepared.begin(
                ready.model,
                ready.anatomy,
                samples,
                batch_size=1,
                processes=self.processes,
                stage=self.watch.stage,
            )
            work.answer(None, lambda count: None)
            return work.result(None)

        return each_sample(self.request.kind, found, ready.samples, measured)

    def say(self, news: Any) -> None:
        """Report news, each sentence once in a session."""
        for each in self.session.untold(news):
            self.watch.say(each)

    def looked_up(self) -> ModelSource:
        """Return what the model's name stands for; text and options are checked first as far as is cheap."""
        request, text = self.request, self.request.text
        if text is not None and not text.is_on_hub:
            self.session.text(text)
        self.prepared.look(self.watch.stage)
        source = looked_up(request.model, request.load, self.session, self.watch)
        declared = declared_layers(source)
        if declared is not None:  # checked again when the blocks are known, which takes the weights
            self.prepared.check_layers(declared)
        if text is not None and text.is_on_hub and not self.processes.first(self.may_be_there):
            self.reach_text()
        return source

    def may_be_there(self) -> bool:
        """Whether a finished run may be the one asked for, so that no text would be needed."""
        request = self.request
        known = request.known_settings()
        return may_be_finished(request.output, request.model, request.usual_name, known, request.name)

    def reach_text(self) -> None:
        """Open the text: it may be out of reach, or not have what was asked for."""
        text = self.request.text
        assert text is not None, "asked where there is one"
        with self.watch.stage(f"Looking up {text.dataset}", None, ""), self.told_of_text():
            self.session.text(text)

    def told_of_text(self) -> Any:
        """Return the context that explains a text that nobody named and that is not available."""
        probe, text = self.request.kind, self.request.text
        assert probe.text is not None and text is not None, "asked where there is one"
        without = probe.text.optional
        otherwise = f"or leave it out: {probe.name} --{without.replace('_', '-')}" if without else ""
        return text_told(text, probe.text.role, otherwise)

    def read(self, source: ModelSource) -> tuple[Checkpoint, Samples]:
        """Return what is read before the weights: configuration, tokenizer and text."""
        request, text = self.request, self.request.text
        if text is not None and text.is_on_hub:
            self.reach_text()
        with self.watch.stage("Reading configuration and tokenizer", None, ""):
            checkpoint = self.session.checkpoint(source, request.load, self.watch.stage)
        self.prepared.check_checkpoint(checkpoint)
        self.prepared.ask(checkpoint, self.watch.stage)
        self.say(self.prepared.notes)
        if text is None:
            return checkpoint, NO_SAMPLES
        text.length(checkpoint.context_tokens)
        with self.watch.stage("Reading text", text.wanted, "samples") as advance, self.told_of_text():
            samples = self.session.samples(text, checkpoint, advance)
        self.say(samples.notes)
        if samples.facts["samples"] < text.wanted:
            found, asked = samples.facts["samples"], text.wanted
            self.watch.say(f"{text.dataset} holds only {found} of the {asked} samples asked for.")
        return checkpoint, samples

    def ready(self, checkpoint: Checkpoint, samples: Samples) -> _Ready:
        """Return all that measuring needs: the model on its device, its anatomy, and the work begun."""
        load, watch = self.request.load, self.watch
        if checkpoint.source.revision is not None and load.initial_seed is None:
            with watch.stage("Fetching weights", None, "bytes"):
                self.session.fetch(checkpoint)
        with watch.stage("Loading weights", None, ""):
            device = self.processes.device(str(load.device))
            model = self.session.model(checkpoint, load, device, watch.stage)
        samples.check_fits(model.context_tokens, model.vocabulary)
        with watch.stage("Finding the blocks", None, ""):
            anatomy = self.session.anatomy(model)
        self.prepared.check_layers(anatomy.layers)
        self.say((*model.notes, *anatomy.notes))
        measuring = self.prepared.begin(
            model,
            anatomy,
            samples,
            batch_size=self.request.batch_size,
            processes=self.processes,
            stage=watch.stage,
        )
        self.say(measuring.notes)
        return _Ready(model, anatomy, samples, measuring)

    def answer(self, measuring: Measuring, journal: Journal | None) -> None:
        """Do this process's part of the work, and report what came up."""
        told = set(measuring.notes)
        what, already = measuring.doing + self.processes.which, measuring.already(journal)
        with self.watch.stage(what, measuring.total, measuring.unit, already) as advance:
            measuring.answer(journal, advance)
        self.say(note for note in measuring.notes if note not in told)

    def saved(self, source: ModelSource, place: Place) -> Run | None:
        """Return the run, measured and saved in its place; None in all processes but the first."""
        checkpoint, samples = self.read(source)
        unfinished, settings = self.place_of_journal(place, samples)
        ready = self.ready(checkpoint, samples)
        with interruption.told(lambda: self.kept(unfinished, ready.measuring.pieces)):
            with self.journal(unfinished, settings, self.processes) as journal:
                self.say([continued(journal, ready.measuring.pieces)])
                self.answer(ready.measuring, journal)
            self.processes.wait()
            if self.processes.rank:
                self.processes.wait()
                return None
            with (
                self.journal(unfinished, settings, ALONE) as journal,
                self.watch.stage("Comparing answers", None, ""),
            ):
                measurement = ready.measuring.result(journal)
                self.say(measurement.facts.get("notes", ()))
            run = save(place, measurement, self.manifest(ready, measurement), measurement.files)
        if self.request.kind.resumes:
            remove_folder(unfinished)
        if run.directory != place.directory:
            self.watch.say(f"{place.directory} was taken meanwhile; this run is in {run.directory}.")
        self.processes.wait()
        return run

    def place_of_journal(self, place: Place, samples: Samples) -> tuple[Path, dict[str, Any]]:
        """Return where finished work is kept, and what decides it: work with other settings stays apart."""
        settings = place.settings | {
            "tokens_sha256": samples.facts.get("tokens_sha256"),
            "versions": libraries(),
        }
        if not self.request.kind.resumes:
            return self.request.unfinished, settings
        unfinished, note = self.processes.first(lambda: unfinished_of(place, settings))
        self.say([note])
        return unfinished, settings

    def kept(self, unfinished: Path, total: int | None) -> str:
        """Return the sentence for an interrupt: what is on disk then."""
        if not self.request.kind.resumes:
            return "Interrupted: nothing was saved; start the same command again."
        return kept(unfinished, total)

    @contextmanager
    def journal(
        self, unfinished: Path, settings: dict[str, Any], processes: Processes
    ) -> Iterator[Journal | None]:
        """Keep a journal while the body runs, if the probe resumes; an empty journal is removed."""
        if not self.request.kind.resumes:
            yield None
            return
        try:
            with open_in_turn(unfinished, settings, processes) as journal:
                yield journal
        except BaseException:
            if self.processes.rank == 0:
                drop_empty(unfinished)
            raise

    def manifest(self, ready: _Ready, measurement: Measurement) -> dict[str, Any]:
        """Return what happened: what was asked, and the numbers found beside the tables."""
        request = self.request
        several = {"processes": self.processes.count} if self.processes.count > 1 else {}
        asked = {**request.asked.recorded(), **several}
        return {
            "model": {"id": request.model, **ready.model.describe(), **ready.anatomy.describe()},
            "data": ready.samples.facts,
            "options": asked,
            # A measurement that nobody saves has what was asked among its facts.
            "results": {name: fact for name, fact in measurement.facts.items() if name not in asked},
            "command": ["depthprobe", *sys.argv[1:]],
            "versions": versions(),
            "elapsed_s": self.usage.elapsed_s(),
            "peak_memory_bytes": self.usage.peak_memory_bytes(),
        }


def looked_up(name: str, load: LoadOptions, session: Session, watch: Watcher) -> ModelSource:
    """Return what the name of a model stands for, and report the notes on it."""
    is_here = name.startswith(PREFIX) or exists_here(name)
    # From a repository of GGUF files the one that is meant is fetched, with the library's own bar.
    unit = "bytes" if "gguf" in name.lower() and not is_here else ""
    with watch.stage("Hashing the weights" if is_here else "Looking up the model", None, unit):
        source = session.source(name, load)
    for note in session.untold(source.notes):
        watch.say(note)
    return source
