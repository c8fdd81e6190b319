"""The figures of a report, in the order of a paper, each with the caption that it needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from matplotlib.figure import Figure

from depthprobe.render.best_blocks import draw_best_blocks
from depthprobe.render.captions import caption, task_words
from depthprobe.render.drop_tables import ALPHA, drops_of, headline_tasks
from depthprobe.render.escapes import plain
from depthprobe.render.figures import figure_of
from depthprobe.render.gradients import grad_norms, gradnorm_quantity
from depthprobe.render.overview import draw_overview
from depthprobe.render.scatter import draw_trust_scatter
from depthprobe.render.sheets import unique_names
from depthprobe.render.study import ANGULAR, GRADNORM, VARIANCE, Study
from depthprobe.render.trust import trust_frame
from depthprobe.render.variances import variance_quantity, variances
from depthprobe.results.runs import Run


@dataclass(frozen=True)
class Plate:
    """One figure of a report.

    Args:
        name: Of its files, without an ending.
        heading: Above it on a page, a few words.
        caption: What a paper has to say below it.
        figure: The drawing.
    """

    name: str
    heading: str
    caption: str
    figure: Figure


_ROWS = (
    "the colours, row by row (each row clipped to its 1st to 99th percentile, then to 0 to 1); the marked "
    "blocks are those of the distances as measured"
)


def run_plates(study: Study) -> Iterator[Plate]:
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
        yield Plate("angular", "Angular distance", caption(what, [run], rescaled="nothing"), figure_of(run))
        yield Plate(
            "angular-row",
            "Angular distance, rescaled row by row",
            caption(what, [run], rescaled=_ROWS),
            figure_of(run, normalize="row"),
        )
        shown = (
            "Angular distance across the best block of each size n (the one with the smallest distance), and "
            "the median over all blocks of that size."
        )
        figure = draw_best_blocks(run.tables[ANGULAR], title=study.model)
        yield Plate(
            "best-blocks", "Best block of each size", caption(shown, [run], rescaled="nothing"), figure
        )
    names = unique_names(f"drops-{'-'.join(headline_tasks(run)[:3])}" for run in study.sweeps)
    for run, name in zip(study.sweeps, names, strict=True):
        tasks = task_words(run).partition(";")[0]
        yield Plate(
            "drops" if len(names) == 1 else name,
            f"Measured drops: {tasks}" if tasks else "Measured drops",
            caption(_drops_shown(run), [run], rescaled="nothing"),
            figure_of(run),
        )
    if GRADNORM in study.runs:
        run = study.runs[GRADNORM]
        quantity = gradnorm_quantity(grad_norms(run.tables[GRADNORM]), run.manifest.get("options") or {})
        what = (
            f"Gradient norm of every layer: L2 norm over a block's parameters of the {quantity}; whole "
            "blocks and their parts. Layers are 0-based."
        )
        yield Plate("gradnorm", "Gradient norms", caption(what, [run], rescaled="nothing"), figure_of(run))
    if VARIANCE in study.runs:
        run = study.runs[VARIANCE]
        what = (
            f"The residual stream at every boundary x^0 to x^{study.layers}: "
            f"{variance_quantity(variances(run.tables[VARIANCE]))}; and of what each branch adds to it. Fits "
            "are least squares of log variance over x^1 and later."
        )
        yield Plate(
            "variance", "Variance of the stream", caption(what, [run], rescaled="nothing"), figure_of(run)
        )


def overview_plates(study: Study) -> list[Plate]:
    """The page with all measures on one axis of layers.

    Raises:
        RunError: if a table of a run cannot be used.
    """
    what = (
        "Every measure over the layers (0-based); in every panel up is more. Shaded: the quiet stretch, the "
        "longest run of layers whose angular distance (n = 1) is below the median. Harm is the drop with its "
        "sign turned so that up is worse, one layer removed at a time."
    )
    figure = draw_overview(study, title=study.model)
    return [Plate("overview", "All measures", caption(what, study.all_runs, rescaled="nothing"), figure)]


def trust_plates(study: Study) -> list[Plate]:
    """For every task the proxies that order layers best and worst, against the measured harm.

    Raises:
        RunError: if a table of a run cannot be used.
    """
    trust = trust_frame(study)
    tasks = list(dict.fromkeys(trust["task"]))
    names = unique_names(f"trust-{task}" for task in tasks)
    plates = []
    for task, name in zip(tasks, names, strict=True):
        what = (
            f"Measured harm of removing one layer ({plain(task)}) against the proxies that order the layers "
            "best and worst, by Spearman's rank correlation with a 95% interval over resampled layers. A dot "
            "is a layer, vertical lines the paired 95% intervals of the harm, numbers the 0-based layers."
        )
        figure = draw_trust_scatter(study, trust, task, title=f"{study.model}: {task}")
        heading = f"Best and worst proxy: {plain(task)}"
        plates.append(Plate(name, heading, caption(what, study.all_runs, rescaled="nothing"), figure))
    return plates


def _drops_shown(run: Run) -> str:
    """What a figure of drops shows, task by task."""
    said = []
    for task in headline_tasks(run):
        drops = drops_of(run, task)
        change = "drop" if drops.higher_is_better else "increase"
        removed = "each layer" if drops.block == 1 else f"each block of {drops.block} layers"
        said.append(f"{plain(task)}: {change} of {drops.words} without {removed}")
    return (
        f"{'; '.join(said)}, against the whole model; one at a time, without fine-tuning. Lines: paired 95% "
        f"intervals; filled: detectable (Holm-adjusted p < {ALPHA}). Downward is worse. Layers are 0-based."
    )
