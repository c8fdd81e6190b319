"""A comparison taken apart again: each model's rows as its own run would have them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from depthprobe.errors import RunError
from depthprobe.findings.checks import check_table
from depthprobe.results.runs import Run

PREFIX = "compare_"


@dataclass(frozen=True)
class Compared:
    """One model of a comparison.

    Args:
        label: How it is called.
        layers: How many it has.
        frame: Its rows, with the differences.
        options, data, model: What its run's manifest says of them.
    """

    label: str
    layers: int
    frame: pd.DataFrame
    options: Mapping[str, Any]
    data: Mapping[str, Any]
    model: Mapping[str, Any]


def compared_of(run: Run, stem: str) -> list[Compared]:
    """The models of a comparison in their order, with their rows of one table such as ``angular``.

    Raises:
        RunError: if the run has no such table, or its manifest does not say what was compared.
    """
    frame = run.tables.get(f"{PREFIX}{stem}")
    sides = run.manifest.get("compared")
    if frame is None or not isinstance(sides, list):
        raise RunError(f"{run.directory} holds no comparison of {stem}.", "Compare the runs again.")
    check_table(frame, f"{stem} compared", ("model", "layer", "relative_depth"), ("layer", "relative_depth"))
    probe = "variance" if stem == "influence" else stem.replace("_", "-")
    found = []
    try:
        for side in sides:
            kept = side["runs"][probe]
            rows = frame[frame["model"] == side["label"]].reset_index(drop=True)
            layers = int(side["model"]["layers"])
            found.append(Compared(side["label"], layers, rows, kept["options"], kept["data"], side["model"]))
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"The manifest in {run.directory} does not say what was compared.", "Compare the runs again."
        ) from error
    lacking = [side.label for side in found if side.frame.empty]
    if lacking or not found:
        raise RunError(f"{PREFIX}{stem}.csv in {run.directory} has no rows of {', '.join(lacking)}.")
    return found
