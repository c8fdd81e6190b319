"""The variance of the stream at every boundary, and of what the branches add.

Source: the output variance of each layer as "The Curse of Depth" 2502.05795 draws it; branches and fits are
ours.
"""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from depthprobe.findings.variance import BRANCHES, Variances
from depthprobe.render.charts.kit.lines import Curve, draw_lines, joined, with_zeros
from depthprobe.render.charts.kit.style import BRANCH_LOOKS, MAIN, Look

EXPONENTIAL_FIT = Look("#9a9a9a", 0.9, (7.0, 2.5), level=2)
LINEAR_FIT = Look("#9a9a9a", 0.9, (1.0, 1.6), level=2)


def curves_of(variances: Variances) -> list[Curve]:
    """Return the curve of the stream over the boundaries, and one for what each branch adds.

    Block l lies between x^l and x^{l+1}, and what its branches add is drawn there.
    """
    x = np.arange(variances.layers + 1, dtype="float64")
    branches = [
        Curve(f"added by {BRANCHES[branch]}", x[:-1] + 0.5, values, BRANCH_LOOKS[branch])
        for branch, values in variances.branches.items()
    ]
    return [Curve("stream $x^l$", x, variances.stream, MAIN), *branches]


def draw(findings: Variances, *, title: str = "", caption: str = "") -> Figure:
    """Return the figure of the variances.

    On the logarithmic axis exponential growth is a straight line. Where there is steady growth, both fits are
    drawn. What was measured comes before the caption.
    """
    caption = joined(findings.quantity, caption)
    curves = curves_of(findings)
    logarithmic = any((curve.y > 0).any() for curve in curves)
    if logarithmic:
        zeros = [(BRANCHES[branch], values == 0) for branch, values in findings.branches.items()]
        caption = with_zeros(caption, zeros)
    if findings.steady is not None:
        outputs = curves[0].x[1:]
        curves += [
            Curve("exponential fit", outputs, findings.steady.exponential.values, EXPONENTIAL_FIT),
            Curve("linear fit", outputs, findings.steady.linear.values, LINEAR_FIT),
        ]
    return draw_lines(
        curves,
        logarithmic=logarithmic,
        last=findings.layers,
        x_label="Boundary $l$ of the residual stream",
        y_label="Variance",
        title=title,
        caption=caption,
    )
