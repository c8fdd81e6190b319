"""All that the finished runs of one model say, computed once, for charts, tables, page and sentences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from depthprobe.catalogue import PROBES
from depthprobe.errors import RunError
from depthprobe.findings.drops import CALIBRATION, Drops
from depthprobe.findings.scores import score_by_layer
from depthprobe.findings.study import Study
from depthprobe.findings.trust import Trust, read_trust
from depthprobe.findings.verdict import Verdict, verdict


@dataclass(frozen=True)
class Findings:
    """What the runs of one model say together.

    Args:
        study: The runs, each with what it says by itself.
        drops: What removing single layers cost on each task, by its headline metric; calibration loss last.
            Sweeps of larger blocks do not count here: their rows do not measure one layer.
        by_layer: A row for each layer and a column for every quantity that was measured of it: layer
            (0-based); the scores of the catalogue; and for each task drop_TASK, ci_low_TASK, ci_high_TASK,
            p_adjusted_TASK by its headline metric. NaN where a quantity is not known of a layer.
        trust: How far the scores order the layers as the drops do.
        verdict: A sentence to quote, a few points, and what each run says at length.
    """

    study: Study
    drops: tuple[Drops, ...]
    by_layer: pd.DataFrame
    trust: Trust
    verdict: Verdict

    @property
    def model(self) -> str:
        """The model's id as a title shows it."""
        return self.study.model

    @property
    def layers(self) -> int:
        """How many layers the model has."""
        return self.study.layers


def read_findings(study: Study) -> Findings:
    """Return what the runs of a study say.

    Raises:
        RunError: if a table has layers that the model does not have.
    """
    drops = _drops(study)
    by_layer = _by_layer(study, drops)
    said = verdict(study, by_layer, drops)
    return Findings(study, drops, by_layer, read_trust(by_layer, drops), said)


def _drops(study: Study) -> tuple[Drops, ...]:
    found: dict[str, Drops] = {}
    for sweep in study.swept:
        if sweep.block == 1:
            for drops in sweep.tasks:
                found.setdefault(drops.task, drops)
    if CALIBRATION in found:
        found[CALIBRATION] = found.pop(CALIBRATION)
    return tuple(found.values())


def _by_layer(study: Study, drops: tuple[Drops, ...]) -> pd.DataFrame:
    columns = {}
    for probe in PROBES.values():
        run = study.runs.get(probe.name)
        for score in probe.scores:
            # Older runs lack tables that came later.
            if run is not None and score.table in run.tables:
                values = score_by_layer(score, run.tables[score.table])
                columns[score.name] = _in_order(values, study.layers, str(run.directory))
    for each in drops:
        rows = each.rows.set_index("layer")
        for name in ("drop", "ci_low", "ci_high", "p_adjusted"):
            columns[f"{name}_{each.task}"] = _in_order(rows[name], study.layers, f"The sweep of {each.task}")
    return pd.DataFrame({"layer": np.arange(study.layers), **columns})


def _in_order(values: pd.Series, layers: int, where: str) -> np.ndarray:
    """[layer] the values; NaN for layers that are not among them."""
    index = values.index.to_numpy()
    if len(index) and index.max() >= layers:
        raise RunError(f"{where} has a layer {index.max()}; its model has {layers} layers.", "Run it again.")
    column = np.full(layers, np.nan)
    column[index] = values.to_numpy(dtype="float64")
    return column
