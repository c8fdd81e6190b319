"""The finished runs of one model that make one report, and all they say of every layer in one table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from depthprobe.errors import RunError
from depthprobe.findings.angular import single_turns
from depthprobe.findings.captions import model_title
from depthprobe.findings.drops import CALIBRATION, Drops, drops_of, headline_tasks
from depthprobe.findings.gradnorm import STEM as GRADNORM
from depthprobe.findings.gradnorm import grad_norms
from depthprobe.findings.same_model import (
    block_of,
    check_same_model,
    chosen_sweeps,
    left_out,
    preference,
    what_differs,
    without_fresh,
)
from depthprobe.findings.variance import INFLUENCE_STEM, influences, variances
from depthprobe.findings.variance import STEM as VARIANCE
from depthprobe.results.runs import MANIFEST_NAME, Run, read_run

ANGULAR, SWEEP = "angular", "prune-sweep"
PROBES = (ANGULAR, VARIANCE, GRADNORM, SWEEP)

# What costs no evaluation and is taken for the importance of a layer: column of the layer table -> words.
# Of each a small value is read as "this layer can be spared".
PROXIES = {
    "angular_distance": "angular distance (n = 1)",
    "block_influence": "Block Influence",
    "contribution_ratio": "contribution ratio",
    "grad_norm": "gradient norm",
    "variance_growth": "variance growth",
    f"drop_{CALIBRATION}": "calibration-loss increase",
}


@dataclass(frozen=True)
class Study:
    """The finished runs of one model.

    Args:
        model: The model's id as a title shows it; of a local one the directory's name.
        layers: How many layers it has.
        runs: By probe the run that counts: angular, variance, gradnorm, as far as there is one.
        sweeps: The runs of prune-sweep that count, for different tasks or block sizes.
        notes: Sentences on runs that were left out, and on what differs between those that were not.
    """

    model: str
    layers: int
    runs: dict[str, Run]
    sweeps: tuple[Run, ...]
    notes: tuple[str, ...]

    @property
    def all_runs(self) -> list[Run]:
        """Every run that counts, in the order of the probes."""
        return [*self.runs.values(), *self.sweeps]

    @property
    def facts(self) -> dict[str, Any]:
        """What a manifest says of the model: id, commit, fingerprint, dtype and so on."""
        return dict(self.all_runs[0].manifest.get("model") or {})

    @cached_property
    def drops(self) -> list[Drops]:
        """What removing single layers cost on each task, by its headline metric; calibration loss last.

        Sweeps of larger blocks do not count here: their rows are no measurements of one layer.

        Raises:
            RunError: if a table of drops cannot be used.
        """
        found: dict[str, Drops] = {}
        for run in self.sweeps:
            if block_of(run) == 1:
                for task in headline_tasks(run):
                    found.setdefault(task, drops_of(run, task))
        if CALIBRATION in found:
            found[CALIBRATION] = found.pop(CALIBRATION)
        return list(found.values())

    @cached_property
    def by_layer(self) -> pd.DataFrame:
        """A table with one row a layer (0-based) and a column for every quantity that was measured of it.

        Columns, as far as their runs are there: layer; angular_distance (n = 1, fraction of pi);
        block_influence; contribution_ratio; variance_growth (log of the variance of x^{l+1} over that of
        x^l); grad_norm (whole block); and for each task drop_TASK, ci_low_TASK, ci_high_TASK,
        p_adjusted_TASK by its headline metric, the calibration loss among them. NaN where a quantity is not
        known of a layer.

        Raises:
            RunError: if a table cannot be used, or tells of layers that the model does not have.
        """
        columns: dict[str, NDArray[np.float64]] = {}
        if ANGULAR in self.runs:
            turns = single_turns(_table(self.runs[ANGULAR], ANGULAR))
            columns["angular_distance"] = _by_layer(self, turns.index, turns, self.runs[ANGULAR])
        if VARIANCE in self.runs:
            run = self.runs[VARIANCE]
            stream = variances(_table(run, VARIANCE)).stream
            if INFLUENCE_STEM in run.tables:
                rows = influences(run.tables[INFLUENCE_STEM], self.layers)
                for name in ("block_influence", "contribution_ratio"):
                    columns[name] = rows[name].to_numpy(dtype="float64")
            logs = np.log(np.where(stream > 0, stream, np.nan))
            columns["variance_growth"] = _by_layer(self, range(len(stream) - 1), np.diff(logs), run)
        if GRADNORM in self.runs:
            norms = grad_norms(_table(self.runs[GRADNORM], GRADNORM)).norm
            columns["grad_norm"] = _by_layer(self, range(len(norms)), norms, self.runs[GRADNORM])
        for drops in self.drops:
            for name in ("drop", "ci_low", "ci_high", "p_adjusted"):
                column = _by_layer(self, drops.rows["layer"], drops.rows[name], drops.task)
                columns[f"{name}_{drops.task}"] = column
        return pd.DataFrame({"layer": np.arange(self.layers), **columns})


def read_study(directories: Sequence[Path]) -> Study:
    """The study made of finished runs.

    Where several runs answer one question the newest one counts, by the time of its manifest; among sweeps of
    one task that with most layers. Runs on freshly initialised weights are left out where there are others.

    Args:
        directories: Each is a run, or the directory of a model, whose runs are its children.

    Raises:
        RunError: if there is no run, a run is damaged, or two runs are not of one model in one form.
        MachineError: if a file cannot be read.
    """
    given = {Path(directory).resolve() for directory in directories}
    runs = [read_run(directory) for directory in _run_directories(directories)]
    # A model's directory also holds what no report is made of, such as the log of its training.
    runs = [run for run in runs if run.manifest["probe"] in PROBES or run.directory.resolve() in given]
    for run in runs:
        if run.manifest["probe"] not in PROBES:
            raise RunError(
                f"{run.directory} is a run of {run.manifest['probe']!r}, which a report cannot use.",
                f"It takes runs of: {', '.join(PROBES)}.",
            )
    if not runs:
        raise RunError("There is no run to report.", "Give the directory of a run, or of a model's runs.")
    runs, notes = without_fresh(runs)
    notes = [*_without_manifest(directories), *notes]
    for other in runs[1:]:
        check_same_model(runs[0], other)
    runs.sort(key=preference)
    taken: dict[str, Run] = {}
    for probe in (ANGULAR, VARIANCE, GRADNORM):
        mine = [run for run in runs if run.manifest["probe"] == probe]
        if mine:
            taken[probe] = mine[0]
            notes += left_out(probe, mine[:1], mine[1:])
    sweeps, left = chosen_sweeps([run for run in runs if run.manifest["probe"] == SWEEP])
    notes += left_out(SWEEP, sweeps, left)
    kept = [*taken.values(), *sweeps]
    notes += what_differs(kept)
    layers = (kept[0].manifest.get("model") or {}).get("layers")
    if not isinstance(layers, int) or layers < 1:
        raise RunError(
            f"The manifest in {kept[0].directory} does not say how many layers the model has.",
            "Run the measurement again.",
        )
    return Study(model_title(kept[0]), layers, taken, tuple(sweeps), tuple(notes))


def _without_manifest(directories: Sequence[Path]) -> list[str]:
    """Sentences on what lies among a model's runs and holds tables, but is no run."""
    children = [child for directory in directories for child in sorted(Path(directory).glob("[!.]*/"))]
    return [
        f"{child} holds tables but no {MANIFEST_NAME}, so it is left out."
        for child in children
        if next(child.glob("*.csv"), None) and not (child / MANIFEST_NAME).is_file()
    ]


