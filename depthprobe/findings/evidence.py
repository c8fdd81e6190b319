"""What the items of a sweep can tell: which drops are shown to be small, which are detectable, which neither.

No detectable drop is no small drop: with a handful of items nothing is detectable. A drop counts as small
where its interval, which holds for all layers together, ends below a margin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

# A removal whose Holm-adjusted p is not below this makes no detectable difference.
ALPHA = 0.05
# A drop below this is small: on scores from 0 to 1, in nats a token, in bits a byte.
SMALL = 0.05
# Of other metrics, such as perplexities, this share of the whole model's.
_SMALL_SHARE = 0.05
_OWN_UNIT = ("loss", "bits_per_byte")
# No drop is small that takes more than this share of what the whole model has above chance.
_SHARE_ABOVE_CHANCE = 0.5
# Standard errors to the upper end of a one-sided 95% interval.
_NORMAL = 1.645

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Evidence:
    """What a task's items show of every removal, and what they could have missed.

    Args:
        small: Below which a drop counts as small, in the metric's unit; 0 if none can.
        below: [row] whether the drop is shown to be below that, by intervals that hold for all rows together.
        worse, better: [row] whether the removal makes a detectable difference.
        missed: How large a drop could have been missed where none was detected.
        above: How far the whole model is above chance; None where no level of chance is known.
        at_chance: Whether it is not clearly above it.
        guesses: Whether it is shown to be no further above it than a small drop.
        docs: How many items were compared.
        size: The drop that enough items would show: a small one.
        needed: About how many that are.
    """

    small: float
    below: Mask
    worse: Mask
    better: Mask
    missed: float
    above: float | None
    at_chance: bool
    guesses: bool
    docs: int
    size: float
    needed: int

    @property
    def open(self) -> Mask:
        """[row] whether nothing is shown of the removal: neither a drop nor that it is small."""
        return ~(self.below | self.worse | self.better)

    @property
    def short(self) -> bool:
        """Whether the items are too few for what is open: a drop that is not small could have been missed."""
        return bool(self.open.any()) and self.missed > self.small


def evidence_of(
    rows: pd.DataFrame,
    *,
    metric: str,
    baseline: float,
    higher_is_better: bool,
    chance: float | None,
    missed: float | None,
) -> Evidence:
    """Return what the rows of one task, one a removal, show by one metric.

    Args:
        rows: Columns drop, ci_low, ci_high, p_adjusted, flips, docs.
        metric, baseline, higher_is_better, chance: Of the whole model.
        missed: How large a drop the items could have missed, if the run says it.
    """
    # scipy: a tenth of a second
    from depthprobe.metrics.margins import guessing_does_as_well, items_needed, joint_interval

    drop, p = (rows[name].to_numpy(dtype="float64") for name in ("drop", "p_adjusted"))
    changed = pd.to_numeric(rows["flips"], errors="coerce").to_numpy(dtype="float64")
    docs, tests = int(rows["docs"].max()), len(rows)
    ends = [
        joint_interval(row.drop, row.ci_low, row.ci_high, changed=flips, docs=int(row.docs), tests=tests)
        for row, flips in zip(rows.itertuples(), changed, strict=True)
    ]
    harm = -drop if higher_is_better else drop
    reach = np.array([-low if higher_is_better else high for low, high in ends])
    detected = p < ALPHA
    above = None if chance is None or not higher_is_better else baseline - chance
    small = _small(metric, baseline, above)
    unfound = ~detected if not detected.all() else detected
    # As the sweep has it: never less than half an interval.
    half = float((rows["ci_high"] - rows["ci_low"])[unfound].max()) / 2
    missed = float((reach - harm)[unfound].max()) if missed is None else max(missed, half)
    at_chance = guesses = False
    rate = None
    if above is not None and chance is not None:
        at_chance = guessing_does_as_well(baseline, docs, chance) >= ALPHA
        guesses = at_chance and above + _NORMAL * math.sqrt(chance * (1 - chance) / docs) < SMALL
        # Only right and wrong answers have a level of chance. Laplace's rule: none of a few is not never.
        rate = (float(np.nanmax(changed[~detected], initial=0)) + 1) / (docs + 2)
    size = small or SMALL
    return Evidence(
        small=small,
        below=reach < small,
        worse=detected & (harm > 0),
        better=detected & (harm < 0),
        missed=missed,
        above=above,
        at_chance=at_chance,
        guesses=guesses,
        docs=docs,
        size=size,
        needed=items_needed(size, missed=missed, docs=docs, flip_rate=rate, tests=tests),
    )


def _small(metric: str, baseline: float, above: float | None) -> float:
    """The drop below which one counts as small; 0 for a model that is not above chance."""
    small = SMALL if abs(baseline) <= 1 or metric in _OWN_UNIT else _SMALL_SHARE * abs(baseline)
    return small if above is None else max(0.0, min(small, _SHARE_ABOVE_CHANCE * above))
