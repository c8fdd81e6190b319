"""Gradient norm: how strongly does the loss pull at the parameters of each layer?

    g_l = || d L / d theta_l ||_2,    L = mean loss in nats over ALL predicted tokens, taken as one batch

theta_l are all parameters of block l. The calibration set is one batch however it is split: gradients
of micro-batches are summed, each over its tokens, and divided once by the number of all tokens. So neither
micro-batches nor padding nor the order of samples change the numbers.

Source: the layerwise gradient norm of Mix-LN (2412.13795), whose released code does not say which batch; with
``per_batch`` the mean over batches of a given size, as training logs show it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from depthprobe.catalogue import GRADNORM
from depthprobe.errors import MeasureError, OptionError
from depthprobe.machine.batches import pad_batch, restarting_smaller
from depthprobe.machine.processes import ALONE, Processes
from depthprobe.measurement import Measurement
from depthprobe.metrics.gradients import squared_norm
from depthprobe.models.anatomy.anatomy import Anatomy
from depthprobe.models.gradients.objective import (
    MASKED_TOKEN,
    NOT_PREDICTED,
    Example,
    loss_feels_padding,
    masked_examples,
    next_token_examples,
    objective_of,
    summed_loss,
)
from depthprobe.models.gradients.parameters import Holding, count, holdings_of, names_in
from depthprobe.models.gradients.plan import AUTO, GradientPlan, plan_gradients
from depthprobe.models.gradients.sums import (
    GradientSums,
    shared_parameters,
    summing_gradients,
)
from depthprobe.models.loading.missing import refuse_random_head
from depthprobe.probes.together import Together, how_together
from depthprobe.results.journal import Journal

if TYPE_CHECKING:
    from depthprobe.models.loading.loading import LoadedModel
    from depthprobe.texts.samples import Samples

ALL = "all"

BROKEN = "Try --dtype float32 or bfloat16; if that does not help, the weights are broken."

COLUMNS = GRADNORM.tables[0].columns


def measure(
    model: LoadedModel,
    anatomy: Anatomy,
    samples: Samples,
    *,
    per_batch: int | None = None,
    memory: str | int = AUTO,
    batch_size: int | None = None,
    processes: Processes = ALONE,
    journal: Journal | None = None,
    advance: Callable[[float], None] = lambda count: None,
) -> Measurement:
    """Return the gradient norm of every layer and of its parts.

    Args:
        model: The loaded model; it is in evaluation mode, so nothing is dropped out.
        anatomy: Its anatomy.
        samples: Token samples; their seed also chooses which tokens a masked model has to guess.
        per_batch: Samples in each batch, over which norms are averaged; None takes all samples as one batch.
        memory: ``auto``, ``whole``, or how many blocks' gradients are held at a time.
        batch_size: Samples in a micro-batch; None fits them to the memory. It does not change the numbers.
        processes: Those among which the work is shared out.
        journal: Where the norms of finished groups are kept; what it holds is not measured again.
        advance: Called with the number of tokens just done; over all passes they sum to the samples' tokens.

    Raises:
        LoadError: if the checkpoint has no weights for the head that the loss needs.
        MeasureError: if the model has no loss or no gradients, or a gradient is NaN or infinite.
        OptionError: if an argument has a value that cannot be used.
        MachineError: if one sample alone does not fit into memory.
    """
    if per_batch is not None and (not isinstance(per_batch, int) or per_batch < 1):
        raise OptionError(f"per_batch must be a number of at least 1, or None; got {per_batch!r}.")
    if model.unfilled:
        refuse_random_head(model.source.name, model.model, model.unfilled)
    objective = objective_of(model.model)
    examples = _examples(model, samples, objective)
    _refuse_weights_elsewhere(model)
    holdings = holdings_of(model.model, anatomy)
    notes = _notes(model, anatomy, holdings)
    if per_batch is not None and per_batch > len(examples):
        raise OptionError(
            f"--per-batch must be at most the number of samples, {len(examples)}; got {per_batch}.",
            "Ask for smaller batches.",
        )
    size = per_batch or len(examples)
    batches = [range(start, min(start + size, len(examples))) for start in range(0, len(examples), size)]
    if len(batches) > 1 and len(batches[-1]) < size:
        left = len(batches.pop())  # a smaller batch is noisier: its norm is another quantity
        notes.append(
            f"The last {left} of {len(examples)} samples do not fill a batch of {size} and are left out."
        )
    # Several batches are shared out whole; one is shared out by its micro-batches.
    one = len(batches) == 1
    mine, together = (batches, processes) if one else (processes.mine(batches), ALONE)
    found = _Found(_rows(holdings), len(mine), journal, f"{processes.rank}-of-{processes.count}")
    missing = set[int]().union(*processes.gather(found.missing()))
    # The whole work, which the record describes, and what of it is left when a run continues.
    whole, plan = processes.first(
        lambda: [
            plan_gradients(
                holdings,
                model.model.config,
                anatomy.hidden,
                model.model.dtype,
                model.device,
                memory,
                done=done,
            )
            for done in (set(), set(range(len(holdings))) - missing)
        ]
    )
    shortest = min(examples, key=lambda example: len(example.input_ids))
    reading = how_together(
        model,
        anatomy,
        [example.input_ids for example in examples],
        plan.tokens,
        batch_size,
        same_length=loss_feels_padding(model.model, shortest, model.pad_token_id, model.device),
        processes=processes,
    )
    notes += reading.notes
    work = _Work(model, anatomy, examples, holdings, plan, batch_size, reading, advance)
    for group in plan.groups:
        for number, batch in enumerate(mine):
            if one or not found.has(number, group):
                found.keep(number, *_take(work, group, batch, together))
    parts = [found] if one else processes.gather(found.bare())
    squares = np.concatenate([part.squares for part in parts])
    losses = np.concatenate([part.losses for part in parts])
    rows = found.rows
    ordered = [batch for rank in range(len(parts)) for batch in batches[rank :: len(parts)]]
    predicted = np.array([sum(examples[index].predicted for index in batch) for batch in ordered])
    facts = {
        "objective": objective,
        "loss_nats": float(losses @ predicted / predicted.sum()),
        "predicted_tokens": int(predicted.sum()),
        "per_batch": per_batch,
        "gradient_batches": len(batches),
        "passes": len(whole.groups),
        "checkpointed": whole.checkpoint,
        "notes": notes,
    }
    return GRADNORM.measurement({"gradnorm": _frame(rows, holdings, squares)}, facts)


@dataclass(frozen=True)
class _Work:
    """What every pass needs; ``reading`` says which samples may share a micro-batch."""

    model: LoadedModel
    anatomy: Anatomy
    examples: Sequence[Example]
    holdings: Sequence[Holding]
    plan: GradientPlan
    batch_size: int | None
    reading: Together
    advance: Callable[[float], None]


# (place of a holding, part of it)
Row = tuple[int, str]


def _rows(holdings: Sequence[Holding]) -> list[Row]:
    """Return the rows of the table: for each layer the whole block and its parts, then those outside."""
    rows: list[Row] = []
    for place, holding in enumerate(holdings):
        rows += [(place, ALL)] if holding.is_block and holding.parameters else []
        rows += [(place, part) for part in sorted(holding.parts)]
    return rows


class _Found:
    """Squared norms ``[batch, row]`` and losses ``[batch]`` of this process, journalled as they come."""

    def __init__(self, rows: list[Row], batches: int, journal: Journal | None, who: str) -> None:
        self.rows, self.journal, self.who = rows, journal, who
        self.squares = np.full((batches, len(rows)), np.nan)
        self.losses = np.full(batches, np.nan)
        if journal is None:
            return
        for number in range(batches):
            for place in {place for place, _ in rows}:
                if journal.done(self._piece(number, place)):
                    kept = journal.read(self._piece(number, place))
                    self.squares[number, self._columns(place)] = kept["squares"]
                    self.losses[number] = kept["loss"]

    def _piece(self, number: int, place: int) -> str:
        return f"{self.who}/batch/{number}/part/{place}"

    def _columns(self, place: int) -> list[int]:
        return [index for index, row in enumerate(self.rows) if row[0] == place]

    def missing(self) -> set[int]:
        """Return the places of holdings that are not known for every batch."""
        unknown = np.isnan(self.squares).any(axis=0)
        return {place for (place, _), lacks in zip(self.rows, unknown, strict=True) if lacks}

    def has(self, number: int, group: Sequence[int]) -> bool:
        """Return whether the numbers of a batch are known for all holdings of a group."""
        return not any(np.isnan(self.squares[number, self._columns(place)]).any() for place in group)

    def keep(self, number: int, squares: dict[Row, float], loss: float) -> None:
        """Keep a group's squared norms for one batch."""
        self.losses[number] = loss
        for index, row in enumerate(self.rows):
            self.squares[number, index] = squares.get(row, self.squares[number, index])
        if self.journal is not None:
            for place in sorted({place for place, _ in squares}):
                kept = {"squares": self.squares[number, self._columns(place)], "loss": loss}
                self.journal.write(self._piece(number, place), kept)

    def bare(self) -> _Found:
        """Return the numbers alone, for other processes."""
        other = _Found(self.rows, len(self.losses), None, self.who)
        other.squares, other.losses = self.squares, self.losses
        return other


