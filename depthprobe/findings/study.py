"""Which finished runs make one report of a model: the best where several answer one question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from depthprobe.catalogue import PROBES, PRUNE_SWEEP
from depthprobe.errors import DepthprobeError, RunError
from depthprobe.findings.captions import Caption, measured_on_task, measured_words, model_title
from depthprobe.findings.drops import CALIBRATION, SweepFindings
from depthprobe.findings.of_runs import findings_of
from depthprobe.findings.same_model import check_same_model, what_differs, without_adapted, without_fresh
from depthprobe.results.forms import shortened
from depthprobe.results.manifest import MANIFEST_NAME, way_out
from depthprobe.results.runs import Run, read_run


@dataclass(frozen=True)
class Study:
    """The finished runs of one model, each with what its tables say.

    Args:
        model: The model's id as a title shows it; of a local one the directory's name.
        layers: How many layers it has.
        runs: By probe the run that counts, of every probe but prune-sweep that has one.
        found: By probe what that run says.
        sweeps: The runs of prune-sweep that count, for different tasks or block sizes.
        swept: What each of them says.
        notes: Sentences on runs that were left out, and on what differs between those that were not.
    """

    model: str
    layers: int
    runs: dict[str, Run]
    found: dict[str, Any]
    sweeps: tuple[Run, ...]
    swept: tuple[SweepFindings, ...]
    notes: tuple[str, ...]

    @property
    def all_runs(self) -> list[Run]:
        """Every run that counts, in the order of the probes."""
        return [*self.runs.values(), *self.sweeps]

    @property
    def adapter(self) -> str | None:
        """The id of the adapter that was merged into the model, None without one."""
        adapter = self.model_facts.get("adapter")
        return str(adapter.get("id")) if isinstance(adapter, dict) else adapter

    @property
    def model_facts(self) -> dict[str, Any]:
        """What a manifest says of the model: id, commit, fingerprint, dtype and so on."""
        return dict(self.all_runs[0].manifest.get("model") or {})

    def caption(
        self, what: str, run: Run | None = None, *, rescaled: str = "", task: str | None = None
    ) -> Caption:
        """Return the caption of a figure or table.

        Args:
            what: What is shown, as sentences.
            run: The run it shows; None for all of them.
            rescaled: What was rescaled for a picture, and how; empty for tables.
            task: The one task of a sweep that it shows; None for all.
        """
        if run is not None and task is not None:
            return Caption(what, measured_on_task(run, task), rescaled)
        return Caption(what, self._measured[None if run is None else run.directory], rescaled)

    @property
    def measured(self) -> str:
        """How all runs were measured: models, tasks and texts in sentences."""
        return self._measured[None]

    @cached_property
    def _measured(self) -> dict[Path | None, str]:
        """How each run was measured, by its directory; under None how all were."""
        words: dict[Path | None, str] = {run.directory: measured_words([run]) for run in self.all_runs}
        return words | {None: measured_words(self.all_runs)}


def read_study(directories: Sequence[Path]) -> Study:
    """Return the study made of finished runs.

    Where several runs answer one question the newest one counts, by the time of its manifest; among sweeps of
    one task that with most layers. Runs on freshly initialised weights, and in a model's directory those with
    an adapter, are left out where there are others, as are damaged ones that lie among a model's runs.

    Args:
        directories: Each is a run, or the directory of a model, whose runs are its children.

    Raises:
        RunError: if there is no run, all are damaged or one that was named itself is, or two runs are not of
            one model in one form.
        MachineError: if a file cannot be read.
    """
    given = {Path(directory).resolve() for directory in directories}
    read: dict[Path, tuple[Run, Any]] = {}
    damaged: list[DepthprobeError] = []
    for directory in _run_directories(directories):
        try:
            run = read_run(directory)
            if run.manifest["probe"] in PROBES:
                read[directory] = run, findings_of(run)
            elif directory.resolve() in given:
                probe = shortened(repr(run.manifest["probe"]), 40)
                raise RunError(
                    f"{directory} is a run of {probe}, which a report cannot use.",
                    f"It takes runs of: {', '.join(PROBES)}.",
                )
            # A model's directory also holds what no report is made of, such as the log of its training.
        except DepthprobeError as error:
            if directory.resolve() in given:
                raise
            damaged.append(error)
    if not read:
        raise next(iter(damaged), _nothing())
    runs, fresh = without_fresh([run for run, _ in read.values()])
    runs, adapted = without_adapted(runs, given)
    left_out = [f"Left out: {error}" for error in damaged]
    notes = [*_without_manifest(directories), *left_out, *fresh, *adapted]
    for other in runs[1:]:
        check_same_model(runs[0], other)
    runs.sort(key=_preference)
    by_probe = {probe: [run for run in runs if run.manifest["probe"] == probe] for probe in PROBES}
    swept = [read[run.directory] for run in by_probe.pop(PRUNE_SWEEP.name)]
    taken = {probe: mine[0] for probe, mine in by_probe.items() if mine}
    for probe, run in taken.items():
        notes += _left_out(probe, [run], by_probe[probe][1:])
    found = {probe: read[run.directory][1] for probe, run in taken.items()}
    sweeps = _chosen_sweeps(swept)
    counting = [run for run, _ in sweeps]
    notes += _left_out(PRUNE_SWEEP.name, counting, [run for run, _ in swept if run not in counting])
    kept = [*taken.values(), *counting]
    notes += what_differs(kept)
    layers = next(filter(None, ((run.manifest.get("model") or {}).get("layers") for run in kept)), None)
    if layers is None:
        place = kept[0].directory
        raise RunError(f"{place / MANIFEST_NAME} does not say how many layers the model has.", way_out(place))
    said = tuple(found for _, found in sweeps)
    return Study(model_title(kept[0]), layers, taken, found, tuple(counting), said, tuple(notes))


def _nothing() -> RunError:
    """The error where no run of a probe is named."""
    return RunError("There is no run to report.", "Give the directory of a run, or of a model's runs.")


def _without_manifest(directories: Sequence[Path]) -> list[str]:
    """Sentences on what lies among a model's runs and holds tables, but is not a run."""
    children = [child for directory in directories for child in sorted(Path(directory).glob("[!.]*/"))]
    return [
        f"{child} holds tables but no {MANIFEST_NAME}, so it is left out."
        for child in children
        if next(child.glob("*.csv"), None) and not (child / MANIFEST_NAME).is_file()
    ]