def _table(run: Run, stem: str) -> pd.DataFrame:
    """A table of a run that its probe always writes."""
    if stem not in run.tables:
        raise RunError(f"{run.directory} holds no table {stem}.csv.", "Run the measurement again.")
    return run.tables[stem]


def _by_layer(study: Study, layers: Iterable[int], values: Any, source: Run | str) -> NDArray[np.float64]:
    """The values in the order of the model's layers; NaN for layers that are not among them."""
    index = np.asarray(list(layers), dtype="int64")
    if len(index) and index.max() >= study.layers:
        where = source.directory if isinstance(source, Run) else f"The sweep of {source}"
        raise RunError(
            f"{where} has a layer {index.max()}; its model has {study.layers} layers.", "Run it again."
        )
    column = np.full(study.layers, np.nan)
    column[index] = np.asarray(values, dtype="float64")
    return column


def _run_directories(directories: Sequence[Path]) -> list[Path]:
    """The directories of runs, each once, in the order given; children by name."""
    found: dict[Path, Path] = {}
    for directory in map(Path, directories):
        within = [directory]
        if directory.is_dir() and not (directory / MANIFEST_NAME).is_file():
            # Hidden ones are being written, or were left over.
            children = sorted(directory.glob(f"[!.]*/{MANIFEST_NAME}"))
            # None: let reading it say what is wrong, and where runs lie below.
            within = [manifest.parent for manifest in children] or within
        for path in within:
            found.setdefault(path.resolve(), path)
    return list(found.values())
