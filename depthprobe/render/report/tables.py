"""The tables of a report: full numbers for a CSV, and the same as text for a page or a paper."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pandas as pd

from depthprobe.catalogue import ANGULAR, GRADNORM, VARIANCE
from depthprobe.findings.captions import caption
from depthprobe.findings.drops import ALPHA, Drops, p_text
from depthprobe.findings.findings import Findings
from depthprobe.findings.gradnorm import PARTS
from depthprobe.findings.layer_rows import LayerRows
from depthprobe.findings.scores import proxies, words_of
from depthprobe.findings.trust import RESAMPLES
from depthprobe.findings.variance import BRANCHES
from depthprobe.findings.words import capital, plain, significant, spans, spoken
from depthprobe.render.charts.kit.ticks import MINUS
from depthprobe.render.report.names import unique_names

NOTHING = "\N{EN DASH}"
# Values that are further apart than this do not share one number of decimals.
_WIDEST_COLUMN = 1e4
_MOST_DECIMALS = 6


@dataclass(frozen=True)
class ReportTable:
    """One table of a report.

    Args:
        name: Of its files, without an ending.
        heading: Above it, a few words.
        caption: What a paper has to say of it.
        frame: Its numbers in full precision.
        heads: By column what stands above it; by default the column's name.
    """

    name: str
    heading: str
    caption: str
    frame: pd.DataFrame
    heads: Mapping[str, str] = field(default_factory=dict)

    @property
    def head_texts(self) -> list[str]:
        """What stands above the columns."""
        return [self.heads.get(column, column.replace("_", " ")) for column in self.frame.columns]

    @property
    def numeric(self) -> list[bool]:
        """By column, whether it holds numbers."""
        return [
            pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype)
            for dtype in self.frame.dtypes
        ]

    @property
    def texts(self) -> list[list[str]]:
        """The cells as text, row by row; an en dash for what is not known."""
        columns = [_texts(self.frame[name], name) for name in self.frame.columns]
        return [list(row) for row in zip(*columns, strict=True)]

    @property
    def csv(self) -> bytes:
        """The table as CSV: full precision, no index, LF."""
        return self.frame.to_csv(index=False, lineterminator="\n").encode("utf-8", "replace")


def _texts(column: pd.Series, name: str) -> list[str]:
    """The cells of a column as text, numbers with as many decimals as show three digits of a typical one."""
    if pd.api.types.is_bool_dtype(column.dtype):
        return ["yes" if value else "no" for value in column]
    if pd.api.types.is_integer_dtype(column.dtype):
        return [f"{value:,}".replace("-", MINUS) for value in column]
    if not pd.api.types.is_float_dtype(column.dtype):
        return [NOTHING if value is None or value != value else plain(str(value)) for value in column]
    values = column.to_numpy(dtype="float64")
    known = np.isfinite(values)
    sizes = np.abs(values[known & (values != 0)])
    write: Callable[[float], str]
    if name.startswith("p_"):
        write = p_text
    elif not sizes.size or sizes.max() / sizes.min() > _WIDEST_COLUMN or sizes.max() >= 1e5:
        write = significant
    else:
        # Three digits of a typical value, and one of the smallest, which must not look like a zero.
        wanted = max(2 - _power(np.median(sizes)), -_power(sizes.min()))
        decimals = int(np.clip(wanted, 0, _MOST_DECIMALS))
        write = partial(spoken, decimals=decimals)

    return [
        write(float(value)).replace("-", MINUS) if there else NOTHING
        for value, there in zip(values, known, strict=True)
    ]


def _power(value: float) -> int:
    """The power of ten at which a number begins: -3 for 0.004."""
    return math.floor(math.log10(value))


def tables_of(findings: Findings) -> list[ReportTable]:
    """Return the tables that the runs give, without those that compare proxies with drops."""
    found = findings.study.found
    tables = [_layers(findings)]
    tables += [_blocks(findings)] if ANGULAR.name in found else []
    names = unique_names([f"drops-{drops.task}" for drops in findings.drops])
    tables += [_drops(findings, drops, name) for drops, name in zip(findings.drops, names, strict=True)]
    tables += [_gradnorm(findings)] if GRADNORM.name in found else []
    tables += [_variance(findings)] if VARIANCE.name in found else []
    tables += [_layer_rows(findings, says) for says in found.values() if isinstance(says, LayerRows)]
    return tables


def trust_tables(findings: Findings) -> list[ReportTable]:
    """Return the rank correlations, and what each proxy would pick; none where nothing was compared."""
    if findings.trust.correlations.empty:
        return []
    return [_correlations(findings), _picks(findings)]


def _layers(findings: Findings) -> ReportTable:
    frame = findings.by_layer
    known = {name: score.words for name, score in proxies().items()}
    # What a figure shows as a factor on a logarithmic axis, a table holds as its logarithm.
    heads = {"layer": "layer", **known, "variance_growth": f"log of {known['variance_growth']}"}
    for drops in findings.drops:
        task = plain(drops.task)
        heads |= {
            f"drop_{drops.task}": f"{drops.change}, {task}",
            f"ci_low_{drops.task}": f"95% from, {task}",
            f"ci_high_{drops.task}": f"95% to, {task}",
            f"p_adjusted_{drops.task}": f"p (Holm), {task}",
        }
    what = (
        "Every quantity that was measured of a layer. Layers are 0-based; a drop is the metric without the "
        "layer minus that of the whole model."
    )
    if "variance_growth" in frame:
        what += " Variance growth is given as the natural logarithm of Var(x^(l+1)) / Var(x^l)."
    return ReportTable("layers", "All quantities by layer", _of_all(findings, what), frame, heads)


def _blocks(findings: Findings) -> ReportTable:
    run, found = findings.study.runs[ANGULAR.name], findings.study.found[ANGULAR.name]
    frame = found.best[["n", "removed", "distance", "std", "samples"]]
    what = (
        "The best block to remove by angular distance, for every block size n: the n consecutive layers "
        "(0-based, inclusive) between whose ends the stream turns least, and that distance as a fraction of "
        "pi."
    )
    heads = {"removed": "layers removed"}
    return ReportTable("best-blocks", "Best block of each size", caption(what, [run]), frame, heads)


def _drops(findings: Findings, drops: Drops, name: str) -> ReportTable:
    rows = drops.rows
    frame = rows[["layer", "baseline", "pruned", "drop", "ci_low", "ci_high", "p_adjusted", "flips", "docs"]]
    if drops.flips is None:
        frame = frame.drop(columns="flips")
    frame = frame.assign(detectable=drops.detected)
    task = plain(drops.task)
    worse = "lower" if drops.higher_is_better else "higher"
    what = (
        f"{task}: {drops.words} without each layer in turn, one at a time ({worse} is worse), with paired "
        f"95% intervals and p-values adjusted over {len(rows)} layers (Holm); detectable: p < {ALPHA}."
    )
    heads = {
        "pruned": "without",
        "baseline": "whole model",
        "drop": drops.change,
        "ci_low": "95% from",
        "ci_high": "95% to",
        "p_adjusted": "p (Holm)",
        "docs": "items",
    }
    study = findings.study
    runs = [run for run, says in zip(study.sweeps, study.swept, strict=True) if drops.task in says.every]
    return ReportTable(name, f"Measured {drops.change}: {task}", caption(what, runs[:1]), frame, heads)


def _gradnorm(findings: Findings) -> ReportTable:
    run, norms = findings.study.runs[GRADNORM.name], findings.study.found[GRADNORM.name]
    columns = {"layer": range(len(norms.norm)), "grad_norm": norms.norm, "share": norms.share, **norms.parts}
    heads = {"grad_norm": "whole block", **PARTS}
    what = (
        "L2 norm over the parameters of each block of the gradient of the mean loss in nats, the share of a "
        "block's squared norm in the sum over the blocks, and the norms over its parts."
    )
    return ReportTable("gradnorm", "Gradient norms", caption(what, [run]), pd.DataFrame(columns), heads)


def _variance(findings: Findings) -> ReportTable:
    run, found = findings.study.runs[VARIANCE.name], findings.study.found[VARIANCE.name]
    columns: dict[str, Sequence[float] | np.ndarray] = {
        "layer": range(found.layers),
        "variance": found.stream[1:],
        "rms": found.rms[1:],
        **found.branches,
    }
    if found.influence is not None:
        names = ("block_influence", "contribution_ratio")
        columns |= {name: found.influence[name].to_numpy() for name in names}
    heads = {
        "variance": "variance of x^(l+1)",
        "rms": "RMS",
        **{name: f"added by {words}" for name, words in BRANCHES.items()},
        "block_influence": "Block Influence",
    }
    what = (
        "Variance and root mean square of the stream behind each layer, x^(l+1), before the final norm, the "
        "variance of what its branches add, and how much the layer changes the stream."
    )
    return ReportTable(
        "variance", "Variance of the stream", caption(what, [run]), pd.DataFrame(columns), heads
    )


def _layer_rows(findings: Findings, found: LayerRows) -> ReportTable:
    """The table of a probe without one of its own: its quantity, a row a layer."""
    run = findings.study.runs[found.probe.name]
    frame = pd.DataFrame({"layer": range(found.layers), **found.lines})
    what = f"{found.meaning} Layers are 0-based."
    return ReportTable(found.probe.stem, capital(found.words), caption(what, [run]), frame)


def _of_all(findings: Findings, what: str) -> str:
    return caption(what, findings.study.all_runs)


def _correlations(findings: Findings) -> ReportTable:
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
    frame = findings.trust.correlations
    shown = frame.assign(proxy=[plain(words_of(proxy)) for proxy in frame["proxy"]])
    return ReportTable(
        "trust",
        "Rank correlation with the measured drop",
        _of_all(findings, what),
        shown,
        heads,
    )


def _picks(findings: Findings) -> ReportTable:
    rows = [
        (
            pick.task,
            plain(words_of(pick.proxy)),
            spans(pick.layers),
            pick.cost,
            spans(pick.best),
            pick.best_cost,
            pick.mean_cost,
        )
        for pick in findings.trust.picks
    ]
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
    return ReportTable("picks", "What each measurement would remove", _of_all(findings, what), frame, heads)
