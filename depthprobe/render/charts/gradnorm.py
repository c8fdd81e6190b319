"""The gradient norm of every layer: whole blocks, and thinner their parts.

Source: the gradient norm of each layer as Mix-LN 2412.13795 draws it; the parts are ours.
"""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from depthprobe.findings.gradnorm import PARTS, GradNorms
from depthprobe.render.charts.kit.lines import Band, Curve, draw_lines, with_zeros
from depthprobe.render.charts.kit.looks import BRANCH_LOOKS, MAIN
from depthprobe.render.charts.kit.scales import spans_a_decade

BAND_KEY = "\N{PLUS-MINUS SIGN} 1 std over batches"
LABEL = r"Gradient norm $\|\nabla_{\!\theta_l}\mathcal{L}\|_2$"


def draw(
    findings: GradNorms,
    *,
    title: str = "",
    caption: str = "",
) -> Figure:
    """Return the figure of the gradient norms.

    The axis is logarithmic where the norms span more than a decade. It has no place for a norm of 0: the
    caption then says where those are.

    Args:
        findings: What the run says.
        title: Above the figure, such as the model's id.
        caption: Below the title in small type, behind what was measured.
    """
    norms = findings
    caption = "; ".join(filter(None, [norms.quantity, caption]))
    x = np.arange(len(norms.norm), dtype="float64")
    curves = [Curve("whole block", x, norms.norm, MAIN)]
    curves += [Curve(PARTS[part], x, values, BRANCH_LOOKS[part]) for part, values in norms.parts.items()]
    band = Band(BAND_KEY, x, norms.norm - norms.std, norms.norm + norms.std) if norms.varies else None
    logarithmic = spans_a_decade([curve.y for curve in curves])
    if logarithmic:
        # Where the whole block has no gradient, its parts need not be told.
        idle = norms.norm == 0
        zeros = [(curves[0].key, idle)]
        zeros += [(PARTS[part], (values == 0) & ~idle) for part, values in norms.parts.items()]
        caption = with_zeros(caption, zeros)
    return draw_lines(
        curves,
        band=band,
        logarithmic=logarithmic,
        last=len(x) - 1,
        x_label="Layer index $l$",
        y_label=LABEL,
        title=title,
        caption=caption,
    )
