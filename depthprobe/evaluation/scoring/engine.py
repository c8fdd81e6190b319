"""Scores of many requests for a model and for many variants of it, for the price of a few passes.

Sharing is exact: variants start from the whole model's stream, a common beginning of texts is computed
once, the head runs on scored positions only. The numbers are those that lm-eval's ``HFLM`` would give
on each variant, up to the rounding of float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from depthprobe.errors import MeasureError
from depthprobe.evaluation.scores import ScoreRequest, Scores, Variant
from depthprobe.evaluation.scoring.chunks import plan_chunks
from depthprobe.evaluation.scoring.layout import Prices, lay_out
from depthprobe.evaluation.scoring.passes import Passes, Ways
from depthprobe.evaluation.scoring.remembered import Remembered
from depthprobe.evaluation.scoring.ways import check_removals, find_ways, mask_for, names_of
from depthprobe.machine.batches import run_batches, token_budget
from depthprobe.models.anatomy.anatomy import Anatomy
from depthprobe.models.loading.loading import LoadedModel, context_limit

__all__ = ["ScoreRequest", "Scores", "ScoringEngine", "Variant"]

# Streams of one chunk, kept at every boundary, on a machine without a GPU.
CPU_STREAM_BYTES = 1 << 30
LARGEST_CPU_CHUNK_TOKENS = 16_384
# What the blocks may compute for one chunk: minutes on two cores. A killed process loses no more.
CPU_PIECE_FLOP = 10**13
LARGEST_BATCH_TOKENS = 16_384
LEAST_TOKENS = 256


class ScoringEngine:
    """Scores requests for variants of one model.

    Args:
        model: The loaded model.
        anatomy: Its anatomy.
        remembered: What is known of this model; what is missing is tried now and kept there.
        budget_tokens: The most different tokens a chunk may hold; None fits chunks to the memory.

    ``way`` says, for the manifest, how the work is shared: in the ways that gave right numbers when tried.
    """

    def __init__(
        self,
        model: LoadedModel,
        anatomy: Anatomy,
        remembered: Remembered | None = None,
        *,
        budget_tokens: int | None = None,
    ) -> None:
        self._model, self._anatomy = model, anatomy
        self._remembered = remembered or Remembered()
        self._planned: tuple[Sequence[ScoreRequest], list[list[int]]] | None = None
        if self._remembered.ways is None:
            self._remembered.ways = find_ways(model.model, anatomy, model.device, context_limit(model.model))
            self._remembered.keep()
        self._go(self._remembered.ways)
        self._chunk_tokens, self._batch_tokens = self._budgets(budget_tokens)

    def _go(self, ways: Ways) -> None:
        """Score in these ways from now on."""
        model = self._model.model
        self.ways, self.way = ways, str(ways)
        self._passes = Passes(model, self._anatomy, self._model.device, ways, mask_for(model, ways))
        self._prices = self._prices_here()

    def check(
        self,
        variants: Sequence[Variant],
        generates: bool = False,
        advance: Callable[[int], None] = lambda count: None,
    ) -> None:
        """Check that the model can be run without the layers of each variant, and find which way is right.

        Args:
            variants: What will be removed.
            generates: Whether text will be generated too, where blocks are run and discarded.
            advance: Called with 1 for every variant that is settled.

        Raises:
            MeasureError: if the answers of a variant cannot be trusted.
        """
        model, anatomy, known = self._model, self._anatomy, self._remembered.removals
        asked = [variant for variant in variants if variant]
        unknown = [variant for variant in asked if variant not in known]
        advance(len(asked) - len(unknown))
        if unknown:
            context = context_limit(model.model)
            known |= check_removals(model.model, anatomy, model.device, context, self.ways, unknown, advance)
            self._remembered.keep()
        ways = {variant: known[variant] for variant in asked}
        still_acting = [variant for variant in asked if "discard" not in ways[variant]]
        if generates and still_acting:
            raise MeasureError(
                f"Text cannot be generated without {names_of(still_acting)}: "
                "later blocks use keys and values from there.",
                "Choose other layers with --layers, or tasks that only score.",
            )
        if self.ways.removal == "skip" and not all("skip" in ways[variant] for variant in asked):
            self._go(Ways(removal="delete", same_length=anatomy.feels_padding))

    def plan(self, requests: Sequence[ScoreRequest]) -> list[list[int]]:
        """Return chunks of request indices, the longest texts first: the same for every variant and run."""
        if self._planned is None or self._planned[0] is not requests:  # a minute's work for a whole MMLU
            self._planned = requests, plan_chunks(requests, self._chunk_tokens)
        return self._planned[1]

    def costs(self, requests: Sequence[ScoreRequest]) -> np.ndarray:
        """Return roughly what requests cost relative to one another, 1 on average; float64 ``[request]``.

        Tokens go through half of the blocks in most variants, scored ones through the head in each.
        """
        anatomy, head = self._anatomy, self._anatomy.head
        blocks = sum(p.numel() for block in anatomy.blocks for p in block.parameters())
        ratio = 2 * sum(p.numel() for p in head.parameters()) / max(blocks, 1) if head is not None else 0.0
        costs = np.array([len(request.tokens) + ratio * request.scored for request in requests])
        return costs / costs.mean() if len(costs) else costs

    def score(
        self,
        requests: Sequence[ScoreRequest],
        chunk: Sequence[int],
        variants: Sequence[Variant],
        advance: Callable[[np.ndarray], None] = lambda indices: None,
    ) -> dict[Variant, Scores]:
        """Return the scores of the requests that ``chunk`` names, in its order, for each variant.

        Ask for all variants at once: what they share is computed once in each call.

        Args:
            requests: The requests that ``chunk`` indexes.
            chunk: Indices of the requests to score.
            variants: Sorted layers to remove, ``()`` for the whole model.
            advance: Called for every variant with the indices of requests just answered, each once.

        Raises:
            MeasureError: if a log-probability is NaN.
            MachineError: if a single request does not fit into memory.
        """
        wanted = sorted({tuple(sorted(set(variant))) for variant in variants})
        total = {variant: np.zeros(len(chunk)) for variant in wanted}
        greedy = {variant: np.ones(len(chunk), dtype=bool) for variant in wanted}
        answered = {variant: np.zeros(len(chunk), dtype=bool) for variant in wanted}

        def report(variant: Variant, places: np.ndarray) -> None:
            new = places[~answered[variant][places]]  # where memory ran short they are answered again
            answered[variant][new] = True
            advance(np.asarray(chunk)[new])

        def step(part: list[int]) -> list[tuple[Variant, np.ndarray, np.ndarray, np.ndarray]]:
            found = []
            try:
                for answer in self._answers([requests[chunk[index]] for index in part], wanted):
                    found.append(answer)
                    # All tokens of a request are in one part of the answers.
                    report(answer[0], np.asarray(part)[np.unique(answer[1])])
                return found
            except (RuntimeError, MemoryError):
                # In case memory ran out: go on with half of the chunk, in smaller batches.
                self._batch_tokens = max(self._batch_tokens // 2, LEAST_TOKENS)
                raise

        for part, found in run_batches([list(range(len(chunk)))] if len(chunk) else [], step):
            place = np.asarray(part)
            for variant, request, logprob, is_greedy in found:
                if np.isnan(logprob).any():
                    raise MeasureError(
                        f"The log-probabilities of the model without layers {list(variant)} hold NaN."
                        if variant
                        else "The model's log-probabilities hold NaN.",
                        "Try --dtype float32 or bfloat16; if that does not help, the weights are broken.",
                    )
                np.add.at(total[variant], place[request], logprob.astype(np.float64))
                np.logical_and.at(greedy[variant], place[request], is_greedy)
        scores = {variant: Scores(total[variant], greedy[variant]) for variant in wanted}
        return {variant: scores[tuple(sorted(set(variant)))] for variant in variants}

    def _answers(
        self, requests: list[ScoreRequest], variants: list[Variant]
    ) -> Iterator[tuple[Variant, np.ndarray, np.ndarray, np.ndarray]]:
        for group in lay_out(requests, self._prices, self.ways.depth_limit):
            yield from self._passes.run(group, variants, self._batch_tokens)

    def _budgets(self, chosen: int | None) -> tuple[int, int]:
        """Return the most tokens of a chunk, whose streams are all kept, and of one batch in it."""
        model, anatomy = self._model, self._anatomy
        itemsize = model.model.dtype.itemsize
        kept = (anatomy.layers + 1) * anatomy.hidden * itemsize if self.ways.stream else 0
        working = 32 * anatomy.hidden * itemsize
        batch = token_budget(model.device, working + kept, model.weight_bytes)
        chunk = batch
        if model.device.type != "cuda":
            weights = sum(p.numel() for block in anatomy.blocks for p in block.parameters())
            a_piece = CPU_PIECE_FLOP // max(weights * (anatomy.layers + 1), 1)
            chunk = min(CPU_STREAM_BYTES // max(kept, 1), a_piece, LARGEST_CPU_CHUNK_TOKENS)
            chunk = max(chunk, batch)
        chunk = chunk if chosen is None else max(chosen, 1)
        return chunk, min(batch, chunk, LARGEST_BATCH_TOKENS)

    def _prices_here(self) -> Prices:
        """Return the prices of layouts on this model and device."""
        anatomy, ways = self._anatomy, self.ways
        weights = sum(p.numel() for block in anatomy.blocks for p in block.parameters()) / anatomy.layers
        on_gpu = self._model.device.type == "cuda"
        return Prices(
            # Scores and weighted sum, 2 * hidden each; a softmax between them costs a CPU as much again.
            pair=(4 if on_gpu else 8) * anatomy.hidden / max(2 * weights, 1.0),
            # Memory is slow compared with arithmetic, on a GPU far more so.
            copy=300.0 if on_gpu else 30.0,
            call=512.0 if on_gpu else 32.0,
            packs=bool(ways.pack),
            keeps=ways.prefix,
            within=ways.depth_limit,
        )
