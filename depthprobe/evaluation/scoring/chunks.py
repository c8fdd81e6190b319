"""Chunks of requests: what is scored, written down and resumed as one piece."""

from __future__ import annotations

from collections.abc import Sequence

from depthprobe.evaluation.scores import ScoreRequest
from depthprobe.evaluation.scoring.prefix_tree import shared_tokens

# Texts that share less than this part of the shorter one may go into different chunks.
LITTLE_SHARED = 0.1


def plan_chunks(requests: Sequence[ScoreRequest], tokens: int) -> list[list[int]]:
    """Return chunks of request indices that hold at most ``tokens`` different tokens each.

    Texts with a common beginning stay together where they fit. Families of such texts come longest first,
    so that little is padded, and memory runs short at once if it does at all. A text longer than ``tokens``
    is a chunk of its own; requests that differ only in their last token are never separated.
    """
    askers: dict[tuple[int, ...], list[int]] = {}
    for index, request in enumerate(requests):
        askers.setdefault(request.tokens[:-1], []).append(index)
    families: list[list[tuple[tuple[int, ...], int]]] = []  # texts with what each shares with the one before
    before: tuple[int, ...] = ()
    for text in sorted(askers):
        shared = shared_tokens(before, text)
        if not families or shared <= LITTLE_SHARED * min(len(before), len(text)):
            families.append([])
        families[-1].append((text, shared if families[-1] else 0))
        before = text
    families.sort(key=lambda family: -max(len(text) for text, _ in family))
    chunks: list[list[int]] = []
    left = 0
    for family in families:
        size = sum(len(text) - shared for text, shared in family)
        if size > left:
            chunks.append([])
            left = tokens
        for text, shared in family:
            cost = len(text) - shared if chunks[-1] else len(text)
            if cost > left and chunks[-1]:
                chunks.append([])
                left, cost = tokens, len(text)
            chunks[-1] += askers[text]
            left -= cost
    return [chunk for chunk in chunks if chunk]
