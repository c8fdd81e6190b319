"""What a comparison says: each model's rows as its own run would have them, read once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from depthprobe.catalogue import PROBES
from depthprobe.errors import RunError
from depthprobe.findings.angular import STEM as ANGULAR
from depthprobe.findings.checks import check_table
from depthprobe.findings.drops import ALPHA, Drops
from depthprobe.findings.drops import STEM as PRUNE_SWEEP
from depthprobe.findings.of_runs import findings_in, named
from depthprobe.findings.words import layers_named, spoken
from depthprobe.results.forms import shortened
from depthprobe.results.manifest import MANIFEST_NAME
from depthprobe.results.runs import Run

PREFIX = "compare_"


@dataclass(frozen=True)
class Compared:
    """One model of a comparison, by one probe.

    Args:
        label: What it is called.
        layers: How many it has.
        frame: Its rows, with the differences.
        found: What these rows say, as those of its own run would.
        data, model: What its run's manifest says of them.
    """

    label: str
    layers: int
    frame: pd.DataFrame
    found: Any
    data: Mapping[str, Any]
    model: Mapping[str, Any]


@dataclass(frozen=True)
class Comparison:
    """What a comparison says.

    Args:
        models: By the probe's main table, such as ``angular``, the models in their order.
        depths: How many layers each model has, by its label.
    """

    models: Mapping[str, list[Compared]]
    depths: Mapping[str, int]

    @property
    def same_depth(self) -> bool:
        """Whether all models have equally many layers, so that there are differences by layer."""
        return len(set(self.depths.values())) == 1

    @property
    def drops(self) -> Mapping[str, list[Drops]]:
        """By task that all sweeps have, the drops of every model."""
        models = self.models.get(PRUNE_SWEEP, [])
        return {task: [one.found.every[task] for one in models] for task in shared_tasks(models)}

    @property
    def sentences(self) -> list[str]:
        """The depths where they differ, and which layers' drops differ detectably."""
        if not self.same_depth:
            # Maps have no relative depth, since n counts layers too.
            shown = []
            if any(stem != ANGULAR for stem in self.models):
                shown.append("curves and drops over the relative depth l/L")
            if ANGULAR in self.models:
                shown.append("each map of angular distances over its own model's layers")
            depths = ", ".join(f"{label} {layers}" for label, layers in self.depths.items())
            return [f"The depths differ ({depths} layers). The figures show {' and '.join(shown)}."]
        said = []
        for task, found in self.drops.items():
            first, *others = self.models[PRUNE_SWEEP]
            for other, drops in zip(others, found[1:], strict=True):
                said.append(_difference(task, first.label, other.label, drops))
        return said


def _difference(task: str, first: str, other: str, drops: Drops) -> str:
    """Which layers' drops differ between two models, or how large a difference may be hidden."""
    rows = drops.rows
    apart = rows.loc[rows["difference_p_adjusted"] < ALPHA, "layer"].tolist()
    if apart:
        return (
            f"{task}: the drops of {other} and {first} differ detectably without {layers_named(apart)} "
            f"(p < {ALPHA}, adjusted for {len(rows)} layers)."
        )
    reach = float(rows[["difference_low", "difference_high"]].abs().to_numpy().max())
    return (
        f"{task}: these {drops.items} do not tell the drops of {other} and {first} apart at any layer; the "
        f"95% intervals of the differences reach as far as {spoken(reach, drops.decimals)}."
    )


def read_comparison(run: Run) -> Comparison:
    """Return what a comparison says.

    Raises:
        RunError: if the run is not a comparison, or a table in it is damaged.
    """
    stems = [probe.stem for probe in PROBES.values() if f"{PREFIX}{probe.stem}" in run.tables]
    if not stems:
        raise RunError(f"{run.directory} does not hold a comparison.", "Compare the runs again.")
    models = {stem: compared_of(run, stem) for stem in stems}
    return Comparison(models, {one.label: one.layers for one in models[stems[0]]})


def compared_of(run: Run, stem: str) -> list[Compared]:
    """Return the models of a comparison in their order, with their rows of one probe's main table.

    Raises:
        RunError: if the run has no such table, or its manifest does not say what was compared.
    """
    frame = run.tables.get(f"{PREFIX}{stem}")
    entries = run.manifest.get("compared")
    table = run.directory / f"{PREFIX}{stem}.csv"
    again = f"Remove or rename {run.directory} and compare the runs again."
    if frame is None or not isinstance(entries, list):
        raise RunError(f"{run.directory} does not hold a comparison of {stem}.", again)
    check_table(frame, f"{stem} compared", ("model", "layer", "relative_depth"), ("layer", "relative_depth"))
    probe = next(probe.name for probe in PROBES.values() if probe.stem == stem)
    found = []
    try:
        for entry in entries:
            kept, label = entry["runs"][probe], entry["label"]
            rows = frame[frame["model"] == label].reset_index(drop=True)
            if rows.empty:
                raise RunError(f"{table} has no rows of {shortened(label, 60)}.", again)
            layers = int(entry["model"]["layers"])
            facts = {**kept["options"], **kept.get("results", {})}
            with named(run):
                says = findings_in(probe, {stem: rows}, facts, layers)
            found.append(Compared(label, layers, rows, says, kept["data"], entry["model"]))
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{run.directory / MANIFEST_NAME} does not say what was compared.", again) from error
    if not found:
        raise RunError(f"{run.directory / MANIFEST_NAME} compares nothing.", again)
    return found


def shared_tasks(models: Sequence[Compared]) -> list[str]:
    """Return the tasks that every model has, in the first one's order."""
    names = [one.found.names for one in models]
    return [task for task in names[0] if all(task in others for others in names[1:])] if names else []
