"""The variance of the stream at every boundary, and of what the branches add.

Source: the output variance of each layer as "The Curse of Depth" 2502.05795 draws it; branches and fits are
ours.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure

from depthprobe.findings.variance import BRANCHES, Variances
from depthprobe.render.charts.kit.lines import Curve, draw_lines, joined, with_zeros
from depthprobe.render.charts.kit.style import BRANCH_LOOKS, MAIN, Look

MEDIAN = Look("#b3123b", 1.1, marker="x", level=4)
WITHOUT_FIRST = Look("#5b9bd0", 1.1, (3.0, 1.4), "+", level=4)
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


def robust_curves_of(variances: Variances) -> list[Curve]:
    """Return the curves of the stream that do not hang on first tokens; older runs have none."""
    x = np.arange(variances.layers + 1, dtype="float64")
    named = (
        ("without first tokens", variances.without_first, WITHOUT_FIRST),
        ("median token", variances.median, MEDIAN),
    )
    return [Curve(key, x, values, look) for key, values, look in named if values is not None]


def draw(findings: Variances, *, title: str = "", caption: str = "") -> Figure:
    """Return the figure of the variances.

    On the logarithmic axis exponential growth is a straight line. Where there is steady growth, both fits are
    drawn, of the median where there is one. What was measured comes before the caption.
    """
    caption = joined(findings.quantity, caption)
    stream, *branches = curves_of(findings)
    robust = robust_curves_of(findings)
    stream = replace(stream, key="stream $x^l$, mean") if robust else stream
    curves = [stream, *robust, *branches]
    logarithmic = any((curve.y > 0).any() for curve in curves)
    if logarithmic:
        zeros = [(BRANCHES[branch], values == 0) for branch, values in findings.branches.items()]
        caption = with_zeros(caption, zeros)
    if findings.steady is not None:
        outputs, of_what = curves[0].x[1:], " of the median" if robust else ""
        exponential, linear = findings.steady.exponential.values, findings.steady.linear.values
        curves += [
            Curve(f"exponential fit{of_what}", outputs, exponential, EXPONENTIAL_FIT),
            Curve(f"linear fit{of_what}", outputs, linear, LINEAR_FIT),
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
