"""Calibration text: hub data set, file or the Python standard library -> token samples with a hash."""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from depthprobe.builtin import corpus
from depthprobe.errors import TextError
from depthprobe.texts.conversations import ChatTemplate
from depthprobe.texts.files import check_text_file, read_text
from depthprobe.texts.options import BUILTIN, SHORTEST_SAMPLE, TextOptions
from depthprobe.texts.rows import Rows, check_column, open_rows, text_column

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ENCODED_AT_ONCE = 64

PIECE_CHARACTERS = 200_000

_HALVES = re.compile("[\ud800-\udfff]")

# Of a long row only its beginning is encoded: at first so many characters for each token that is wanted.
CHARACTERS_A_TOKEN = 32


@dataclass(frozen=True)
class Samples:
    """Token samples: 1-d int64 arrays of 2 .. seq_len ids, facts for the manifest, notes for the user."""

    tokens: tuple[np.ndarray, ...]
    facts: dict[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def lengths(self) -> list[int]:
        """Tokens of each sample."""
        return [len(sample) for sample in self.tokens]

    def check_fits(self, positions: int | None, vocabulary: int) -> None:
        """Raise a TextError if a sample has more tokens than a model takes, or ids that it does not know.

        Args:
            positions: The longest sequence the model takes; None if there is no limit.
            vocabulary: Rows of its embedding.
        """
        if not self.tokens:
            return
        longest = max(self.lengths)
        if positions is not None and longest > positions:
            raise TextError(
                f"Samples of {longest} tokens do not fit the model's {positions} positions.",
                f"Use --seq-len {positions} or less.",
            )
        largest = max(int(sample.max()) for sample in self.tokens)
        if largest >= vocabulary:
            raise TextError(
                f"The tokenizer gives id {largest}, but the model's embedding has {vocabulary} rows.",
                "Tokenizer and weights do not belong together.",
            )


@dataclass(frozen=True)
class TokenText:
    """Token ids in place of a text, with the interface of :class:`TextOptions`."""

    tokens: tuple[np.ndarray, ...]
    dataset: str = "token ids"
    named: bool = True
    is_on_hub: bool = False
    is_local: bool = False

    @classmethod
    def of(cls, tokens: Iterable[Any]) -> TokenText:
        """Return a text made of samples: sequences or tensors of token ids.

        Raises:
            TextError: if there are none, or one has fewer than two ids or a negative one.
        """
        try:
            arrays = tuple(np.asarray(sample, dtype=np.int64).reshape(-1) for sample in tokens)
        except (TypeError, ValueError):
            raise TextError("Token ids must be whole numbers, a sequence of them for each sample.") from None
        if not arrays:
            raise TextError("There are no token ids.", "Give one sequence for each sample.")
        shortest = min(map(len, arrays))
        if shortest < SHORTEST_SAMPLE:
            raise TextError(
                f"Samples must have at least {SHORTEST_SAMPLE} token ids, got one with {shortest}."
            )
        if any(sample.min() < 0 for sample in arrays):
            raise TextError("Token ids must be at least 0.")
        return cls(arrays)

    @property
    def wanted(self) -> int:
        """How many samples there are."""
        return len(self.tokens)

    def length(self, context_tokens: int | None) -> int:
        """Return the tokens in the longest sample, which must fit a model with this many positions."""
        longest = max(map(len, self.tokens))
        if context_tokens is not None and longest > context_tokens:
            raise TextError(f"Samples of {longest} tokens do not fit the model's {context_tokens} positions.")
        return longest

    def settings(self) -> dict[str, Any]:
        """Return what decides the samples: their ids."""
        return {"dataset": self.dataset, "samples": self.wanted, "tokens_sha256": hash_of_tokens(self.tokens)}

    def samples(self) -> Samples:
        """Return the samples."""
        facts = {
            "dataset": self.dataset,
            "samples": self.wanted,
            "seq_len": self.length(None),
            "tokens": sum(map(len, self.tokens)),
            "tokens_sha256": hash_of_tokens(self.tokens),
        }
        return Samples(self.tokens, facts)


def tokens_of(
    texts: Iterable[str],
    tokenizer: PreTrainedTokenizerBase,
    seq_len: int | None = None,
    context_tokens: int | None = None,
) -> TokenText:
    """Return the samples that strings make: the first tokens of each, with the tokenizer's special tokens.

    Args:
        texts: The strings.
        tokenizer: The model's own.
        seq_len: Most tokens in a sample; None for 256, or what the model takes if that is less.
        context_tokens: The longest sequence the model takes; None if there is no limit.

    Raises:
        TextError: if there are none, something else is among them, or one has fewer than two tokens.
        OptionError: if ``seq_len`` cannot be used.
    """
    listed = [texts] if isinstance(texts, str) else list(texts)
    strange = next((type(text).__name__ for text in listed if not isinstance(text, str)), None)
    if strange is not None:
        raise TextError(f"Texts must be strings, got one of type {strange}.")
    if not listed:
        raise TextError("There are no texts.", "Give one string for each sample.")
    options = TextOptions("texts", samples=len(listed), seq_len=seq_len)
    options = replace(options, seq_len=options.length(context_tokens))
    tokens, skipped = _first_tokens(listed, tokenizer, options, lambda count: None)
    if skipped:
        lengths = [len(tokenizer(text)["input_ids"]) for text in listed]
        short = next((place for place, length in enumerate(lengths) if length < SHORTEST_SAMPLE), 0)
        raise TextError(
            f"{skipped} of the {len(listed)} texts {'has' if skipped == 1 else 'have'} fewer than "
            f"{SHORTEST_SAMPLE} tokens; the first is texts[{short}]."
        )
    return TokenText(tuple(tokens), dataset="texts")


def hash_of_tokens(tokens: Iterable[np.ndarray]) -> str:
    """Return the SHA-256 over the samples' ids and lengths."""
    digest = hashlib.sha256()
    for sample in tokens:
        digest.update(np.int64(len(sample)).tobytes() + sample.astype("<i8").tobytes())
    return digest.hexdigest()


# For a sweep without calibration text.
NO_SAMPLES = Samples((), {"dataset": None, "samples": 0, "tokens": 0})


def open_text(options: TextOptions) -> Rows | None:
    """Return the rows of a text, opened and checked but not read; None if it has no rows.

    Raises:
        TextError: if there is no such text, or it has no such split or column.
        MachineError: if the hub cannot be reached.
    """
    if options.dataset == BUILTIN:
        return None
    if options.is_text_file:
        check_text_file(options.dataset)
        return None
    rows = open_rows(options.dataset, options.config, options.split, options.seed)
    check_column(rows, options.column, options.dataset)
    return rows


def read_samples(
    options: TextOptions,
    tokenizer: PreTrainedTokenizerBase,
    context_tokens: int | None = None,
    advance: Callable[[int], None] = lambda count: None,
    rows: Rows | None = None,
) -> Samples:
    """Return the token samples that the options describe, with special tokens as the tokenizer sets them.

    Each row of a data set is one sample: its first ``seq_len`` tokens. A ``.txt`` file and the built-in
    text are cut into consecutive samples of ``seq_len`` tokens. If there are more than asked for, samples are
    drawn at random with ``seed``.

    Args:
        options: What to read.
        tokenizer: The model's own.
        context_tokens: The longest sequence the model takes; None if there is no limit.
        advance: Called with the number of samples just made.
        rows: The rows as :func:`open_text` opened them; None opens them now.

    Raises:
        TextError: if the text cannot be read or holds no usable sample, or ``seq_len`` is too long.
    """
    options = replace(options, seq_len=options.length(context_tokens))
    origin: dict[str, Any] = {}
    notes: tuple[str, ...] = ()
    if options.dataset == BUILTIN:
        part = next(part for part in corpus.PARTS if options.split in (part, None))
        texts = (document.text for document in corpus.documents(part))
        found = _windows(texts, tokenizer, options, advance)
        origin = {"split": part, "python": platform.python_version()}
    elif options.is_text_file:
        found = _windows([read_text(options.dataset)], tokenizer, options, advance)
    else:
        rows = rows or open_rows(options.dataset, options.config, options.split, options.seed)
        column, drawn = text_column(rows, options.column, options.dataset)
        origin = {
            "config": rows.config,
            "split": rows.split,
            "column": column.name,
            "revision": rows.revision,
        }
        values = (row.get(column.name) for row in drawn)
        if column.is_conversation:
            template = ChatTemplate(tokenizer, options.dataset, column.name)
            found = _first_tokens(template.texts(values), tokenizer, options, advance, special=False)
            origin["chat_template_sha256"] = template.sha256
            notes = template.notes()
        else:
            found = _first_tokens(values, tokenizer, options, advance)
        notes = (*rows.notes, column.note(options.dataset), *notes)
    tokens, skipped = found
    if not tokens:
        raise TextError(
            f"{options.dataset} holds no usable text: no row of {skipped} has {SHORTEST_SAMPLE} tokens."
            if skipped
            else f"{options.dataset} is empty.",
            " ".join([*notes, "Name another --dataset, --split or --column."]).strip(),
        )
    facts = {
        "dataset": options.dataset,
        **origin,
        "samples": len(tokens),
        "samples_wanted": options.wanted,
        "samples_skipped": skipped,
        "tokens": int(sum(map(len, tokens))),
        "seq_len": options.seq_len,
        "seed": options.seed,
        "tokens_sha256": hash_of_tokens(tokens),
        "tokenizer_sha256": hash_of_tokenizer(tokenizer),
    }
    return Samples(tuple(tokens), facts, tuple(note for note in notes if note))


def hash_of_tokenizer(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the SHA-256 of how a tokenizer splits text: its rules, or where they are hidden its tokens."""
    fast = getattr(tokenizer, "backend_tokenizer", None)
    rules = fast.to_str() if fast is not None else repr(sorted(tokenizer.get_vocab().items()))
    return hashlib.sha256(rules.encode("utf-8", "surrogatepass")).hexdigest()


def _windows(
    texts: Iterable[str],
    tokenizer: PreTrainedTokenizerBase,
    options: TextOptions,
    advance: Callable[[int], None],
) -> tuple[list[np.ndarray], int]:
    """Return samples cut from running text, each between the special tokens, and 0 skipped.

    The last, incomplete sample of every text is dropped unless the text has no other.
    """
    before, after = _special_tokens(tokenizer)
    assert options.seq_len is not None, "read_samples has settled the length"
    inside = options.seq_len - len(before) - len(after)
    if inside < 1:
        special = len(before) + len(after)
        raise TextError(f"--seq-len must be more than the {special} special tokens, got {options.seq_len}.")
    cuts: list[np.ndarray] = []
    for text in texts:
        rest = np.zeros(0, dtype=np.int64)
        first = len(cuts)
        for ids in token_pieces(text, tokenizer):
            rest = np.concatenate([rest, ids])
            whole = len(rest) // inside * inside
            cuts.extend(rest[:whole].reshape(-1, inside))
            rest = rest[whole:]
        if len(cuts) == first and len(rest) and len(rest) + len(before) + len(after) >= SHORTEST_SAMPLE:
            cuts.append(rest)
    chosen = np.arange(len(cuts))
    if len(cuts) > options.wanted:
        generator = np.random.default_rng(options.seed)
        chosen = np.sort(generator.choice(len(cuts), size=options.wanted, replace=False))
    advance(len(chosen))
    return [np.concatenate([before, cuts[index], after]) for index in chosen], 0


def token_pieces(
    text: str, tokenizer: PreTrainedTokenizerBase, characters: int | None = None
) -> Iterator[np.ndarray]:
    """Yield the ids of a text piece by piece: a tokenizer needs a hundred times the memory of its text.

    Texts of up to so many characters, :data:`PIECE_CHARACTERS` by default, are one piece; longer ones are cut
    at line ends.
    """
    size = characters or PIECE_CHARACTERS
    start = 0
    while start < len(text):
        end = start + size
        cut = text.rfind("\n", start, end) + 1 if end < len(text) else len(text)
        piece = text[start : cut or end]
        start += len(piece)
        ids = tokenizer(piece, add_special_tokens=False, verbose=False)["input_ids"]
        yield np.asarray(ids, dtype=np.int64)


def _first_tokens(
    texts: Iterable[Any],
    tokenizer: PreTrainedTokenizerBase,
    options: TextOptions,
    advance: Callable[[int], None],
    special: bool = True,
) -> tuple[list[np.ndarray], int]:
    """Return the first ``seq_len`` tokens of each text until there are enough, and how many were skipped.

    ``special`` tells whether the tokenizer adds its special tokens.
    """
    assert options.seq_len is not None, "read_samples has settled the length"
    samples: list[np.ndarray] = []
    skipped = 0
    rows = iter(texts)
    with _truncating_at_the_end(tokenizer):
        encode = partial(
            tokenizer,
            truncation=True,
            max_length=options.seq_len,
            add_special_tokens=special,
            verbose=False,
        )
        while len(samples) < options.wanted:
            batch = list(islice(rows, min(ENCODED_AT_ONCE, options.wanted - len(samples))))
            if not batch:
                break
            written = [whole_characters(row) for row in batch if isinstance(row, str) and row.strip()]
            beginnings = [_beginning(text, encode, options.seq_len) for text in written]
            encoded = encode(beginnings)["input_ids"] if written else []
            usable = [np.asarray(ids, dtype=np.int64) for ids in encoded if len(ids) >= SHORTEST_SAMPLE]
            skipped += len(batch) - len(usable)
            samples += usable
            advance(len(usable))
    return samples, skipped


@contextmanager
def _truncating_at_the_end(tokenizer: PreTrainedTokenizerBase) -> Iterator[None]:
    """Let a tokenizer keep the first tokens of what is too long, whatever side it cuts by itself."""
    side, tokenizer.truncation_side = tokenizer.truncation_side, "right"
    try:
        yield
    finally:
        tokenizer.truncation_side = side


def _beginning(text: str, encode: Callable[[str], Any], seq_len: int) -> str:
    """Return as much of a text as gives the first ``seq_len`` tokens of the whole text.

    A tokenizer encodes all of a text before it truncates, with a hundred times the memory. So a beginning is
    taken that has many times as many characters as needed; it will do if it gives enough tokens, and the same
    as a beginning of twice the length. Where a cut shows at all, it shows near itself.
    """
    length = CHARACTERS_A_TOKEN * max(seq_len, 64)
    while 4 * length < len(text):
        short, long = (encode(text[:size])["input_ids"] for size in (length, 2 * length))
        if len(short) == seq_len and short == long:
            return text[:length]
        length *= 4
    return text


def whole_characters(text: str) -> str:
    """Return a text with a replacement character for each half of a surrogate pair: JSON may hold one."""
    return _HALVES.sub("\N{REPLACEMENT CHARACTER}", text)


def _special_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids that the tokenizer puts before and after a text (BOS, [CLS], [SEP], EOS)."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    full = tokenizer("a")["input_ids"]
    start = next((i for i in range(len(full)) if full[i : i + len(bare)] == bare), 0)
    return np.asarray(full[:start], dtype=np.int64), np.asarray(full[start + len(bare) :], dtype=np.int64)