def _take(
    work: _Work, group: Sequence[int], batch: Sequence[int], processes: Processes
) -> tuple[dict[Row, float], float]:
    """Return the squared norms of one group's rows for one batch, and the mean loss."""
    predicted = sum(work.examples[index].predicted for index in batch)
    if not predicted:
        raise MeasureError("The text has no token to predict.", "Name another --dataset.")
    sums, loss = _sum(work, group, batch, processes)
    loss = math.fsum(processes.gather(loss)) / predicted
    if not math.isfinite(loss):
        raise MeasureError(f"The loss is {loss}.", BROKEN)
    # Each gradient is freed as soon as its square is known.
    each: dict[tuple[int, str], float] = {}
    for place in group:
        for name, parameter in work.holdings[place].parameters.items():
            gradient = sums.sums.pop((place, name), None)
            if processes.count > 1:
                zero = torch.zeros(parameter.shape, dtype=torch.promote_types(parameter.dtype, torch.float32))
                gradient = processes.add(zero if gradient is None else gradient)
            each[place, name] = 0.0 if gradient is None else squared_norm([gradient])
    squares: dict[Row, float] = {}
    for place, part in _rows(work.holdings):
        if place not in group:
            continue
        parts = work.holdings[place].parts
        names = [name for names in parts.values() for name in names] if part == ALL else parts[part]
        squares[place, part] = math.fsum(each[place, name] for name in names) / predicted**2
        if not math.isfinite(squares[place, part]):
            layer = work.holdings[place].layer
            where = f"layer {layer}" if part == ALL else f"{part} of layer {layer}"
            raise MeasureError(f"The gradient at {where} is NaN or infinite.", BROKEN)
    return squares, loss


