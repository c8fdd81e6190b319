"""The tables of a report: full numbers for a CSV, and the same as text for a page or a paper."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pandas as pd

from depthprobe.findings.angular import best_blocks
from depthprobe.findings.captions import caption
from depthprobe.findings.drops import ALPHA, Drops, p_text
from depthprobe.findings.gradnorm import PARTS, grad_norms
from depthprobe.findings.study import ANGULAR, GRADNORM, PROXIES, VARIANCE, Study
from depthprobe.findings.variance import BRANCHES, INFLUENCE_STEM, influences, variances
from depthprobe.findings.words import significant, spoken
from depthprobe.render.charts.kit.ticks import MINUS
from depthprobe.render.report.escapes import plain

NOTHING = "\N{EN DASH}"
# Values that are further apart than this do not share one number of decimals.
_WIDEST_COLUMN = 1e4
_MOST_DECIMALS = 6


@dataclass(frozen=True)
class Sheet:
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


def sheets_of(study: Study) -> list[Sheet]:
    """The tables that the runs of a study give, without those that compare proxies with drops.

    Raises:
        RunError: if a table of a run cannot be used.
    """
    found = [_layers(study)]
    if ANGULAR in study.runs:
        found.append(_blocks(study))
    names = unique_names([f"drops-{drops.task}" for drops in study.drops])
    found += [_drops(study, drops, name) for drops, name in zip(study.drops, names, strict=True)]
    if GRADNORM in study.runs:
        found.append(_gradnorm(study))
    if VARIANCE in study.runs:
        found.append(_variance(study))
    return found


def unique_names(names: Iterable[str]) -> list[str]:
    """The names in letters, digits and ``._-``, no two of them equal, also where case does not count."""
    taken: list[str] = []
    for name in names:
        safe = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "-" for c in name)[:80].strip("-")
        tried, number = safe or "table", 1
        while tried.lower() in (other.lower() for other in taken):
            number += 1
            tried = f"{safe}-{number}"
        taken.append(tried)
    return taken


def _layers(study: Study) -> Sheet:
    frame = study.by_layer
    # What a figure shows as a factor on a logarithmic axis, a table holds as its logarithm.
    heads = {"layer": "layer", **PROXIES, "variance_growth": f"log of {PROXIES['variance_growth']}"}
    for drops in study.drops:
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
    return Sheet("layers", "All quantities by layer", caption(what, study.all_runs), frame, heads)


def _blocks(study: Study) -> Sheet:
    run = study.runs[ANGULAR]
    frame = best_blocks(run.tables["angular"])[["n", "removed", "distance", "std", "samples"]]
    what = (
        "The best block to remove by angular distance, for every block size n: the n consecutive layers "
        "(0-based, inclusive) between whose ends the stream turns least, and that distance as a fraction of "
        "pi."
    )
    heads = {"removed": "layers removed"}
    return Sheet("best-blocks", "Best block of each size", caption(what, [run]), frame, heads)


def _drops(study: Study, drops: Drops, name: str) -> Sheet:
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
    runs = [run for run in study.sweeps if drops.task in set(run.tables["prune_sweep"]["task"])]
    return Sheet(name, f"Measured {drops.change}: {task}", caption(what, runs[:1]), frame, heads)


def _gradnorm(study: Study) -> Sheet:
    run = study.runs[GRADNORM]
    norms = grad_norms(run.tables[GRADNORM])
    columns = {"layer": range(len(norms.norm)), "grad_norm": norms.norm, "share": norms.share, **norms.parts}
    heads = {"grad_norm": "whole block", **PARTS}
    what = (
        "L2 norm over the parameters of each block of the gradient of the mean loss in nats, the share of a "
        "block's squared norm in the sum over the blocks, and the norms over its parts."
    )
    return Sheet("gradnorm", "Gradient norms", caption(what, [run]), pd.DataFrame(columns), heads)


def _variance(study: Study) -> Sheet:
    run = study.runs[VARIANCE]
    found = variances(run.tables[VARIANCE])
    layers = len(found.stream) - 1
    columns: dict[str, Sequence[float] | np.ndarray] = {
        "layer": range(layers),
        "variance": found.stream[1:],
        "rms": found.rms[1:],
        **found.branches,
    }
    if INFLUENCE_STEM in run.tables:
        influence = influences(run.tables[INFLUENCE_STEM], layers)
        columns |= {name: influence[name].to_numpy() for name in ("block_influence", "contribution_ratio")}
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
    return Sheet("variance", "Variance of the stream", caption(what, [run]), pd.DataFrame(columns), heads)
