"""Forward passes over a group of rows: the whole model once, then each variant from a stored stream.

Blocks before the first skipped one do the same work in a variant as in the whole model. The pass of the
whole model keeps the stream at each boundary where a variant departs from it; the variant starts there. With
L blocks and each skipped in turn, L + L(L-1)/2 blocks run instead of L^2.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn

from depthprobe.evaluation.scores import Variant
from depthprobe.evaluation.scoring.layout import PrefixGroup, Row
from depthprobe.evaluation.scoring.masks import MakeMask, Masks
from depthprobe.machine.batches import plan_batches
from depthprobe.models.anatomy.anatomy import Anatomy
from depthprobe.models.capture import reading_stream
from depthprobe.models.frequencies import forget_lengths
from depthprobe.models.intervene import delete_blocks, discard_blocks, replay_stream, skip_blocks
from depthprobe.models.prefix_cache import PrefixCache

# Logits that exist at a time, in bytes of float32.
LOGIT_BYTES = 256 << 20
# On a CPU as many as stay near its caches, but never too few positions for an efficient matrix product:
# a head of 262,144 rows runs at 22 GFLOP/s for 8 positions and at 80 for 64 (two cores).
CPU_LOGIT_BYTES = 8 << 20
LEAST_POSITIONS = 128


@dataclass(frozen=True)
class Ways:
    """How work is shared; each way is tried on the model before it is used.

    ``removal`` is ``skip`` (pass through), ``discard`` (run and discard the output) or ``delete``.
    ``same_length``: a batch holds texts of one length only. ``head``: the head runs on scored positions
    only. ``stream``: variants start from the whole model's stream. ``pack``: branches share a row under a 4-d
    mask, whose form it names (see ``masks``); empty if they do not. ``prefix``: a common
    prefix is kept as keys and values. ``depth_limit``: texts longer than this share nothing with others.
    """

    removal: str = "skip"
    same_length: bool = False
    head: bool = False
    stream: bool = False
    pack: str = ""
    prefix: bool = False
    depth_limit: int | None = None

    def __str__(self) -> str:
        parts = [
            "stored stream" if self.stream else "",
            "scored positions" if self.head else "",
            f"packed branches ({self.pack} mask)" if self.pack else "",
            "kept prefix" if self.prefix else "",
        ]
        shared = ", ".join(part for part in parts if part) or "plain batches"
        limit = (
            f", up to {self.depth_limit} tokens" if self.depth_limit and (self.pack or self.prefix) else ""
        )
        alike = " of one length" if self.same_length else ""
        return f"{shared}{alike}{limit}; blocks {'passed through' if self.removal == 'skip' else 'deleted'}"


@dataclass
class Batch:
    """Rows padded on the right, and what is scored in them.

    ``ids``, ``depths`` and ``until`` int64 ``[batch, token]``; ``row`` and ``at`` int64 ``[position]``: the
    scored positions, each once; ``position``, ``target`` and ``request`` int64 ``[answer]``. ``mask``
    is made once and kept.
    """

    ids: torch.Tensor
    depths: torch.Tensor
    until: torch.Tensor
    is_plain: bool
    row: torch.Tensor
    at: torch.Tensor
    position: np.ndarray
    target: np.ndarray
    request: np.ndarray
    mask: Masks | None = None


def collate(rows: Sequence[Row], device: torch.device) -> Batch:
    """Return rows as one batch on ``device``; a pad sees only itself and no token sees it."""
    length = max(len(row.tokens) for row in rows)
    ids = np.zeros((len(rows), length), dtype=np.int64)
    depths = np.zeros_like(ids)
    until = np.tile(np.arange(1, length + 1), (len(rows), 1))
    places, targets, requests = [], [], []
    for number, row in enumerate(rows):
        size = len(row.tokens)
        ids[number, :size], depths[number, :size], until[number, :size] = row.tokens, row.depths, row.until
        places += [number * length + at for at in row.at]
        targets += row.target
        requests += row.request
    none = [np.empty(0, dtype=np.int64)]
    flat, position = np.unique(np.concatenate(places or none), return_inverse=True)
    return Batch(  # type: ignore[call-arg]  # mypy does not count what a generator gives
        *(torch.from_numpy(array).to(device) for array in (ids, depths, until)),  # type: ignore[arg-type]
        all(row.is_chain for row in rows),
        *(torch.from_numpy(array).to(device) for array in np.divmod(flat, length)),
        position,
        np.concatenate(targets or none),
        np.concatenate(requests or none),
    )


class Passes:
    """Runs groups of rows through the whole model and its variants."""

    def __init__(
        self, model: nn.Module, anatomy: Anatomy, device: torch.device, ways: Ways, mask: MakeMask | None
    ) -> None:
        self.model: Any = model
        self.anatomy, self.device, self.ways, self.mask = anatomy, device, ways, mask
        self.accepts = inspect.signature(anatomy.backbone.forward).parameters
        self.no_cache = without_cache(model)
        self.logit_bytes = CPU_LOGIT_BYTES if device.type == "cpu" else LOGIT_BYTES
        self.least_positions = LEAST_POSITIONS

    def run(
        self, group: PrefixGroup, variants: Sequence[Variant], tokens: int
    ) -> Iterator[tuple[Variant, np.ndarray, np.ndarray, np.ndarray]]:
        """Yield ``(variant, request, logprob, greedy)`` for each variant: float32 and bool ``[answer]``.

        Args:
            group: The rows to run, with their prefix.
            variants: For which variants; the whole model is answered first.
            tokens: The most that a batch may hold.
        """
        forget_lengths(self.model)
        every, prefix, batches = self._batches(group, tokens)
        request = np.concatenate([batch.request for batch in every])
        target = np.concatenate([batch.target for batch in every])
        position = _positions(every)
        with torch.inference_mode():
            if not self.ways.head:
                for variant in variants:
                    yield variant, request, *self._plain(every, variant)
                return
            for variant, vectors in self._vectors(prefix, batches, variants):
                yield variant, request, *self.judge(vectors, position, target)

    def vectors(
        self, group: PrefixGroup, variants: Sequence[Variant], tokens: int
    ) -> Iterator[tuple[Variant, np.ndarray, np.ndarray, torch.Tensor]]:
        """Yield ``(variant, request, depth, x^L)``: what the head would read, in the order of the answers.

        ``request`` and ``depth`` (the position in its text of the token before the scored one) are int64
        ``[answer]``, x^L is ``[answer, hidden]``. The arguments are those of :meth:`run`.
        """
        forget_lengths(self.model)
        every, prefix, batches = self._batches(group, tokens)
        request = np.concatenate([batch.request for batch in every])
        depths = [batch.depths[batch.row, batch.at].cpu().numpy() for batch in every]
        position = _positions(every)
        depth = np.concatenate(depths)[position]
        with torch.inference_mode():
            for variant, found in self._vectors(prefix, batches, variants):
                yield variant, request, depth, found[torch.from_numpy(position).to(found.device)]

    def _batches(self, group: PrefixGroup, tokens: int) -> tuple[list[Batch], Batch | None, list[Batch]]:
        """Return all batches of a group, that of its prefix, and those of its rows."""
        lengths = [len(row.tokens) for row in group.rows]
        ahead = 0 if group.prefix is None else len(group.prefix.tokens)
        # A token of a prefix copied before each row costs less than one that goes through whole blocks.
        kind = (lambda length: length) if self.ways.same_length else (lambda length: None)
        plan = plan_batches([length + ahead // 8 for length in lengths], tokens, kind=kind)
        batches = [collate([group.rows[index] for index in part], self.device) for part in plan]
        prefix = None if group.prefix is None else collate([group.prefix], self.device)
        return (batches if prefix is None else [prefix, *batches]), prefix, batches

    def _vectors(
        self, prefix: Batch | None, batches: list[Batch], variants: Sequence[Variant]
    ) -> Iterator[tuple[Variant, torch.Tensor]]:
        """Yield x^L at the scored positions, ``[position, hidden]``, of each variant."""
        layers = self.anatomy.layers
        last = {variant: _run_of(variant) for variant in variants if variant}
        if not self.ways.stream:
            for variant in sorted(variants):
                yield variant, self._sweep(prefix, batches, variant, None, {}, set())
            return
        boundaries = {variant[0] for variant in last}
        stored: dict[tuple[int, int], torch.Tensor] = {}
        # Blocks after the last start of a variant run only if the whole model is asked for.
        useless = () if () in variants else tuple(range(max(boundaries), layers))
        whole = self._sweep(prefix, batches, useless, None, stored, boundaries)
        if () in variants:
            yield (), whole
        del whole
        uses = {boundary: 0 for boundary in boundaries}
        for variant in last:
            uses[variant[0]] += 1
        for variant in sorted(last):
            boundary = variant[0]
            uses[boundary] -= 1
            keep = uses[boundary] > 0
            yield (
                variant,
                self._sweep(prefix, batches, variant, (boundary, last[variant], keep), stored, set()),
            )

    def _sweep(
        self,
        prefix: Batch | None,
        batches: list[Batch],
        skipped: Variant,
        start: tuple[int, int, bool] | None,
        stored: dict[tuple[int, int], torch.Tensor],
        boundaries: set[int],
    ) -> torch.Tensor:
        """Return x^L at the scored positions of the prefix and the batches, for one variant.

        Args:
            prefix: What is run first, its keys and values kept for the rest.
            batches: The rows after it.
            skipped: The variant.
            start: ``(boundary, layer, keep)``: use the stored stream of ``boundary`` as what ``layer``
                returns; ``keep`` says whether another variant still needs it.
            stored: Streams by ``(batch, boundary)``, written at ``boundaries`` and read at ``start``.
            boundaries: Where the stream is stored.
        """
        layers = self.anatomy.layers
        found = []
        cache = None if prefix is None else PrefixCache()
        every = batches if prefix is None else [prefix, *batches]
        for number, batch in enumerate(every):
            stream: Any = None
            if start is not None:
                boundary, through, keep = start
                stream = stored[number, boundary] if keep else stored.pop((number, boundary))
                if through == layers - 1:  # nothing is left to run
                    found.append(stream[batch.row.to(stream.device), batch.at.to(stream.device)])
                    continue
                stream = stream.clone() if keep else stream
            kept: dict[int, torch.Tensor] = {}

            def read(
                boundary: int,
                stream: torch.Tensor,
                kept: dict[int, torch.Tensor] = kept,
                batch: Batch = batch,
            ) -> None:
                if boundary in boundaries:
                    kept[boundary] = stream.clone()  # a block may add to it in place
                if boundary == layers:
                    found.append(stream[batch.row.to(stream.device), batch.at.to(stream.device)])

            with ExitStack() as stack:
                if start is None:
                    stack.enter_context(skip_blocks(self.anatomy, skipped))
                else:
                    later = [layer for layer in skipped if layer > start[1]]
                    stack.enter_context(skip_blocks(self.anatomy, later))
                    stack.enter_context(replay_stream(self.anatomy, start[1], stream))
                stack.enter_context(reading_stream(self.anatomy, read))
                length = 0 if prefix is None or batch is prefix else prefix.ids.shape[1]
                self._forward(batch, cache, length)
            stored.update({(number, boundary): stream for boundary, stream in kept.items()})
            if cache is not None and prefix is not None and batch is prefix:
                cache.freeze(layers, prefix.ids.shape[1])
        return torch.cat([vectors.to(self.device) for vectors in found])

    def _forward(self, batch: Batch, cache: PrefixCache | None, ahead: int) -> None:
        """Run the backbone over one batch, after ``ahead`` tokens in a frozen cache."""
        extra: dict[str, Any] = {}
        if "use_cache" in self.accepts:
            extra["use_cache"] = cache is not None
        if cache is not None:
            extra["past_key_values"] = cache
        # Plain texts padded on the right need no mask: causal blocks never look ahead; lm-eval gives none.
        if self.mask is not None and (ahead or not batch.is_plain):
            if batch.mask is None:  # the same for every variant
                batch.mask = self.mask(batch.depths, batch.until, ahead)
            extra["attention_mask"] = batch.mask
            extra["position_ids"] = batch.depths
        self.anatomy.backbone(input_ids=batch.ids, **extra)

    def judge(
        self, vectors: torch.Tensor, position: np.ndarray, target: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return log-probability and greedy of each answer from x^L, a bounded number of logits at a time.

        The model's own forward runs with every block passed through: final norm, head, caps and scales
        are its own. Each vector is a text of one token, so that no mask grows large.
        """
        layers, vocab = self.anatomy.layers, self._vocab
        at_once = max(self.logit_bytes // (4 * vocab), self.least_positions)
        scorer = _Scorer(len(vectors), position, target, self.device)
        for first in range(0, len(vectors), at_once):
            part = vectors[first : first + at_once, None]
            ids = torch.zeros(len(part), 1, dtype=torch.int64, device=self.device)
            with replay_stream(self.anatomy, layers - 1, part):
                scorer.add(first, self.model(input_ids=ids, **self.no_cache).logits[:, 0])
        return scorer.answers()

    def _plain(self, batches: list[Batch], variant: Variant) -> tuple[np.ndarray, np.ndarray]:
        """Return log-probability and greedy of each answer from whole passes of the model over few rows."""
        answers = []
        with self._without(variant):
            for batch in batches:
                scorer = _Scorer(len(batch.row), batch.position, batch.target, self.device)
                rows = max(self.logit_bytes // (4 * self._vocab * batch.ids.shape[1]), 1)
                for first in range(0, len(batch.ids), rows):
                    here = (batch.row >= first) & (batch.row < first + rows)
                    if here.any():
                        ids = batch.ids[first : first + rows]
                        logits = self.model(input_ids=ids, **self.no_cache).logits
                        begin = int(here.nonzero()[0])
                        scorer.add(begin, logits[batch.row[here] - first, batch.at[here]])
                answers.append(scorer.answers())
        logprob, greedy = zip(*answers, strict=True)
        return np.concatenate(logprob), np.concatenate(greedy)

    def _without(self, variant: Variant) -> AbstractContextManager[None]:
        """Return the context in which the model runs without the layers of a variant."""
        if self.ways.removal == "delete":
            return delete_blocks(self.model, self.anatomy, variant)
        return (skip_blocks if self.ways.removal == "skip" else discard_blocks)(self.anatomy, variant)

    @property
    def _vocab(self) -> int:
        return int(self.model.config.get_text_config().vocab_size)


class _Scorer:
    """Takes logits of consecutive positions and gives the answers read from them."""

    def __init__(self, count: int, position: np.ndarray, target: np.ndarray, device: torch.device) -> None:
        self.order = np.argsort(position, kind="stable")
        self.position = torch.from_numpy(position[self.order]).to(device)
        self.target = torch.from_numpy(target[self.order]).to(device)
        self.sorted_position = position[self.order]
        self.logprob = torch.empty(len(position), dtype=torch.float32, device=device)
        self.greedy = torch.empty(len(position), dtype=torch.bool, device=device)

    def add(self, first: int, logits: torch.Tensor) -> None:
        """Score ``[position, vocab]`` logits of the positions from ``first`` on."""
        begin, end = np.searchsorted(self.sorted_position, [first, first + len(logits)])
        position, target = self.position[begin:end] - first, self.target[begin:end]
        logits = logits.to(self.position.device).float()
        largest = logits.amax(dim=-1)
        picked = logits[position, target]
        # The index of the largest is slow to find, and needed only where there may be a tie.
        greedy = picked == largest[position]
        best = greedy.nonzero()[:, 0]
        greedy[best] = logits[position[best]].argmax(dim=-1) == target[best]
        # In place: the logits are ours, and at most a few megabytes of them exist on a CPU.
        total = logits.sub_(largest[:, None]).exp_().sum(dim=-1)
        self.logprob[begin:end] = picked - (largest + total.log())[position]
        self.greedy[begin:end] = greedy

    def answers(self) -> tuple[np.ndarray, np.ndarray]:
        """Return log-probability and greedy in the order of the answers."""
        logprob, greedy = self.logprob.cpu().numpy(), self.greedy.cpu().numpy()
        back = np.empty_like(self.order)
        back[self.order] = np.arange(len(back))
        return logprob[back], greedy[back]


def without_cache(module: nn.Module) -> dict[str, bool]:
    """Return the argument that keeps a pass from filling a cache, if a model or a part of it takes one."""
    return {"use_cache": False} if "use_cache" in inspect.signature(module.forward).parameters else {}


def _positions(every: Sequence[Batch]) -> np.ndarray:
    """Return the index of each answer's scored position among those of all batches."""
    starts = np.cumsum([0, *(len(batch.row) for batch in every)])
    return np.concatenate([start + batch.position for start, batch in zip(starts[:-1], every, strict=True)])


def _run_of(variant: Variant) -> int:
    """Return the last layer of the run of consecutive layers that a variant begins with."""
    return next(
        (layer for layer, beyond in pairwise(variant) if beyond != layer + 1),
        variant[-1],
    )
