"""The variance of the stream at every boundary, with what the branches add.

Source: the output variance of each layer as "The Curse of Depth" 2502.05795 draws it; branches and fits are
ours.
"""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from depthprobe.findings.variance import BRANCHES, Variances
from depthprobe.render.charts.kit.lines import Curve, draw_lines, with_zeros
from depthprobe.render.charts.kit.looks import BRANCH_LOOKS, MAIN, Look

EXPONENTIAL_FIT = Look("#9a9a9a", 0.9, (7.0, 2.5), level=2)
LINEAR_FIT = Look("#9a9a9a", 0.9, (1.0, 1.6), level=2)


def draw(
    findings: Variances,
    *,
    title: str = "",
    caption: str = "",
) -> Figure:
    """Return the figure of the variances.

    On the logarithmic axis exponential growth is a straight line. Block l lies between x^l and x^{l+1}, and
    what its branches add stands there. Where there is growth to fit, both fits are drawn.

    Args:
        findings: What the run says.
        title: Above the figure, such as the model's id.
        caption: Below the title in small type, behind what was measured.
    """
    found = findings
    caption = "; ".join(filter(None, [found.quantity, caption]))
    x = np.arange(len(found.stream), dtype="float64")
    curves = [Curve("stream $x^l$", x, found.stream, MAIN)]
    curves += [
        Curve(f"added by {BRANCHES[branch]}", x[:-1] + 0.5, values, BRANCH_LOOKS[branch])
        for branch, values in found.branches.items()
    ]
    logarithmic = any((curve.y > 0).any() for curve in curves)
    if logarithmic:
        caption = with_zeros(
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
