"""Which column of a data set is its text: never one that only looks like strings.

A data set of conversations often has one column of strings, its ids: measured, it would give numbers like any
other. So a column that nobody named must be called text, or hold what reads as text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date, time
from typing import Any

from depthprobe.errors import TextError
from depthprobe.texts.conversations import is_conversation

TEXT, CONVERSATION, NOTHING = "text", "conversations", "no values"

# What the only column of strings may be called without a look at what it holds.
USUAL_NAMES = frozenset(
    "text content body document article passage story sentence paragraph code completion raw_content "
    "raw_text page_content".split()
)

# Words and characters that make a value a text rather than a name, a date, a path or a label.
WORDS_OF_TEXT = 4
UNSPACED_CHARACTERS_OF_TEXT = 10
# Fewer different values than this among all are labels.
SHARE_OF_DIFFERENT = 0.2

_WORD = re.compile(r"[^\W\d_]{2,}")
# Scripts that put no spaces between words: Thai to Burmese, Khmer, kana and Chinese.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]"
)
_ADDRESS = re.compile(r"\w+://\S+|www\.\S+|[\w.-]+\.(com|org|net)/\S*|[\w.+-]+@[\w.-]+")
_PATH = re.compile(r"[^\s/]*(/[^\s/]+)+/?|[^\s\\]*(\\[^\s\\]+)+|\S+\.\w{1,5}")
_DATE = re.compile(r"\D*\d{1,4}[-/.:]\d{1,2}\b.*")


def kind_of(value: Any) -> str:
    """Return what a value is, in the words of a message."""
    if value is None:
        return NOTHING
    if isinstance(value, str):
        return TEXT
    if isinstance(value, bool):
        return "truth values"
    if isinstance(value, int | float):
        return "numbers"
    if isinstance(value, bytes):
        return "bytes"
    if isinstance(value, date | time):
        return "dates"
    if is_conversation(value):
        return CONVERSATION
    if isinstance(value, list | tuple):
        inside = next((kind for kind in map(kind_of, value) if kind != NOTHING), None)
        return f"lists of {inside}" if inside else "empty lists"
    return "objects" if isinstance(value, Mapping) else f"values of type {type(value).__name__}"


def add_kinds(kinds: dict[str, str], row: Mapping[str, Any]) -> None:
    """Add what the columns of a row hold: the first row that has a value decides."""
    for name, value in row.items():
        if kinds.get(name, NOTHING) == NOTHING:
            kinds[name] = kind_of(value)


def no_text(values: Sequence[str]) -> str | None:
    """Return what the values of a column seem to be; None if they read as text."""
    there = [value.strip() for value in values if value.strip()]
    if not there:
        return None
    if all(value[0] in "[{" and value[-1] in "]}" for value in there):
        return "JSON"
    if len(there) >= 10 and len(set(there)) <= SHARE_OF_DIFFERENT * len(there):
        return "labels"
    if 2 * sum(map(_reads_as_text, there)) >= len(there):
        return None
    for pattern, what in ((_ADDRESS, "addresses"), (_DATE, "dates"), (_PATH, "paths")):
        if 2 * sum(bool(pattern.fullmatch(value)) for value in there) > len(there):
            return what
    return "ids or single words"


def _reads_as_text(value: str) -> bool:
    if _ADDRESS.fullmatch(value):
        return False
    beginning = value[:10_000]
    if len(_UNSPACED.findall(beginning)) >= UNSPACED_CHARACTERS_OF_TEXT:
        return True
    return sum(bool(_WORD.search(word)) for word in beginning.split()) >= WORDS_OF_TEXT


def choose(
    kinds: Mapping[str, str], values: Mapping[str, Sequence[str]], wanted: str | None, dataset: str
) -> str:
    """Return the column that is measured.

    It is the one that is wanted, else ``text``, else the only column of strings if its name is usual for text
    or its values read as text.

    Args:
        kinds: What each column holds, by :func:`kind_of`.
        values: Strings of each column of strings, as far as they are known.
        wanted: The column that was named.
        dataset: What the data set is called in a message.

    Raises:
        TextError: if there is no such column; says which columns there are.
    """
    listed = _listed(kinds)
    if wanted is not None:
        if wanted not in kinds:
            raise TextError(f"{dataset} has no column {wanted!r}.", listed)
        if kinds[wanted] not in (TEXT, CONVERSATION, NOTHING):
            raise TextError(f"The column {wanted!r} of {dataset} holds {kinds[wanted]}, not text.", listed)
        return wanted
    texts = [name for name, kind in kinds.items() if kind == TEXT]
    if "text" in texts:
        return "text"
    talks = [name for name, kind in kinds.items() if kind == CONVERSATION]
    name_one = f"{listed} Name one with --column"
    name_one += "; conversations are written with the model's chat template." if talks else "."
    if len(texts) > 1:
        raise TextError(f"{dataset} has no column named text, but several of strings.", name_one)
    if not texts:
        held = kinds.get("text")
        raise TextError(
            f"The column 'text' of {dataset} holds {held}." if held else f"{dataset} has no column of text.",
            name_one if talks else listed,
        )
    (only,) = texts
    seems = None if only.lower() in USUAL_NAMES else no_text(values.get(only, ()))
    if seems is not None:
        example = next(value for value in values[only] if value.strip())
        raise TextError(
            f"{dataset} has no column that is plainly text: {only!r} seems to hold {seems}, "
            f"such as {_short(example)!r}.",
            name_one,
        )
    return only


def _short(value: str) -> str:
    return value if len(value) <= 60 else f"{value[:57]}..."


def _listed(kinds: Mapping[str, str], most: int = 20) -> str:
    if not kinds:
        return "It has no columns at all."
    shown = [f"{_short(name)} ({kind})" for name, kind in list(kinds.items())[:most]]
    more = f" and {len(kinds) - most} more" if len(kinds) > most else ""
    return f"Its columns: {', '.join(shown)}{more}."
