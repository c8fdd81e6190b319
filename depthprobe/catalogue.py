"""Every probe, once, as data: a new one is a file in ``probes`` and an entry here.

See ``docs/extending.md``. A leaf without torch; ``declaring`` says what the parts of a declaration mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from depthprobe.declaring import MOST_LAYERS, Option, Options, Probe, Score, TableOf, Text, Working
from depthprobe.errors import OptionError
from depthprobe.evaluation.harness.options import SweepOptions
from depthprobe.measurement import Column

# 4,096 tokens: enough to rank layers, and cheaper than the tasks even on real models, whose heads are large.
# SLEB uses about 9,000.
CALIBRATION_SAMPLES = 16


@dataclass(frozen=True)
class AngularOptions(Options):
    """What ``angular`` may be asked for."""

    tokens: Annotated[
        Literal["last", "all"],
        Option(
            "Compare each sample's last token, as the papers do, or all real tokens.", panel="Measurement"
        ),
    ] = "last"
    normalize: Annotated[
        Literal["none", "row"],
        Option(
            "Colours: none shows distances as measured, row rescales each row as the papers do. "
            "The CSV always holds the distances as measured.",
            role="figure",
            panel="Output",
        ),
    ] = "none"


ANGULAR = Probe(
    "angular",
    "depthprobe.probes.angular",
    "How far does the residual stream turn between any two layers?",
    "Angular distance between the residual stream at any two layers; the best block of each size to remove."
    "\n\n"
    "For every layer l and block size n: the angle between x^l and x^{l+n} at the last token, divided by pi, "
    "averaged over samples of text. Small means that the n blocks from l on barely turn the stream. Writes "
    "angular.csv, the figure and manifest.json to OUTPUT/MODEL/angular/ and prints the best blocks.",
    (
        TableOf(
            "angular",
            (
                Column("layer", "", "0-based index l of the first block spanned", "integer", 0),
                Column("n", "blocks", "number of blocks spanned: l .. l+n-1", "integer", 1, MOST_LAYERS),
                Column(
                    "distance",
                    "angle / pi",
                    "mean angular distance between x^l and x^{l+n}, 0 same .. 1 opposite",
                    "number",
                    0,
                    1,
                ),
                Column(
                    "std",
                    "angle / pi",
                    "standard deviation over the vectors averaged (divisor count - 1; 0 for a single one)",
                    "number",
                    0,
                ),
                Column(
                    "samples", "count", "vectors averaged: samples, or tokens with --tokens all", "integer", 1
                ),
            ),
            quantity="distance",
            keys=("n",),
            across="n",
            behind=(),
        ),
    ),
    options=AngularOptions,
    scores=(Score("angular_distance", "angular distance (n = 1)", "angular", "distance", where={"n": 1}),),
    text=Text("the text that angular is measured on"),
    findings="depthprobe.findings.angular:read",
    chart="depthprobe.render.charts.angular:draw",
    listing="depthprobe.render.terminal.angular:listing",
    version=2,
)


@dataclass(frozen=True)
class GradnormOptions(Options):
    """What ``gradnorm`` may be asked for."""

    per_batch: Annotated[
        int | None,
        Option(
            "Mean and standard deviation of the norm over batches of this many samples, as training logs "
            "show it.",
            at_least=1,
            default="all samples as one batch",
            panel="Gradients",
        ),
    ] = None
    memory: Annotated[
        str | int,
        Option(
            "auto, whole (all gradients at once), or how many blocks' gradients to hold at a time, with a "
            "pass for each group. Does not change the numbers.",
            role="means",
            panel="Gradients",
            parse=lambda text: int(text) if text.isdecimal() else text,
        ),
    ] = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        blocks = isinstance(self.memory, int) and self.memory >= 1
        if self.memory not in ("auto", "whole") and not blocks:
            raise OptionError(
                f"--memory must be auto, whole or a number of blocks of at least 1, got {self.memory}."
            )


GRADNORM = Probe(
    "gradnorm",
    "depthprobe.probes.gradnorm",
    "How strongly does the loss pull at the parameters of each layer?",
    "Gradient norm of every layer: the L2 norm over a block's parameters of the gradient of the loss."
    "\n\n"
    "The loss is the mean next-token loss in nats over all predicted tokens of the calibration set, taken as "
    "one batch (of a masked model the masked-token loss, with a seeded mask). Neither batches nor padding "
    "change it. Writes gradnorm.csv, with the norms of attention, feed-forward and norms beside the whole "
    "block, the figure and manifest.json to OUTPUT/MODEL/gradnorm/.",
    (
        TableOf(
            "gradnorm",
            (
                Column(
                    "layer",
                    "",
                    "0-based index of the block; -1 for the embedding, L for final_norm and head",
                    "integer",
                    -1,
                ),
                Column(
                    "part",
                    "",
                    "all (the whole block), attention, feedforward, norm, other; embedding, final_norm, head",
                    "text",
                ),
                Column(
                    "grad_norm",
                    "nats",
                    "L2 norm over the parameters of the gradient of the mean loss",
                    "number",
                    0,
                ),
                Column(
                    "parameters",
                    "count",
                    "number of parameters; packed ones have no gradient and are not counted",
                    "integer",
                    0,
                ),
                Column("grad_rms", "nats", "grad_norm / sqrt(parameters)", "number", 0),
                Column(
                    "std",
                    "nats",
                    "standard deviation of grad_norm over batches (divisor count - 1; 0 for one batch)",
                    "number",
                    0,
                ),
            ),
            quantity="grad_norm",
            keys=("part",),
            varying="part",
            outside=("embedding", "final_norm", "head"),
            behind=("final_norm", "head"),
        ),
    ),
    options=GradnormOptions,
    scores=(Score("grad_norm", "gradient norm", "gradnorm", "grad_norm", where={"part": "all"}),),
    text=Text("the text that gradnorm is measured on"),
    findings="depthprobe.findings.gradnorm:read",
    chart="depthprobe.render.charts.gradnorm:draw",
    listing="depthprobe.render.terminal.profiles:list_gradnorm",
    working=Working(gradients=True),
    resumes=True,
    initial=True,
    needs_loss=True,
    version=2,
)

VARIANCE = Probe(
    "variance",
    "depthprobe.probes.variance",
    "How does the residual stream grow with depth, and what adds to it?",
    "Variance of the residual stream at every boundary, what each branch adds to it, Block Influence."
    "\n\n"
    "Variance over the hidden dimension, averaged over all real tokens, before the final norm; the same for "
    "what each branch adds to the stream, where stream in + branches = stream out. Beside the mean over all "
    "tokens stand the mean without the first token of each sample, and the median. Prints how fast the "
    "variance grows at the median token, and whether that is closer to linear or to exponential in depth. "
    "Writes variance.csv, influence.csv, the figure and manifest.json to OUTPUT/MODEL/variance/.",
    (
        TableOf(
            "variance",
            (
                Column(
                    "layer",
                    "",
                    "boundary l = 0 .. L for stream, 0-based index of the block for what is added",
                    "integer",
                    0,
                ),
                Column(
                    "point",
                    "",
                    "stream (x^l), attention or feedforward (what this branch of the block adds)",
                    "text",
                ),
                Column(
                    "variance",
                    "activation^2",
                    "variance over hidden (divisor hidden - 1), mean over tokens",
                    "number",
                    0,
                ),
                Column(
                    "variance_without_first",
                    "activation^2",
                    "the same mean over all tokens but the first of each sample",
                    "number",
                    0,
                ),
                Column(
                    "variance_median",
                    "activation^2",
                    "median over tokens instead of the mean, of variances rounded to float32",
                    "number",
                    0,
                ),
                Column("rms", "activation", "root mean square over hidden, mean over tokens", "number", 0),
                Column("tokens", "count", "tokens averaged", "integer", 1),
            ),
            quantity="variance",
            keys=("point",),
            varying="point",
            behind=("stream",),
        ),
        TableOf(
            "influence",
            (
                Column("layer", "", "0-based index l of the block", "integer", 0),
                Column(
                    "block_influence",
                    "",
                    "1 - mean over tokens of cos(x^l, x^{l+1}), 0 same .. 2 opposite",
                    "number",
                    0,
                    2,
                ),
                Column("contribution_ratio", "", "mean over tokens of |x^{l+1} - x^l| / |x^l|", "number", 0),
            ),
            quantity="block_influence",
            behind=(),
        ),
    ),
    scores=(
        Score("block_influence", "Block Influence", "influence", "block_influence"),
        Score("contribution_ratio", "contribution ratio", "influence", "contribution_ratio"),
        Score(
            "variance_growth",
            "variance growth",
            "variance",
            reading="depthprobe.findings.variance:growth_by_layer",
        ),
    ),
    text=Text("the text that variance is measured on"),
    findings="depthprobe.findings.variance:read",
    chart="depthprobe.render.charts.variance:draw",
    listing="depthprobe.render.terminal.profiles:list_variance",
    working=Working(vectors=6),
    initial=True,
    version=2,
)

PRUNE_SWEEP = Probe(
    "prune-sweep",
    "depthprobe.probes.prune_sweep",
    "How much worse do tasks get when a layer is removed?",
    "Remove every layer in turn, run lm-eval's tasks, report the drop with paired significance."
    "\n\n"
    "One model, one list of requests: what the variants share is computed once, so a sweep of all layers "
    "costs a few evaluations instead of one for each layer. The numbers are those of lm-eval on a model "
    "whose layer is deleted. An interrupted sweep continues when the same command is started again. Besides "
    "the tasks, the loss on calibration text is measured for every variant.",
    (
        TableOf(
            "prune_sweep",
            (
                Column(
                    "task",
                    "",
                    "task or group of lm-eval; calibration for the loss on calibration text",
                    "text",
                ),
                Column("metric", "", "lm-eval's name for the metric; loss for the calibration text", "text"),
                Column("filter", "", "lm-eval's filter of the answers; none if there is none", "text"),
                Column("layer", "", "0-based index of the first layer removed", "integer", 0),
                Column(
                    "baseline", "metric's own; nats a token for loss", "score of the whole model", "number"
                ),
                Column("pruned", "as baseline", "score without the layers", "number"),
                Column(
                    "drop",
                    "as baseline",
                    "pruned - baseline; negative is harm where more is better",
                    "number",
                ),
                Column("ci_low", "as baseline", "lower end of the paired 95% interval of drop", "number"),
                Column("ci_high", "as baseline", "upper end", "number"),
                Column(
                    "p_value",
                    "",
                    "two-sided, paired: exact McNemar for 0/1 scores, else t or bootstrap",
                    "number",
                    0,
                    1,
                ),
                Column(
                    "p_adjusted", "", "p_value adjusted over the layers of this metric (Holm)", "number", 0, 1
                ),
                Column(
                    "flips",
                    "items",
                    "items whose correctness changed; items whose score changed, where scores are not 0/1",
                    "integer",
                    0,
                ),
                Column("docs", "items", "items compared", "integer", 1),
            ),
            quantity="drop",
            keys=("task", "metric", "filter"),
            varying="task",
            behind=(),
        ),
    ),
    options=SweepOptions,
    text=Text(
        "the calibration text that prune-sweep measures in addition to the tasks",
        samples=CALIBRATION_SAMPLES,
        count="calibration_samples",
        optional="no_calibration",
    ),
    findings="depthprobe.findings.drops:read",
    chart="depthprobe.render.charts.drops:draw",
    listing="depthprobe.render.terminal.drops:listing",
    batch="Prompts generated at once; scoring chooses its own batches. auto means 8.",
    working=Working(boundaries=True, logits=True),
    resumes=True,
    needs_loss=True,
)

# In the order in which they are listed and reported.
PROBES = {probe.name: probe for probe in (ANGULAR, VARIANCE, GRADNORM, PRUNE_SWEEP)}

# What a training writes as it goes; not a probe, but a run that is drawn.
TRAINING = (
    TableOf(
        "training",
        (
            Column("step", "", "optimiser steps done; 0 is before the first", "integer", 0),
            Column("layer", "", "0-based index l of the block", "integer", 0),
            Column(
                "variance",
                "activation^2",
                "of x^{l+1}, the block's output, over hidden; mean over tokens",
                "number",
                0,
            ),
            Column(
                "grad_norm",
                "nats",
                "L2 norm over the block's parameters of the gradient of the held-out loss",
                "number",
                0,
            ),
        ),
        quantity="variance",
        keys=("step",),
        behind=(),
    ),
    TableOf(
        "loss",
        (
            Column("step", "", "optimiser steps done", "integer", 0),
            Column(
                "data",
                "",
                "train (mean over the steps since the last such row), heldout (the fixed texts)",
                "text",
            ),
            Column("loss_nats", "nats", "mean loss for each predicted token", "number", 0),
        ),
        quantity="loss_nats",
        keys=("step", "data"),
    ),
)
