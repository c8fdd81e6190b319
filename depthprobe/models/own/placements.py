"""The norm placements of the papers in numbers: which block normalises where, and by what factors.

Plain arithmetic, importable without torch. The placements of a block are named as in
:class:`depthprobe.models.anatomy.anatomy.Anatomy`: ``pre``, ``post``, ``sandwich``.
"""

from __future__ import annotations

import math

# What --norm takes -> the forward pass of one block, F being its attention and then its feed-forward part.
NORMS: dict[str, str] = {
    "pre": "x + F(norm(x))",
    "post": "norm(x + F(x))",
    "deepnorm": "norm(alpha x + F(x))",
    "mix": "post in the first quarter of the blocks, pre in the rest",
    "lns": "x + F(norm(x) / sqrt(l)), l = 1..L",
    "sandwich": "x + norm(F(norm(x)))",
}

# What --init takes -> how the projections that write into the stream are drawn.
INITIALISATIONS: dict[str, str] = {
    "normal": "like all matrices",
    "scaled": "with a standard deviation smaller by sqrt(2L)",
}


def block_norms(norm: str, layers: int) -> list[str]:
    """Return where the norms of each block are, from the first block to the last.

    In ``mix`` the first quarter is Post-LN, 3 blocks of 12; rounded down, but at least one: with none the
    model would be Pre-LN under another name.

    Args:
        norm: A key of :data:`NORMS`.
        layers: Number of blocks, L.

    Source: Mix-LN (2412.13795): Post-LN in the first floor(a L) blocks, a = 0.25.
    """
    if norm == "mix":
        first = max(1, layers // 4)
        return ["post"] * first + ["pre"] * (layers - first)
    placement = {"deepnorm": "post", "lns": "pre"}.get(norm, norm)
    return [placement] * layers


def norm_factors(norm: str, layers: int) -> list[float]:
    """Return what each block multiplies the output of its Pre-LN norms by: 1/sqrt(l) for ``lns``, else 1.

    Source: CoD (2502.05795): both norms of block l = 1..L, not the final norm, nothing learned.
    """
    return [1 / math.sqrt(block) if norm == "lns" else 1.0 for block in range(1, layers + 1)]


def residual_alpha(norm: str, layers: int) -> float:
    """Return what a Post-LN block multiplies the stream by: alpha = (2L)^(1/4) for ``deepnorm``, else 1.

    Source: DeepNet (2203.00555), figure 2, decoder-only. The trainer released with CoD uses 2.83 at every
    depth, which is the value for 32 blocks.
    """
    return (2 * layers) ** 0.25 if norm == "deepnorm" else 1.0


def deepnorm_beta(layers: int) -> float:
    """Return the gain that DeepNorm draws its value, output and feed-forward matrices with: (8L)^(-1/4).

    Source: DeepNet (2203.00555), figure 2, decoder-only. The trainer released with CoD uses (8L)^(+1/4), ten
    times as much at 12 blocks.
    """
    return (8 * layers) ** -0.25


def ends_in_a_norm(placements: list[str]) -> bool:
    """Return whether the last block returns a normalised stream, so that the head needs no norm before it.

    Source: Post-LN (1706.03762) and DeepNet (torchscale: a last norm only where ``normalize_before``) have
    none; Pre-LN (2002.04745) and what adds to the stream like it (LNS, Mix-LN's last blocks, Gemma 2) have
    one. We differ from the trainer released with CoD, which normalises once more after every variant: to a
    normalised stream that adds little but a second gain.
    """
    return placements[-1] == "post"
