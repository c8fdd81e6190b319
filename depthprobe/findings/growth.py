"""How the variance of the stream grows over the layers: exponentially, along a line, or not at all.

"The Curse of Depth" bounds the growth in Pre-LN models between the two, Theta(L) and Theta(exp(L)), and
blames its exponential end. So two forms are fitted to v_l = Var(x^l), l = 1 .. L:

    exponential   v = a * exp(b * l)
    linear        v = a + b * l

Both have two parameters and both are fitted by least squares of log v, so that their errors can be compared:
a fit of v itself would look at the last layers alone. Layers are not independent draws: intervals and tests
describe how steady the growth is over this model's layers, not what another model would do.

Source: "The Curse of Depth" 2502.05795 (the bounds on the variance of Pre-LN); the fits are ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
EXPONENTIAL, LINEAR = "closer to exponential", "closer to linear"
UNSTEADY, OPEN = "no steady growth", "cannot be told apart"

FEWEST_LAYERS = 3
# One form is closer if a likelihood ratio says so 20 : 1 and its error is at most four fifths of the other's.
# The second binds in deep models: errors of neighbouring layers are alike, and count for fewer than they are.
LIKELIHOOD_RATIO, ERROR_RATIO = 20.0, 0.8
_CONFIDENCE = 0.95
# In log v: below these, differences and errors are those of the arithmetic.
_SAME, _EXACT = 1e-9, 1e-8
# An odd number, so that a level line is among those tried.
_GRID = 1001


@dataclass(frozen=True)
class Fit:
    """One fitted form.

    Args:
        start, rate: Its parameters a and b.
        values: [layer 1 .. L] the fitted variances.
        r_squared: The share of the differences in log v that it explains.
        error: How far a layer is from it, typically, as a ratio: 0.1 is 10% (root mean square of log v).
    """

    start: float
    rate: float
    values: Floats
    r_squared: float
    error: float


@dataclass(frozen=True)
class Growth:
    """How a variance grows: both fits, and which of them is closer.

    Args:
        exponential, linear: The fits.
        low, high: The 95% interval of the exponential's rate.
        verdict: ``EXPONENTIAL``, ``LINEAR``, ``UNSTEADY`` or ``OPEN``.
    """

    exponential: Fit
    linear: Fit
    low: float
    high: float
    verdict: str

    @property
    def rate(self) -> float:
        """How much log v grows a layer."""
        return self.exponential.rate


def growth_of(variances: Sequence[float] | Floats) -> Growth | None:
    """Return the growth of the variances of x^1 .. x^L; None where there is nothing to fit.

    Nothing to fit are fewer than three layers, a variance of 0, and the same variance everywhere. The growth
    is not steady if neither form explains more of log v than chance would (F test at 5%; for the exponential
    that is a 95% interval of its rate that holds 0).
    """
    values = np.asarray(variances, dtype="float64")
    if len(values) < FEWEST_LAYERS or (values <= 0).any():
        return None
    logs = np.log(values)
    if np.ptp(logs) < _SAME:
        return None
    # Without the common scale: the judgement is then the same in every unit.
    level = float(logs.mean())
    logs = logs - level
    layers = np.arange(1, len(values) + 1, dtype="float64")

    (rate, _), spread = np.polyfit(layers, logs, 1, cov=True)
    rate, error = float(rate), math.sqrt(spread[0, 0])
    curved = rate * (layers - layers.mean())
    straight = _straight(logs)
    margin = _t_quantile(len(values)) * error
    ends = np.exp(straight[[0, -1]] + level)
    slope = float(ends[1] - ends[0]) / (len(values) - 1)
    return Growth(
        exponential=_fit(math.exp(level - rate * layers.mean()), rate, logs, curved, level),
        linear=_fit(float(ends[0]) - slope, slope, logs, straight, level),
        low=rate - margin,
        high=rate + margin,
        verdict=_verdict(logs, curved, straight),
    )


def _t_quantile(layers: int) -> float:
    """How many standard errors a 95% interval reaches to either side, for two fitted parameters."""
    from scipy import special  # a tenth of a second, and not every command fits

    return float(special.stdtrit(layers - 2, (1 + _CONFIDENCE) / 2))


def _straight(logs: Floats) -> Floats:
    """[layer] the logarithm of the line that is nearest to the values in log v, and above 0 at every layer.

    A line above 0 is a scale and a ratio of its ends, any number above 0. Of every ratio the best scale is
    known, the one that leaves errors in log v of mean 0, so that only the ratio has to be sought. There can
    be more than one valley: a grid finds the deepest, and scipy its ground.
    """
    from scipy import optimize  # as above

    layers = len(logs)
    with np.errstate(divide="ignore"):
        to_first = np.log(np.linspace(1, 0, layers))
    to_last = to_first[::-1]

    def errors(ratios: Floats) -> Floats:
        # [ratio, layer] the logarithm of the line from 1 to the ratio, whose logarithm is given.
        lines = np.logaddexp(to_first, ratios[:, None] + to_last)
        return logs - logs.mean() - lines + lines.mean(axis=1, keepdims=True)

    def squares(ratio: float) -> float:
        return float((errors(np.array([ratio])) ** 2).sum())

    # Beyond, the end that is nearly 0 alone is further off than all of a level line.
    far = (math.sqrt(layers) + 1) * np.ptp(logs) + math.log(layers) + 1
    grid = np.linspace(-far, far, _GRID) * layers / (layers - 1)
    sums = (errors(grid) ** 2).sum(axis=1)
    # Of two valleys equally deep, as of values that rise and fall alike, the rising line in every unit.
    best = int(np.flatnonzero(sums <= sums.min() * (1 + 1e-9)).max())
    around = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, _GRID - 1)])
    found = optimize.minimize_scalar(squares, bounds=around, method="bounded", options={"xatol": 1e-12})
    ratio = min(float(found.x), float(grid[best]), key=squares)
    return logs - errors(np.array([ratio]))[0]


def _fit(start: float, rate: float, logs: Floats, fitted: Floats, level: float) -> Fit:
    """A fit with its quality, from its parameters and [layer] its log v without the common level."""
    squares = float(((logs - fitted) ** 2).sum())
    return Fit(
        start=start,
        rate=rate,
        values=np.exp(fitted + level),
        r_squared=1 - squares / float((logs**2).sum()),
        error=math.expm1(math.sqrt(squares / len(logs))),
    )


def _verdict(logs: Floats, curved: Floats, straight: Floats) -> str:
    """Which fit of log v is closer, if there is growth and the difference counts."""
    layers = len(logs)
    total = float((logs**2).sum())
    exact = layers * _EXACT**2
    squares = [max(exact, float(((logs - fitted) ** 2).sum())) for fitted in (curved, straight)]
    # F with 1 and L - 2 degrees of freedom, which is the square of t.
    by_chance = _t_quantile(layers) ** 2 / (layers - 2)
    if all(total - left <= by_chance * left for left in squares):
        return UNSTEADY
    closer, other = sorted(squares)
    likely = layers / 2 * math.log(other / closer) >= math.log(LIKELIHOOD_RATIO)
    if not likely or math.sqrt(closer / other) > ERROR_RATIO:
        return OPEN
    return EXPONENTIAL if squares[0] < squares[1] else LINEAR
