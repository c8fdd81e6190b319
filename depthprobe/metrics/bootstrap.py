"""The paired difference of a metric that is not a mean over items, by resampling the items."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from depthprobe.errors import MeasureError
from depthprobe.metrics.paired import PairedDifference, strata

# Index arrays are made in pieces of at most this many elements (32 MiB).
_MOST_INDICES = 1 << 22


def paired_bootstrap(
    statistic: Callable[[NDArray[np.int64]], ArrayLike],
    docs: int,
    seed: int = 0,
    resamples: int = 9999,
    groups: Sequence[Hashable] | NDArray | None = None,
    vectorised: bool = False,
    confidence: float = 0.95,
) -> PairedDifference:
    """The difference of a corpus metric that is not a mean over items, with interval and p-value.

    For perplexities, f1, mcc: items are drawn with replacement, baseline and variant on the same draw.
    Percentile interval (of width zero if all draws agree). The p-value is the level at which that interval
    would just reach 0; never below 2 / (resamples + 1), nor below 2^(1 - docs), the least that ``docs``
    equal signs can give.

    Args:
        statistic: Variant minus baseline on the items with these indices: [doc] -> number, or with
            ``vectorised`` [resample, doc] -> [resample].
        docs: Number of items.
        seed: Equal seeds give equal results, bit for bit.
        resamples: Number of draws.
        groups: [doc] label of each item's group; drawn within groups if given.
        vectorised: Whether ``statistic`` takes many draws at once.
        confidence: Of the interval, between 0 and 1.

    Raises:
        MeasureError: if there are no items, or the statistic is NaN or infinite on some draw.
    """
    if docs < 1:
        raise MeasureError("There are no items to compare.")
    many = statistic if vectorised else (lambda draws: [statistic(draw) for draw in draws])
    codes, _ = strata(docs, groups, None)
    members = [np.flatnonzero(codes == code) for code in range(codes.max() + 1)]
    random = np.random.default_rng(seed)
    rows = max(1, _MOST_INDICES // docs)
    values = [np.asarray(many(np.arange(docs)[None]), dtype=np.float64)]
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        draws = [own[random.integers(0, own.size, (count, own.size))] for own in members]
        values.append(np.asarray(many(np.concatenate(draws, axis=1)), dtype=np.float64))
    (difference,), drawn = values[0], np.concatenate(values[1:])
    if not (np.isfinite(difference) and np.isfinite(drawn).all()):
        raise MeasureError("The metric is NaN or infinite on some of the draws made for its interval.")
    alpha = 1 - confidence
    low, high = np.quantile(drawn, [alpha / 2, 1 - alpha / 2])
    stderr = float(np.std(drawn, ddof=1))
    if docs == 1:  # every draw is the same item
        stderr = abs(float(difference))
        low, high = difference - stderr, difference + stderr
    tail = (1 + min(int(np.sum(drawn <= 0)), int(np.sum(drawn >= 0)))) / (resamples + 1)
    p_value = min(1.0, max(2 * tail, 2.0 ** (1 - docs)))
    ends = float(low), float(high)
    return PairedDifference(float(difference), *ends, p_value, None, docs, stderr, "bootstrap")
