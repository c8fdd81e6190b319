"""How far the drops of two models differ, and how sure that is: item by item where both answered the same."""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from depthprobe.catalogue import PRUNE_SWEEP
from depthprobe.errors import RunError
from depthprobe.metrics.detection import holm
from depthprobe.metrics.paired import paired_difference
from depthprobe.results.runs import Run

ITEMS_NAME = "items.npz"
PAIRED, INDEPENDENT, ITSELF = "paired items", "independent", "itself"
_Z_95 = 1.959963984540054
_SAME = 1e-9
# Metrics that are means of zeros and ones, whoever computes them.
_SHARES = ("acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match")
_DAMAGED = (OSError, ValueError, KeyError, IndexError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)


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
        RunError: if the file is damaged, or not that of this run.
    """
    content = run.content(ITEMS_NAME)
    if content is None:
        return None
    path, way_out = run.directory / ITEMS_NAME, "Restore the file, or remove it: drops are then not paired."
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        layers = tuple(int(variant[0]) for variant in arrays["variants"][1:])
    # What numpy, zipfile and zlib raise where bytes are missing or others.
    except _DAMAGED as error:
        raise RunError(f"{path} is not a whole file of item scores.", way_out) from error
    items = ItemScores(
        layers,
        {name.removesuffix(".docs"): value for name, value in arrays.items() if name.endswith(".docs")},
        {name.removesuffix(".scores"): value for name, value in arrays.items() if name.endswith(".scores")},
    )
    # A hash says more than the numbers can.
    hashed = ITEMS_NAME in run.manifest["files"]
    wrong = "" if hashed else _contradiction(items, run.tables[PRUNE_SWEEP.stem])
    if wrong:
        raise RunError(f"{path} does not belong to this run: {wrong}.", way_out)
    return items


def _contradiction(items: ItemScores, rows: pd.DataFrame) -> str:
    """Return where items and drops cannot be of one sweep; empty if they can.

    The layers removed and the numbers of items must be those of the table. So must a score that is a share of
    right answers, of the whole model and without each layer, and the count of answers that changed.
    """
    if set(items.layers) != set(rows["layer"].tolist()):
        return "it holds other layers than the table of drops"
    for row in rows.itertuples():
        number = f"{row.task}/{row.metric}/{row.filter}"
        scores, docs = items.scores.get(number), items.docs.get(number)
        if scores is None:
            continue
        here = f"{row.task}, {row.metric}, layer {row.layer}"
        shape = (1 + len(items.layers), *(() if docs is None else docs.shape))
        if scores.dtype.kind not in "fiub" or len(shape) != 2 or scores.shape[:2] != shape:
            return f"its arrays of {row.task}, {row.metric} do not fit each other"
        if shape[1] != row.docs:
            return f"it holds {shape[1]} items of {row.task}, {row.metric}, and the table says {row.docs}"
        if row.metric not in _SHARES or scores.ndim > 2 or not np.isin(scores, (0, 1)).all():
            continue
        whole, without = scores[0], scores[1 + items.layers.index(row.layer)]
        if abs(whole.mean() - row.baseline) > _SAME or abs(without.mean() - row.pruned) > _SAME:
            return f"its scores of {here} are not those of the table"
        if int(np.sum(whole != without)) != row.flips:
            return f"its scores of {here} do not change where the table says so"
    return ""


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
