"""The tables that hold the cheap measurements against the measured drops."""

from __future__ import annotations

import pandas as pd

from depthprobe.findings.captions import caption
from depthprobe.findings.study import PROXIES, Study
from depthprobe.findings.trust import RESAMPLES, what_proxies_pick
from depthprobe.findings.words import plain, spans
from depthprobe.render.report.sheets import Sheet


def trust_sheets(study: Study, trust: pd.DataFrame) -> list[Sheet]:
    """The rank correlations, and what each proxy would pick; none where there is nothing to compare.

    Args:
        study: The runs.
        trust: Their correlations, as :func:`depthprobe.findings.trust.trust_frame` gives them.

    Raises:
        RunError: if a table of a run cannot be used.
    """
    return [*([] if trust.empty else [_correlations(study, trust)]), *_picks(study)]


def _correlations(study: Study, frame: pd.DataFrame) -> Sheet:
    what = (
        "Rank correlation over layers between each cheap measurement and the measured harm of removing the "
        "layer (1: it orders the layers as the measured harm does; 0: it says nothing), with 95% percentile "
        f"intervals over {RESAMPLES:,} resamples of the layers. Layers are no independent draws: the "
        "intervals say how much a correlation leans on single layers."
    )
    heads = {
        "proxy": "measurement",
        "spearman": "Spearman",
        "spearman_low": "95% from",
        "spearman_high": "95% to",
        "kendall": "Kendall",
        "kendall_low": "95% from",
        "kendall_high": "95% to",
    }
    shown = frame.assign(proxy=[_words(proxy) for proxy in frame["proxy"]])
    return Sheet(
        "trust", "Rank correlation with the measured drop", caption(what, study.all_runs), shown, heads
    )


def _picks(study: Study) -> list[Sheet]:
    rows = [
        (
            pick.task,
            _words(pick.proxy),
            spans(pick.layers),
            pick.cost,
            spans(pick.best),
            pick.best_cost,
            pick.mean_cost,
        )
        for drops in study.drops
        for pick in what_proxies_pick(study, drops)
    ]
    if not rows:
        return []
    columns = ["task", "proxy", "layers", "harm", "cheapest", "harm_of_cheapest", "harm_of_all"]
    what = (
        "The quarter of the layers that each cheap measurement would remove first, and the mean measured "
        "harm of removing one of them alone, in the unit of the task's metric; beside it the cheapest layers "
        "by measurement and the mean over all layers. Harm does not add up over layers."
    )
    heads = {
        "proxy": "measurement",
        "layers": "would remove",
        "harm": "mean harm each",
        "cheapest": "cheapest by measurement",
        "harm_of_cheapest": "their mean harm",
        "harm_of_all": "mean over all layers",
    }
    frame = pd.DataFrame(rows, columns=columns)
    return [Sheet("picks", "What each measurement would remove", caption(what, study.all_runs), frame, heads)]


def _words(proxy: str) -> str:
    return plain(PROXIES.get(proxy, proxy))
