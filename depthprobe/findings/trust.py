"""How far the cheap measures can be trusted: each of them against the measured drop, layer by layer.

A proxy is useful where it orders layers as the measured harm does: what matters little by the proxy costs
little to remove. That is what rank correlations measure, and all that is claimed of proxies here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from depthprobe.declaring import Score
from depthprobe.findings.drops import CALIBRATION, Drops
from depthprobe.findings.scores import proxies
from depthprobe.findings.words import capital, counted, layers_named, spoken

# With fewer layers a rank correlation says nothing: of five, one order in sixty is perfect by chance.
FEWEST_LAYERS = 6
RESAMPLES = 2000
# Of the layers that a proxy would remove, such a share is looked at.
PICKED_SHARE = 0.25
_SEED = 0

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
            within a task. Columns task, metric, proxy (its column in the table with one row a layer),
            spearman, kendall (tau-b), each with low and high, and layers, how many went in. No row for what
            has no correlation.
        picks: What each proxy would remove first, a quarter of the layers, against the cheapest by
            measurement. These are chosen by the very drops that they are judged by, which flatters them a
            little.
        sentences: On each task: which proxy would have picked which layers, and what removing them costs;
            then which proxies cannot be compared with it and why.

    1 is a proxy that orders the layers exactly by what their removal costs, 0 one that says nothing, -1 one
    that has them the wrong way round. Harm is the drop with its sign turned so that worse is larger.
    Intervals are 95% percentile intervals over resampled layers (with replacement, 2000 times, the same for
    all). They say how much a correlation leans on single layers. Layers of one model are no independent
    draws, and the error of each measured drop is in them only as far as it shows in the drops: another sample
    of items, or another model, may differ by more. A resample in which one of the two has only one value
    could have any correlation, so it counts beyond both ends of an interval.
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
    """Return how far each proxy orders the layers as the measured drops do.

    Args:
        by_layer: One row a layer, a column a proxy.
        measured: The drops of each task.
    """
    rows: list[tuple[object, ...]] = []
    picks: list[Picks] = []
    sentences: list[str] = []
    for drops in measured:
        of_task: list[Picks] = []
        correlated: list[tuple[object, ...]] = []
        reasons: dict[str, list[str]] = {}
        for proxy, score in proxies().items():
            if proxy not in by_layer or proxy == f"drop_{drops.task}":
                continue
            layers, values, harm = _paired(by_layer[proxy].to_numpy(dtype="float64"), score, drops)
            # What is the same in every layer, or costs the same, has no order and picks none.
            reason = _why_not(values, harm)
            if reason:
                reasons.setdefault(reason, []).append(score.words)
                continue
            correlated.append((drops.task, drops.metric, proxy, *_correlation(values, harm), len(values)))
            of_task.append(_picks(proxy, drops.task, layers, values, harm))
        rows += sorted(correlated, key=lambda row: -row[COLUMNS.index("spearman")])  # type: ignore[operator]
        picks += of_task
        sentences += [*_picks_named(drops, of_task), *_not_compared(drops.task, reasons)]
    return Trust(pd.DataFrame(rows, columns=list(COLUMNS)), tuple(picks), tuple(sentences))


def _paired(
    values: NDArray[np.float64], score: Score, drops: Drops
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """The layers of which proxy and harm are both known, and these two; a small value can be spared."""
    layers = drops.rows["layer"].to_numpy()
    values = values[layers] if score.spared == "small" else -values[layers]
    known = np.isfinite(values)
    return layers[known], values[known], drops.harm[known]


def _why_not(values: NDArray[np.float64], harm: NDArray[np.float64]) -> str:
    """Why a proxy and a harm have no rank correlation, as the end of a sentence; empty if they have one."""
    if len(values) < FEWEST_LAYERS:
        return f"only {counted(len(values), 'layer')} {'has' if len(values) == 1 else 'have'} both"
    if _constant(values):
        return "the measurement is the same in every layer"
    return "the measured drop is the same in every layer" if _constant(harm) else ""


def _constant(values: NDArray[np.float64]) -> bool:
    """Whether the values are equal; rounding errors are no difference."""
    return bool(np.ptp(values) <= 1e-12 * np.abs(values).max())


def _correlation(values: NDArray[np.float64], harm: NDArray[np.float64]) -> tuple[float, ...]:
    """Spearman's rho, Kendall's tau-b, each with the ends of its interval."""
    low, high = _intervals(values, harm)
    rho, tau = (float(found[0]) for found in _correlations(values, harm, np.ones((1, len(values)))))
    return rho, low[0], high[0], tau, low[1], high[1]


def _intervals(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[list[float], list[float]]:
    """The ends of the intervals of Spearman's rho and Kendall's tau-b: two lists of two."""
    found = _correlations(x, y, _resampled(len(x)))
    low, high = ([np.nan_to_num(values, nan=unknown) for values in found] for unknown in (-1.0, 1.0))
    return [float(np.percentile(values, 2.5)) for values in low], [
        float(np.percentile(values, 97.5)) for values in high
    ]


@cache
def _resampled(count: int) -> NDArray[np.float64]:
    """[draw, layer] how often each of so many layers is in each draw; the same draws for every pair."""
    chosen = np.random.default_rng(_SEED).integers(0, count, (RESAMPLES, count))
    drawn = np.zeros((RESAMPLES, count))
    np.add.at(drawn, (np.arange(RESAMPLES)[:, None], chosen), 1.0)
    return drawn


def _correlations(
    x: NDArray[np.float64], y: NDArray[np.float64], drawn: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Spearman's rho and Kendall's tau-b of every draw; NaN where one of the two has only one value.

    Not by scipy, whose functions take one draw at a time. From how often each layer was drawn the ranks in a
    draw are a product with the order of all pairs, and tau is a quadratic form in it.

    Args:
        x, y: [layer] the two.
        drawn: [draw, layer] how often each layer is in a draw.
    """
    signs = [np.sign(values[:, None] - values[None, :]) for values in (x, y)]
    # A layer's rank is how many are below it and half of those that equal it, itself included; and a half.
    x_ranks, y_ranks = (drawn @ (0.5 - 0.5 * sign) for sign in signs)
    rho = _pearson(x_ranks, y_ranks, drawn)
    agree, x_pairs, y_pairs = (
        ((drawn @ pairs) * drawn).sum(axis=1) for pairs in (signs[0] * signs[1], signs[0] ** 2, signs[1] ** 2)
    )
    norm = np.sqrt(x_pairs * y_pairs)
    return rho, np.divide(agree, norm, out=np.full(len(drawn), np.nan), where=norm > 0)


