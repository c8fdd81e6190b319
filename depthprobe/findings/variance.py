"""What a table of variances says: how the stream grows, where, and which layers leave it nearly as it was."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from depthprobe.errors import RunError
from depthprobe.findings.checks import check_table
from depthprobe.findings.growth import EXPONENTIAL, FEWEST_LAYERS, LINEAR, UNSTEADY, Fit, Growth, growth_of
from depthprobe.findings.words import layers_named, significant, spoken

STEM, WHAT = "variance", "variances"
INFLUENCE_STEM, INFLUENCE = "influence", "block influences"
STREAM = "stream"
BRANCHES = {"attention": "attention", "feedforward": "feed-forward"}

_KEYS, _NUMBERS = ("point", "layer"), ("variance", "rms", "tokens")
# Runs of the first version of the probe lack them.
_ROBUST = ("variance_without_first", "variance_median")
_INFLUENCE_NUMBERS = ("layer", "block_influence", "contribution_ratio")
# A fit whose typical error is larger describes little.
_POOR = 0.5
# Of growth by less than this factor it does not matter where it happens.
_MARKED = 1.5
# More layers than these are named as ranges.
_MOST_LISTED = 9
# It is said if first tokens make more of the mean than this, and several times what is due to their number.
_LARGE_SHARE, _MORE_THAN_DUE = 0.1, 3


@dataclass(frozen=True)
class Variances:
    """The variances of a model, by boundary and by layer.

    The mean over tokens is what the papers take. In many models the first token of a text has a variance
    hundreds of times that of the others: the mean then hangs on how many tokens follow it. So growth is read
    from the median, where a run has it.

    Args:
        stream, rms: [boundary] variance and root mean square of x^0 .. x^L, mean over tokens, the latter of
            all values.
        branches: By branch [layer] the variance of what it adds; NaN where that is not known.
        tokens: How many tokens were averaged over.
        growth: How the output variance grows from x^1 to x^L, if there is something to fit.
        influence: Layer, block_influence and contribution_ratio, a row for each layer; None if not measured.
        without_branches: Why what attention and feed-forward add is not known, with the layers.
        without_first, median: [boundary] as ``stream``, the mean without the first token of each sample, and
            the median over tokens; None in older runs.
        first_tokens: How many tokens are the first of a sample; None in older runs.
    """

    stream: NDArray[np.float64]
    rms: NDArray[np.float64]
    branches: dict[str, NDArray[np.float64]]
    tokens: int
    growth: Growth | None
    influence: pd.DataFrame | None
    without_branches: Mapping[str, Iterable[int]]
    without_first: NDArray[np.float64] | None = None
    median: NDArray[np.float64] | None = None
    first_tokens: int | None = None

    @property
    def typical(self) -> NDArray[np.float64]:
        """[boundary] the variance whose growth is read: the median over tokens, in older runs their mean."""
        return self.stream if self.median is None else self.median

    @property
    def first_share(self) -> NDArray[np.float64] | None:
        """[boundary] which share of the mean the first tokens make; None where that is not known."""
        if self.without_first is None or not self.first_tokens or (self.stream <= 0).any():
            return None
        others = (self.tokens - self.first_tokens) / self.tokens
        return np.clip(1 - others * self.without_first / self.stream, 0.0, 1.0)

    @property
    def layers(self) -> int:
        """How many layers the model has."""
        return len(self.stream) - 1

    @property
    def steady(self) -> Growth | None:
        """The growth whose fits a text may tell and a figure draw; None where there is no steady growth."""
        return None if self.growth is None or self.growth.verdict == UNSTEADY else self.growth

    @property
    def quantity(self) -> str:
        """What a variance is taken over, as a caption states it."""
        if self.median is not None:
            return (
                "variance over the hidden dimension, before the final norm: mean over "
                f"{self.tokens:,} tokens, mean without the first token of each sample, median"
            )
        return f"variance over the hidden dimension, mean over {self.tokens:,} tokens, before the final norm"

    @property
    def summary(self) -> str:
        """How the stream's variance grows, in one sentence."""
        change = _growth(self)[0]
        if self.steady is None or self.steady.verdict not in (EXPONENTIAL, LINEAR):
            return change
        other = "linear" if self.steady.verdict == EXPONENTIAL else "exponential"
        poor = min(self.steady.exponential.error, self.steady.linear.error) > _POOR
        fits = ", though neither fits well" if poor else ""
        return f"{change.rstrip('.')}, {self.steady.verdict} than to {other} growth{fits}."

    @property
    def sentences(self) -> list[str]:
        """How the stream's variance grows and where, and the layers that change it least."""
        least = [] if self.influence is None else _least(self.influence)
        return [
            " ".join(
                [
                    *_growth(self),
                    *_where(self),
                    *_means(self),
                    *least,
                    *_without_branches(self.without_branches),
                ]
            )
        ]


