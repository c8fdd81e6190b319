"""What each argument of a comparison stands for: finished runs, or a model that is yet to be measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from depthprobe.errors import OptionError, RunError
from depthprobe.results.manifest import MANIFEST_NAME
from depthprobe.results.naming import flat
from depthprobe.results.runs import Run, read_run

# The probes whose runs can be compared, in the order in which they are shown.
COMPARED = ("angular", "variance", "gradnorm", "prune-sweep")
_MODEL_FILES = ("config.json", "params.json", "adapter_config.json")
# What may tell two runs of one model apart, with the word that is put before its value.
_TELLING = {
    "commit": "commit",
    "dtype": "",
    "adapter": "adapter",
    "tower": "",
    "initial_seed": "initial, seed",
}


@dataclass(frozen=True)
class Side:
    """One of the things compared.

    Args:
        argument: As the user wrote it.
        runs: Its finished runs by probe; empty for a model that is yet to be measured.
        label: How it is called in tables and figures; set by :func:`labelled`.
    """

    argument: str
    runs: dict[str, Run] = field(default_factory=dict)
    label: str = ""

    @property
    def is_model(self) -> bool:
        """Whether nothing is measured yet."""
        return not self.runs


def find_sides(arguments: Sequence[str], probes: Sequence[str] | None) -> list[Side]:
    """Return what each argument stands for: a run, a directory of a model's runs, or else a model.

    Args:
        arguments: Two or more.
        probes: Those that shall be compared; None for all that a directory holds.

    Raises:
        OptionError: if there are fewer than two, or one stands there twice.
        RunError: if a directory is neither runs nor a model, or a run cannot be read or compared.
    """
    if len(arguments) < 2:
        named = arguments[0] if arguments else "nothing"
        raise OptionError(f"There is nothing to compare {named} with.", "Name two or more models or runs.")
    places = [str(Path(name).resolve()) if Path(name).is_dir() else name for name in arguments]
    twice = next((name for name, count in Counter(places).items() if count > 1), None)
    if twice is not None:
        raise OptionError(f"{arguments[places.index(twice)]} is named twice.", "Name each model or run once.")
    return [_side(name, probes) for name in arguments]


def _side(argument: str, probes: Sequence[str] | None) -> Side:
    path = Path(argument)
    if not path.is_dir() or any((path / name).exists() for name in _MODEL_FILES) or any(path.glob("*.gguf")):
        return Side(argument)
    if (path / MANIFEST_NAME).is_file():
        run = read_run(path)
        probe = str(run.manifest["probe"])
        if probe not in COMPARED:
            raise RunError(
                f"{argument} is a run of {probe!r}, which cannot be compared.",
                f"Give runs of {', '.join(COMPARED)}, or models.",
            )
        return Side(argument, {probe: run})
    runs: dict[str, Run] = {}
    others: set[str] = set()
    for manifest in sorted(path.glob(f"*/{MANIFEST_NAME}")):
        if manifest.parent.name.startswith("."):
            continue
        run = read_run(manifest.parent)
        probe = str(run.manifest["probe"])
        if probe not in COMPARED or (probes and probe not in probes):
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
    if not runs and others:
        raise RunError(
            f"{argument} holds runs of {', '.join(sorted(others))}, and none of "
            f"{', '.join(probes or COMPARED)}.",
            "Measure it first, or choose others with --probe.",
        )
    if not runs:
        raise RunError(
            f"{argument} is neither a run, nor a directory of runs, nor a model.",
            "Give a run such as reports/MODEL/angular, a directory such as reports/MODEL, or a model.",
        )
    return Side(argument, runs)


def probes_to_compare(sides: Sequence[Side], asked: Sequence[str] | None) -> list[str]:
    """Return the probes to compare: those asked for, else those that all finished sides share.

    Where all are models, these are angular and variance.

    Raises:
        OptionError: if a probe is unknown.
        RunError: if a finished side lacks a probe, or they share none.
    """
    finished = [side for side in sides if not side.is_model]
    if asked is None:
        if not finished:
            return ["angular", "variance"]
        shared = [probe for probe in COMPARED if all(probe in side.runs for side in finished)]
        if not shared:
            held = "; ".join(f"{side.argument} holds {', '.join(side.runs)}" for side in finished)
            raise RunError(f"The runs share no probe: {held}.", "Give runs of one probe.")
        return shared
    unknown = [probe for probe in asked if probe not in COMPARED]
    if unknown or not asked:
        named = ", ".join(unknown) or "nothing"
        raise OptionError(f"--probe is {named}.", f"Use some of {', '.join(COMPARED)}.")
    for side in finished:
        lacking = [probe for probe in asked if probe not in side.runs]
        if lacking:
            raise RunError(
                f"{side.argument} holds no run of {', '.join(lacking)}.",
                "Measure it first, or leave it out of --probe.",
            )
    return [probe for probe in COMPARED if probe in asked]


def labelled(sides: Sequence[Side]) -> list[Side]:
    """Return the sides with a label each: the model's id, and what tells it apart where ids are equal."""
    manifests = [next(iter(side.runs.values())).manifest for side in sides]
    names = [_model_name(manifest, side) for manifest, side in zip(manifests, sides, strict=True)]
    labels = list(names)
    for name in {name for name in names if names.count(name) > 1}:
        same = [index for index, other in enumerate(names) if other == name]
        told = [_told(manifests[index].get("model") or {}) for index in same]
        differing = [key for key in _TELLING if len({words.get(key, "") for words in told}) > 1]
        words = [", ".join(filter(None, (each.get(key, "") for key in differing))) for each in told]
        if len(set(words)) < len(same):
            words = _endings([sides[index].argument for index in same])
        for index, word in zip(same, words, strict=True):
            labels[index] = f"{name} ({word})" if word else name
    if len(set(labels)) < len(labels):
        labels = [f"{label} #{number}" for number, label in enumerate(labels, start=1)]
    return [replace(side, label=label) for side, label in zip(sides, labels, strict=True)]


def _endings(paths: Sequence[str]) -> list[str]:
    """The ends of paths, with as many of their parts as tell them apart."""
    parts = [Path(path).parts for path in paths]
    longest = max(map(len, parts))
    endings = ["/".join(each[-1:]) for each in parts]
    for count in range(2, longest + 1):
        if len(set(endings)) == len(paths):
            break
        endings = ["/".join(each[-count:]) for each in parts]
    return endings


def _model_name(manifest: dict[str, Any], side: Side) -> str:
    """The id of the model that was measured; of a local one the name of its directory."""
    name = str((manifest.get("model") or {}).get("id") or side.argument)
    path = Path(name)
    return path.name or name if path.is_absolute() or name.startswith((".", "~")) else name


def _told(model: dict[str, Any]) -> dict[str, str]:
    """What may tell a model from another one of the same name, in words."""
    level = flat(model)
    adapter = model.get("adapter")
    level["adapter"] = adapter.get("id") if isinstance(adapter, dict) else adapter
    told = {}
    for key, word in _TELLING.items():
        value = level.get(key)
        if value is not None:
            told[key] = f"{word} {str(value)[:10] if key == 'commit' else value}".strip()
    return told
