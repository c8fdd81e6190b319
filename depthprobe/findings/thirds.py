"""The deep third of a model against its shallow third: the curse of depth as one difference."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Of fewer layers a third has fewer than four, and without its end layer fewer than three: their mean is that
# of single layers, and resampling them says nothing. Nothing compares the thirds of such a model.
FEWEST_LAYERS = 12
RESAMPLES = 4000
_SEED = 0


@dataclass(frozen=True)
class Thirds:
    """The means of a quantity over the shallow and the deep third of the layers.

    Args:
        shallow_layers, deep_layers: The layers of each, 0-based.
        shallow, deep: The means.
    """

    shallow_layers: range
    deep_layers: range
    shallow: float
    deep: float

    @property
    def difference(self) -> float:
        """Deep minus shallow."""
        return self.deep - self.shallow


@dataclass(frozen=True)
class ComparedThirds(Thirds):
    """Thirds, and how sure their difference is.

    Args:
        low, high: 95% interval of ``deep - shallow`` over resampled layers of each third, its percentiles
            moved outward as small samples need. The layers of a model are not independent draws: it
            says how much the difference leans on single layers, not what another model would give.
    """

    low: float
    high: float

    @property
    def sign(self) -> int:
        """-1 where the deep third is clearly below, 1 where it is clearly above, 0 where neither is clear."""
        return -1 if self.high < 0 else 1 if self.low > 0 else 0


def thirds(values: ArrayLike, *, ends: bool = True) -> Thirds | None:
    """The means of a quantity's shallow and deep third; None for a model of few layers, or one with gaps.

    A third is a third of all layers, rounded down, at each end. Without ``ends`` the first and the last layer
    are left out of their thirds: they do work of their own in nearly every model (out of the embedding,
    towards the head), and a difference that rests on them alone is not a trend with depth.

    Args:
        values: ``[layer]``, one for every layer of the model; NaN where a layer has no value.
        ends: Whether the first and the last layer count.
    """
    values = np.asarray(values, dtype=np.float64)
    layers = len(values)
    size, first = layers // 3, 0 if ends else 1
    shallow, deep = range(first, size), range(layers - size, layers - first)
    # A mean over the part of a third that happens to be known is not the third's.
    if layers < FEWEST_LAYERS or not all(np.isfinite(values[third]).all() for third in (shallow, deep)):
        return None
    return Thirds(shallow, deep, *(float(values[third].mean()) for third in (shallow, deep)))


def compared_thirds(values: NDArray[np.float64], *, ends: bool = True) -> ComparedThirds | None:
    """:func:`thirds` with an interval of their difference; None where there are no thirds."""
    found = thirds(values, ends=ends)
    if found is None:
        return None
    shallow, deep = values[found.shallow_layers], values[found.deep_layers]
    generator = np.random.default_rng(_SEED)

    def resampled(third: NDArray[np.float64]) -> NDArray[np.float64]:
        return third[generator.integers(0, len(third), (RESAMPLES, len(third)))].mean(axis=1)

    tail = 100 * _tail(len(deep))
    low, high = np.percentile(resampled(deep) - resampled(shallow), [tail, 100 - tail])
    return ComparedThirds(**vars(found), low=float(low), high=float(high))


def _tail(count: int) -> float:
    """The share of resamples beyond each end of a 95% interval of the mean of this many values.

    Plain percentiles (0.025) are far too narrow for a handful of values: of three, their "95%" interval
    misses every fifth true difference of normal values, this one every tenth, and of four or more values
    about one in thirty.

    Source: the expanded percentile interval of Hesterberg, "What Teachers Should Know about the Bootstrap",
    1411.5279; it makes up for the divisor n of a resample's variance and for the normal tails.
    """
    from scipy import special  # a tenth of a second that other processes can draw in

    return float(special.ndtr(math.sqrt(count / (count - 1)) * special.stdtrit(count - 1, 0.025)))