def _sum(
    work: _Work, group: Sequence[int], batch: Sequence[int], processes: Processes
) -> tuple[GradientSums, float]:
    """Return the gradients of a group, and the loss, summed over this process's tokens of a batch."""
    lengths = [len(work.examples[index].input_ids) for index in batch]
    micro = work.reading.batches(lengths, work.plan.tokens, work.batch_size)
    lowest = min(work.holdings[place].layer for place in group)
    model, pad, device = work.model.model, work.model.pad_token_id, work.model.device

    def attempt(parts: Sequence[list[int]]) -> tuple[GradientSums, float]:
        total = 0.0
        deep = range(max(lowest, 0), work.anatomy.layers) if work.plan.checkpoint else ()
        with summing_gradients(model, work.anatomy, work.holdings, group, deep) as sums:
            for part in parts:
                chosen = [work.examples[batch[index]] for index in part]
                ids, mask = pad_batch([example.input_ids for example in chosen], pad)
                targets, _ = pad_batch([example.targets for example in chosen], NOT_PREDICTED)
                work.reading.begin()
                loss = summed_loss(model, ids.to(device), mask.to(device), targets.to(device))
                _backward(loss, model)
                total += float(loss.detach())
                work.advance(int(mask.sum()) / len(work.plan.groups))
        return sums, total

    return restarting_smaller(processes.mine(micro), attempt)


