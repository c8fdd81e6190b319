"""Which texts are read together: as many as leave each other's numbers alone, which is tried beforehand.

In nearly every model a text gives the same numbers beside any others. But rotary frequencies may be scaled by
the longest row of a batch, padding may reach real tokens (convolutions), and experts of limited capacity,
activations quantised by the batch or a batch norm let rows act on each other. What a configuration names is
kept apart from the start; whatever else there is shows when texts are read alone and together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import nn

from depthprobe.errors import MeasureError
from depthprobe.machine.batches import pad_batch, plan_batches, run_batches
from depthprobe.machine.processes import ALONE, Processes
from depthprobe.models.anatomy.anatomy import Anatomy
from depthprobe.models.anatomy.stream import run_backbone
from depthprobe.models.anatomy.trace import FORWARD_EXCEPTIONS
from depthprobe.models.capture import reading_stream
from depthprobe.models.frequencies import Scaling, forget_lengths, scalings_of, sides

if TYPE_CHECKING:
    from depthprobe.models.loading.loading import LoadedModel

# Tokens of the batch that is tried: enough for experts to run full, and little beside a measurement.
TRIED_TOKENS = 2048

# x^L of a token may differ by this share of its length: kernels round differently in another batch, half
# precision far more so. One token in a hundred may differ by more, where a router decides on a hair.
TOLERANCE = {torch.float16: 5e-2, torch.bfloat16: 1e-1}
SINGLE_TOLERANCE = 3e-4
OTHERWISE_ROUTED = 0.01

# What was found of a model, by the lengths that were tried: several probes measure it, or one many times.
_FOUND: WeakKeyDictionary[nn.Module, dict[tuple[object, ...], tuple[bool, bool]]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Together:
    """How texts are shared out into batches.

    Args:
        model: The model that reads them.
        scalings: Where its rotary frequencies change.
        same_length: Whether a batch holds texts of one length only.
        alone: Whether each text is read by itself.
        notes: Sentences for the user.
    """

    model: nn.Module
    scalings: tuple[Scaling, ...] = ()
    same_length: bool = False
    alone: bool = False
    notes: list[str] = field(default_factory=list)

    def batches(self, lengths: Sequence[int], tokens: int, batch_size: int | None = None) -> list[list[int]]:
        """Return batches of indices; the arguments are those of :func:`plan_batches`."""
        return plan_batches(lengths, tokens, 1 if self.alone else batch_size, kind=self.kind)

    def kind(self, length: int) -> tuple[int, ...]:
        """Return what texts that share a batch have in common."""
        return (length,) if self.same_length else sides(self.scalings, length)

    def begin(self) -> None:
        """Make ready for a pass: what the model keeps of the lengths it has read must not decide it."""
        if self.scalings:
            forget_lengths(self.model)


def how_together(
    model: LoadedModel,
    anatomy: Anatomy,
    texts: Sequence[np.ndarray],
    tokens: int,
    batch_size: int | None = None,
    *,
    same_length: bool = False,
    processes: Processes = ALONE,
) -> Together:
    """Return how texts are read together, so that each gets the numbers that it gets alone.

    The longest and the shortest text that may share a batch are read alone and together with others.
    Where they differ, batches hold texts of one length; where these still differ, each text is read alone.

    Args:
        model: The loaded model.
        anatomy: Its anatomy.
        texts: int64 ``[token]`` each.
        tokens: The most tokens that a batch may hold.
        batch_size: Texts in a batch, instead.
        same_length: Whether a batch may hold one length only for another reason.
        processes: Those that share the work; the first one tries and decides.

    Raises:
        MeasureError: if a text gets other numbers after another text than before it.
        OptionError: if ``batch_size`` is not a number of at least 1.
    """
    scalings = scalings_of(model.model)
    declared = Together(model.model, scalings, same_length or anatomy.feels_padding)
    trial = _Trial(model, anatomy, texts, tokens, batch_size)
    same_length, alone = processes.first(lambda: trial.decide(declared))
    found = replace(declared, same_length=same_length, alone=alone, notes=[])
    if found.alone:
        found.notes.append("Beside others a text gets other numbers from this model: each is read alone.")
    elif found.same_length and not declared.same_length:
        found.notes.append(
            "Beside a longer text one gets other numbers from this model: a batch holds texts of one length."
        )
    found.notes.extend(_borders_told(scalings, [len(text) for text in texts]))
    return found


def _borders_told(scalings: Sequence[Scaling], lengths: Sequence[int]) -> list[str]:
    """Return a sentence if texts lie on both sides of a border."""
    for scaling in scalings:
        longer = sum(length > scaling.border for length in lengths)
        if 0 < longer < len(lengths):
            each = "; each length has its own" if scaling.by_length else ""
            return [
                f"{longer} of {len(lengths)} samples are longer than {scaling.border} tokens, beyond which "
                f"this model has other rotary frequencies{each}: they share no batch with shorter ones."
            ]
    return []


@dataclass
class _Trial:
    """A few texts, read alone and together."""

    model: LoadedModel
    anatomy: Anatomy
    texts: Sequence[np.ndarray]
    tokens: int
    batch_size: int | None

    def decide(self, declared: Together) -> tuple[bool, bool]:
        """Return whether batches may hold one length only, and whether each text is read alone."""
        known = _FOUND.setdefault(self.model.model, {})
        lengths = [len(text) for text in self.texts]
        first = _widest(declared, lengths, self.tokens, self.batch_size)
        ends = (max(lengths, default=0), min(lengths, default=0))
        tried = (declared.same_length, *ends, *(lengths[index] for index in first))
        if tried not in known:
            known[tried] = self._tried(declared, lengths, first)
        return known[tried]

    def _tried(self, declared: Together, lengths: list[int], first: list[int]) -> tuple[bool, bool]:
        alike = replace(declared, same_length=True)
        for way, company in (
            (declared, first),
            (alike, _widest(alike, lengths, self.tokens, self.batch_size)),
        ):
            if self._same_beside(way, company):
                break
        else:
            way = replace(alike, alone=True)
        self._refuse_memory(way, lengths)
        return way.same_length, way.alone

    def _same_beside(self, way: Together, company: list[int]) -> bool:
        """Return whether the first and the last of some texts get the same numbers together and alone."""
        if len(company) < 2:
            return True
        ends = company[0], company[-1]
        try:
            together = self._read(way, company)
        except FORWARD_EXCEPTIONS:
            return False  # the model does not take several texts of these lengths
        return all(self._near(together[index], self._read(way, [index])[index]) for index in ends)

    def _refuse_memory(self, way: Together, lengths: list[int]) -> None:
        """Raise if a short text gets other numbers after a long one than before it."""
        if len(lengths) < 2:
            return
        order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
        before, _, after = (self._read(way, [index])[index] for index in (order[-1], order[0], order[-1]))
        if not self._near(after, before):
            raise MeasureError(
                "After another text a text gets other numbers from this model than before it: the order of "
                "the samples would decide the result.",
                "Such a model cannot be measured.",
            )

    def _near(self, found: torch.Tensor, truth: torch.Tensor) -> bool:
        return near(found, truth, self.model.model.dtype)

    def _read(self, way: Together, indices: list[int]) -> dict[int, torch.Tensor]:
        """Return x^L ``[token, hidden]`` of texts read together; if memory runs out, of half of them each."""

        def step(batch: list[int]) -> dict[int, torch.Tensor]:
            found: list[torch.Tensor] = []

            def read(boundary: int, stream: torch.Tensor) -> None:
                if boundary == self.anatomy.layers:
                    rows = zip(batch, stream, strict=True)
                    found.extend(row[: len(self.texts[index])].float().cpu() for index, row in rows)

            ids, mask = pad_batch([self.texts[index] for index in batch], self.model.pad_token_id)
            way.begin()
            with reading_stream(self.anatomy, read):
                run_backbone(self.anatomy.backbone, ids.to(self.model.device), mask.to(self.model.device))
            return dict(zip(batch, found, strict=True))

        return {index: vectors for _, part in run_batches([indices], step) for index, vectors in part.items()}


def _widest(way: Together, lengths: Sequence[int], tokens: int, batch_size: int | None) -> list[int]:
    """Return a batch to try: the longest and the shortest text that may share one, and some between.

    Empty if each batch holds a single text.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for batch in way.batches(lengths, tokens, batch_size):
        if len(batch) > 1:
            groups.setdefault(way.kind(lengths[batch[0]]), []).extend(batch)  # the longest come first
    if not groups:
        return []
    widest = max(groups.values(), key=lambda group: (lengths[group[0]] - lengths[group[-1]], len(group)))
    most = max(min(tokens, TRIED_TOKENS) // max(lengths[widest[0]], 1), 2)
    most = min(most, batch_size or most)
    return [*widest[: most - 1], widest[-1]] if len(widest) > most else widest


def near(found: torch.Tensor, truth: torch.Tensor, dtype: torch.dtype) -> bool:
    """Return whether vectors are the same up to rounding; what is not finite is left to the measurement.

    Args:
        found, truth: ``[token, hidden]``.
        dtype: The model's, in which both were computed.
    """
    error = (found - truth).norm(dim=-1) / truth.norm(dim=-1).clamp_min(1e-30)
    wrong = error > TOLERANCE.get(dtype, SINGLE_TOLERANCE)
    return int(wrong.sum()) <= OTHERWISE_ROUTED * len(wrong)
