"""The figures of a report, in the order of a paper, each with the caption that it needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from matplotlib.figure import Figure

from depthprobe.catalogue import ANGULAR, GRADNORM, VARIANCE
from depthprobe.findings.captions import Caption, task_words
from depthprobe.findings.drops import ALPHA, SweepFindings
from depthprobe.findings.findings import Findings
from depthprobe.findings.layer_rows import LayerRows
from depthprobe.findings.study import Study
from depthprobe.findings.words import capital, counted, plain
from depthprobe.render.charts.best_blocks import draw_best_blocks
from depthprobe.render.charts.figures import figure_of
from depthprobe.render.charts.overview import draw_overview
from depthprobe.render.charts.trust import draw_trust_scatter
from depthprobe.render.report.names import unique_names
from depthprobe.results.runs import Run


@dataclass(frozen=True)
class ReportFigure:
    """One figure of a report.

    Args:
        name: Of its files, without an ending.
        heading: Above it on a page, a few words.
        caption: What a paper has to say below it.
        draw: Draws it. Not drawn before it is wanted: several are drawn at the same time.
    """

    name: str
    heading: str
    caption: Caption
    draw: Callable[[], Figure]


_ROWS = (
    "the colours, row by row (each row clipped to its 1st to 99th percentile, then to 0 to 1); the marked "
    "blocks are those of the distances as measured"
)


_TRUST_HEADING = "Highest and lowest correlation of a cheap measurement"


def run_figures(findings: Findings) -> list[ReportFigure]:
    """Return the figures of single runs, in the order of the page."""
    study = findings.study

    def figure(
        name: str, heading: str, what: str, run: Run, says: Any, rescaled: str = "", **options: str
    ) -> ReportFigure:
        shown = study.caption(what, run, rescaled=rescaled or _as_measured(study))
        return ReportFigure(name, heading, shown, partial(figure_of, run, findings=says, **options))

    figures = []
    if ANGULAR.name in study.runs:
        run, says = study.runs[ANGULAR.name], study.found[ANGULAR.name]
        what = (
            "Angular distance between the residual stream before layer l and behind layer l+n-1 (arccos of "
            "the cosine over pi; 0: same direction, 0.5: right angle), mean over samples; dots: the smallest "
            "distance at each block size n. Layers are 0-based."
        )
        heading = "Angular distance, rescaled row by row"
        figures.append(figure("angular", "Angular distance", what, run, says))
        figures.append(figure("angular-row", heading, what, run, says, _ROWS, normalize="row"))
        what = (
            "Above, the angular distance across the best block of each size n (the n consecutive layers with "
            "the smallest distance) and the median over all blocks of that size; below, the layers of the "
            "best block, 0-based. The whole model is left out."
        )
        shown = study.caption(what, run, rescaled=_as_measured(study))
        draw = partial(draw_best_blocks, says, title=study.model)
        figures.append(ReportFigure("best-blocks", "Best block of each size", shown, draw))
    names = unique_names(f"drops-{'-'.join(sweep.names[:3])}" for sweep in study.swept)
    names = ["drops"] if len(names) == 1 else names
    for run, sweep, name in zip(study.sweeps, study.swept, names, strict=True):
        tasks = task_words(run).partition(";")[0]
        heading = f"Measured drops: {tasks}" if tasks else "Measured drops"
        figures.append(figure(name, heading, _drops_shown(sweep), run, sweep))
    if GRADNORM.name in study.runs:
        run, says = study.runs[GRADNORM.name], study.found[GRADNORM.name]
        what = (
            f"Gradient norm of every layer: L2 norm over a block's parameters of the {says.quantity}; whole "
            "blocks and their parts. Layers are 0-based."
        )
        figures.append(figure("gradnorm", "Gradient norms", what, run, says))
    if VARIANCE.name in study.runs:
        run, says = study.runs[VARIANCE.name], study.found[VARIANCE.name]
        what = (
            f"The residual stream at every boundary x^0 to x^{study.layers}: {says.quantity}; and of what "
            "each branch adds to it."
        )
        if says.steady is not None:
            what += " Fits are least squares of log variance over x^1 and later."
        figures.append(figure("variance", "Variance of the stream", what, run, says))
    for probe, says in study.found.items():
        if isinstance(says, LayerRows):
            what, run = f"{says.meaning} Layers are 0-based.", study.runs[probe]
            figures.append(figure(says.probe.stem, capital(says.words), what, run, says))
    return figures


def _as_measured(study: Study) -> str:
    """What a caption says was rescaled where nothing was: only beside a figure that is rescaled."""
    return "nothing" if ANGULAR.name in study.runs else ""


def overview_figures(findings: Findings) -> list[ReportFigure]:
    """Return the page with every quantity on one axis of layers; none where none was measured of them."""
    if len(findings.by_layer.columns) < 2:
        return []
    study = findings.study
    said = ["Every quantity that was measured of a layer, over the layers (0-based)."]
    if ANGULAR.name in study.runs:
        said.append(
            "Shaded: the quiet stretch, the longest run of layers whose angular distance (n = 1) is below "
            "the median."
        )
    if findings.drops:
        counts = {len(drops.rows) for drops in findings.drops}
        said.append(
            "Drops are of one layer removed at a time, without fine-tuning, against the whole model; "
            f"downward is worse. {_marks(counts.pop() if len(counts) == 1 else None)}"
        )
    shown = study.caption(" ".join(said), rescaled=_as_measured(study))
    draw = partial(draw_overview, findings, title=study.model)
    return [ReportFigure("overview", "All quantities by layer", shown, draw)]


def trust_figures(findings: Findings) -> list[ReportFigure]:
    """Return for every task the proxies of highest and lowest correlation, against the measured drop."""
    trust = findings.trust
    names = unique_names(f"trust-{task}" for task in trust.tasks)
    counts = {drops.task: len(drops.rows) for drops in findings.drops}
    figures = []
    for task, name in zip(trust.tasks, names, strict=True):
        none = "none above 0, " if trust.orders_none_rightly(task) else ""
        which = f"with the highest and the lowest correlation, {none}by Spearman's"
        what = (
            f"Measured change on {plain(task)} without each layer in turn (downward is worse) against the "
            f"cheap measurements {which} rank correlation (1: as the measured harm does) with a 95% interval "
            "over resampled layers. A dot is a layer (0-based), "
            f"its colour the depth. {_marks(counts.get(task))}"
        )
        shown = findings.study.caption(what, rescaled=_as_measured(findings.study))
        draw = partial(draw_trust_scatter, findings, task, title=findings.model)
        figures.append(ReportFigure(name, f"{_TRUST_HEADING}: {plain(task)}", shown, draw))
    return figures


def _drops_shown(sweep: SweepFindings) -> str:
    """What a figure of drops shows, task by task."""
    one = "layer" if sweep.block == 1 else "block"
    removed = "each layer" if sweep.block == 1 else f"each block of {sweep.block} layers"
    covered = sweep.tasks[0].covered
    removed = f"each of {covered}" if covered else removed
    said = [
        f"{plain(drops.task)}: {drops.change} of {drops.words} without {removed}" for drops in sweep.tasks
    ]
    return (
        f"{'; '.join(said)}, against the whole model; one at a time, without fine-tuning. "
        f"{_marks(len(sweep.tasks[0].rows), one)} Downward is worse. Layers are 0-based."
    )


def _marks(count: int | None, one: str = "layer") -> str:
    """What the marks of a figure of drops are: an interval is of one removal alone, a p-value of them all."""
    over = f" adjusted over {counted(count, one)}" if count else " adjusted"
    found = f"detectable (p < {ALPHA}{over}, Holm)"
    return f"Lines: paired 95% intervals, each for one {one} alone; filled: {found}."