def _pearson(
    x: NDArray[np.float64], y: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weighted correlation of Pearson row by row; NaN where a row has only one value."""
    total = weights.sum(axis=1, keepdims=True)
    x, y = (values - (weights * values).sum(axis=1, keepdims=True) / total for values in (x, y))
    both, of_x, of_y = ((weights * product).sum(axis=1) for product in (x * y, x * x, y * y))
    norm = np.sqrt(of_x * of_y)
    return np.divide(both, norm, out=np.full(len(x), np.nan), where=norm > 0)


def _picks(
    proxy: str,
    task: str,
    layers: NDArray[np.int64],
    values: NDArray[np.float64],
    harm: NDArray[np.float64],
) -> Picks:
    count = max(1, round(PICKED_SHARE * len(layers)))
    picked = np.argsort(values, kind="stable")[:count]
    best = np.argsort(harm, kind="stable")[:count]
    return Picks(
        proxy,
        task,
        tuple(sorted(layers[picked].tolist())),
        float(harm[picked].mean()),
        tuple(sorted(layers[best].tolist())),
        float(harm[best].mean()),
        float(harm.mean()),
    )


def _picks_named(drops: Drops, picks: Sequence[Picks]) -> list[str]:
    """Which layers each proxy would remove, and what that costs on a task."""
    if not picks:
        return []
    first, words = picks[0], proxies()

    def harm(value: float) -> str:
        return spoken(value, drops.decimals)

    costs = "; ".join(
        f"{words[pick.proxy].words} would remove {layers_named(pick.layers)}, {harm(pick.cost)} each"
        for pick in picks
    )
    loss = "loss" if drops.task == CALIBRATION else f"{drops.words} lost"
    return [
        f"{drops.task}: of the {len(first.layers)} layers to remove first, one at a time, the cheapest "
        f"by measurement are {layers_named(first.best)} ({harm(first.best_cost)} each, in {loss}), and "
        f"layers drawn at random would cost {harm(first.mean_cost)}. {capital(costs)}."
    ]


def _not_compared(task: str, reasons: dict[str, list[str]]) -> list[str]:
    """Which proxies have no rank correlation with a task's drops, and why: a sentence a reason."""
    return [
        f"{task}: no rank correlation with {', '.join(words)}, as {reason}"
        f"{f' ({FEWEST_LAYERS} are needed)' if reason.startswith('only') else ''}."
        for reason, words in reasons.items()
    ]
