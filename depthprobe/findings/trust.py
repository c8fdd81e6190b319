"""How far the cheap measures can be trusted: each of them against the measured drop, layer by layer.

A proxy is useful where it orders layers as the measured harm does: what matters little by the proxy costs
little to remove. That is what rank correlations measure, and all that is claimed of proxies here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from depthprobe.findings.drops import CALIBRATION, Drops
from depthprobe.findings.study import PROXIES, Study
from depthprobe.findings.words import counted, layers_named, spoken

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


def trust_frame(study: Study) -> pd.DataFrame:
    """The rank correlation of every proxy with the measured harm on every task, best first within a task.

    1 is a proxy that orders the layers exactly by what their removal costs, 0 one that says nothing, -1 one
    that has them the wrong way round. Harm is the drop with its sign turned so that worse is larger.
    Intervals are 95% percentile intervals over resampled layers (with replacement, 2000 times, the same for
    all). They say how much a correlation leans on single layers. Layers of one model are no independent
    draws, and the error of each measured drop is in them only as far as it shows in the drops: another sample
    of items, or another model, may differ by more. A resample in which one of the two has only one value
    could have any correlation, so it counts beyond both ends of an interval.

    Returns:
        Columns task, metric, proxy (a key of PROXIES), spearman, kendall (tau-b), each with low and high, and
        layers, how many went in. No row for what has no correlation: fewer than :data:`FEWEST_LAYERS` layers
        with both, or one value in all of them; :func:`trust_reading` says so.

    Raises:
        RunError: if a table cannot be used.
    """
    frame = study.by_layer
    rows = []
    for drops in study.drops:
        for proxy in PROXIES:
            if proxy not in frame or proxy == f"drop_{drops.task}":
                continue
            _, values, harm = _paired(frame, proxy, drops)
            if _why_not(values, harm):
                continue
            low, high = _intervals(values, harm)
            rho, tau = (float(found[0]) for found in _correlations(values, harm, np.ones((1, len(values)))))
            numbers = (rho, low[0], high[0], tau, low[1], high[1], len(values))
            rows.append((drops.task, drops.metric, proxy, *numbers))
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    order = {drops.task: number for number, drops in enumerate(study.drops)}
    keys = table.assign(place=table["task"].map(order)).sort_values(
        ["place", "spearman"], ascending=[True, False], kind="stable"
    )
    return table.loc[keys.index].reset_index(drop=True)


def _paired(
    frame: pd.DataFrame, proxy: str, drops: Drops
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """The layers of which proxy and harm are both known, and these two."""
    layers = drops.rows["layer"].to_numpy()
    values = frame[proxy].to_numpy(dtype="float64")[layers]
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


@dataclass(frozen=True)
class Picks:
    """What one proxy would remove, and what that costs by measurement.

    Args:
        proxy: A key of PROXIES.
        task: The task the cost is measured on.
        layers: The layers that the proxy gives the smallest values, ascending.
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


def what_proxies_pick(study: Study, drops: Drops) -> list[Picks]:
    """What each proxy would remove first, a quarter of the layers, against the cheapest by measurement.

    The cheapest are chosen by the very drops that they are judged by, which flatters them a little.

    Args:
        study: The runs.
        drops: The drops of one task.

    Raises:
        RunError: if a table cannot be used.
    """
    frame = study.by_layer
    found = []
    for proxy in PROXIES:
        if proxy not in frame or proxy == f"drop_{drops.task}":
            continue
        layers, values, harm = _paired(frame, proxy, drops)
        # What is the same in every layer, or costs the same, picks none.
        if _why_not(values, harm):
            continue
        count = max(1, round(PICKED_SHARE * len(layers)))
        picked = np.argsort(values, kind="stable")[:count]
        best = np.argsort(harm, kind="stable")[:count]
        found.append(
            Picks(
                proxy,
                drops.task,
                tuple(sorted(layers[picked].tolist())),
                float(harm[picked].mean()),
                tuple(sorted(layers[best].tolist())),
                float(harm[best].mean()),
                float(harm.mean()),
            )
        )
    return found


def trust_reading(study: Study) -> list[str]:
    """Sentences on each task: which proxy would have picked which layers, and what removing them costs.

    Then, where there is a sweep, which proxies cannot be compared with it and why.

    Raises:
        RunError: if a table cannot be used.
    """
    said = []
    for drops in study.drops:
        picks = what_proxies_pick(study, drops)
        if not picks:
            said += _not_compared(study, drops)
            continue
        first = picks[0]

        def harm(value: float, decimals: int = drops.decimals) -> str:
            return spoken(value, decimals)

        costs = "; ".join(
            f"{PROXIES[pick.proxy]} would remove {layers_named(pick.layers)}, {harm(pick.cost)} each"
            for pick in picks
        )
        loss = "loss" if drops.task == CALIBRATION else f"{drops.words} lost"
        said.append(
            f"{drops.task}: of the {len(first.layers)} layers to remove first, one at a time, the cheapest "
            f"by measurement are {layers_named(first.best)} ({harm(first.best_cost)} each, in {loss}), and "
            f"layers drawn at random would cost {harm(first.mean_cost)}. {costs[0].upper()}{costs[1:]}."
        )
        said += _not_compared(study, drops)
    return said


def _not_compared(study: Study, drops: Drops) -> list[str]:
    """Which proxies have no rank correlation with a task's drops, and why: a sentence a reason."""
    frame = study.by_layer
    by_reason: dict[str, list[str]] = {}
    for proxy, words in PROXIES.items():
        if proxy in frame and proxy != f"drop_{drops.task}":
            _, values, harm = _paired(frame, proxy, drops)
            reason = _why_not(values, harm)
            if reason:
                by_reason.setdefault(reason, []).append(words)
    return [
        f"{drops.task}: no rank correlation with {', '.join(words)}, as {reason}"
        f"{f' ({FEWEST_LAYERS} are needed)' if reason.startswith('only') else ''}."
        for reason, words in by_reason.items()
    ]
