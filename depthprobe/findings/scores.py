"""What costs no evaluation and is taken for the importance of a layer: the scores of the catalogue."""

from __future__ import annotations

import pandas as pd

from depthprobe.catalogue import PROBES, PRUNE_SWEEP
from depthprobe.declaring import Score, loaded_function
from depthprobe.findings.drops import CALIBRATION

CALIBRATION_LOSS = Score(
    f"drop_{CALIBRATION}", "calibration-loss increase", PRUNE_SWEEP.stem, "drop", {"task": CALIBRATION}
)


def proxies() -> dict[str, Score]:
    """Return every score by its column in the table with one row a layer, in the order they are shown in."""
    declared = [score for probe in PROBES.values() for score in probe.scores]
    # What a table holds comes before what is computed from it, and what needs a sweep comes last.
    declared.sort(key=lambda score: score.reading is not None)
    return {score.name: score for score in (*declared, CALIBRATION_LOSS)}


def words_of(proxy: str) -> str:
    """Return what a proxy is called, by its column in the table with one row a layer."""
    known = proxies()
    return known[proxy].words if proxy in known else proxy


def score_by_layer(score: Score, table: pd.DataFrame) -> pd.Series:
    """Return the values of a score by layer.

    Args:
        score: As declared.
        table: The one that it is of.
    """
    if score.reading is not None:
        return loaded_function(score.reading)(table)
    for column, value in score.where.items():
        table = table[table[column] == value]
    return table.set_index("layer")[score.column]