def _backward(loss: torch.Tensor, model: torch.nn.Module) -> None:
    if not loss.requires_grad:
        raise MeasureError(
            f"The loss of {type(model).__name__} gives no gradient to its parameters.",
            "Its computation does not support gradients: try another device or form of the checkpoint.",
        )
    loss.backward()


def _examples(model: LoadedModel, samples: Samples, objective: str) -> list[Example]:
    if objective != MASKED_TOKEN:
        return next_token_examples(samples.tokens)
    mask = model.tokenizer.mask_token_id
    if mask is None:
        raise MeasureError(
            f"{type(model.model).__name__} fills in masked tokens, but its tokenizer has no mask token.",
            "Give it a tokenizer that has one.",
        )
    seed = int(samples.facts.get("seed", 0))
    return masked_examples(samples.tokens, mask, model.tokenizer.all_special_ids, seed)


def _refuse_weights_elsewhere(model: LoadedModel) -> None:
    """Raise if weights are brought to the device for each pass: their gradients would have no place."""
    places = set(map(str, (getattr(model.model, "hf_device_map", None) or {}).values()))
    if places & {"cpu", "disk"} and len(places) > 1 or any(p.is_meta for p in model.model.parameters()):
        raise MeasureError(
            "Some weights stay in main memory or on disk until needed, but gradients need all on the device.",
            "Use --device cpu, a smaller --dtype, or GPUs that hold the model.",
        )


def _notes(model: LoadedModel, anatomy: Anatomy, holdings: Sequence[Holding]) -> list[str]:
    """Return what is unusual about the parameters, one sentence each."""
    notes = []
    frozen = [p for holding in holdings for p in holding.parameters.values() if not p.requires_grad]
    if frozen:
        notes.append(f"{len(frozen)} parameters are frozen; their gradients are measured like all others.")
    packed = [
        (names_in(model.model, holding.module), name, parameter)
        for holding in holdings
        for name, parameter in holding.packed.items()
    ]
    if packed:
        path, name, parameter = packed[0]
        total = sum(parameter.numel() for _, _, parameter in packed)
        notes.append(
            f"{len(packed)} packed parameters ({total:,} numbers, such as {path}.{name}, {parameter.dtype}) "
            "have no gradient and are left out."
        )
    shared = shared_parameters(holdings)
    if shared:
        notes.append(
            f"{len(shared)} parameters are shared by several layers; a layer's row is the gradient through "
            "that layer alone."
        )
    if anatomy.embedding is not None and anatomy.head is not None:
        inside = {id(parameter) for parameter in anatomy.embedding.parameters()}
        if any(id(parameter) in inside for parameter in anatomy.head.parameters()):
            notes.append("The head is tied to the embedding: their joint gradient is in the embedding's row.")
    if model.model.config.is_encoder_decoder:
        notes.append(
            "The encoder reads the same text that the decoder predicts, so the loss is that of copying it."
        )
    if not any(holding.parameters for holding in holdings if holding.is_block):
        raise MeasureError(
            "No parameter of a block is a floating-point number, so there are no gradients.",
            "Name the model that this quantised one was made from.",
        )
    return notes


def _frame(rows: Sequence[Row], holdings: Sequence[Holding], squares: np.ndarray) -> pd.DataFrame:
    norms = np.sqrt(squares)
    table: list[dict[str, Any]] = []
    for index, (place, part) in enumerate(rows):
        holding = holdings[place]
        names = holding.parameters if part == ALL else holding.parts[part]
        size = count({name: holding.parameters[name] for name in names})
        norm = float(norms[:, index].mean())
        table.append(
            {
                "layer": holding.layer,
                "part": part,
                "grad_norm": norm,
                "parameters": size,
                "grad_rms": norm / math.sqrt(size),
                "std": float(norms[:, index].std(ddof=1)) if len(norms) > 1 else 0.0,
            }
        )
    return pd.DataFrame(table, columns=[column.name for column in COLUMNS])