def _preference(run: Run) -> tuple[int, str]:
    """What sorts runs of one question: newest first; copies of one time by name, the default name first."""
    changed = (run.directory / MANIFEST_NAME).stat().st_mtime_ns
    return -changed // 10**9, run.directory.name


def _chosen_sweeps(sweeps: Sequence[tuple[Run, SweepFindings]]) -> list[tuple[Run, SweepFindings]]:
    """The sweeps that count: a task and block size needs one sweep."""
    chosen: list[tuple[Run, SweepFindings]] = []
    seen: set[tuple[int, str]] = set()

    def completeness(found: SweepFindings) -> tuple[int, bool]:
        layers = {layer for drops in found.every.values() for layer in drops.rows["layer"]}
        return len(layers), CALIBRATION in found.names

    # A sort is stable: among equally complete ones the order of preference stays.
    for run, found in sorted(sweeps, key=lambda pair: completeness(pair[1]), reverse=True):
        asked = {(found.block, task) for task in found.names if task != CALIBRATION or len(found.names) == 1}
        if asked - seen:
            chosen.append((run, found))
            seen |= asked | {(found.block, task) for task in found.names}
    return chosen


def _left_out(probe: str, taken: Sequence[Run], left: Sequence[Run]) -> list[str]:
    """A note on which of several runs of a probe count; none if all do."""
    if not left:
        return []

    def names(runs: Sequence[Run]) -> str:
        return ", ".join(sorted(run.directory.name for run in runs))

    counts, are = ("counts" if len(taken) == 1 else "count"), ("is" if len(left) == 1 else "are")
    return [
        f"Several runs of {probe}: {names(taken)} {counts}, {names(left)} {are} left out. "
        "To choose another one, give run directories."
    ]


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
