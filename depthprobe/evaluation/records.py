"""What a sweep keeps on disk besides its table: every item's score, and lm-eval's own sample rows."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping

import numpy as np

from depthprobe.evaluation.harness.outcome import Outcome
from depthprobe.evaluation.scores import Variant


def items_of(outcomes: Mapping[Variant, Outcome]) -> bytes:
    """Return every document's score for every variant, compressed: the data behind the statistics.

    For each number ``task/metric/filter``: ``.docs`` [doc] and ``.scores`` [variant, doc] or
    [variant, doc, part]; ``variants`` are the removed layers, row by row, -1 for none.
    """
    variants = list(outcomes)
    width = max(map(len, variants)) or 1
    arrays = {"variants": np.array([[*variant, *[-1] * (width - len(variant))] for variant in variants])}
    for key, scores in outcomes[()].per_doc.items():
        values = [outcome.per_doc[key].values for outcome in outcomes.values()]
        if all(value is not None for value in values):
            arrays["/".join(key) + ".docs"] = scores.doc_ids
            arrays["/".join(key) + ".scores"] = np.stack([value for value in values if value is not None])
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def logged(outcomes: Mapping[Variant, Outcome]) -> dict[str, bytes]:
    """Return lm-eval's own sample rows, a JSON Lines file for each task and variant."""
    files = {}
    for variant, outcome in outcomes.items():
        without = f"without-{'-'.join(map(str, variant))}" if variant else "whole"
        for task, rows in outcome.samples.items():
            lines = (json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)
            files[f"samples_{task}_{without}.jsonl"] = "".join(lines).encode("utf-8")
    return files
