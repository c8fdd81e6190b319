"""Is a drop noise? Paired statistics on per-item scores: pure functions of arrays, no model, no files.

Baseline and variant answer the same items (docs), so every comparison here is paired: items that both
get right or wrong carry no weight, which makes a 2% drop visible that an unpaired test cannot see.

Which interval was chosen by simulation (coverage of 95% intervals, accuracy .3-.9, 2-30% of the items
flipped, 100-14,000 items; ``tests/metrics/test_paired.py`` repeats the essential part):

- 0/1 scores: Tango's score interval. It covers 93.4-96.4% from five expected flips on, counted over
  all tables; below that everything is discrete (99% at 2 flips in 100, where Wald's can drop to 78%).
- other scores and groups: t with the variance of the strata added, plus the variance of one or two
  changes not seen yet. Percentile and BCa bootstraps of a mean covered no better.
- ratios and the like: percentile bootstrap (``bootstrap.py``), which beat BCa on perplexities (93-95%
  against 92-94%).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

from depthprobe.errors import MeasureError


@dataclass(frozen=True)
class PairedDifference:
    """How far a variant is from the baseline on the same items, and how certain that is.

    Args:
        difference: Variant minus baseline, in the metric's unit; negative is harm where more is better.
        ci_low: Lower end of the confidence interval of ``difference``.
        ci_high: Upper end.
        p_value: Two-sided, of "no difference".
        flips: Items whose correctness changed; None for scores that are not 0/1.
        docs: Items compared.
        stderr: Standard error of ``difference``; where nothing varies, that of an equally wide interval.
        method: Where the p-value comes from. The interval of ``mcnemar`` is Tango's, which is not the
            inverse of the exact test: right at the edge it can exclude 0 while the exact p, which is
            conservative, is still above 0.05. The p-value decides.
    """

    difference: float
    ci_low: float
    ci_high: float
    p_value: float
    flips: int | None
    docs: int
    stderr: float
    method: Literal["mcnemar", "t", "bootstrap"]


def paired_difference(
    baseline: ArrayLike,
    variant: ArrayLike,
    groups: Sequence[Hashable] | NDArray | None = None,
    weights: Mapping[Hashable, float] | None = None,
    confidence: float = 0.95,
) -> PairedDifference:
    """The mean difference variant - baseline over items, with interval and p-value.

    0/1 scores without groups: exact McNemar test (binomial, conditional on the flips) and Tango's score
    interval. Anything else: the weighted mean of the groups' mean differences, the variance added over
    groups as strata, Welch-Satterthwaite degrees of freedom, interval and p from the same t.

    Where nothing varies the interval still has a width, for what was not seen: a change that n items
    do not show may affect up to 1 - (alpha/2)^(1/n) of all items, each by as much as the scores span.
    Coverage falls short of 95% for very skewed scores at small n (log-normal differences, sigma 1: 91% at
    64 items, 93% at 500), and for non-0/1 scores of which fewer than about five changed.

    Args:
        baseline: [doc] scores of the whole model; booleans or finite numbers.
        variant: [doc] scores of the variant on the same items, in the same order.
        groups: [doc] label of each item's group (an mmlu subject); None for a plain mean.
        weights: Weight of each group's mean; None weighs by size, as lm-eval's ``weight_by_size`` does
            (its unweighted macro mean is 1 for every group).
        confidence: Of the interval, between 0 and 1.

    Raises:
        MeasureError: if the scores do not pair up, none are left, or one is NaN or infinite.

    Source: McNemar 1947; Tango, Statistics in Medicine 17 (1998), 891-908.
    """
    before, after = _paired(baseline, variant)
    docs = before.size
    binary = bool(np.isin(before, (0, 1)).all() and np.isin(after, (0, 1)).all())
    changed = flips(before, after) if binary else None
    codes, shares = strata(docs, groups, weights)
    if binary and shares.size == 1:
        gains, losses = int(np.sum(after > before)), int(np.sum(after < before))
        difference = (gains - losses) / docs
        stderr = math.sqrt(gains + losses - docs * difference**2) / docs
        p_value = min(1.0, 2 * float(special.bdtr(min(gains, losses), gains + losses, 0.5)))
        low, high = tango_interval(gains, losses, docs, confidence)
        return PairedDifference(difference, low, high, p_value, changed, docs, stderr, "mcnemar")

    change = after - before
    sizes = np.bincount(codes)
    means = np.bincount(codes, change) / sizes
    difference = float(shares @ means)
    # How many items of equal weight would carry as much information.
    alike = 1 / float(np.sum(shares**2 / sizes))
    span = 1.0 if binary else float(max(before.max(), after.max()) - min(before.min(), after.min()))
    alpha = 1 - confidence

    squares = np.bincount(codes, (change - means[codes]) ** 2)
    # A group of one item says nothing about its spread; it is given that of all items.
    overall = float(np.var(change, ddof=1)) if docs > 1 else 0.0
    inner = np.where(sizes > 1, squares / np.maximum(sizes - 1, 1), overall)
    parts = shares**2 * inner / sizes
    moved = change != 0
    # A few changes among many zeros understate their own variance, so one more is assumed (two more
    # where, unlike with 0/1, their sizes are unknown too). Nothing is added when all items changed.
    unseen = (1 if binary else 2) * float(np.mean(change[moved] ** 2)) if moved.any() else 0.0
    variance = float(parts.sum()) + unseen * float(np.mean(~moved)) / alike**2
    if docs == 1 or variance <= (1e-12 * span) ** 2:
        width = (1 - (alpha / 2) ** (1 / alike)) * span
        # Even the sharpest test, with n equal signs, cannot give less.
        p_value = 1.0 if difference == 0 else 2.0 ** (1 - docs)
        low, high, stderr = difference - width, difference + width, -width / float(special.ndtri(alpha / 2))
    else:
        stderr = math.sqrt(variance)
        freedom = float(np.sum(parts**2 / np.where(sizes > 1, np.maximum(sizes - 1, 1), docs - 1)))
        freedom = float(parts.sum()) ** 2 / freedom if freedom > 0 else docs - 1
        p_value = float(2 * special.stdtr(freedom, -abs(difference) / stderr))
        width = -float(special.stdtrit(freedom, alpha / 2)) * stderr
        low, high = difference - width, difference + width
    if binary:
        low, high = max(low, -1.0), min(high, 1.0)
    return PairedDifference(difference, low, high, p_value, changed, docs, stderr, "t")


def flips(baseline_correct: ArrayLike, variant_correct: ArrayLike) -> int:
    """The number of items whose correctness differs; accuracy hides those that cancel out.

    Args:
        baseline_correct: [doc] 0/1 or booleans.
        variant_correct: [doc] 0/1 or booleans.

    Raises:
        MeasureError: if the scores do not pair up, or are not 0/1.

    Source: Accuracy is Not All You Need, 2407.09141.
    """
    before, after = _paired(baseline_correct, variant_correct)
    if not (np.isin(before, (0, 1)).all() and np.isin(after, (0, 1)).all()):
        raise MeasureError("Flips can only be counted in scores that are 0 or 1.")
    return int(np.sum(before != after))


def _paired(baseline: ArrayLike, variant: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both scores as float64 [doc], checked."""
    before, after = (np.asarray(scores, dtype=np.float64) for scores in (baseline, variant))
    if before.ndim != 1 or before.shape != after.shape:
        raise MeasureError(f"Scores of shapes {before.shape} and {after.shape} do not pair up item by item.")
    if before.size == 0:
        raise MeasureError("There are no items to compare.")
    if not (np.isfinite(before).all() and np.isfinite(after).all()):
        raise MeasureError("Scores hold NaN or infinite values.")
    return before, after


