"""The figures of a report, in the order of a paper, each with the caption that it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from depthprobe.catalogue import PROBES
from depthprobe.declaring import Probe
from depthprobe.findings.captions import caption, task_words
from depthprobe.findings.drops import ALPHA, drops_of, headline_tasks
from depthprobe.findings.gradnorm import grad_norms, gradnorm_quantity
from depthprobe.findings.study import ANGULAR, GRADNORM, VARIANCE, Study
from depthprobe.findings.variance import variance_quantity, variances
from depthprobe.render.charts.best_blocks import draw_best_blocks
from depthprobe.render.charts.figures import figure_of
from depthprobe.render.charts.overview import draw_overview
from depthprobe.render.charts.trust import draw_trust_scatter, orders_none_rightly
from depthprobe.render.report.escapes import plain
from depthprobe.render.report.sheets import unique_names
from depthprobe.results.runs import Run


@dataclass(frozen=True)
class ReportFigure:
    """One figure of a report.

    Args:
        name: Of its files, without an ending.
        heading: Above it on a page, a few words.
        caption: What a paper has to say below it.
        draw: Draws it, once it is wanted.
    """

    name: str
    heading: str
    caption: str
    draw: Callable[[], Figure]


_ROWS = (
    "the colours, row by row (each row clipped to its 1st to 99th percentile, then to 0 to 1); the marked "
    "blocks are those of the distances as measured"
)


def run_figures(study: Study) -> Iterator[ReportFigure]:
    """The figures of single runs.

    Raises:
        RunError: if a table of a run cannot be used.
    """
    if ANGULAR in study.runs:
        run = study.runs[ANGULAR]
        what = (
            "Angular distance between the residual stream before layer l and behind layer l+n-1 (arccos of "
            "the cosine over pi; 0: same direction, 0.5: right angle), mean over samples; dots: the smallest "
            "distance at each block size n. Layers are 0-based."
        )
        shown = caption(what, [run], rescaled="nothing")
        yield ReportFigure("angular", "Angular distance", shown, partial(figure_of, run))
        yield ReportFigure(
            "angular-row",
            "Angular distance, rescaled row by row",
            caption(what, [run], rescaled=_ROWS),
            partial(figure_of, run, normalize="row"),
        )
        shown = (
            "Above, the angular distance across the best block of each size n (the n consecutive layers with "
            "the smallest distance) and the median over all blocks of that size; below, the layers of the "
            "best block, 0-based. The whole model is left out."
        )
        yield ReportFigure(
            "best-blocks",
            "Best block of each size",
            caption(shown, [run], rescaled="nothing"),
            partial(draw_best_blocks, run.tables[ANGULAR], title=study.model),
        )
    names = unique_names(f"drops-{'-'.join(headline_tasks(run)[:3])}" for run in study.sweeps)
    for run, name in zip(study.sweeps, names, strict=True):
        tasks = task_words(run).partition(";")[0]
        yield ReportFigure(
            "drops" if len(names) == 1 else name,
            f"Measured drops: {tasks}" if tasks else "Measured drops",
            caption(_drops_shown(run), [run], rescaled="nothing"),
            partial(figure_of, run),
        )
    if GRADNORM in study.runs:
        run = study.runs[GRADNORM]
        quantity = gradnorm_quantity(grad_norms(run.tables[GRADNORM]), run.facts)
        what = (
            f"Gradient norm of every layer: L2 norm over a block's parameters of the {quantity}; whole "
            "blocks and their parts. Layers are 0-based."
        )
        shown = caption(what, [run], rescaled="nothing")
        yield ReportFigure("gradnorm", "Gradient norms", shown, partial(figure_of, run))
    if VARIANCE in study.runs:
        run = study.runs[VARIANCE]
        what = (
            f"The residual stream at every boundary x^0 to x^{study.layers}: "
            f"{variance_quantity(variances(run.tables[VARIANCE]))}; and of what each branch adds to it. Fits "
            "are least squares of log variance over x^1 and later."
        )
        shown = caption(what, [run], rescaled="nothing")
        yield ReportFigure("variance", "Variance of the stream", shown, partial(figure_of, run))
    for name, run in study.runs.items():
        if name not in (ANGULAR, GRADNORM, VARIANCE):
            yield _declared_figure(PROBES[name], run)


def _declared_figure(probe: Probe, run: Run) -> ReportFigure:
    """The figure of a probe of which no more is known than the catalogue says."""
    table = probe.tables[0]
    column = table.column(table.quantity)
    unit = f" ({column.unit})" if column.unit else ""
    what = f"{probe.question} By layer, 0-based: {plain(column.meaning)}{unit}."
    words = column.name.replace("_", " ")
    shown = caption(what, [run], rescaled="nothing")
    return ReportFigure(probe.stem, f"{words[:1].upper()}{words[1:]}", shown, partial(figure_of, run))


def overview_figures(study: Study) -> list[ReportFigure]:
    """The page with every quantity on one axis of layers; none where none was measured of single layers.

    Raises:
        RunError: if a table of a run cannot be used.
    """
    if len(study.by_layer.columns) < 2:
        return []
    said = ["Every quantity that was measured of a layer, over the layers (0-based)."]
    if ANGULAR in study.runs:
        said.append(
            "Shaded: the quiet stretch, the longest run of layers whose angular distance (n = 1) is below "
            "the median."
        )
    if study.drops:
        said.append(
            "Drops are of one layer removed at a time, without fine-tuning, against the whole model; "
            f"downward is worse. Lines: paired 95% intervals; filled: detectable (Holm-adjusted p < {ALPHA})."
        )
    shown = caption(" ".join(said), study.all_runs, rescaled="nothing")
    draw = partial(draw_overview, study, title=study.model)
    return [ReportFigure("overview", "All quantities by layer", shown, draw)]


def trust_figures(study: Study, trust: pd.DataFrame) -> list[ReportFigure]:
    """For every task the proxies that order the layers best and worst, against the measured drop.

    Args:
        study: The runs.
        trust: Their correlations, as :func:`depthprobe.findings.trust.trust_frame` gives them.

    Raises:
        RunError: if a table of a run cannot be used.
    """
    tasks = list(dict.fromkeys(trust["task"]))
    names = unique_names(f"trust-{task}" for task in tasks)
    figures = []
    for task, name in zip(tasks, names, strict=True):
        heading = "Best and worst cheap measurement"
        which = "that order the layers best and worst, by Spearman's"
        if orders_none_rightly(trust[trust["task"] == task]):
            heading = "Highest and lowest correlation of a cheap measurement"
            which = "with the highest and the lowest correlation, none above 0, by Spearman's"
        what = (
            f"Measured change on {plain(task)} without each layer in turn (downward is worse) against the "
            f"cheap measurements {which} rank correlation (1: as the measured harm does) with a 95% interval "
            "over resampled layers. A dot is a layer (0-based), "
            f"its colour the depth; filled: detectable (Holm-adjusted p < {ALPHA}); lines: paired 95% "
            "intervals."
        )
        shown = caption(what, study.all_runs, rescaled="nothing")
        draw = partial(draw_trust_scatter, study, trust, task, title=study.model)
        figures.append(ReportFigure(name, f"{heading}: {plain(task)}", shown, draw))
    return figures


def _drops_shown(run: Run) -> str:
    """What a figure of drops shows, task by task."""
    said = []
    for task in headline_tasks(run):
        drops = drops_of(run, task)
        removed = "each layer" if drops.block == 1 else f"each block of {drops.block} layers"
        said.append(f"{plain(task)}: {drops.change} of {drops.words} without {removed}")
    return (
        f"{'; '.join(said)}, against the whole model; one at a time, without fine-tuning. Lines: paired 95% "
        f"intervals; filled: detectable (Holm-adjusted p < {ALPHA}). Downward is worse. Layers are 0-based."
    )
