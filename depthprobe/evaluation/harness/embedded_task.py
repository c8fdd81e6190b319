"""The embedded task: which line of Python comes next, asked from the user's own standard library.

Made on the spot from the modules that the embedded models never saw, so that it needs no download. To
lm-eval it is a task like any other: a :class:`ConfigurableTask` scored by log-likelihood.

An item shows the lines before a line of real code, up to its indentation, and four ways to go on: that
line, and three from elsewhere in the same file with the same indentation and nearly the same length. Only
the context distinguishes them: the true line uses a name that occurs in it, each of the others at least
two that do not. A model that only knows common Python stays near chance; one that carries names over a
few dozen tokens does well.

Every choice is made by hash, not by a random generator: the same sources give the same items on every
platform, and an edit somewhere in a file changes few items elsewhere in it.
"""

from __future__ import annotations

import hashlib
import keyword
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from lm_eval.api.task import ConfigurableTask, Task

from depthprobe.builtin import corpus
from depthprobe.errors import TextError

NAME = "stdlib_mc"

# Raised whenever the same sources would give another item, prompt or metric.
VERSION = 1

ITEMS = 600
FEWEST_ITEMS = 500
ITEMS_A_MODULE = 16
CHOICES = 4

# In characters, so that they suit any tokenizer. 300 are some 80 tokens of code to the embedded one.
CONTEXT_CHARACTERS = 300
SHORTEST_CONTEXT = 180
LINE_CHARACTERS = range(12, 61)
LENGTH_DIFFERENCE = 4
FEWEST_LETTERS = 5

SHARED_NAMES = 1
FOREIGN_NAMES = 2

IDENTIFIER = re.compile(r"[A-Za-z_]\w{2,}")
NO_NAMES = frozenset(keyword.kwlist) | {"self", "cls"}


class ItemRows(list[dict[str, Any]]):
    """Rows with the one other attribute of a data set that lm-eval asks for."""

    @property
    def features(self) -> dict[str, str]:
        """Column names."""
        return dict.fromkeys(self[0], "value")


@cache
def make_items(root: Any = None) -> ItemRows:
    """Return the items, in a fixed mixed order, with right answers spread evenly over the four places.

    Args:
        root: Directory of the standard library; the running interpreter's by default.

    Returns:
        Rows of ``module``, ``context`` (ends with the indentation of the line asked for), ``choices``
        (without it) and ``label``.

    Raises:
        TextError: if the sources give fewer than :data:`FEWEST_ITEMS`.
    """
    found = dict(item for document in corpus.documents("heldout", root) for item in _items_of(document))
    # By context: modules that were split from one another share stretches of code.
    distinct = {found[key]["context"]: found[key] for key in sorted(found, reverse=True)}
    chosen = list(reversed(distinct.values()))[:ITEMS]
    if len(chosen) < FEWEST_ITEMS:
        raise TextError(
            f"The standard library here gives {len(chosen)} items for {NAME}; {FEWEST_ITEMS} are needed.",
            "Name another task with --task, or use a Python that ships its .py files.",
        )
    for number, item in enumerate(chosen):
        label = number % CHOICES
        choices = item["choices"]
        item |= {"choices": [*choices[1 : label + 1], choices[0], *choices[label + 1 :]], "label": label}
    return ItemRows(chosen)


def items_hash(items: ItemRows) -> str:
    """Return a SHA-256 that changes with any context, choice or answer."""
    digest = hashlib.sha256()
    for item in items:
        for part in (item["context"], *item["choices"], str(item["label"])):
            digest.update(part.encode() + b"\0")
    return digest.hexdigest()


def build_task() -> Task:
    """Return the task for lm-eval, with its items."""
    items = make_items()
    return ConfigurableTask(
        config={
            "task": NAME,
            "custom_dataset": lambda **_: {"test": items},
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": "context",
            "doc_to_choice": "choices",
            "doc_to_target": "label",
            "target_delimiter": "",
            "num_fewshot": 0,
            "metric_list": [
                {"metric": metric, "aggregation": "mean", "higher_is_better": True}
                for metric in ("acc", "acc_norm")
            ],
            "metadata": {"version": VERSION, "items_sha256": items_hash(items)},
        }
    )


# name -> what makes the task
EMBEDDED: dict[str, Callable[[], Task]] = {NAME: build_task}


def _items_of(document: corpus.Document) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a module's items with the hash that orders them, right answer first; at most ITEMS_A_MODULE."""
    lines = document.text.split("\n")
    usable = [number for number, line in enumerate(lines) if number and _is_usable(line)]
    pool: dict[int, dict[str, frozenset[str]]] = {}  # indentation -> line -> its names
    for number in usable:
        line = lines[number].strip()
        pool.setdefault(_indentation(lines[number]), {})[line] = _names(line)
    keyed = sorted((_hash(document.name, lines[number - 1], lines[number]), number) for number in usable)
    made = 0
    for key, number in keyed:
        if made == ITEMS_A_MODULE:
            return
        context = _context(lines, number)
        line, indentation = lines[number].strip(), _indentation(lines[number])
        lines_alike = pool[indentation]
        names = _names(context)
        # After a blank line a new topic starts, which no context predicts.
        if not lines[number - 1].strip() or len(context) < SHORTEST_CONTEXT or line in context:
            continue
        if len(lines_alike[line] & names) < SHARED_NAMES:
            continue
        others = [
            other
            for other, its_names in lines_alike.items()
            if abs(len(other) - len(line)) <= LENGTH_DIFFERENCE
            and len(its_names - names) >= FOREIGN_NAMES
            and other not in context
        ]
        choices = [line]
        for other in sorted(others, key=lambda other: _hash(key, other)):
            if not any(other.startswith(known) or known.startswith(other) for known in choices):
                choices.append(other)
            if len(choices) == CHOICES:
                made += 1
                text = context + "\n" + " " * indentation
                yield key, {"module": document.name, "context": text, "choices": choices}
                break


def _is_usable(line: str) -> bool:
    bare = line.strip()
    return (
        len(bare) in LINE_CHARACTERS
        and sum(map(str.isalpha, bare)) >= FEWEST_LETTERS
        and "\t" not in line
        and line == line.rstrip()
    )


def _indentation(line: str) -> int:
    return len(line) - len(line.lstrip())


def _names(text: str) -> frozenset[str]:
    return frozenset(IDENTIFIER.findall(text)) - NO_NAMES


def _context(lines: list[str], number: int) -> str:
    """Return the whole lines before one that fit the context, blank ones at its start left out."""
    first = number
    characters = 0
    while first and characters + len(lines[first - 1]) + 1 <= CONTEXT_CHARACTERS:
        first -= 1
        characters += len(lines[first]) + 1
    return "\n".join(lines[first:number]).lstrip("\n")


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
