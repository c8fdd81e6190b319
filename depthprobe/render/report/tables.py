"""The tables of a report: full numbers for a CSV, and the same as text for a page or a paper."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pandas as pd

from depthprobe.catalogue import ANGULAR, GRADNORM, VARIANCE
from depthprobe.findings.captions import Caption
from depthprobe.findings.drops import ALPHA, Drops, p_text
from depthprobe.findings.findings import Findings
from depthprobe.findings.gradnorm import PARTS
from depthprobe.findings.layer_rows import LayerRows
from depthprobe.findings.scores import proxies, words_of
from depthprobe.findings.study import Study
from depthprobe.findings.trust import RESAMPLES
from depthprobe.findings.variance import BRANCHES
from depthprobe.findings.words import capital, counted, plain, significant, spans, spoken
from depthprobe.render.charts.kit.ticks import MINUS
from depthprobe.render.report.names import unique_names

NOTHING = "\N{EN DASH}"
# The head of a column where that is not its name.
_HEADS = {
    "removed": "layers removed",
    "pruned": "without",
    "baseline": "whole model",
    "p_adjusted": "p (Holm)",
    "docs": "items",
    "grad_norm": "whole block",
    "variance": "variance of x^(l+1)",
    "variance_without_first": "without first tokens",
    "variance_median": "median token",
    "rms": "RMS",
    "block_influence": "Block Influence",
    "proxy": "measurement",
    "spearman": "Spearman",
    "kendall": "Kendall",
    **dict.fromkeys(("ci_low", "spearman_low", "kendall_low"), "95% from"),
    **dict.fromkeys(("ci_high", "spearman_high", "kendall_high"), "95% to"),
    "harm": "mean harm each",
    "cheapest": "cheapest by measurement",
    "harm_of_cheapest": "their mean harm",
    "harm_of_all": "mean over all layers",
}
# Values that are further apart than this do not share one number of decimals.
_WIDEST_COLUMN = 1e4
_MOST_DECIMALS = 6
# Of fewer rows the columns of a paper's table are all kept.
_FEWEST_ROWS = 3
_KEPT = ("drop", "ci_low", "ci_high")


@dataclass(frozen=True)
class ReportTable:
    """One table of a report.

    Args:
        name: Of its files, without an ending.
        heading: Above it, a few words.
        caption: What a paper has to say of it.
        frame: Its numbers in full precision.
        heads: By column what stands above it; by default the column's name.
        folded: Whether a page shows it only on demand.
        decimals: By column how many its numbers have, where that is that of others; None for its own.
    """

    name: str
    heading: str
    caption: Caption
    frame: pd.DataFrame
    heads: Mapping[str, str] = field(default_factory=dict)
    folded: bool = False
    decimals: Mapping[str, int | None] = field(default_factory=dict)

    @property
    def head_texts(self) -> list[str]:
        """The heads of the columns."""
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
        columns = [_texts(self.frame[name], name, self.decimals.get(name)) for name in self.frame.columns]
        return [list(row) for row in zip(*columns, strict=True)]

    def for_paper(self) -> ReportTable:
        """The table without columns that hold one text in all rows, which its caption says instead.

        A drop stays with its interval, whatever it is: it is what the table is for.
        """
        texts, heads = self.texts, self.head_texts
        columns = list(self.frame.columns)
        same = [
            place
            for place, column in enumerate(columns)
            if column not in _KEPT and len(texts) >= _FEWEST_ROWS and len({row[place] for row in texts}) == 1
        ]
        if not same or len(same) == len(columns):
            return self
        said = ", ".join(f"{heads[place]} {texts[0][place]}" for place in same)
        frame = self.frame.drop(columns=[columns[place] for place in same])
        return replace(self, frame=frame, caption=Caption(self.caption, f"In every row: {said}."))

    @property
    def csv(self) -> bytes:
        """The table as CSV: full precision, no index, LF."""
        return self.frame.to_csv(index=False, lineterminator="\n").encode("utf-8", "replace")


def _texts(column: pd.Series, name: str, decimals: int | None = None) -> list[str]:
    """The cells of a column as text, numbers with as many decimals as show three digits of a typical one."""
    if pd.api.types.is_bool_dtype(column.dtype):
        return ["yes" if value else "no" for value in column]
    if pd.api.types.is_integer_dtype(column.dtype):
        return [f"{value:,}".replace("-", MINUS) for value in column]
    if not pd.api.types.is_float_dtype(column.dtype):
        return [NOTHING if value is None or value != value else plain(str(value)) for value in column]
    values = column.to_numpy(dtype="float64")
    known = np.isfinite(values)
    decimals = _decimals(values) if decimals is None else decimals
    write: Callable[[float], str]
    if name.startswith("p_"):
        write = p_text
    elif decimals is None:
        write = significant
    else:
        write = partial(spoken, decimals=decimals)
    return [
        write(float(value)).replace("-", MINUS) if there else NOTHING
        for value, there in zip(values, known, strict=True)
    ]


def _decimals(values: np.ndarray) -> int | None:
    """How many decimals the numbers of a column have; None where one number of decimals does not do."""
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    if not sizes.size or sizes.max() / sizes.min() > _WIDEST_COLUMN or sizes.max() >= 1e5:
        return None
    # Three digits of a typical value, and one of the smallest, which must not look like a zero.
    wanted = max(2 - _power(np.median(sizes)), -_power(sizes.min()))
    return int(np.clip(wanted, 0, _MOST_DECIMALS))


def _of_drops(drops: Drops) -> int:
    """How many decimals a drop and its ends have: those of the terminal, or more where a drop is small."""
    own = _decimals(drops.rows["drop"].to_numpy(dtype="float64"))
    return max(drops.decimals, own or 0)


def _power(value: float) -> int:
    """The power of ten at which a number begins: -3 for 0.004."""
    return math.floor(math.log10(value))


def tables_of(findings: Findings) -> list[ReportTable]:
    """Return the tables that the runs give, without those that compare proxies with drops."""
    study, found = findings.study, findings.study.found
    tables = [_layers(findings)]
    tables += [_blocks(study)] if ANGULAR.name in found else []
    names = unique_names(f"drops-{drops.task}" for drops in findings.drops)
    tables += [_drops(study, drops, name) for drops, name in zip(findings.drops, names, strict=True)]
    tables += [_other_tasks(findings)] if findings.others else []
    tables += [_gradnorm(study)] if GRADNORM.name in found else []
    tables += [_variance(study)] if VARIANCE.name in found else []
    for says in found.values():
        if isinstance(says, LayerRows):
            frame = pd.DataFrame({"layer": range(says.layers), **says.lines})
            shown = study.caption(f"{says.meaning} Layers are 0-based.", study.runs[says.probe.name])
            tables.append(ReportTable(says.probe.stem, capital(says.words), shown, frame))
    return tables


def trust_tables(findings: Findings) -> list[ReportTable]:
    """Return the rank correlations, and what each proxy would pick; none where nothing was compared."""
    if findings.trust.correlations.empty:
        return []
    return [_correlations(findings), _picks(findings)]


def _layers(findings: Findings) -> ReportTable:
    known = {name: score.words for name, score in proxies().items()}
    # What a figure shows as a factor on a logarithmic axis, a table holds as its logarithm.
    heads = {**known, "variance_growth": f"log of {known['variance_growth']}"}
    for drops in findings.drops:
        words = {"drop": drops.change, **{name: _HEADS[name] for name in ("ci_low", "ci_high", "p_adjusted")}}
        heads |= {f"{name}_{drops.task}": f"{head}, {plain(drops.task)}" for name, head in words.items()}
    what = (
        "Every quantity that was measured of a layer. Layers are 0-based; a drop is the metric without the "
        "layer minus that of the whole model."
    )
    if "variance_growth" in findings.by_layer:
        variances = findings.study.found.get(VARIANCE.name)
        of = "" if variances is None or variances.median is None else " Var is the median over tokens."
        what += f" Variance growth is given as the natural logarithm of Var(x^(l+1)) / Var(x^l).{of}"
    shown = findings.study.caption(what)
    decimals = {
        f"{name}_{drops.task}": _of_drops(drops)
        for drops in findings.drops
        for name in ("drop", "ci_low", "ci_high")
    }
    heading = "All quantities by layer"
    return ReportTable("layers", heading, shown, findings.by_layer, heads, decimals=decimals)


def _blocks(study: Study) -> ReportTable:
    frame = study.found[ANGULAR.name].removable[["n", "removed", "distance", "std", "samples"]]
    what = (
        "The best block to remove by angular distance, for every block size n: the n consecutive layers "
        "(0-based, inclusive) between whose ends the stream turns least, and that distance as a fraction of "
        "pi. The whole model is left out."
    )
    shown = study.caption(what, study.runs[ANGULAR.name])
    return ReportTable("best-blocks", "Best block of each size", shown, frame, _HEADS)


def _drops(study: Study, drops: Drops, name: str) -> ReportTable:
    flips = ["flips"] if drops.flips is not None else []
    columns = ["layer", "baseline", "pruned", "drop", "ci_low", "ci_high", "p_adjusted", *flips, "docs"]
    frame = drops.rows[columns].assign(detectable=drops.detected)
    task = plain(drops.task)
    each = f"each of {drops.covered}" if drops.covered else "each layer"
    worse = "lower" if drops.higher_is_better else "higher"
    what = (
        f"{task}: {drops.words} without {each} in turn, one at a time ({worse} is worse), with paired 95% "
        f"intervals, each for one layer alone, and p-values adjusted over {counted(len(frame), 'layer')} "
        f"(Holm); detectable: p < {ALPHA}."
    )
    pairs = zip(study.sweeps, study.swept, strict=True)
    shown = study.caption(what, next(run for run, says in pairs if drops.task in says.every), task=drops.task)
    heads = _HEADS | {"drop": drops.change, "docs": f"{drops.noun}s"}
    alike = _of_drops(drops)
    decimals = dict.fromkeys(("drop", "ci_low", "ci_high"), alike)
    decimals |= dict.fromkeys(("baseline", "pruned"), max(3, alike))
    return ReportTable(name, f"Measured {drops.change}: {task}", shown, frame, heads, decimals=decimals)


def _other_tasks(findings: Findings) -> ReportTable:
    """One table for all tasks without one of their own: a column for each."""
    columns = {"layer": np.arange(findings.layers)}
    for drops in findings.others:
        change = np.full(findings.layers, np.nan)
        change[drops.rows["layer"].to_numpy()] = drops.rows["drop"]
        columns[drops.task] = change
    frame = pd.DataFrame(columns)
    count = len(findings.others)
    what = (
        f"The metric without each layer minus that of the whole model, on {count} tasks: the members of "
        "groups, and those beyond the first ones. Intervals and p-values are in prune_sweep.csv."
    )
    heads = {drops.task: plain(drops.task) for drops in findings.others}
    shown = findings.study.caption(what)
    return ReportTable("drops-other-tasks", f"Drops on {count} other tasks", shown, frame, heads, folded=True)


def _gradnorm(study: Study) -> ReportTable:
    norms = study.found[GRADNORM.name]
    columns = {"layer": range(norms.layers), "grad_norm": norms.norm, "share": norms.share, **norms.parts}
    what = (
        "L2 norm over the parameters of each block of the gradient of the mean loss in nats, the share of a "
        "block's squared norm in the sum over the blocks, and the norms over its parts."
    )
    shown = study.caption(what, study.runs[GRADNORM.name])
    return ReportTable("gradnorm", "Gradient norms", shown, pd.DataFrame(columns), _HEADS | PARTS)


def _variance(study: Study) -> ReportTable:
    found = study.found[VARIANCE.name]
    robust = {"variance_without_first": found.without_first, "variance_median": found.median}
    columns = {
        "layer": range(found.layers),
        "variance": found.stream[1:],
        **{name: values[1:] for name, values in robust.items() if values is not None},
        "rms": found.rms[1:],
        **found.branches,
    }
    frame = pd.DataFrame(columns)
    if found.influence is not None:
        frame = frame.assign(**found.influence[["block_influence", "contribution_ratio"]])
    what = (
        "Variance and root mean square of the stream behind each layer, x^(l+1), before the final norm, the "
        "variance of what its branches add, and how much the layer changes the stream."
    )
    heads = _HEADS | {name: f"added by {words}" for name, words in BRANCHES.items()}
    shown = study.caption(what, study.runs[VARIANCE.name])
    return ReportTable("variance", "Variance of the stream", shown, frame, heads)


def _correlations(findings: Findings) -> ReportTable:
    what = (
        "Rank correlation over layers between each cheap measurement and the measured harm of removing the "
        "layer (1: it orders the layers as the measured harm does; 0: it says nothing), with 95% percentile "
        f"intervals over {RESAMPLES:,} resamples of the layers. Layers are not independent draws: the "
        "intervals say how much a correlation leans on single layers."
    )
    frame = findings.trust.correlations
    frame = frame.assign(proxy=[plain(words_of(proxy)) for proxy in frame["proxy"]])
    shown = findings.study.caption(what)
    return ReportTable("trust", "Rank correlation with the measured drop", shown, frame, _HEADS)


def _picks(findings: Findings) -> ReportTable:
    rows = [
        {
            "task": pick.task,
            "proxy": plain(words_of(pick.proxy)),
            "layers": spans(pick.layers),
            "harm": pick.cost,
            "cheapest": spans(pick.best),
            "harm_of_cheapest": pick.best_cost,
            "harm_of_all": pick.mean_cost,
        }
        for pick in findings.trust.picks
    ]
    what = (
        "The quarter of the layers that each cheap measurement would remove first, and the mean measured "
        "harm of removing one of them alone, in the unit of the task's metric; beside it the cheapest layers "
        "by measurement and the mean over all layers. Harm does not add up over layers."
    )
    heads = _HEADS | {"layers": "would remove"}
    shown = findings.study.caption(what)
    return ReportTable("picks", "What each measurement would remove", shown, pd.DataFrame(rows), heads)