def read(
    tables: Mapping[str, pd.DataFrame], facts: Mapping[str, Any] | None = None, layers: int | None = None
) -> Variances:
    """Return what the tables ``variance`` and, if it is there, ``influence`` say.

    Arguments and errors as :func:`of_runs.findings_in`. Of the facts ``without_branches`` counts.
    """
    _check(tables[STEM])
    points = dict(list(tables[STEM].sort_values("layer").groupby("point")))
    stream = points[STREAM]
    branches = {branch: np.full(len(stream) - 1, np.nan) for branch in BRANCHES if branch in points}
    for branch, values in branches.items():
        values[points[branch]["layer"]] = points[branch]["variance"]
    values, rms = (stream[name].to_numpy(dtype="float64") for name in ("variance", "rms"))
    later, median = (
        stream[name].to_numpy(dtype="float64") if name in stream.columns else None for name in _ROBUST
    )
    influence, facts = tables.get(INFLUENCE_STEM), facts or {}
    first = facts.get("first_tokens")
    return Variances(
        values,
        rms,
        branches,
        int(stream["tokens"].max()),
        growth_of((values if median is None else median)[1:]),
        None if influence is None else _influences(influence, len(stream) - 1),
        facts.get("without_branches") or {},
        later,
        median,
        first if isinstance(first, int) else None,
    )


def growth_by_layer(table: pd.DataFrame) -> pd.Series:
    """Return by layer the logarithm of the variance of x^{l+1} over that of x^l; NaN where one is 0.

    It is that of the median token; in older runs, which lack it, of the mean over tokens.
    """
    column = "variance_median" if "variance_median" in table.columns else "variance"
    stream = table[table["point"] == STREAM].set_index("layer")[column].sort_index()
    logs = np.log(stream.where(stream > 0).to_numpy(dtype="float64"))
    return pd.Series(np.diff(logs), index=stream.index[:-1])


def _check(frame: pd.DataFrame) -> None:
    numbers = (*_NUMBERS, *(name for name in _ROBUST if name in frame.columns))
    check_table(frame, WHAT, (*_KEYS, *_NUMBERS), numbers, keys=_KEYS, signed=False)
    unknown = frame.loc[~frame["point"].isin([STREAM, *BRANCHES]), "point"]
    if len(unknown):
        raise RunError(f"The table of {WHAT} has the point {unknown.iloc[0]!r}.")
    stream = frame.loc[frame["point"] == STREAM, "layer"]
    # There is one behind each layer, and one before the first.
    missing = set(range(max(2, len(stream)))) - set(stream)
    if missing:
        raise RunError(f"The table of {WHAT} lacks the stream at boundary {min(missing)}.")
    if not frame.loc[frame["point"] != STREAM, "layer"].between(0, len(stream) - 2).all():
        raise RunError(f"The table of {WHAT} has a branch of a layer that is not there.")


def _influences(frame: pd.DataFrame, layers: int) -> pd.DataFrame:
    """The Block Influence and the contribution ratio of every layer, in order."""
    check_table(frame, INFLUENCE, _INFLUENCE_NUMBERS, _INFLUENCE_NUMBERS)
    ordered = frame.sort_values("layer", kind="stable").reset_index(drop=True)
    if ordered["layer"].tolist() != list(range(layers)):
        raise RunError(f"The table of {INFLUENCE} is not one of the layers 0 to {layers - 1}.")
    return ordered


def _growth(found: Variances) -> list[str]:
    """From where to where the variance goes, at which rate, and which form is closer."""
    values = found.typical
    what = "The variance of the stream" + ("" if found.median is None else " at the median token")
    first, last, layers = values[1], values[-1], found.layers
    if layers == 1:
        before = significant(values[0])
        what = what[0].lower() + what[1:]
        return [f"The only layer, 0, takes {what} from {before} to {significant(first)}."]
    ends = f"x^1 to x^{layers} ({significant(first)} to {significant(last)})"
    if not (values[1:] > 0).all():
        still = np.flatnonzero(values[1:] == 0)[0] + 1
        return [f"{what} goes from {ends}; it is 0 at x^{still}, so no growth is fitted."]
    growth, change = found.growth, _changed(first, last)
    if layers < FEWEST_LAYERS:
        return [f"{what} {change} from {ends}; two layers are too few for a fit."]
    if growth is None:
        return [f"{what} stays the same from {ends}."]
    decimals = 3 if growth.high - growth.low > 0.01 else 4
    rate, low, high = (
        spoken(value, decimals, signed=True) for value in (growth.rate, growth.low, growth.high)
    )
    return [
        f"{what} {change} from {ends}.",
        f"Growth rate of log variance: {rate} a layer (95% interval {low} to {high}); {_verdict(growth)}.",
    ]


