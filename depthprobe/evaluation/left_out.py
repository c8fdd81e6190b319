"""Numbers that not every variant has: left out of all of them, and told, instead of ending the sweep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from depthprobe.errors import MeasureError
from depthprobe.evaluation.harness.outcome import Key, Outcome
from depthprobe.evaluation.scores import Variant


def comparable(outcomes: Mapping[Variant, Outcome]) -> tuple[dict[Variant, Outcome], list[str]]:
    """Return the outcomes with the numbers that all of them have, and sentences on those left out.

    A task's own metric may give NaN, or its aggregation fail, for one variant alone.

    Raises:
        MeasureError: if nothing is left of what the tasks were to give.
    """
    reasons: dict[Key, str] = {}
    for variant, outcome in outcomes.items():
        for key, why in outcome.left_out.items():
            reasons.setdefault(key, f"{why} {_of(variant)}")
    if not reasons:
        return dict(outcomes), []
    notes = [
        f"{metric} of {task}{f' (filter {which})' if which != 'none' else ''} is left out: {why}."
        for (task, metric, which), why in reasons.items()
    ]
    kept = {
        variant: replace(
            outcome,
            aggregate={key: value for key, value in outcome.aggregate.items() if key not in reasons},
            per_doc={key: value for key, value in outcome.per_doc.items() if key not in reasons},
            metrics={key: value for key, value in outcome.metrics.items() if key not in reasons},
        )
        for variant, outcome in outcomes.items()
    }
    if not kept[()].aggregate:
        raise MeasureError(f"The tasks give no number that can be compared: {notes[0]}", "Check the task.")
    return kept, notes


def _of(variant: Variant) -> str:
    if not variant:
        return "for the whole model"
    return f"without layer{'s' if len(variant) > 1 else ''} {', '.join(map(str, variant))}"
