"""Two profiles over the depth of a model: the gradient norm of every layer, and the variance of the stream.

Source: the gradient norm of each layer as Mix-LN 2412.13795 draws it, the output variance of each layer as
"The Curse of Depth" 2502.05795 does; parts, branches and fits are ours.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from depthprobe.findings.gradnorm import PARTS, GradNorms
from depthprobe.findings.variance import BRANCHES, Variances
from depthprobe.findings.words import layers_named
from depthprobe.render.charts.kit.lines import Band, Curve, Look, draw_lines, spans_a_decade

# Hues that colour-blind readers can tell apart, of different lightness; dashes and marks tell more in grey.
MAIN = Look("#0b3c5d", 1.3, marker="o", filled=True, level=5)
LOOKS = {
    "attention": Look("#dd8500", 0.9, (4.0, 1.6), "^"),
    "feedforward": Look("#007f5f", 0.9, (5.0, 1.4, 1.0, 1.4), "s"),
    "norm": Look("#8e5ea2", 0.9, (1.2, 1.2), "D"),
    "other": Look("#7a7a7a", 0.9, (2.4, 1.2), "v"),
}
EXPONENTIAL_FIT = Look("#9a9a9a", 0.9, (7.0, 2.5), level=2)
LINEAR_FIT = Look("#9a9a9a", 0.9, (1.0, 1.6), level=2)
BAND_COLOR = "#c9d8e4"
BAND_KEY = "\N{PLUS-MINUS SIGN} 1 std over batches"


def draw_gradnorm(findings: GradNorms, *, title: str = "", caption: str = "") -> Figure:
    """The gradient norm of every layer as a matplotlib figure: whole blocks, and thinner their parts.

    The axis is logarithmic where the norms span more than a decade. It has no place for a norm of 0: the
    caption then says where those are.

    Args:
        findings: What the table of gradient norms says.
        title: Above the figure, such as the model's id.
        caption: Below the title in small type, such as the loss and the data.
    """
    norms = findings
    x = np.arange(len(norms.norm), dtype="float64")
    curves = [Curve("whole block", x, norms.norm, MAIN)]
    curves += [Curve(PARTS[part], x, values, LOOKS[part]) for part, values in norms.parts.items()]
    band = None
    if norms.varies:
        band = Band(BAND_KEY, x, norms.norm - norms.std, norms.norm + norms.std, BAND_COLOR)
    logarithmic = spans_a_decade(curves)
    if logarithmic:
        # Where the whole block has no gradient, its parts need not be told.
        idle = norms.norm == 0
        zeros = [(curves[0].key, idle)]
        zeros += [(PARTS[part], (values == 0) & ~idle) for part, values in norms.parts.items()]
        caption = _with_zeros(caption, zeros)
    return draw_lines(
        curves,
        band=band,
        logarithmic=logarithmic,
        last=len(x) - 1,
        x_label="Layer index $l$",
        y_label=r"Gradient norm $\|\nabla_{\!\theta_l}\mathcal{L}\|_2$",
        title=title,
        caption=caption,
    )


def draw_variance(findings: Variances, *, title: str = "", caption: str = "") -> Figure:
    """The variance of the stream at every boundary as a matplotlib figure, with what the branches add.

    On the logarithmic axis exponential growth is a straight line. Block l lies between x^l and x^{l+1}, and
    what its branches add stands there. Where there is growth to fit, both fits are drawn.

    Args:
        findings: What the table of variances says.
        title: Above the figure, such as the model's id.
        caption: Below the title in small type, such as the data.
    """
    found = findings
    x = np.arange(len(found.stream), dtype="float64")
    curves = [Curve("stream $x^l$", x, found.stream, MAIN)]
    curves += [
        Curve(f"added by {BRANCHES[branch]}", x[:-1] + 0.5, values, LOOKS[branch])
        for branch, values in found.branches.items()
    ]
    logarithmic = any((curve.y > 0).any() for curve in curves)
    if logarithmic:
        caption = _with_zeros(
            caption, [(BRANCHES[branch], values == 0) for branch, values in found.branches.items()]
        )
    growth = found.growth
    if growth is not None:
        curves += [
            Curve("exponential fit", x[1:], growth.exponential.values, EXPONENTIAL_FIT),
            Curve("linear fit", x[1:], growth.linear.values, LINEAR_FIT),
        ]
    return draw_lines(
        curves,
        logarithmic=logarithmic,
        last=len(x) - 1,
        x_label="Boundary $l$ of the residual stream",
        y_label="Variance",
        title=title,
        caption=caption,
    )


def _with_zeros(caption: str, zeros: Iterable[tuple[str, NDArray[np.bool_]]]) -> str:
    """The caption, and in which layers values are 0, for which a logarithmic axis has no place."""
    said = [f"{what} in {layers_named(np.flatnonzero(where))}" for what, where in zeros if where.any()]
    return "; ".join(filter(None, [caption, f"0 and so not drawn: {', '.join(said)}" if said else ""]))
