"""Where the ticks of an axis stand and what they say."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from matplotlib.ticker import MaxNLocator

from depthprobe.findings.words import spoken

MINUS = "\N{MINUS SIGN}"

_TICK_STEPS = (1, 2, 4, 5, 10, 20, 25, 50, 100, 200, 250, 500)
_MOST_TICKS = 8
_MOST_DECADES = 5
# A logarithmic axis of few decades has labels in between: the first of these that gives enough of them.
_BETWEEN = ((1,), (1, 3), (1, 2, 5), tuple(range(1, 10)))
_FEWEST_LABELS, _MOST_LABELS = 3, 7


def ticks(first: int, last: int) -> list[int]:
    """Round numbers between first and last, eight at most; an axis from 1 keeps its 1."""
    step = next(step for step in _TICK_STEPS if (last - first) // step < _MOST_TICKS)
    rounds = [number for number in range(0, last + 1, step) if number >= first]
    return [first, *rounds] if first not in rounds and step > 2 else rounds


def even_ticks(low: float, high: float) -> list[float]:
    """Round numbers at equal distances between low and high, six at most."""
    places = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return [float(place) for place in places if low <= place <= high]


def tick_labels(places: list[float]) -> list[str]:
    """Labels with equally many decimals, as few as keep ticks apart; powers of ten for huge or tiny ones."""
    largest = max(map(abs, places))
    if largest >= 1e5 or 0 < largest < 1e-4:
        decimals = next(
            (n for n in range(1, 8) if len({f"{place:.{n}e}" for place in places}) == len(places)), 8
        )
        labels = [f"{place:.{decimals}e}".replace("e+0", "e").replace("e-0", "e-") for place in places]
    else:
        step = min(np.diff(places), default=largest)
        decimals = next((n for n in range(8) if np.allclose(np.round(places, n), places, atol=step / 99)), 8)
        labels = [spoken(place, decimals) for place in places]
    return [label.replace("-", MINUS) for label in labels]


@dataclass(frozen=True)
class LogTicks:
    """The ticks of a logarithmic axis: labelled ones, and small ones without a label."""

    places: list[float]
    labels: list[str]
    small: list[float]


def log_ticks(low: float, high: float) -> LogTicks:
    """Ticks between low and high: powers of ten, and where those are few also 3, or 2 and 5, between them.

    Where the axis spans so little that these do not give three labels, they are evenly spaced numbers.
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))

    def between(factors: tuple[int, ...]) -> list[float]:
        # Through text: 3 * 10 ** -5 is not the float that is written 3e-05.
        places = [float(f"{factor}e{power}") for power in range(first, last + 1) for factor in factors]
        return [place for place in places if low <= place <= high]

    step = math.ceil(len(between((1,))) / _MOST_DECADES)
    if step > 1:
        powers = between((1,))
        # Counted from 1, so that 1 is labelled where it is on the axis.
        places = [power for power in powers if round(math.log10(power)) % step == 0]
        return LogTicks(places, _log_labels(places), [power for power in powers if power not in places])
    for factors in _BETWEEN:
        places = between(factors)
        if _FEWEST_LABELS <= len(places) <= _MOST_LABELS:
            small = [place for place in between(tuple(range(1, 10))) if place not in places]
            return LogTicks(places, _log_labels(places), small)
    places = [place for place in even_ticks(low, high) if place > 0]
    return LogTicks(places, tick_labels(places), [])


def _log_labels(places: list[float]) -> list[str]:
    """Plain numbers where all are short, else powers of ten."""
    if 1e-3 <= min(places) and max(places) <= 1e4:
        return [f"{place:,g}" for place in places]
    labels = []
    for place in places:
        factor, _, power = f"{place:.0e}".partition("e")
        ahead = "" if factor == "1" else rf"{factor}\!\times\!"
        labels.append(f"${ahead}10^{{{int(power)}}}$")
    return labels


def sparser(places: list[float], most: int, *, logarithmic: bool = False) -> list[int]:
    """Which of the ticks, by index, keep their labels where at most ``most`` have room; at least one.

    They are evenly spaced. 0 stays, and on a logarithmic axis the powers of ten do, if there are two.
    """
    if len(places) <= most:
        return list(range(len(places)))
    anchors = [number for number, place in enumerate(places) if place == 0]
    if logarithmic:
        anchors = [n for n, place in enumerate(places) if f"{place:.8e}".startswith("1.00000000e")]
        if 2 <= len(anchors) <= most:
            return anchors
    step = math.ceil(len(places) / max(most, 1))
    start = anchors[0] % step if anchors else 0
    return list(range(start, len(places), step))
