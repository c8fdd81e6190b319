"""How far the drops of two models differ, and how sure that is: item by item where both answered the same."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from depthprobe.errors import RunError
from depthprobe.metrics.detection import holm
from depthprobe.metrics.paired import paired_difference
from depthprobe.results.runs import Run

ITEMS_NAME = "items.npz"
PAIRED, INDEPENDENT, ITSELF = "paired items", "independent", "itself"
_Z_95 = 1.959963984540054
_SAME = 1e-9


@dataclass(frozen=True)
class ItemScores:
    """What a run keeps of single items: ``scores`` [variant, doc] by number, its ``docs``, removed layers."""

    layers: tuple[int, ...]
    docs: dict[str, NDArray[np.int64]]
    scores: dict[str, NDArray[np.float64]]

    def changes(self, number: str, layer: int, baseline: float, pruned: float) -> NDArray[np.float64] | None:
        """Return [doc] how the scores changed without a layer; None where their mean is not the number."""
        scores = self.scores.get(number)
        if scores is None or scores.ndim != 2 or layer not in self.layers:
            return None
        # Perplexities and groups are not means of these scores; only the numbers themselves show that.
        whole, without = scores[0], scores[1 + self.layers.index(layer)]
        same = abs(whole.mean() - baseline) < _SAME and abs(without.mean() - pruned) < _SAME
        return without - whole if same else None


def read_item_scores(run: Run) -> ItemScores | None:
    """Return the single items of a sweep; None where the run keeps none.

    Raises:
        RunError: if the file is damaged.
    """
    path = run.directory / ITEMS_NAME
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        layers = tuple(int(variant[0]) for variant in arrays["variants"][1:])
    except (OSError, ValueError, KeyError, IndexError, EOFError) as error:
        raise RunError(
            f"{path} cannot be read: {error}.", "Run the sweep again, or remove the file."
        ) from error
    return ItemScores(
        layers,
        {name.removesuffix(".docs"): value for name, value in arrays.items() if name.endswith(".docs")},
        {name.removesuffix(".scores"): value for name, value in arrays.items() if name.endswith(".scores")},
    )


def drop_differences(first: Run, other: Run, rows: pd.DataFrame, theirs: pd.DataFrame) -> pd.DataFrame:
    """Return how far the other run's drops are from the first's, a row for each of theirs.

    Where both kept the scores of the same items, the items are paired: the change of each item's score in
    one model is set against that in the other. Otherwise the two intervals are combined as if the drops
    were independent, which for the same items is mostly too wide.

    Args:
        first, other: The runs.
        rows, theirs: Their drops, in the same order of task, metric, filter and layer.

    Returns:
        Columns difference, difference_low, difference_high (95%), difference_p, difference_p_adjusted (Holm
        over the layers of each number) and pairing.

    Source: the combined interval is that of Zou and Donner, Statistics in Medicine 27 (2008), 1693-1702.
    """
    same = _same_items(first, other)
    ours, their_items = read_item_scores(first), read_item_scores(other)
    found = []
    for mine, its in zip(rows.itertuples(), theirs.itertuples(), strict=True):
        number = f"{mine.task}/{mine.metric}/{mine.filter}"
        changes = None
        if (
            ours
            and their_items
            and mine.task in same
            and np.array_equal(ours.docs.get(number, ()), their_items.docs.get(number, ()))
        ):
            before = ours.changes(number, mine.layer, mine.baseline, mine.pruned)
            after = their_items.changes(number, its.layer, its.baseline, its.pruned)
            changes = None if before is None or after is None else (before, after)
        if changes is None:
            found.append((its.drop - mine.drop, *combined(mine, its), INDEPENDENT))
        else:
            pair = paired_difference(*changes)
            found.append((its.drop - mine.drop, pair.ci_low, pair.ci_high, pair.p_value, PAIRED))
    names = ["difference", "difference_low", "difference_high", "difference_p", "pairing"]
    frame = pd.DataFrame(found, columns=names)
    keys = theirs[["task", "metric", "filter"]].reset_index(drop=True)
    frame["difference_p_adjusted"] = 1.0
    for _, group in keys.groupby(["task", "metric", "filter"], sort=False):
        frame.loc[group.index, "difference_p_adjusted"] = holm(frame.loc[group.index, "difference_p"])
    return frame[[*names[:4], "difference_p_adjusted", "pairing"]]


def combined(mine: Any, its: Any) -> tuple[float, float, float]:
    """Return the 95% interval and the p-value of the difference of two independent drops.

    Args:
        mine, its: Each with drop, ci_low and ci_high; the difference is its minus mine.
    """
    difference = its.drop - mine.drop
    down = math.hypot(its.drop - its.ci_low, mine.ci_high - mine.drop)
    up = math.hypot(its.ci_high - its.drop, mine.drop - mine.ci_low)
    reach = down if difference > 0 else up
    if reach == 0:
        p_value = 1.0 if difference == 0 else 0.0
    else:
        p_value = float(2 * special.ndtr(-abs(difference) / reach * _Z_95))
    return difference - down, difference + up, p_value


def _same_items(first: Run, other: Run) -> set[str]:
    """The tasks whose documents and prompts are the same in both runs."""
    hashes = []
    for run in (first, other):
        tasks = (run.facts.get("requests") or {}).get("tasks") or {}
        hashes.append({name: task.get("sha256") for name, task in tasks.items()})
    return {name for name, digest in hashes[0].items() if digest and hashes[1].get(name) == digest}
