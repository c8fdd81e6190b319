"""How far the cheap measures can be trusted: each of them against the measured drop, layer by layer.

A proxy is useful where it orders layers as the measured harm does: what matters little by the proxy costs
little to remove. That is what rank correlations measure, and all that is claimed of proxies here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from depthprobe.findings.drop_sentences import why_too_few
from depthprobe.findings.drops import CALIBRATION, Drops
from depthprobe.findings.scores import proxies
from depthprobe.findings.words import capital, counted, layers_named, spoken

# With fewer layers a rank correlation says nothing: of five, one order in sixty is perfect by chance.
FEWEST_LAYERS = 6
RESAMPLES = 2000
# The share of the layers that each proxy picks.
PICKED_SHARE = 0.25
_SEED = 0
# As many quantities as a report compares, kept between pairs: 126 layers take 2 MB each.
_KEPT = 64

Floats = NDArray[np.float64]
COLUMNS = (
    *("task", "metric", "proxy", "spearman", "spearman_low", "spearman_high"),
    *("kendall", "kendall_low", "kendall_high", "layers"),
)


@dataclass(frozen=True)
class Picks:
    """What one proxy would remove, and what that costs by measurement.

    Args:
        proxy: Its column in the table with one row a layer.
        task: The task the cost is measured on.
        layers: The layers that the proxy says can be spared first, ascending.
        cost: Their mean measured harm, one at a time, in the metric's unit.
        best: The layers whose removal costs least by measurement, as many.
        best_cost: Their mean harm.
        mean_cost: The mean harm of all layers: what layers drawn at random would cost.
    """

    proxy: str
    task: str
    layers: tuple[int, ...]
    cost: float
    best: tuple[int, ...]
    best_cost: float
    mean_cost: float


@dataclass(frozen=True)
class Trust:
    """How far each proxy can be trusted, on each task.

    Args:
        correlations: The rank correlation of every proxy with the measured harm on every task, best first
            within a task: 1 if it orders the layers as the harm does, -1 if the wrong way round. Columns
            task, metric, proxy (its column in the table with one row a layer), spearman, kendall (tau-b),
            each with low and high, and layers, how many went in. No row where there is no correlation.
        picks: What each proxy would remove first, a quarter of the layers, against the cheapest by
            measurement. These are chosen by the very drops that they are judged by, which flatters them a
            little.
        sentences: On each task: which proxy would have picked which layers, and what removing them costs;
            then which proxies cannot be compared with it and why.

    Intervals are 95% percentile intervals over resampled layers. They say how much a correlation leans on
    single layers: layers are not independent draws, and another sample of items, or another model, may differ
    by more. A resample in which one of the two has only one value could have any correlation, so it counts
    beyond both ends of an interval.
    """

    correlations: pd.DataFrame
    picks: tuple[Picks, ...]
    sentences: tuple[str, ...]

    @property
    def tasks(self) -> list[str]:
        """The tasks that a proxy was compared with."""
        return list(dict.fromkeys(self.correlations["task"]))

    def rows(self, task: str) -> pd.DataFrame:
        """The correlations of one task, best first."""
        return self.correlations[self.correlations["task"] == task]

    def orders_none_rightly(self, task: str) -> bool:
        """Whether even the proxy with the highest correlation says nothing of a task, or orders wrongly."""
        return not self.rows(task)["spearman"].max() > 0


def read_trust(by_layer: pd.DataFrame, measured: Sequence[Drops]) -> Trust:
    """Return how far each proxy, a column of ``by_layer``, orders the layers as the measured drops do."""
    rows: list[tuple[Any, ...]] = []
    picks, sentences = [], []
    for drops in measured:
        correlated: list[tuple[Any, ...]] = []
        of_task = []
        reasons: dict[str, list[str]] = {}
        for proxy, score in proxies().items():
            if proxy not in by_layer or proxy == f"drop_{drops.task}":
                continue
            layers = drops.rows["layer"].to_numpy()
            values = by_layer[proxy].to_numpy(dtype="float64")[layers]
            known = np.isfinite(values)
            layers, values, harm = layers[known], values[known], drops.harm[known]
            if score.spared == "large":
                values = -values
            # What is the same in every layer, or costs the same, has no order and picks none.
            reason = _why_not(values, harm)
            if reason:
                reasons.setdefault(reason, []).append(score.words)
                continue
            correlated.append((drops.task, drops.metric, proxy, *_correlation(values, harm), len(values)))
            of_task.append(_picks(proxy, drops.task, layers, values, harm))
        rows += sorted(correlated, key=lambda row: -row[COLUMNS.index("spearman")])
        picks += of_task
        noise = [_mostly_noise(drops)] if of_task and drops.evidence.short else []
        sentences += [*noise, *_picks_named(drops, of_task), *_not_compared(drops.name, reasons)]
    return Trust(pd.DataFrame(rows, columns=list(COLUMNS)), tuple(picks), tuple(sentences))


def _why_not(values: Floats, harm: Floats) -> str:
    """Why a proxy and a harm have no rank correlation, as the end of a sentence; empty if they have one."""
    if len(values) < FEWEST_LAYERS:
        return f"only {counted(len(values), 'layer')} {'has' if len(values) == 1 else 'have'} both"
    if _constant(values):
        return "the measurement is the same in every layer"
    return "the measured drop is the same in every layer" if _constant(harm) else ""


def _constant(values: Floats) -> bool:
    """Whether the values are equal; rounding errors are no difference."""
    return bool(np.ptp(values) <= 1e-12 * np.abs(values).max())


def _correlation(values: Floats, harm: Floats) -> tuple[float, ...]:
    """Spearman's rho and Kendall's tau-b, each with the ends of its interval."""
    once = _correlations(values, harm, resampled=False)
    (low, high), both = _intervals(values, harm), [float(found[0]) for found in once]
    return tuple(number for each in zip(both, low, high, strict=True) for number in each)


def _intervals(x: Floats, y: Floats) -> tuple[list[float], list[float]]:
    """The lower ends of the intervals of Spearman's rho and Kendall's tau-b, and the upper ones."""
    found = _correlations(x, y, resampled=True)
    low, high = (
        [float(np.percentile(np.nan_to_num(values, nan=unknown), percent)) for values in found]
        for unknown, percent in ((-1.0, 2.5), (1.0, 97.5))
    )
    return low, high


def _draws(count: int, resampled: bool) -> Floats:
    """[draw, layer] how often each of ``count`` layers is in each draw."""
    return _resampled(count) if resampled else np.ones((1, count))


@cache
def _resampled(count: int) -> Floats:
    """[draw, layer] how often each of ``count`` layers is in each draw; the same draws for every pair."""
    chosen = np.random.default_rng(_SEED).integers(0, count, (RESAMPLES, count))
    drawn = np.zeros((RESAMPLES, count))
    np.add.at(drawn, (np.arange(RESAMPLES)[:, None], chosen), 1.0)
    return drawn


def _correlations(x: Floats, y: Floats, resampled: bool) -> tuple[Floats, Floats]:
    """[draw] Spearman's rho and Kendall's tau-b; NaN where one of the two has only one value.

    One draw has every layer once, unless layers are resampled.

    Not by scipy, whose functions take one draw at a time. From how often each layer was drawn the ranks in a
    draw are a product with the order of all pairs, and tau is a quadratic form in it.
    """
    one, other = (_ordered(values.tobytes(), resampled) for values in (x, y))
    drawn = _draws(len(x), resampled)
    rho = _normed((drawn * one.ranks * other.ranks).sum(axis=1), one.rank_square, other.rank_square)
    pairs = ((drawn @ (one.signs * other.signs)) * drawn).sum(axis=1)
    return rho, _normed(pairs, one.pairs, other.pairs)


@dataclass(frozen=True)
class _Ordered:
    """What one quantity gives to its correlations with all others, for each draw of layers.

    Args:
        signs: [layer, layer] the order of each pair.
        ranks: [draw, layer] centred ranks within each draw.
        rank_square, pairs: [draw] the quadratic forms of ranks and signs with themselves.
    """

    signs: Floats
    ranks: Floats
    rank_square: Floats
    pairs: Floats


@lru_cache(maxsize=_KEPT)
def _ordered(values: bytes, resampled: bool) -> _Ordered:
    """Order float64 ``values`` within each draw."""
    x = np.frombuffer(values)
    drawn = _draws(len(x), resampled)
    signs = np.sign(x[:, None] - x[None, :])
    # A layer's rank is how many are below it and half of those that equal it, itself included; and a half.
    ranks = drawn @ (0.5 - 0.5 * signs)
    ranks -= (drawn * ranks).sum(axis=1, keepdims=True) / drawn.sum(axis=1, keepdims=True)
    squares = (drawn * ranks * ranks).sum(axis=1)
    return _Ordered(signs, ranks, squares, ((drawn @ (signs**2)) * drawn).sum(axis=1))


def _normed(both: Floats, of_x: Floats, of_y: Floats) -> Floats:
    norm = np.sqrt(of_x * of_y)
    return np.divide(both, norm, out=np.full(len(norm), np.nan), where=norm > 0)


def _picks(proxy: str, task: str, layers: NDArray[np.int64], values: Floats, harm: Floats) -> Picks:
    count = max(1, round(PICKED_SHARE * len(layers)))
    picked, best = (np.argsort(order, kind="stable")[:count] for order in (values, harm))
    return Picks(
        proxy,
        task,
        layers=tuple(sorted(layers[picked].tolist())),
        cost=_mean(harm[picked]),
        best=tuple(sorted(layers[best].tolist())),
        best_cost=_mean(harm[best]),
        mean_cost=_mean(harm),
    )


def _mean(harm: Floats) -> float:
    """The mean; harms that cancel out give 0, not what rounding leaves of them."""
    mean = math.fsum(harm) / len(harm)
    return 0.0 if abs(mean) <= 1e-12 * np.abs(harm).max() else mean


def _picks_named(drops: Drops, picks: Sequence[Picks]) -> list[str]:
    """Which layers each proxy would remove, and what that costs on a task."""
    if not picks:
        return []
    first, words, harm = picks[0], proxies(), partial(spoken, decimals=drops.decimals)
    costs = "; ".join(
        f"{words[pick.proxy].words} would remove {layers_named(pick.layers)}, {harm(pick.cost)} each"
        for pick in picks
    )
    loss = "loss" if drops.task == CALIBRATION else f"{drops.words} lost"
    return [
        f"{drops.name}: of the {len(first.layers)} layers to remove first, one at a time, the cheapest "
        f"by measurement are {layers_named(first.best)} ({harm(first.best_cost)} each, in {loss}), and "
        f"layers drawn at random would cost {harm(first.mean_cost)}. {capital(costs)}."
    ]


def _mostly_noise(drops: Drops) -> str:
    """What a correlation with drops is worth that the items hardly show."""
    return (
        f"{drops.name}: {why_too_few(drops)}, so rank correlations with these drops, and the choice of the "
        "cheapest layers, are mostly noise."
    )


def _not_compared(task: str, reasons: dict[str, list[str]]) -> list[str]:
    """Which proxies have no rank correlation with a task's drops, and why: a sentence for each reason."""
    return [
        f"{task}: no rank correlation with {', '.join(words)}, as {reason}"
        f"{f' ({FEWEST_LAYERS} are needed)' if reason.startswith('only') else ''}."
        for reason, words in reasons.items()
    ]
