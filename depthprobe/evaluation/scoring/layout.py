"""Rows in which what texts have in common is computed once.

A tree is laid out as groups. A group may have a prefix, computed once and kept as keys and values, and has
rows that follow it. A row is a part of the tree, written one branch after another: a token sees the prefix
and, in its row, the tokens it descends from. Which parts share a row, and where a prefix ends, is chosen
by :class:`Prices`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from depthprobe.evaluation.scores import ScoreRequest
from depthprobe.evaluation.scoring.prefix_tree import Tree, grow_tree


@dataclass(frozen=True)
class Prices:
    """What a layout costs, in units of one token's matrix products in a block.

    ``pair`` is one query looking at one key: long rows pay it for all pairs of their tokens. ``copy`` is one
    token of a prefix copied before a row's own keys, counted in pairs. ``call`` is what another pass over
    a prefix costs besides its tokens. ``packs`` and ``keeps`` say whether branches may share a row and
    whether a prefix may be kept; ``longest`` is the longest row that branches may share, which limits its
    mask, and ``within`` the most tokens that such a row and its prefix may hold together: beyond some
    distance a model may treat its tokens differently. None where there is no such distance.
    """

    pair: float = 1e-3
    copy: float = 30.0
    call: float = 32.0
    longest: int = 4096
    packs: bool = True
    keeps: bool = True
    within: int | None = None

    def row(self, tokens: int, prefix: int) -> float:
        """Return the price of one row of ``tokens`` after ``prefix`` tokens."""
        return tokens * (1 + self.pair * (prefix + tokens)) + self.pair * self.copy * prefix

    def prefix(self, tokens: int) -> float:
        """Return the price of computing a prefix."""
        return self.call + tokens * (1 + self.pair * tokens / 2)

    def room(self, prefix: int) -> int:
        """Return the best length of a row after a prefix.

        Longer rows copy the prefix less often but look at more tokens of other branches for nothing: per
        token, pair * (prefix + room) + pair * copy * prefix / room is least here.
        """
        return min(int((prefix * self.copy) ** 0.5), self.most(prefix))

    def most(self, prefix: int) -> int:
        """Return the most tokens of a row of several branches after a prefix."""
        return self.longest if self.within is None else min(self.longest, self.within - prefix)


@dataclass
class Row:
    """Tokens to compute together.

    ``tokens`` and ``depths`` (position in the text) int64 ``[token]``; ``until`` int64 ``[token]``: the
    tokens of the row from this one up to ``until`` descend from it. What is scored has one entry in each of
    ``at`` (place in the row), ``target`` (the token that follows) and ``request``.
    """

    tokens: np.ndarray
    depths: np.ndarray
    until: np.ndarray
    at: list[np.ndarray] = field(default_factory=list)
    target: list[np.ndarray] = field(default_factory=list)
    request: list[np.ndarray] = field(default_factory=list)

    @property
    def is_chain(self) -> bool:
        """Whether every token descends from all before it, as in a plain text."""
        return bool((self.until == len(self.tokens)).all())

    def score(self, at: np.ndarray, target: np.ndarray, request: int) -> None:
        """Score ``target`` after the tokens at ``at``."""
        self.at.append(at)
        self.target.append(target)
        self.request.append(np.full(len(at), request))


@dataclass
class PrefixGroup:
    """Rows that follow one prefix, or none."""

    prefix: Row | None
    rows: list[Row]


def lay_out(
    requests: Sequence[ScoreRequest], prices: Prices, depth_limit: int | None = None
) -> list[PrefixGroup]:
    """Return groups whose rows compute and score every request once.

    Args:
        requests: What is scored; a row's ``request`` is an index into these.
        prices: What the layout is chosen by.
        depth_limit: Texts longer than this go alone, each a plain row in a group of its own: beyond
            it the model may treat tokens differently, and nobody has checked.
    """
    askers: dict[tuple[int, ...], list[int]] = {}
    for index, request in enumerate(requests):
        askers.setdefault(request.tokens[:-1], []).append(index)
    texts = sorted(askers)
    short = [text for text in texts if depth_limit is None or len(text) <= depth_limit]
    groups = _Writer(grow_tree(short), requests, askers, prices).groups() if short else []
    if depth_limit is not None:
        for text in texts:
            if len(text) > depth_limit:
                groups += _Writer(grow_tree([text]), requests, askers, prices).groups()
    return groups


def choose_rows(tree: Tree, first: int, base: int, prices: Prices) -> tuple[float, list[int]]:
    """Return the least price of rows for the subtree of ``first``, and the nodes at which they begin.

    A row holds a whole subtree, after the tokens from depth ``base`` on that lead to it.
    """
    last = tree.beyond[first]
    below, whole = [0.0] * (last - first), [True] * (last - first)
    price = 0.0
    for node in range(last - 1, first - 1, -1):
        tokens = tree.start[node] - base + tree.tokens[node]
        split = below[node - first]
        packs = not tree.branches[node] or (prices.packs and tokens <= prices.most(base))
        price = prices.row(tokens, base) if packs else float("inf")
        if tree.children[node] and split < price:
            price, whole[node - first] = split, False
        if node > first:
            below[tree.parent[node] - first] += price
    roots, node = [], first
    while node < last:
        if whole[node - first]:
            roots.append(node)
        node = tree.beyond[node] if whole[node - first] else node + 1
    return price, roots


def choose_prefixes(tree: Tree, prices: Prices) -> list[int]:
    """Return the nodes that end a prefix worth keeping, none below another.

    From the leaves up, each subtree is priced as rows on their own, as groups of its parts, and as rows
    after its first node.
    """
    count = len(tree.start)
    if not prices.keeps:
        return []
    alone, parts, kept = [0.0] * count, [0.0] * count, [False] * count
    leaves = [0] * count
    for node in range(count - 1, 0, -1):
        tokens = tree.start[node] + tree.tokens[node]
        packs = not tree.branches[node] or (prices.packs and tokens <= prices.most(0))
        own = prices.row(tokens, 0) if packs else float("inf")
        rows = min(own, alone[node]) if tree.children[node] else own
        best = min(rows, parts[node]) if tree.children[node] else rows
        leaves[node] = max(leaves[node], 1)
        # The most that keeping a prefix can save is computing it again for every leaf.
        if tree.children[node] and leaves[node] * prices.row(tree.end[node], 0) > prices.prefix(
            tree.end[node]
        ):
            behind = prices.prefix(tree.end[node])
            behind += sum(
                choose_rows(tree, child, tree.end[node], prices)[0] for child in tree.children[node]
            )
            if behind < best:
                best, kept[node] = behind, True
        above = tree.parent[node]
        alone[above] += rows
        parts[above] += best
        leaves[above] += leaves[node]
    chosen, node = [], 1
    while node < count:
        if kept[node]:
            chosen.append(node)
        node = tree.beyond[node] if kept[node] else node + 1
    return chosen


class _Writer:
    """Writes a tree as rows, and enters what each request scores."""

    def __init__(
        self,
        tree: Tree,
        requests: Sequence[ScoreRequest],
        askers: dict[tuple[int, ...], list[int]],
        prices: Prices,
    ) -> None:
        self.tree, self.requests, self.askers, self.prices = tree, requests, askers, prices
        self.unanswered = dict(tree.ending)

    def groups(self) -> list[PrefixGroup]:
        """Return the groups, those with a prefix first."""
        tree, prices = self.tree, self.prices
        groups = []
        kept = choose_prefixes(tree, prices)
        for node in kept:
            base = tree.end[node]
            prefix = self.row([node], 0, whole=False)
            roots = [
                root for child in tree.children[node] for root in choose_rows(tree, child, base, prices)[1]
            ]
            bins = self.bins(roots, base)
            groups.append(PrefixGroup(prefix, [self.row(bin_, base, prefix=prefix) for bin_ in bins]))
        rest = self.rest(kept)
        if rest:
            groups.append(PrefixGroup(None, [self.row([root], 0) for root in rest]))
        return groups

    def rest(self, kept: list[int]) -> list[int]:
        """Return the nodes at which rows begin that hold everything not below a kept node."""
        tree, roots, behind = self.tree, [], set(kept)
        holds = [False] * len(tree.start)  # a kept node in the subtree
        holds[0] = True
        for node in kept:
            while not holds[node]:
                holds[node] = True
                node = tree.parent[node]
        node = 1
        while node < len(tree.start):
            if not holds[node]:
                roots += choose_rows(tree, node, 0, self.prices)[1]
            node = node + 1 if holds[node] and node not in behind else tree.beyond[node]
        return roots

    def bins(self, roots: list[int], base: int) -> list[list[int]]:
        """Return which subtrees share a row after a prefix of ``base`` tokens, the largest first."""
        tree = self.tree
        if not self.prices.packs:
            return [[root] for root in roots]
        size = {root: tree.start[root] - base + tree.tokens[root] for root in roots}
        room = self.prices.room(base)
        bins: list[list[int]] = []
        left: list[int] = []
        for root in sorted(roots, key=lambda root: (-size[root], root)):
            place = next((i for i, free in enumerate(left) if free >= size[root]), None)
            if place is None:
                bins.append([root])
                left.append(room - size[root])
            else:
                bins[place].append(root)
                left[place] -= size[root]
        return bins

    def row(self, roots: list[int], base: int, *, whole: bool = True, prefix: Row | None = None) -> Row:
        """Return one row: the subtrees one after another, each after what leads to it from depth ``base`` on.

        With ``whole`` false only the tokens up to the end of the single root are written: a prefix.
        """
        tree = self.tree
        tokens, depths, until, offset = [], [], [], {}
        at = 0
        for root in roots:
            size = (
                (tree.tokens[root] if whole else tree.end[root] - tree.start[root]) + tree.start[root] - base
            )
            lead = tree.start[root] - base
            tokens.append(tree.texts[tree.text[root]][base : tree.start[root]])
            depths.append(np.arange(base, tree.start[root]))
            until.append(np.full(lead, at + size))
            place = at + lead
            for node in range(root, tree.beyond[root] if whole else root + 1):
                length = tree.end[node] - tree.start[node]
                offset[node] = place
                tokens.append(tree.texts[tree.text[node]][tree.start[node] : tree.end[node]])
                depths.append(np.arange(tree.start[node], tree.end[node]))
                until.append(np.full(length, place + (tree.tokens[node] if whole else length)))
                place += length
            above, ahead = tree.parent[root], at
            while above > 0 and tree.end[above] > base:
                offset[above] = ahead + tree.start[above] - base  # negative where it began in the prefix
                above = tree.parent[above]
            at += size
        row = Row(
            np.array([token for part in tokens for token in part], dtype=np.int64),
            np.concatenate(depths).astype(np.int64),
            np.concatenate(until).astype(np.int64),
        )
        endings = set(offset)
        if not whole:  # texts that end on the way to a prefix are answered by it
            above = tree.parent[roots[0]]
            while above > 0:
                endings.add(above)
                above = tree.parent[above]
        for node in sorted(endings & set(self.unanswered)):
            self.answer(node, base, offset, row, prefix)
        return row

    def answer(self, node: int, base: int, offset: dict[int, int], row: Row, prefix: Row | None) -> None:
        """Enter what is asked about the text that ends at ``node`` into the row and its prefix."""
        tree = self.tree
        text = tree.texts[self.unanswered.pop(node)]
        places = np.arange(len(text))  # of the text's tokens: in the prefix below ``base``, else in the row
        while node > 0 and tree.end[node] > base:
            begin = max(tree.start[node], base)
            shift = offset[node] - tree.start[node]
            places[begin : tree.end[node]] = np.arange(begin, tree.end[node]) + shift
            node = tree.parent[node]
        for index in self.askers[text]:
            request = self.requests[index]
            first = len(text) - request.scored
            target = np.asarray(request.tokens[first + 1 :], dtype=np.int64)
            cut = max(base - first, 0)
            row.score(places[max(first, base) :], target[cut:], index)
            if prefix is not None and cut:
                prefix.score(places[first:base], target[:cut], index)
