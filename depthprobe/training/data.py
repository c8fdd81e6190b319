"""Training data: any text -> a tokenizer, training windows and held-out windows.

The standard library and local files are cut into windows once, and the Trainer shuffles all of them. A data
set of the hub is streamed, in the order in which its shuffled rows come, and never held in memory.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import IterableDataset

from depthprobe.builtin import corpus
from depthprobe.errors import LoadError, TextError
from depthprobe.models.loading.checkpoint import open_checkpoint
from depthprobe.texts.files import read_text
from depthprobe.texts.options import BUILTIN, format_of, is_there
from depthprobe.texts.rows import open_rows, text_column
from depthprobe.texts.samples import token_pieces, whole_characters
from depthprobe.training.bigram import bigram_loss
from depthprobe.training.recipe import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BOS, EOS = "<s>", "</s>"

# Rows of a stream are drawn with this seed whatever the run's seed is, so that all runs hold out the same.
ORDER_SEED = 0

# Held out of data without a part for it: this many windows, but at most this share of a file.
HELDOUT_WINDOWS = 256
HELDOUT_SHARE = 0.1

# A tokenizer is trained on the first texts, up to this many characters.
TOKENIZER_CHARACTERS = 100_000_000

ENCODED_AT_ONCE = 64

# A longer text is encoded in pieces, since a tokenizer needs a hundred times the memory of its text.
LONGEST_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class TrainingData:
    """Windows to train on (items ``input_ids`` and ``labels``), windows held out, and the tokenizer.

    ``heldout`` is int32 ``[window, token]``; ``facts`` are JSON values for the record; ``baseline`` is the
    held-out loss of a bigram model in nats a token, None for streams; ``notes`` are for the user.
    """

    train: Any
    heldout: np.ndarray
    tokenizer: PreTrainedTokenizerBase
    facts: dict[str, Any]
    baseline: float | None
    notes: tuple[str, ...] = ()


def read_training_data(recipe: Recipe) -> TrainingData:
    """Return the data that a recipe names.

    Raises:
        TextError: if the text cannot be read or is too short.
        LoadError: if the tokenizer cannot be loaded.
        MachineError: if the hub cannot be reached.
    """
    if recipe.dataset == BUILTIN:
        train = [document.text for document in corpus.documents("train")]
        heldout = [document.text for document in corpus.documents("heldout")]
        tokenizer = _tokenizer(recipe, train)
        size = recipe.context_tokens
        return _in_memory(windows(train, tokenizer, size), windows(heldout, tokenizer, size), tokenizer)
    if is_there(recipe.dataset) and not os.path.isdir(recipe.dataset):
        return _of_file(recipe)
    return _of_hub(recipe)


def train_tokenizer(texts: Iterable[str], recipe: Recipe) -> PreTrainedTokenizerBase:
    """Return a byte-level BPE tokenizer of ``recipe.vocab_size`` entries that puts BOS first."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=recipe.vocab_size,
            special_tokens=[BOS, EOS],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=EOS,
        model_max_length=2 * recipe.context_tokens,
    )


def windows(texts: Iterable[str], tokenizer: PreTrainedTokenizerBase, context_tokens: int) -> np.ndarray:
    """Return training windows, ``[window, context_tokens]`` int32: BOS, then consecutive text.

    Documents are joined with EOS between them; the incomplete last window is dropped. Without a BOS token,
    windows begin with EOS.
    """
    rows = list(_windows(texts, tokenizer, context_tokens))
    return np.array(rows, dtype=np.int32).reshape(-1, context_tokens)


def _windows(
    texts: Iterable[str], tokenizer: PreTrainedTokenizerBase, context_tokens: int
) -> Iterator[np.ndarray]:
    end = tokenizer.eos_token_id
    begin = end if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    inside = context_tokens - 1
    rest = np.zeros(0, dtype=np.int32)
    iterator = iter(texts)
    while batch := list(islice(iterator, ENCODED_AT_ONCE)):
        if max(map(len, batch)) > LONGEST_AT_ONCE:
            encoded = [np.concatenate([*token_pieces(text, tokenizer, LONGEST_AT_ONCE)]) for text in batch]
        else:
            encoded = tokenizer(batch, add_special_tokens=False, verbose=False)["input_ids"]
        rest = np.concatenate([rest, *(np.array([*ids, end], dtype=np.int32) for ids in encoded)])
        whole = len(rest) // inside * inside
        for row in rest[:whole].reshape(-1, inside):
            yield np.concatenate([np.array([begin], dtype=np.int32), row])
        rest = rest[whole:]


class _Stream(IterableDataset):
    """Windows of a stream of texts, which is opened again for every pass."""

    def __init__(
        self,
        texts: Callable[[], Iterator[str]],
        tokenizer: PreTrainedTokenizerBase,
        context_tokens: int,
    ) -> None:
        self.texts, self.tokenizer, self.context_tokens = texts, tokenizer, context_tokens

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        for row in _windows(self.texts(), self.tokenizer, self.context_tokens):
            ids = torch.from_numpy(row).long()
            yield {"input_ids": ids, "labels": ids}


