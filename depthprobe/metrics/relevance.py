"""What a layer is worth on a task that can be guessed."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def chance_corrected_relevance(
    baseline: float, variant: ArrayLike, chance: float
) -> NDArray[np.float64] | None:
    """The share of the model's accuracy above chance that is lost; None where it has none.

    Args:
        baseline: Accuracy of the whole model, 0 to 1.
        variant: Accuracy without a layer, 0 to 1; of any shape, such as ``[layer]``.
        chance: Accuracy of guessing, 0 to 1.

    Returns:
        float64 in the shape of ``variant``, 1 - max(variant - chance, 0) / (baseline - chance): 1 when
        removing the layer leaves only guessing, 0 when it changes nothing, negative when the model gets
        better without it.

    Source: RETHINK, 2605.14075.
    """
    if baseline <= chance:
        return None
    left = np.maximum(np.asarray(variant, dtype=np.float64) - chance, 0.0)
    return 1 - left / (baseline - chance)
