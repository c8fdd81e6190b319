"""The gradient norm of every layer: whole blocks, and their parts as thinner curves.

Source: the gradient norm of each layer as Mix-LN 2412.13795 draws it; the parts are ours.
"""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from depthprobe.findings.gradnorm import PARTS, GradNorms
from depthprobe.render.charts.kit.lines import Band, Curve, draw_lines, joined, with_zeros
from depthprobe.render.charts.kit.scales import spans_a_decade
from depthprobe.render.charts.kit.style import BRANCH_LOOKS, MAIN

BAND_KEY = "\N{PLUS-MINUS SIGN} 1 std over batches"
LABEL = r"Gradient norm $\|\nabla_{\!\theta_l}\mathcal{L}\|_2$"


def curves_of(norms: GradNorms) -> list[Curve]:
    """Return a curve over the layers for whole blocks, and one for each of their parts."""
    x = np.arange(norms.layers, dtype="float64")
    parts = [Curve(PARTS[part], x, values, BRANCH_LOOKS[part]) for part, values in norms.parts.items()]
    return [Curve("whole block", x, norms.norm, MAIN), *parts]


def draw(findings: GradNorms, *, title: str = "", caption: str = "") -> Figure:
    """Return the figure of the gradient norms.

    The axis is logarithmic where the norms span more than a decade. The caption then says where norms are 0,
    which such an axis cannot show. What was measured comes before the caption.
    """
    curves, norm, std = curves_of(findings), findings.norm, findings.std
    caption = joined(findings.quantity, caption)
    logarithmic = spans_a_decade([curve.y for curve in curves])
    if logarithmic:
        # Where the whole block has no gradient, its parts have none either.
        zeros = [(curve.key, (curve.y == 0) & (norm != 0)) for curve in curves[1:]]
        caption = with_zeros(caption, [(curves[0].key, norm == 0), *zeros])
    return draw_lines(
        curves,
        band=Band(BAND_KEY, curves[0].x, norm - std, norm + std) if findings.varies else None,
        logarithmic=logarithmic,
        last=findings.layers - 1,
        x_label="Layer index $l$",
        y_label=LABEL,
        title=title,
        caption=caption,
    )
