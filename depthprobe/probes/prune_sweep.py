"""The measured drop: how much worse do tasks get when a layer is removed?

    dP(l) = P(without block l) - P(whole model)

without fine-tuning, P as lm-eval computes it. Besides the tasks, every variant's loss on calibration text:
the cheap intervention that the literature compares with.

Source: The Curse of Depth (2502.05795), performance drop; calibration loss as in SLEB (2402.09025).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from depthprobe.catalogue import PRUNE_SWEEP
from depthprobe.errors import LoadError, MeasureError, OptionError
from depthprobe.evaluation.answers import (
    already_answered,
    answer_all,
    gather_answers,
    generation_pieces,
    score_pieces,
    try_generating,
)
from depthprobe.evaluation.drops import CALIBRATION, Calibration, drop_rows
from depthprobe.evaluation.harness.content import content_of
from depthprobe.evaluation.harness.options import SweepOptions
from depthprobe.evaluation.harness.requests import count_documents
from depthprobe.evaluation.harness.tasks import check_names
from depthprobe.evaluation.harness.work import (
    Outcome,
    Prompts,
    Work,
    build_prompts,
    build_work,
    check_checkpoint,
    find_tasks,
)
from depthprobe.evaluation.left_out import comparable
from depthprobe.evaluation.records import items_of, logged
from depthprobe.evaluation.scores import ScoreRequest, Variant
from depthprobe.evaluation.scoring.engine import ScoringEngine
from depthprobe.evaluation.scoring.remembered import Remembered
from depthprobe.machine.looks import looks_of
from depthprobe.machine.processes import ALONE, Processes
from depthprobe.measurement import Measurement
from depthprobe.models.anatomy.anatomy import Anatomy
from depthprobe.models.frequencies import scalings_of
from depthprobe.probes.preparation import Measuring, Preparation
from depthprobe.results.journal import Journal

if TYPE_CHECKING:
    from depthprobe.models.loading.checkpoint import Checkpoint
    from depthprobe.models.loading.loading import LoadedModel
    from depthprobe.models.loading.stages import Stage
    from depthprobe.texts.samples import Samples

GENERATE_TOGETHER = 8

COLUMNS = PRUNE_SWEEP.tables[0].columns


def variants_of(layers: Sequence[int] | None, block: int, count: int) -> list[Variant]:
    """Return the layers that each variant leaves out: l .. l+block-1 for every l asked for.

    Args:
        layers: First layers to remove; None for all that fit.
        block: How many consecutive layers a variant leaves out.
        count: Number of layers in the model.

    Raises:
        OptionError: if a block does not fit into the model, or nothing would be left.
    """
    last = count - block
    if not 1 <= block < count:
        if count == 1:
            raise OptionError(
                "The model has only one layer: nothing would be left without it.", "Choose another model."
            )
        raise OptionError(f"--block must be 1 to {count - 1} for a model of {count} layers, got {block}.")
    wanted = list(range(last + 1)) if layers is None else sorted(set(layers))
    outside = [layer for layer in wanted if not 0 <= layer <= last]
    if outside:
        raise OptionError(
            f"--layers names {', '.join(map(str, outside))}, beyond the model's {count} layers (0-based)"
            + (f" for blocks of {block}." if block > 1 else "."),
            f"Name layers from 0 to {last}.",
        )
    return [tuple(range(layer, layer + block)) for layer in wanted]


@dataclass(frozen=True)
class Sweep:
    """A sweep ready to run: what is asked, of which variants of the model, and the engine that answers."""

    engine: ScoringEngine
    anatomy: Anatomy
    work: Work
    requests: list[ScoreRequest]
    variants: list[Variant]
    predicted: np.ndarray

    def answers(self, processes: Processes) -> int:
        """How many answers each of these processes has to give."""
        count = len(self.requests) + len(self.work.generation_requests)
        return count * (len(self.variants) + 1) // processes.count

    def answered(self, journal: Journal, processes: Processes) -> int:
        """How many of them the journal holds already."""
        everything = [(), *self.variants]
        return already_answered(self.engine, self.work, self.requests, everything, journal, processes)

    @property
    def pieces(self) -> int:
        """How many pieces the journal will hold, of all processes together."""
        everything = [(), *self.variants]
        return len(score_pieces(self.engine, self.requests)) + len(generation_pieces(self.work, everything))


def ready(
    model: LoadedModel,
    anatomy: Anatomy,
    samples: Samples,
    work: Work,
    variants: Sequence[Variant],
    budget_tokens: int | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> Sweep:
    """Return the sweep of these variants over the tasks' requests and the calibration text.

    Args:
        model: The loaded model.
        anatomy: Its anatomy.
        samples: Calibration text; without samples only the tasks are asked.
        work: The tasks' requests.
        variants: What to leave out, see :func:`variants_of`.
        budget_tokens: Tokens scored at once; None fits them to the memory.
        advance: Called with 1 when the ways of sharing work are found, and for every variant that is tried.

    Raises:
        MeasureError: if the model cannot be run without the layers of a variant.
    """
    texts = [ScoreRequest(tuple(map(int, sample)), len(sample) - 1) for sample in samples.tokens]
    if work.generation_requests:
        try_generating(work)  # settings that transformers refuses show up here, before anything is begun
    engine = ScoringEngine(model, anatomy, Remembered.of(model), budget_tokens=budget_tokens)
    advance(1)
    engine.check(variants, bool(work.generation_requests), advance)
    predicted = np.array([request.scored for request in texts])
    return Sweep(engine, anatomy, work, [*work.score_requests, *texts], list(variants), predicted)


def answer(
    sweep: Sweep,
    journal: Journal,
    processes: Processes = ALONE,
    advance: Callable[[float], None] = lambda count: None,
) -> None:
    """Answer this process's share of the requests; what the journal already holds is not done again.

    Raises:
        MeasureError: if the tasks' data changed since the journal was begun.
        MachineError: if one request alone does not fit into memory.
    """
    _check_same_work(sweep.work, journal)
    everything = [(), *sweep.variants]
    answer_all(
        sweep.engine, sweep.anatomy, sweep.work, sweep.requests, everything, journal, processes, advance
    )


def measure(sweep: Sweep, journal: Journal, log_samples: bool = False) -> Measurement:
    """Return the drop of every number of the tasks for every variant, with the answers behind it as files.

    Args:
        sweep: The sweep; ``journal`` answers its every request.
        journal: The answers.
        log_samples: Whether the files include lm-eval's sample rows.
    """
    everything = [(), *sweep.variants]
    answers = gather_answers(sweep.engine, sweep.work, sweep.requests, everything, journal)
    asked = len(sweep.work.score_requests)
    nats = {variant: -answers.loglikelihoods[variant][asked:] for variant in everything}
    outcomes = {
        variant: sweep.work.results(
            answers.loglikelihoods[variant][:asked],
            answers.greedy[variant][:asked],
            answers.generations[variant],
            samples=log_samples,
        )
        for variant in everything
    }
    outcomes, left_out = comparable(outcomes)
    calibration = Calibration(nats, sweep.predicted) if len(sweep.predicted) else None
    rows, missed = drop_rows(outcomes, calibration, sweep.variants)
    frame = pd.DataFrame(rows, columns=[column.name for column in COLUMNS])
    facts = {
        "sharing": sweep.engine.way,
        "requests": sweep.work.describe(),
        "notes": [*sweep.work.notes, *left_out],
        **_notes(outcomes[()], missed),
    }
    files = {"items.npz": items_of(outcomes)} | (logged(outcomes) if log_samples else {})
    return PRUNE_SWEEP.measurement({"prune_sweep": frame}, facts, files)


def _check_same_work(work: Work, journal: Journal) -> None:
    """Record in the journal what is asked, or check that it is what was asked when the sweep was begun."""
    now = {"requests": work.describe()}
    if not journal.done("work"):
        journal.write("work", now)
    elif journal.read("work") != now:
        raise MeasureError(
            "The tasks' data or prompts have changed since this sweep was begun.",
            "Start it anew under another --name.",
        )


def _notes(whole: Outcome, missed: dict[tuple[str, str, str], float]) -> dict[str, Any]:
    """Return what tables and figures need to know of every number, by ``task/metric/filter``."""
    keys = {"/".join(key): key for key in missed}
    metrics = {name: whole.metrics.get(key) for name, key in keys.items()}
    better = {name: None if metric is None else metric.higher_is_better for name, metric in metrics.items()}
    if CALIBRATION in missed:
        better["/".join(CALIBRATION)] = False
    return {
        "higher_is_better": better,
        "chance": {name: None if metric is None else metric.chance for name, metric in metrics.items()},
        "detectable": {name: missed[key] for name, key in keys.items()},
    }


class SweepPreparation(Preparation):
    """What a sweep gets ready: its tasks, and then their requests and the ways of sharing work on them."""

    options: SweepOptions
    prompts: Prompts | None = None

    def look(self, stage: Stage) -> None:
        """Check that lm-eval knows the tasks."""
        with stage("Looking up the tasks", None, ""):
            check_names(self.options)

    def check_layers(self, layers: int) -> None:
        """Check that every variant fits into a model of ``layers`` layers."""
        variants_of(self.options.layers, self.options.block, layers)

    def read(self, stage: Stage) -> dict[str, Any]:
        """Read the tasks and their data; what they say, ask and run decides the numbers."""
        with stage("Reading tasks", None, ""):
            self.tasks = find_tasks(self.options)
            hashes, files = content_of(self.tasks)
            self.rests_on = looks_of(files)
        self.notes = self.tasks.notes
        return {
            "task_versions": {name: str(task.VERSION) for name, task in self.tasks.tasks.items()},
            "task_sha256": hashes,
        }

    def check_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Check that lm-eval can score this model with these options."""
        if checkpoint.tower is not None:
            raise LoadError(
                f"{checkpoint.source.name} is an encoder-decoder model, which prune-sweep does not support: "
                "only decoder-only models are scored.",
                "Choose a decoder-only model.",
            )
        check_checkpoint(self.options, checkpoint)
        config = checkpoint.config and checkpoint.config.get_text_config()
        declared = getattr(config, "num_hidden_layers", None)
        if declared is not None:
            self.check_layers(declared)

    def ask(self, checkpoint: Checkpoint, stage: Stage) -> None:
        """Build the tasks' prompts, and try their scoring: what is wrong with a task shows before weights."""
        if self.prompts is not None:  # building them again would draw other examples
            return
        with stage("Building prompts", count_documents(self.tasks), "documents") as advance:
            self.prompts = build_prompts(
                self.tasks, checkpoint.source.name, checkpoint.tokenizer, checkpoint.config, advance
            )
        self.notes = (*self.notes, *self.prompts.notes)

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
        """Return the sweep, its requests built and the ways of sharing work on them found."""
        variants = variants_of(self.options.layers, self.options.block, anatomy.layers)
        # Where rotary frequencies follow the longest row, prompts would change each other's answers.
        at_once = 1 if scalings_of(model.model) else batch_size or GENERATE_TOGETHER
        with stage("Encoding prompts", None, ""):
            work = build_work(self.tasks, model, batch_size=at_once, prompts=self.prompts)
        with stage("Trying ways to share work", len(variants) + 1, "tries") as advance:
            sweep = ready(model, anatomy, samples, work, variants, advance=advance)
        return _Sweeping(sweep, processes, self.options.log_samples)


class _Sweeping(Measuring):
    """The work of answering a sweep's requests."""

    doing, unit = "Sweeping", "answers"

    def __init__(self, sweep: Sweep, processes: Processes, log_samples: bool) -> None:
        self._sweep, self._processes, self._log_samples = sweep, processes, log_samples
        self.total, self.pieces, self.notes = sweep.answers(processes), sweep.pieces, sweep.work.notes

    # A sweep always keeps a journal.
    def already(self, journal: Journal) -> int:  # type: ignore[override]
        """Return how many answers of this process's part the journal holds."""
        return self._sweep.answered(journal, self._processes)

    def answer(  # type: ignore[override]
        self, journal: Journal, advance: Callable[[float], None]
    ) -> None:
        """Answer this process's part of the requests."""
        answer(self._sweep, journal, self._processes, advance)

    def result(self, journal: Journal) -> Measurement:  # type: ignore[override]
        """Return the drops, from the answers of all processes."""
        return measure(self._sweep, journal, self._log_samples)


def prepare(options: SweepOptions) -> SweepPreparation:
    """Return what a sweep gets ready for these options."""
    return SweepPreparation(PRUNE_SWEEP, options)
