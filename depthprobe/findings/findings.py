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

# So many tasks each get figures, tables and correlations of their own; of more, only the first few.
MOST_TASKS, FIRST_TASKS = 5, 3


@dataclass(frozen=True)
class Findings:
    """What the runs of one model say together.

    Args:
        study: The runs, each with what it says by itself.
        drops: What removing single layers cost on each task, by its headline metric; calibration loss last.
            Sweeps of larger blocks do not count here: their rows do not measure one layer. Groups
            come first; of more than ``MOST_TASKS`` tasks, only the first ``FIRST_TASKS``.
        others: What it costs on the other tasks: the rest of many, and the members of groups.
        by_layer: A row for each layer and a column for every quantity that was measured of it: layer
            (0-based); the scores of the catalogue; and for each task drop_TASK, ci_low_TASK, ci_high_TASK,
            p_adjusted_TASK by its headline metric. NaN where a quantity is not known of a layer.
        trust: How far the scores order the layers as the drops do.
        verdict: A sentence to quote, a few points, and what each run says at length.
    """

    study: Study
    drops: tuple[Drops, ...]
    others: tuple[Drops, ...]
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
    drops, others = _drops(study)
    by_layer = _by_layer(study, drops)
    said = verdict(study, by_layer, drops)
    return Findings(study, drops, others, by_layer, read_trust(by_layer, drops), said)


def _drops(study: Study) -> tuple[tuple[Drops, ...], tuple[Drops, ...]]:
    """Return what is shown of each task by itself, and what only together with others."""
    shown: dict[str, Drops] = {}
    every: dict[str, Drops] = {}
    groups: set[str] = set()
    for sweep in study.swept:
        if sweep.block == 1:
            groups |= set((sweep.facts.get("requests") or {}).get("groups") or {})
            for drops in sweep.tasks:
                shown.setdefault(drops.task, drops)
            for drops in sweep.every.values():
                every.setdefault(drops.task, drops)
    calibration = shown.pop(CALIBRATION, None)
    # A sort is stable: groups come first, all in the order in which they were asked for.
    first = sorted(shown.values(), key=lambda drops: drops.task not in groups)
    first = first if len(first) <= MOST_TASKS else first[:FIRST_TASKS]
    kept = (*first, *([] if calibration is None else [calibration]))
    names = {drops.task for drops in kept}
    return kept, tuple(drops for drops in every.values() if drops.task not in names)


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
