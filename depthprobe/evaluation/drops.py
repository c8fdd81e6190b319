"""From lm-eval's numbers of the model and its variants to drops with honest uncertainty."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from depthprobe.evaluation.harness.outcome import Key, Outcome
from depthprobe.evaluation.scores import Variant
from depthprobe.metrics.bootstrap import paired_bootstrap
from depthprobe.metrics.detection import detectable_drop, holm
from depthprobe.metrics.paired import PairedDifference, paired_difference

CALIBRATION: Key = ("calibration", "loss", "none")


@dataclass(frozen=True)
class Calibration:
    """Loss on calibration text: ``nats`` [variant][sample], summed over ``tokens`` [sample] predictions."""

    nats: Mapping[Variant, np.ndarray]
    tokens: np.ndarray

    def loss(self, variant: Variant) -> float:
        """Return the mean loss in nats for each predicted token."""
        return float(self.nats[variant].sum() / self.tokens.sum())

    def per_sample(self, variant: Variant) -> np.ndarray:
        """Return [sample] values whose plain mean is :meth:`loss`: long samples weigh more."""
        return self.nats[variant] * (len(self.tokens) / self.tokens.sum())


def compare(baseline: Outcome, variant: Outcome, key: Key, tests: int = 1) -> PairedDifference | None:
    """Return how one of lm-eval's numbers changed, paired item by item; None where it has no items.

    Means over documents, and groups of them with lm-eval's weights, are compared exactly (McNemar) or by a
    paired t; anything else (perplexities, f1, mcc) by resampling documents, the same ones for both models,
    often enough that a p-value can stay below 0.05 when adjusted for ``tests`` layers.
    """
    metric = baseline.metrics.get(key)
    if metric is None:
        return None
    if metric.members:
        leaves = [(leaf, key[1], key[2]) for leaf in metric.members]
        if any(_scores(outcome, leaf) is None for outcome in (baseline, variant) for leaf in leaves):
            return None
        # None of them is None: that was checked above.
        parts: list[list[Any]] = [[_scores(each, leaf) for leaf in leaves] for each in (baseline, variant)]
        before, after = map(np.concatenate, parts)
        labels = np.concatenate([np.full(len(scores), i) for i, scores in enumerate(parts[0])])
        weights: dict[Hashable, float] = {i: metric.members[leaf[0]] for i, leaf in enumerate(leaves)}
        return paired_difference(before, after, labels, weights)
    old, new = _scores(baseline, key), _scores(variant, key)
    if metric.aggregation == "mean" and old is not None and new is not None:
        return paired_difference(old, new)
    if key not in baseline.per_doc or metric.aggregate is None:
        return None
    return _resampled(baseline, variant, key, max(1999, 60 * tests))


def _resampled(baseline: Outcome, variant: Outcome, key: Key, resamples: int) -> PairedDifference:
    """Return the comparison of a corpus metric by resampling documents."""
    aggregate: Any = baseline.metrics[key].aggregate
    before, after = (outcome.per_doc[key] for outcome in (baseline, variant))
    olds, news = before.values, after.values
    name = baseline.metrics[key].aggregation
    by_words = name in ("weighted_perplexity", "bits_per_byte")
    if by_words and olds is not None and news is not None and olds.ndim == 2:

        def ratio(draws: np.ndarray, olds: np.ndarray = olds, news: np.ndarray = news) -> np.ndarray:
            first, second = olds[draws].sum(axis=1), news[draws].sum(axis=1)
            losses = [-part[:, 0] / part[:, 1] for part in (first, second)]
            number = [np.exp(x) if name == "weighted_perplexity" else x / np.log(2) for x in losses]
            return number[1] - number[0]

        return paired_bootstrap(ratio, len(before.items), vectorised=True)

    def difference(draw: np.ndarray) -> float:
        drawn = ([scores.items[index] for index in draw] for scores in (before, after))
        old, new = (float(aggregate(list(items))) for items in drawn)
        return new - old

    # lm-eval's own function on Python lists is slow: no more draws than needed.
    return paired_bootstrap(difference, len(before.items), resamples=resamples)


def drop_rows(
    outcomes: Mapping[Variant, Outcome], calibration: Calibration | None, variants: Sequence[Variant]
) -> tuple[list[dict[str, Any]], dict[Key, float]]:
    """Return the rows of ``prune_sweep.csv``, and for every number how large a drop could have been missed.

    Rows are ordered by task, metric, filter and layer; p-values are adjusted over the layers of each
    number (Holm). Without ``calibration`` only the tasks have rows. ``docs`` counts the items compared,
    ``flips`` those whose correctness (or score, where it is not 0/1) changed.
    """
    whole = outcomes[()]
    rows: list[dict[str, Any]] = []
    missed: dict[Key, float] = {}
    for key, number, found in _comparisons(outcomes, calibration, variants):
        adjusted = holm([result.p_value for result in found])
        # As strict as Holm is with the first of all layers, and never less than half an interval's width.
        # Only layers where nothing was found count, if there are any: there something may have been missed.
        alpha = 0.05 / len(found)
        sizes = [max(detectable_drop(r, alpha), (r.ci_high - r.ci_low) / 2) for r in found]
        unfound = [size for size, p in zip(sizes, adjusted, strict=True) if p >= 0.05]
        missed[key] = max(unfound or sizes)
        for variant, result, p_adjusted in zip(variants, found, adjusted, strict=True):
            pruned = number + result.difference
            if key != CALIBRATION:
                pruned = outcomes[variant].aggregate[key]
            rows.append(
                {
                    "task": key[0],
                    "metric": key[1],
                    "filter": key[2],
                    "layer": variant[0],
                    "baseline": number,
                    "pruned": pruned,
                    "drop": pruned - number,
                    "ci_low": result.ci_low,
                    "ci_high": result.ci_high,
                    "p_value": result.p_value,
                    "p_adjusted": float(p_adjusted),
                    "flips": _changed(whole, outcomes[variant], calibration, variant, key, result),
                    "docs": result.docs,
                }
            )
    return rows, missed


def _comparisons(
    outcomes: Mapping[Variant, Outcome], calibration: Calibration | None, variants: Sequence[Variant]
) -> Iterator[tuple[Key, float, list[PairedDifference]]]:
    whole = outcomes[()]
    for key, number in whole.aggregate.items():
        found = [compare(whole, outcomes[variant], key, len(variants)) for variant in variants]
        if all(result is not None for result in found):
            yield key, number, [result for result in found if result is not None]
    if calibration is None:
        return
    before = calibration.per_sample(())
    losses = [paired_difference(before, calibration.per_sample(variant)) for variant in variants]
    yield CALIBRATION, calibration.loss(()), losses


def _scores(outcome: Outcome, key: Key) -> np.ndarray | None:
    scores = outcome.per_doc.get(key)
    return None if scores is None or scores.values is None or scores.values.ndim != 1 else scores.values


def _changed(
    whole: Outcome,
    pruned: Outcome,
    calibration: Calibration | None,
    variant: Variant,
    key: Key,
    result: PairedDifference,
) -> int:
    if result.flips is not None:
        return result.flips
    if calibration is not None and key == CALIBRATION:
        return int(np.sum(calibration.nats[()] != calibration.nats[variant]))
    members = whole.metrics[key].members
    keys = [(leaf, key[1], key[2]) for leaf in members] if members else [key]
    pairs = ((whole.per_doc[k].items, pruned.per_doc[k].items) for k in keys)
    return sum(a != b for before, after in pairs for a, b in zip(before, after, strict=True))
