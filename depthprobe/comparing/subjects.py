"""What each argument of a comparison stands for: finished runs, or a model that is yet to be measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from depthprobe.catalogue import ANGULAR, PROBES, VARIANCE
from depthprobe.errors import DepthprobeError, OptionError, RunError
from depthprobe.findings.captions import without_directories
from depthprobe.machine.here import exists_here
from depthprobe.results.manifest import MANIFEST_NAME
from depthprobe.results.naming import flat
from depthprobe.results.runs import Run, read_run

_MODEL_FILES = ("config.json", "params.json", "adapter_config.json")
# What may tell two runs of one model apart, with the word that is put before its value.
_TELLING = {
    "commit": "commit",
    "dtype": "",
    "adapter": "adapter",
    "attention": "attention",
    "tower": "",
    "initial_seed": "initial, seed",
}


@dataclass(frozen=True)
class Subject:
    """One of the things compared.

    Args:
        argument: As the user wrote it.
        runs: Its finished runs by probe; empty for a model that is yet to be measured.
        label: Its name in tables and figures; set by :func:`labelled`.
        damaged: What is wrong with runs beside those, which are left out.
    """

    argument: str
    runs: dict[str, Run] = field(default_factory=dict)
    label: str = ""
    damaged: tuple[DepthprobeError, ...] = ()

    @property
    def is_model(self) -> bool:
        """Whether nothing is measured yet."""
        return not self.runs


def compared_probes() -> list[str]:
    """Return the probes whose runs can be compared, in the order in which they are shown."""
    return [probe.name for probe in PROBES.values() if any(table.compared for table in probe.tables)]


def find_subjects(arguments: Sequence[str], probes: Sequence[str] | None) -> list[Subject]:
    """Return what each argument stands for: a run, a directory of a model's runs, or else a model.

    Args:
        arguments: Two or more.
        probes: Those to compare; None for all that a directory holds.

    Raises:
        OptionError: if there are fewer than two, or one is named twice.
        RunError: if a directory holds neither runs nor a model, or a run cannot be read or compared.
    """
    if len(arguments) < 2:
        problem = f"There is nothing to compare {arguments[0]} with." if arguments else "Nothing is named."
        raise OptionError(problem, "Name two or more models or runs.")
    places = [str(Path(name).resolve()) if _is_directory(name) else name for name in arguments]
    twice = next((name for name, count in Counter(places).items() if count > 1), None)
    if twice is not None:
        raise OptionError(f"{arguments[places.index(twice)]} is named twice.", "Name each model or run once.")
    return [_subject(name, probes) for name in arguments]


def _subject(argument: str, probes: Sequence[str] | None) -> Subject:
    path = Path(argument)
    if (
        not _is_directory(argument)
        or any((path / name).exists() for name in _MODEL_FILES)
        or any(path.glob("*.gguf"))
    ):
        return Subject(argument)
    if (path / MANIFEST_NAME).is_file():
        run = read_run(path)
        probe = str(run.manifest["probe"])
        if probe not in compared_probes():
            raise RunError(
                f"{argument} is a run of {probe!r}, which cannot be compared.",
                f"Give runs of {', '.join(compared_probes())}, or models.",
            )
        return Subject(argument, {probe: run})
    runs: dict[str, Run] = {}
    others: set[str] = set()
    damaged: list[DepthprobeError] = []
    for manifest in sorted(path.glob(f"[!.]*/{MANIFEST_NAME}")):
        try:
            run = read_run(manifest.parent)
        except DepthprobeError as error:
            damaged.append(error)
            continue
        probe = str(run.manifest["probe"])
        if probe not in compared_probes() or (probes and probe not in probes):
            others.add(probe)
            continue
        if probe in runs and runs[probe].directory.name == probe:
            continue  # the run with the default settings lies under the probe's own name
        if probe in runs and run.directory.name != probe:
            raise RunError(
                f"{argument} holds several runs of {probe}: {runs[probe].directory.name} and "
                f"{run.directory.name}.",
                "Name the run directories themselves.",
            )
        runs[probe] = run
    if damaged and not runs:
        raise damaged[0]
    if not runs and others:
        raise RunError(
            f"{argument} holds runs of {', '.join(sorted(others))} but none of "
            f"{', '.join(probes or compared_probes())}.",
            "Measure it first, or choose others with --probe.",
        )
    if not runs:
        raise RunError(
            f"{argument} is neither a run, nor a directory of runs, nor a model.",
            "Give a run such as reports/MODEL/angular, a directory such as reports/MODEL, or a model.",
        )
    return Subject(argument, runs, damaged=tuple(damaged))


def _is_directory(name: str) -> bool:
    return exists_here(name) and Path(name).is_dir()


def probes_to_compare(subjects: Sequence[Subject], asked: Sequence[str] | None) -> list[str]:
    """Return the probes to compare: those asked for, else those that all finished subjects share.

    Where all are models, these are angular and variance.

    Raises:
        OptionError: if a probe is unknown.
        RunError: if a finished subject lacks a probe, or they share none.
    """
    finished = [subject for subject in subjects if not subject.is_model]
    if asked is None:
        if not finished:
            return [ANGULAR.name, VARIANCE.name]
        shared = [probe for probe in compared_probes() if all(probe in subject.runs for subject in finished)]
        if not shared:
            held = "; ".join(f"{subject.argument} holds {', '.join(subject.runs)}" for subject in finished)
            raise RunError(f"The runs share no probe: {held}.", "Give runs of one probe.")
        return shared
    unknown = [probe for probe in asked if probe not in compared_probes()]
    if unknown or not asked:
        known = ", ".join(compared_probes())
        raise OptionError(f"--probe must be one or more of {known}, got {', '.join(unknown) or 'nothing'}.")
    for subject in finished:
        lacking = [probe for probe in asked if probe not in subject.runs]
        if lacking and subject.damaged:
            raise subject.damaged[0]
        if lacking:
            raise RunError(
                f"{subject.argument} holds no run of {', '.join(lacking)}.",
                "Measure it first, or leave it out of --probe.",
            )
    return [probe for probe in compared_probes() if probe in asked]


def labelled(subjects: Sequence[Subject]) -> list[Subject]:
    """Return the subjects with a label each: the model's id, and what tells it apart where ids are equal."""
    manifests = [next(iter(subject.runs.values())).manifest for subject in subjects]
    names = [
        without_directories(str((manifest.get("model") or {}).get("id") or subject.argument))
        for manifest, subject in zip(manifests, subjects, strict=True)
    ]
    labels = list(names)
    for name in {name for name in names if names.count(name) > 1}:
        same = [index for index, other in enumerate(names) if other == name]
        facts = [_telling(manifests[index].get("model") or {}) for index in same]
        differing = [key for key in _TELLING if len({words.get(key, "") for words in facts}) > 1]
        words = [", ".join(filter(None, (each.get(key, "") for key in differing))) for each in facts]
        if len(set(words)) < len(same):
            words = _endings([subjects[index].argument for index in same])
        for index, word in zip(same, words, strict=True):
            labels[index] = f"{name} ({word})" if word else name
    if len(set(labels)) < len(labels):
        labels = [f"{label} #{number}" for number, label in enumerate(labels, start=1)]
    return [replace(subject, label=label) for subject, label in zip(subjects, labels, strict=True)]


def _endings(paths: Sequence[str]) -> list[str]:
    """The ends of paths, with as many of their parts as tell them apart."""
    parts = [Path(path).parts for path in paths]
    for count in range(1, max(map(len, parts)) + 1):
        endings = ["/".join(each[-count:]) for each in parts]
        if len(set(endings)) == len(paths):
            break
    return endings


def _telling(model: dict[str, Any]) -> dict[str, str]:
    """What may tell a model from another one of the same name, in words."""
    adapter = model.get("adapter")
    adapter = adapter.get("id") if isinstance(adapter, dict) else adapter
    facts = {**flat(model), "adapter": None if adapter is None else without_directories(str(adapter))}
    if facts.get("commit") is not None:
        facts["commit"] = str(facts["commit"])[:10]
    return {
        key: f"{word} {facts[key]}".strip() for key, word in _TELLING.items() if facts.get(key) is not None
    }
