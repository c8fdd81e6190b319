"""All answers of the model and its variants, each finished piece of work on disk before the next begins."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np

from depthprobe.errors import OptionError, first_line
from depthprobe.evaluation.harness.work import Work
from depthprobe.evaluation.scores import ScoreRequest, Variant
from depthprobe.evaluation.scoring.engine import ScoringEngine
from depthprobe.machine.processes import ALONE, Processes
from depthprobe.models.anatomy.anatomy import Anatomy
from depthprobe.models.intervene import discard_blocks
from depthprobe.results.journal import Journal

# Prompts whose continuations are generated and written down as one piece.
GENERATIONS_A_PIECE = 16


@dataclass(frozen=True)
class Answers:
    """For every variant: ``loglikelihoods`` float64 [request], ``greedy`` bool [request], ``generations``."""

    loglikelihoods: dict[Variant, np.ndarray]
    greedy: dict[Variant, np.ndarray]
    generations: dict[Variant, list[str]]


def answer_all(
    engine: ScoringEngine,
    anatomy: Anatomy,
    work: Work,
    requests: Sequence[ScoreRequest],
    variants: Sequence[Variant],
    journal: Journal,
    processes: Processes = ALONE,
    advance: Callable[[float], None] = lambda count: None,
) -> None:
    """Answer every request for every variant and write the answers to the journal.

    What the journal already holds is not done again. A piece is a chunk of requests for all variants,
    which share their computation, or a few generations of one variant.

    Args:
        engine: Scores the requests.
        anatomy: Of the engine's model.
        work: Its generation requests are answered as well as ``requests``.
        requests: Everything to score.
        variants: Sorted layers to remove, ``()`` for the whole model.
        journal: Where answers go.
        processes: Those among which the pieces are shared out; this one alone by default.
        advance: Called with the number of answers (requests x variants) just found, each weighted by its
            cost relative to the average one, so that the time left can be estimated; those that the journal
            already held are not among them, see :func:`already_answered`.
    """
    pieces, costs = score_pieces(engine, requests), engine.costs(requests)
    for name in _missing(list(pieces), journal, processes):
        chunk = pieces[name]
        scores = engine.score(requests, chunk, variants, lambda indices: advance(float(costs[indices].sum())))
        journal.write(
            name,
            {
                "loglikelihoods": np.stack([scores[variant].loglikelihood for variant in variants]),
                "greedy": np.stack([scores[variant].greedy for variant in variants]),
            },
        )
    texts = generation_pieces(work, variants)
    for name in _missing(list(texts), journal, processes):
        variant, indices = texts[name]
        # Cached decoding: a block must be run and discarded, since the cache relies on its slot.
        with discard_blocks(anatomy, variant) if variant else nullcontext():
            journal.write(name, {"texts": generate(work, indices)})
        advance(len(indices))


def _missing(pieces: list[str], journal: Journal, processes: Processes) -> list[str]:
    return [name for name in processes.mine(pieces) if not journal.done(name)]


def already_answered(
    engine: ScoringEngine,
    work: Work,
    requests: Sequence[ScoreRequest],
    variants: Sequence[Variant],
    journal: Journal,
    processes: Processes = ALONE,
) -> int:
    """Return how many answers of this process's share the journal holds, counted as in :func:`answer_all`."""
    scored, texts, costs = (
        score_pieces(engine, requests),
        generation_pieces(work, variants),
        engine.costs(requests),
    )
    sizes = {name: float(costs[chunk].sum()) * len(variants) for name, chunk in scored.items()}
    sizes |= {name: float(len(indices)) for name, (_, indices) in texts.items()}
    mine = [*processes.mine(list(scored)), *processes.mine(list(texts))]
    return round(sum(sizes[name] for name in mine if journal.done(name)))


def generate(work: Work, indices: Sequence[int]) -> list[str]:
    """Return what the model in its present state generates for some requests.

    Raises:
        OptionError: if transformers refuses the generation settings.
    """
    with _refusals_told():
        return work.generate(indices)


def try_generating(work: Work) -> None:
    """Generate one token after a few, to see whether transformers accepts the generation settings.

    Raises:
        OptionError: if it does not.
    """
    with _refusals_told():
        work.generate_briefly()


@contextmanager
def _refusals_told() -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError) as error:
        reason = first_line(error, kind=False)
        raise OptionError(f"Text cannot be generated: {reason}.", "Check --gen-kwargs.") from error


def gather_answers(
    engine: ScoringEngine,
    work: Work,
    requests: Sequence[ScoreRequest],
    variants: Sequence[Variant],
    journal: Journal,
) -> Answers:
    """Return all answers as the journal holds them, so that a resumed run ends with the same bytes."""
    count = len(requests)
    loglikelihoods = {variant: np.zeros(count) for variant in variants}
    greedy = {variant: np.zeros(count, dtype=bool) for variant in variants}
    generations: dict[Variant, list[str]] = {variant: [] for variant in variants}
    for name, chunk in score_pieces(engine, requests).items():
        piece = journal.read(name)
        for row, variant in enumerate(variants):
            loglikelihoods[variant][chunk] = piece["loglikelihoods"][row]
            greedy[variant][chunk] = piece["greedy"][row]
    for name, (variant, _) in generation_pieces(work, variants).items():
        generations[variant] += journal.read(name)["texts"]
    return Answers(loglikelihoods, greedy, generations)


def score_pieces(engine: ScoringEngine, requests: Sequence[ScoreRequest]) -> dict[str, list[int]]:
    """Return the pieces of scoring: name -> request indices; the same in every process and run.

    A name says which requests are meant: another version may split the chunks elsewhere.
    """
    return {f"score/{index}/{_digest(chunk)}": chunk for index, chunk in enumerate(engine.plan(requests))}


def _digest(chunk: Sequence[int]) -> str:
    return hashlib.blake2b(np.asarray(chunk, dtype="<i8").tobytes(), digest_size=4).hexdigest()


def generation_pieces(work: Work, variants: Sequence[Variant]) -> dict[str, tuple[Variant, list[int]]]:
    """Return the pieces of generation: name -> variant and indices of generation requests."""
    count = len(work.generation_requests)
    starts = range(0, count, GENERATIONS_A_PIECE)
    return {
        f"generate/{'-'.join(map(str, variant)) or 'whole'}/{start}": (
            variant,
            list(range(start, min(start + GENERATIONS_A_PIECE, count))),
        )
        for variant in variants
        for start in starts
    }