def strata(
    docs: int, groups: Sequence[Hashable] | NDArray | None, weights: Mapping[Hashable, float] | None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """[doc] the number of each item's group, and [group] the groups' weights, which sum to 1."""
    if groups is None:
        return np.zeros(docs, dtype=np.int64), np.ones(1)
    labels = groups.tolist() if isinstance(groups, np.ndarray) else list(groups)
    if len(labels) != docs:
        raise MeasureError(f"{docs} items have {len(labels)} group labels.")
    number = {label: code for code, label in enumerate(dict.fromkeys(labels))}
    codes = np.array([number[label] for label in labels], dtype=np.int64)
    given = np.bincount(codes) if weights is None else [weights.get(label, math.nan) for label in number]
    raw = np.asarray(given, dtype=np.float64)
    if not (np.isfinite(raw).all() and (raw > 0).all()):
        weighed = dict(zip(number, raw.tolist(), strict=True))
        raise MeasureError(f"The weights of groups must be above 0, got {weighed}.")
    return codes, raw / raw.sum()


def tango_interval(gains: int, losses: int, docs: int, confidence: float) -> tuple[float, float]:
    """The score interval of (gains - losses) / docs: the differences that a score test does not reject."""
    squared = float(special.ndtri((1 - confidence) / 2)) ** 2
    if gains == losses == 0:
        end = squared / (docs + squared)  # the limit; the equation below is degenerate there
        return -end, end

    def excess(delta: float) -> float:
        # loss: the most likely rate of losses, given that gains exceed losses by delta.
        linear = (2 * docs - gains + losses) * delta - gains - losses
        root = math.sqrt(max(linear**2 + 8 * docs * losses * delta * (1 - delta), 0.0))
        loss = (root - linear) / (4 * docs)
        variance = docs * (2 * loss + delta * (1 - delta))
        return (gains - losses - docs * delta) ** 2 - squared * variance

    inner = (docs - squared) / (docs + squared)
    if gains == docs:  # at 1 the variance is 0 and the equation has a spurious root
        return inner, 1.0
    if losses == docs:
        return -1.0, -inner
    difference = (gains - losses) / docs
    low, high = optimize.brentq(excess, -1.0, difference), optimize.brentq(excess, difference, 1.0)
    return float(low), float(high)