def _changed(first: float, last: float) -> str:
    """How much a variance changes: ``grows by a factor of 6.2``."""
    size = max(last / first, first / last)
    factor = significant(size, 2 if size >= _MARKED else 3)
    return f"{'grows' if last >= first else 'falls'} by a factor of {factor}"


def _means(found: Variances) -> list[str]:
    """How the means over tokens change, and whether they hang on the first token of each sample."""
    if found.median is None or found.without_first is None or found.layers == 1:
        return []
    means = (found.stream, found.without_first)
    if not all((values[[1, -1]] > 0).all() for values in means):
        return []
    whole, rest = (_changed(values[1], values[-1]) for values in means)
    said = [
        f"The mean over all tokens, as in the papers, {whole}; without the first token of each sample, it "
        f"{rest}."
    ]
    share = found.first_share
    if share is not None and found.first_tokens:
        most, due = int(share.argmax()), found.first_tokens / found.tokens
        if share[most] > max(_LARGE_SHARE, _MORE_THAN_DUE * due):
            said.append(
                f"These first tokens, one in {_whole(1 / due)}, make {share[most]:.0%} of the mean at "
                f"x^{most}, so the mean depends on how long the samples are (--seq-len)."
            )
    return said


def _whole(value: float) -> str:
    """A number with three significant digits, without decimals that are zeros: ``64``, ``64.5``."""
    text = significant(value)
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text


def _verdict(growth: Growth) -> str:
    """The verdict with its quality: how far a layer typically is from either form."""
    curve, line = _quality(growth.exponential), _quality(growth.linear)
    poor = min(growth.exponential.error, growth.linear.error) > _POOR
    if growth.verdict == EXPONENTIAL:
        words = f"{EXPONENTIAL} ({curve}) than to linear ({line})"
    elif growth.verdict == LINEAR:
        words = f"{LINEAR} ({line}) than to exponential ({curve})"
    elif growth.verdict == UNSTEADY:
        shares = (f"{fit.r_squared:.3f}" for fit in (growth.exponential, growth.linear))
        return "{} over the layers (R^2 {} of an exponential, {} of a line)".format(UNSTEADY, *shares)
    else:
        words = f"exponential ({curve}) and linear ({line}) {growth.verdict}"
    return f"{words}, and neither fits well" if poor else words


def _quality(fit: Fit) -> str:
    if fit.error < 0.0005:
        size = "less than 0.1%"
    elif fit.error < 0.995:
        size = f"{significant(100 * fit.error, 2)}%"
    else:
        size = f"a factor of {significant(1 + fit.error, 2)}"
    return f"off by {size} typically, R^2 {fit.r_squared:.3f}"


def _where(found: Variances) -> list[str]:
    """The shortest stretch of layers with at least half of the growth on the logarithmic scale."""
    values = found.typical[1:]
    if len(values) < FEWEST_LAYERS or (values <= 0).any() or values[-1] < values[0] * _MARKED:
        return []
    # Layer l takes x^l to x^{l+1}; layer 0 is what comes before x^1.
    logs = np.log(values)
    half = (logs[-1] - logs[0]) / 2
    stretches = [
        (end - start, -round(logs[end] - logs[start], 9), start)  # rounding errors are no difference
        for start in range(len(logs))
        for end in range(start + 1, len(logs))
        if logs[end] - logs[start] >= half * (1 - 1e-9)
    ]
    size, grown, start = min(stretches)
    which = layers_named(range(start + 1, start + 1 + size))
    multiply = "multiplies" if size == 1 else "multiply"
    return [
        f"Half of that growth of log variance takes {size} of {len(logs) - 1} layers: {which} {multiply} the "
        f"variance by {significant(math.exp(-grown), 2)}."
    ]


def _least(influence: pd.DataFrame) -> list[str]:
    """The quarter of the layers with the least Block Influence, least first where they can be listed."""
    layers = len(influence)
    if layers == 1:
        return [f"Its Block Influence is {significant(influence['block_influence'].iloc[0])}."]
    count = layers // 4 + 1
    least = influence.sort_values(["block_influence", "layer"], kind="stable")["layer"].tolist()[:count]
    value = significant(influence["block_influence"].min())
    if count <= _MOST_LISTED:
        named = f"layer{'s' * (count != 1)} {', '.join(map(str, least))}"
        return [f"Least Block Influence ({count} of {layers}, least first, from {value}): {named}."]
    return [
        f"Least Block Influence ({count} of {layers}): {layers_named(sorted(least))}; least of all in layer "
        f"{least[0]} ({value})."
    ]


def _without_branches(reasons: Mapping[str, Iterable[int]]) -> list[str]:
    """Why what attention and feed-forward add is not known, with the layers."""
    return [
        f"What the branches of {layers_named(sorted(layers))} add is left out: {str(reason).rstrip('. ')}."
        for reason, layers in reasons.items()
    ]
