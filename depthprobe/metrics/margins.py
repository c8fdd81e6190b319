"""How small many differences were shown to be, taken together, and how many items would show a given one.

That nothing was found says little by itself: with few items nothing can be found. That a difference is small
is shown where the whole of its interval is below a margin, and for the layers of a model these intervals must
hold together.
"""

from __future__ import annotations

import math

from scipy import special

from depthprobe.metrics.paired import tango_interval

# Ends of intervals are as exact as the search for a root.
_SAME = 1e-6


def joint_interval(
    difference: float, low: float, high: float, *, changed: float, docs: int, tests: int
) -> tuple[float, float]:
    """The interval of one of ``tests`` paired differences that hold together with 95%, from its own 95% one.

    Bonferroni: each is widened to a confidence of 1 - 0.05 / tests. For paired 0/1 scores that is Tango's
    interval again, since the difference and the flips say how many items were gained and lost. Where nothing
    varied the width is that of what may not have been seen, which goes with the logarithm of the error.
    Else both ends move out as Student's t with ``docs`` - 1 degrees of freedom does.

    Args:
        difference, low, high: The difference and its 95% interval.
        changed: Items whose score changed; NaN or below 0 if that is not known.
        docs: Items compared.
        tests: How many intervals are to hold together; with 1 it is the given one.

    Returns:
        Its ends.
    """
    if tests <= 1:
        return low, high
    confidence = 1 - 0.05 / tests
    counts = _gains_and_losses(difference, changed, docs)
    if counts is not None:
        gains, losses = counts
        own = tango_interval(gains, losses, docs, 0.95)
        if max(abs(own[0] - low), abs(own[1] - high)) < _SAME:
            return tango_interval(gains, losses, docs, confidence)
    if changed == 0 or docs < 2:
        wider = math.log((1 - confidence) / 2) / math.log(0.025)
    else:
        once, together = (-float(special.stdtrit(docs - 1, (1 - c) / 2)) for c in (0.95, confidence))
        wider = together / once
    return difference - wider * (difference - low), difference + wider * (high - difference)


def _gains_and_losses(difference: float, changed: float, docs: int) -> tuple[int, int] | None:
    """Items that became right and wrong, if a difference of 0/1 scores can be made of them."""
    net = round(difference * docs)
    if (
        not (abs(net) <= changed <= docs)
        or abs(net - difference * docs) > _SAME * docs
        or (changed - net) % 2
    ):
        return None
    return int(changed + net) // 2, int(changed - net) // 2


def guessing_does_as_well(score: float, docs: int, chance: float) -> float:
    """With which probability guessing is right as often on so many items: the one-sided binomial test."""
    return float(special.bdtrc(round(score * docs) - 1, docs, chance)) if score > 0 else 1.0


def items_needed(
    size: float,
    *,
    missed: float,
    docs: int,
    flip_rate: float | None = None,
    tests: int = 1,
    power: float = 0.8,
) -> int:
    """About how many items would show a difference of ``size``, as ``detection.detectable_drop`` means it.

    Args:
        size: The difference to be shown, in the metric's unit, above 0.
        missed: The difference that could have been missed with these items.
        docs: How many these are.
        flip_rate: The share of 0/1 scores that change; None for other scores, whose error goes with the root
            of the number of items.
        tests: How many there are, for the worst case of Holm's adjustment.
        power: With which probability it is to be shown.

    Source: for 0/1 scores Connor, Biometrics 43 (1987), 207-211.
    """
    if flip_rate is None:
        return math.ceil(docs * (missed / size) ** 2)
    rate = max(flip_rate, size)
    level, found = -float(special.ndtri(0.025 / tests)), float(special.ndtri(power))
    return math.ceil(((level * math.sqrt(rate) + found * math.sqrt(rate - size**2)) / size) ** 2)
