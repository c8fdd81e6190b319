"""The measured drop: how much worse do tasks get when a layer is removed?

    dP(l) = P(without block l) - P(whole model)

no fine-tuning, P as lm-eval computes it. Beside the tasks, the loss on calibration text for every variant:
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
from depthprobe.errors import MeasureError, OptionError
from depthprobe.evaluation.drops import CALIBRATION, Calibration, drop_rows
from depthprobe.evaluation.engine import ScoringEngine
from depthprobe.evaluation.harness import Outcome, Work
from depthprobe.evaluation.journal import Journal
from depthprobe.evaluation.memory import Memory
from depthprobe.evaluation.scores import ScoreRequest, Variant
from depthprobe.evaluation.sweep import (
    already_answered,
    answer_all,
    gather_answers,
    generation_pieces,
    score_pieces,
    try_generating,
)
from depthprobe.measurement import Measurement, Table
from depthprobe.models.anatomy import Anatomy
from depthprobe.processes import ALONE, Processes

if TYPE_CHECKING:
    from depthprobe.models.loading import LoadedModel
    from depthprobe.texts import Samples

COLUMNS = PRUNE_SWEEP.tables[0].columns


def variants_of(layers: Sequence[int] | None, block: int, count: int) -> list[Variant]:
    """Return the layers that each variant leaves out: l .. l+block-1 for every l asked for.

    Args:
        layers: First layers to remove; None for all that fit.
        block: How many consecutive layers a variant leaves out.
        count: Layers of the model.

    Raises:
        OptionError: if a block does not fit into the model, or nothing would be left.
    """
    last = count - block
    if not 1 <= block < count:
        if count == 1:
            raise OptionError("The model has one layer: there is nothing to remove.", "Choose another model.")
        raise OptionError(
            f"--block {block} does not leave a model of {count} layers.", f"Give 1 to {count - 1}."
        )
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
    """A sweep ready to run: what is asked, of which variants of the model, and who answers."""

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


def prepare(
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
        samples: Calibration text; without samples the tasks alone are asked.
        work: The tasks' requests.
        variants: What to leave out, see :func:`variants_of`.
        budget_tokens: Tokens scored at once; None fits the memory.
        advance: Called with 1 when the ways of sharing work are found, and for every variant that is tried.

    Raises:
        MeasureError: if the model cannot be run without the layers of a variant.
    """
    texts = [ScoreRequest(tuple(map(int, sample)), len(sample) - 1) for sample in samples.tokens]
    if work.generation_requests:
        try_generating(work)  # settings that transformers refuses show here, before anything is begun
    engine = ScoringEngine(model, anatomy, Memory.of(model), budget_tokens=budget_tokens)
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
    """Answer this process's share of the requests; what the journal holds already is not done again.

    Raises:
        MeasureError: if the tasks' data changed since the journal was begun.
        MachineError: if one request alone does not fit into memory.
    """
    _check_same_work(sweep.work, journal)
    everything = [(), *sweep.variants]
    answer_all(
        sweep.engine, sweep.anatomy, sweep.work, sweep.requests, everything, journal, processes, advance
    )


def measure(
    sweep: Sweep, journal: Journal, log_samples: bool = False
) -> tuple[Measurement, dict[Variant, Outcome]]:
    """Return the drop of every number of the tasks for every variant, and lm-eval's outcomes behind it.

    Args:
        sweep: Whose every request is answered in ``journal``.
        journal: The answers.
        log_samples: Whether the outcomes hold lm-eval's sample rows.
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
    calibration = Calibration(nats, sweep.predicted) if len(sweep.predicted) else None
    rows, missed = drop_rows(outcomes, calibration, sweep.variants)
    frame = pd.DataFrame(rows, columns=[column.name for column in COLUMNS])
    facts = {"sharing": sweep.engine.way, "requests": sweep.work.describe(), **_notes(outcomes[()], missed)}
    return Measurement("prune-sweep", (Table("prune_sweep", frame, COLUMNS),), facts), outcomes


def _check_same_work(work: Work, journal: Journal) -> None:
    """Remember in the journal what is asked, or see that it is what was asked when it was begun."""
    now = {"requests": work.describe()}
    if not journal.done("work"):
        journal.write("work", now)
    elif journal.read("work") != now:
        raise MeasureError(
            "The tasks' data or prompts are no longer those that this sweep was begun with.",
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
