"""Which of many tests found something, and how large a drop they could have missed."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

from depthprobe.errors import MeasureError
from depthprobe.metrics.paired import PairedDifference


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """[test] p-values adjusted for the number of tests, in their order: monotone, at most 1.

    Raises:
        MeasureError: if a p-value is not between 0 and 1.

    Source: Holm, Scandinavian Journal of Statistics 6 (1979), 65-70.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all():  # NaN fails both
        raise MeasureError(f"p-values must be between 0 and 1, got {p.tolist()}.")
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(steps, 1)
    return adjusted


def detectable_drop(result: PairedDifference, alpha: float = 0.05, power: float = 0.8) -> float:
    """The size of the true drop, in the metric's unit, that this comparison would have found.

    "Found" means p < ``alpha`` with probability ``power``: a smaller drop could well have been missed.
    For McNemar it is computed from the exact test: as many items flip as were seen to (or more, all in one
    direction, if those are too few for the drop); with no flips in 100 items it is 0.079. Otherwise it is
    the usual (z_alpha/2 + z_power) standard errors.

    Args:
        result: The comparison; only its noise counts, not its difference.
        alpha: Of the test. For a row of L layers judged by Holm, 0.05 / L is the worst case.
        power: Between 0 and 1.

    Returns:
        A number above 0; for 0/1 scores at most 1, which means that any drop could have been missed.
    """
    if result.method != "mcnemar" or result.flips is None:
        return float(special.ndtri(power) - special.ndtri(alpha / 2)) * result.stderr
    docs, seen = result.docs, result.flips / result.docs

    def lacking(drop: float) -> float:
        rate = max(seen, drop)
        spread = 8 * math.sqrt(docs * rate * (1 - rate)) + 1
        count = np.arange(max(0, int(docs * rate - spread)), min(docs, int(docs * rate + spread)) + 1)
        # The most flips for the better at which the exact test still rejects.
        most = stats.binom.ppf(alpha / 2, count, 0.5)
        most = np.where(stats.binom.cdf(most, count, 0.5) <= alpha / 2, most, most - 1)
        found = stats.binom.cdf(most, count, (rate - drop) / (2 * rate))
        return power - float(stats.binom.pmf(count, docs, rate) @ found)

    least = 1e-9
    return 1.0 if lacking(1.0) > 0 else float(optimize.brentq(lacking, least, 1.0, xtol=1e-6))