def _of_file(recipe: Recipe) -> TrainingData:
    """Return the windows of a local file, the last of them held out; rows are shuffled first."""
    found = None
    if format_of(recipe.dataset) == ".txt":
        texts = [read_text(recipe.dataset)]
    else:
        found = _read(recipe, recipe.split)
        texts = list(found.texts)
    tokenizer = _tokenizer(recipe, texts)
    every = windows(texts, tokenizer, recipe.context_tokens)
    kept = min(HELDOUT_WINDOWS, int(len(every) * HELDOUT_SHARE))
    if not kept:
        raise TextError(
            f"{recipe.dataset} gives {len(every)} windows of {recipe.context_tokens} tokens, too few to "
            "train on and to hold out one in ten.",
            "Name a longer --dataset, or --dataset builtin.",
        )
    return _in_memory(every[:-kept], every[-kept:], tokenizer, found)


def _of_hub(recipe: Recipe) -> TrainingData:
    """Return a stream of a data set; its validation part, or else its first rows, are held out."""
    train_split = recipe.split or "train"
    chosen = open_rows(recipe.dataset, recipe.config, None, ORDER_SEED)
    heldout_split = chosen.split if chosen.split != train_split else None
    beginning = _read(recipe, train_split)
    tokenizer = _tokenizer(recipe, beginning.texts)
    rows = 0

    def heldout_texts() -> Iterator[str]:
        nonlocal rows
        for text in _read(recipe, heldout_split or train_split).texts:
            rows += 1
            yield text

    # A few texts at a time, so that hardly more rows are held out than the windows need.
    found: list[np.ndarray] = []
    texts = heldout_texts()
    while len(found) < HELDOUT_WINDOWS and (batch := list(islice(texts, 8))):
        found += list(_windows(batch, tokenizer, recipe.context_tokens))
    if not found:
        raise TextError(f"{recipe.dataset} is too short to hold out {recipe.context_tokens} tokens.")
    skipped = 0 if heldout_split else rows

    def train_texts() -> Iterator[str]:
        return islice(_read(recipe, train_split).texts, skipped, None)

    heldout = np.array(found[:HELDOUT_WINDOWS], dtype=np.int32)
    facts = {
        "text_column": beginning.column,
        "heldout_tokens": int(heldout.size),
        "heldout_split": heldout_split or f"the first {skipped} rows of {train_split}",
        "revision": chosen.revision,
        "data_sha256": hashlib.sha256(heldout.tobytes()).hexdigest(),
    }
    stream = _Stream(train_texts, tokenizer, recipe.context_tokens)
    return TrainingData(stream, heldout, tokenizer, facts, None, beginning.notes)


@dataclass(frozen=True)
class _Texts:
    """The texts of a data set, and what is said and recorded about them."""

    texts: Iterator[str]
    column: str
    notes: tuple[str, ...]


def _read(recipe: Recipe, split: str | None) -> _Texts:
    rows = open_rows(recipe.dataset, recipe.config, split, ORDER_SEED)
    column, found = text_column(rows, recipe.column, recipe.dataset)
    if column.is_conversation:
        raise TextError(
            f"The column {column.name!r} of {recipe.dataset} holds conversations, and pretrain reads text.",
            "Name a column of text with --column.",
        )
    values = (row.get(column.name) for row in found)
    texts = (whole_characters(text) for text in values if isinstance(text, str) and text.strip())
    notes = (*rows.notes, column.note(recipe.dataset))
    return _Texts(texts, column.name, tuple(note for note in notes if note))


def _in_memory(
    train: np.ndarray,
    heldout: np.ndarray,
    tokenizer: PreTrainedTokenizerBase,
    read: _Texts | None = None,
) -> TrainingData:
    facts = {
        **({} if read is None else {"text_column": read.column}),
        "train_tokens": int(train.size),
        "heldout_tokens": int(heldout.size),
        "data_sha256": hashlib.sha256(train.tobytes() + heldout.tobytes()).hexdigest(),
    }
    if not len(train) or not len(heldout):
        raise TextError("The text is shorter than one window.", "Name a longer --dataset.")
    rows = [{"input_ids": row, "labels": row} for row in torch.from_numpy(train).long()]
    baseline = bigram_loss(train.flatten(), heldout.flatten(), len(tokenizer))
    return TrainingData(rows, heldout, tokenizer, facts, baseline, () if read is None else read.notes)


def _tokenizer(recipe: Recipe, texts: Iterable[str]) -> PreTrainedTokenizerBase:
    """Return the tokenizer that the recipe names, or one trained on the beginning of its texts."""
    if recipe.tokenizer is None:
        return train_tokenizer(_beginning(texts), recipe)
    tokenizer = open_checkpoint(recipe.tokenizer).tokenizer
    if tokenizer.eos_token_id is None:
        raise LoadError(
            f"The tokenizer of {recipe.tokenizer} has no end-of-text token to put between documents.",
            "Name another --tokenizer, or leave the option out to train one.",
        )
    return tokenizer


def _beginning(texts: Iterable[str]) -> Iterator[str]:
    left = TOKENIZER_CHARACTERS
    for text in texts:
        if left <= 0:
            return
        left -= len(text)
        yield text
