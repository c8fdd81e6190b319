"""The loss a language model was trained with, on token samples: next token, or masked token."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from depthprobe.errors import MeasureError
from depthprobe.models.anatomy.anatomy import part_of
from depthprobe.models.anatomy.stream import inputs_of
from depthprobe.models.loading.checkpoint import is_masked

NEXT_TOKEN, MASKED_TOKEN = "next token", "masked token"

# BERT's share (1810.04805); every chosen token is replaced by the mask token, none by a random one.
MASKED_SHARE = 0.15

NOT_PREDICTED = -100

# Logits in float32 at once.
LOGITS_AT_ONCE = 1 << 24


@dataclass(frozen=True)
class Example:
    """One sample as a model reads it, and what it should predict: both int64 ``[token]``.

    ``targets`` is aligned with the logits, :data:`NOT_PREDICTED` where nothing is predicted.
    """

    input_ids: np.ndarray
    targets: np.ndarray

    @property
    def predicted(self) -> int:
        """How many tokens are predicted."""
        return int((self.targets != NOT_PREDICTED).sum())


def objective_of(model: PreTrainedModel) -> str:
    """Return which loss a model has: :data:`NEXT_TOKEN` or :data:`MASKED_TOKEN`.

    Raises:
        MeasureError: if it has no head that gives logits over its vocabulary.
    """
    if part_of(model, "get_output_embeddings") is None:
        raise MeasureError(
            f"{type(model).__name__} has no language-model head, so there is no loss to take a gradient of.",
            "Name a checkpoint that has its head.",
        )
    return MASKED_TOKEN if is_masked(model) else NEXT_TOKEN


def next_token_examples(samples: Iterable[np.ndarray]) -> list[Example]:
    """Return samples in which every token but the first is predicted from those before it."""
    return [Example(sample, np.append(sample[1:], NOT_PREDICTED).astype(np.int64)) for sample in samples]


def masked_examples(
    samples: Iterable[np.ndarray], mask_id: int, special_ids: Sequence[int] = (), seed: int = 0
) -> list[Example]:
    """Return samples in which :data:`MASKED_SHARE` of the ordinary tokens, at least one, are masked.

    Which ones depends on the seed and the sample itself, not on its place among the others.

    Args:
        samples: int64 ``[token]`` each.
        mask_id: The token put where one is to be guessed.
        special_ids: Tokens that are never masked.
        seed: Of the choice.
    """
    examples = []
    for sample in samples:
        ordinary = np.flatnonzero(~np.isin(sample, list(special_ids)))
        generator = np.random.default_rng([seed, zlib.crc32(sample.astype("<i8").tobytes())])
        count = min(max(round(MASKED_SHARE * len(ordinary)), 1), len(ordinary))
        chosen = generator.choice(ordinary, size=count, replace=False)
        input_ids, targets = sample.copy(), np.full(len(sample), NOT_PREDICTED, dtype=np.int64)
        input_ids[chosen], targets[chosen] = mask_id, sample[chosen]
        examples.append(Example(input_ids, targets))
    return examples


def summed_loss(
    model: PreTrainedModel, input_ids: torch.Tensor, attention_mask: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """Return the loss summed over predicted tokens, in nats: a float32 scalar (float64 of a float64 model).

    Args:
        model: The model, with its head.
        input_ids: int64 ``[batch, token]``, padded on the right.
        attention_mask: int64 ``[batch, token]``.
        targets: int64 ``[batch, token]``, :data:`NOT_PREDICTED` where nothing is predicted.
    """
    logits = model(**inputs_of(model, input_ids, attention_mask)).logits
    if logits.dim() == 4:  # one set for each code book; text has only one
        logits = logits[:, 0]
    rows = logits[:, : targets.shape[1]].flatten(0, 1)
    wanted = targets.to(rows.device).flatten()
    size = max(LOGITS_AT_ONCE // rows.shape[-1], 1)
    if len(rows) <= size:
        return _cross_entropy(rows, wanted)
    # A few tokens at a time, run again in the backward pass: float32 logits would outweigh all else.
    parts = zip(rows.split(size), wanted.split(size), strict=True)
    return torch.stack([checkpoint(_cross_entropy, *part, use_reentrant=False) for part in parts]).sum()


def _cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the loss summed over rows, in float32 at least: half precision would round the logarithms."""
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return torch.nn.functional.cross_entropy(wide, targets, ignore_index=NOT_PREDICTED, reduction="sum")


@torch.no_grad()
def loss_feels_padding(model: PreTrainedModel, example: Example, pad: int, device: torch.device) -> bool:
    """Return whether masked padding after a text changes its loss.

    What an anatomy says about padding holds for the stream that it follows; the loss may also depend on
    another one (an encoder's, ProphetNet's n-grams).
    """
    losses = []
    for padding in (0, 3):
        ids = np.append(example.input_ids, np.full(padding, pad))
        targets = np.append(example.targets, np.full(padding, NOT_PREDICTED))
        mask = (np.arange(len(ids)) < len(example.input_ids)).astype(np.int64)
        rows = (torch.as_tensor(row, dtype=torch.int64, device=device)[None] for row in (ids, mask, targets))
        losses.append(float(summed_loss(model, *rows)))
    tolerance = 1e-5 if model.dtype.itemsize >= 4 else 5e-2
    return abs(losses[1] - losses[0]) > tolerance * abs(losses[0])
