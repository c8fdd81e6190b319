"""What texts have in common at their beginning: their prefix tree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass
class Tree:
    """A prefix tree, one entry for each node, parents before children and each subtree in one piece.

    A node is the part from ``start`` to ``end`` (depths) of text ``text``. Node 0 is the empty root.
    """

    texts: list[tuple[int, ...]]
    start: list[int]
    end: list[int]
    text: list[int]
    parent: list[int]
    children: list[list[int]]
    beyond: list[int]  # one past the last node of the subtree
    tokens: list[int]  # of the subtree
    branches: list[bool]  # whether the subtree has a fork
    ending: dict[int, int]  # node -> the text that ends with it


def shared_tokens(first: tuple[int, ...], second: tuple[int, ...]) -> int:
    """Return how many tokens two texts have in common at their beginning."""
    length = min(len(first), len(second))
    if first[:length] == second[:length]:
        return length
    low, high = 0, length  # tuple slices are compared in C: bisection beats a loop over tokens
    while high - low > 1:
        middle = (low + high) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle
    return low


def grow_tree(texts: Sequence[tuple[int, ...]]) -> Tree:
    """Return the prefix tree of texts, which must be sorted, distinct and not empty."""
    start, end, text, parent = [0], [0], [0], [-1]
    path = [0]
    ending: dict[int, int] = {}

    def add(*node: int) -> int:
        for column, value in zip((start, end, text, parent), node, strict=True):
            column.append(value)
        path.append(len(start) - 1)
        return path[-1]

    for index, tokens in enumerate(texts):
        common = shared_tokens(texts[index - 1], tokens) if index else 0
        while path[-1] and start[path[-1]] >= common:
            path.pop()
        if end[path[-1]] > common:  # the texts part inside this node: its first half becomes a node above it
            lower = path.pop()
            upper = add(start[lower], common, text[lower], parent[lower])
            parent[lower], start[lower] = upper, common
        ending[add(common, len(tokens), index, path[-1])] = index
    return _in_order(list(texts), start, end, text, parent, ending)


def _in_order(
    texts: list[tuple[int, ...]],
    start: list[int],
    end: list[int],
    text: list[int],
    parent: list[int],
    ending: dict[int, int],
) -> Tree:
    """Return the tree with its nodes numbered depth first."""
    below: list[list[int]] = [[] for _ in start]
    for node in range(1, len(start)):
        below[parent[node]].append(node)
    order, waiting = [], [0]
    while waiting:
        node = waiting.pop()
        order.append(node)
        waiting.extend(reversed(below[node]))
    new = {node: number for number, node in enumerate(order)}
    count = len(order)
    beyond, tokens = list(range(1, count + 1)), [end[node] - start[node] for node in order]
    above = [new.get(parent[node], -1) for node in order]
    branches = [len(below[node]) > 1 for node in order]
    for number in range(count - 1, 0, -1):
        branches[above[number]] |= branches[number]
        beyond[above[number]] = max(beyond[above[number]], beyond[number])
        tokens[above[number]] += tokens[number]
    return Tree(
        texts,
        [start[node] for node in order],
        [end[node] for node in order],
        [text[node] for node in order],
        above,
        [[new[child] for child in below[node]] for node in order],
        beyond,
        tokens,
        branches,
        {new[node]: index for node, index in ending.items()},
    )
