"""The deep third of a model against its shallow third: the curse of depth as one difference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Of fewer layers a third without its end layer has fewer than three: resampling these says nothing.
FEWEST_LAYERS = 12
RESAMPLES = 4000
_SEED = 0


@dataclass(frozen=True)
class Thirds:
    """The means of a quantity over the shallow and the deep third of the layers, and their difference.

    Args:
        shallow_layers, deep_layers: First and last layer of each, 0-based and inclusive.
        shallow, deep: The means.
        low, high: 95% interval of ``deep - shallow`` over resampled layers of each third, its percentiles
            moved outward as small samples need. The layers of a model are no independent draws: the interval
            says how much the difference leans on single layers, not what another model would give.
    """

    shallow_layers: tuple[int, int]
    deep_layers: tuple[int, int]
    shallow: float
    deep: float
    low: float
    high: float

    @property
    def difference(self) -> float:
        """Deep minus shallow."""
        return self.deep - self.shallow

    @property
    def sign(self) -> int:
        """-1 where the deep third is clearly below, 1 where it is clearly above, 0 where neither is clear."""
        return -1 if self.high < 0 else 1 if self.low > 0 else 0


def means_of_thirds(values: Sequence[float] | NDArray[np.float64]) -> tuple[float, float] | None:
    """Return the means over the shallow and the deep third of the layers; None for fewer than three layers.

    Args:
        values: ``[layer]``; NaN, where a layer has no value, does not count, and gives NaN in a whole third.
    """
    third = len(values) // 3
    if not third:
        return None
    numbers = np.asarray(values, dtype="float64")
    ends = (numbers[:third], numbers[len(numbers) - third :])
    shallow, deep = (math.nan if np.isnan(end).all() else float(np.nanmean(end)) for end in ends)
    return shallow, deep


def thirds(values: NDArray[np.float64], *, ends: bool = True) -> Thirds | None:
    """A quantity's deep third against its shallow third; None for a model of few layers, or with gaps.

    A third is a third of all layers, rounded down, at each end. Without ``ends`` the first and the last layer
    are left out of their thirds: they do work of their own in nearly every model (out of the embedding,
    towards the head), and a difference that rests on them alone is no trend with depth.

    Args:
        values: float64 ``[layer]``.
        ends: Whether the first and the last layer count.
    """
    layers = len(values)
    if layers < FEWEST_LAYERS or not np.isfinite(values).all():
        return None
    size = layers // 3
    first = 0 if ends else 1
    shallow, deep = values[first:size], values[layers - size : layers - first]
    generator = np.random.default_rng(_SEED)

    def resampled(third: NDArray[np.float64]) -> NDArray[np.float64]:
        return third[generator.integers(0, len(third), (RESAMPLES, len(third)))].mean(axis=1)

    tail = 100 * _tail(len(deep))
    low, high = np.percentile(resampled(deep) - resampled(shallow), [tail, 100 - tail])
    return Thirds(
        (first, size - 1),
        (layers - size, layers - 1 - first),
        float(shallow.mean()),
        float(deep.mean()),
        float(low),
        float(high),
    )


def _tail(count: int) -> float:
    """The share of resamples beyond each end of a 95% interval of the mean of so many values.

    Plain percentiles (0.025) are far too narrow for a handful of values: of three, their "95%" interval
    misses every fifth true difference of normal values, this one every tenth, and of four or more values
    about one in thirty.

    Source: the expanded percentile interval of Hesterberg, "What Teachers Should Know about the Bootstrap",
    1411.5279; it makes up for the divisor n of a resample's variance and for the normal tails.
    """
    from scipy import special  # a tenth of a second that other processes can draw in

    return float(special.ndtr(math.sqrt(count / (count - 1)) * special.stdtrit(count - 1, 0.025)))
