"""Whether saved runs are of one model in one form, and what else differs between them."""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

from depthprobe.errors import RunError
from depthprobe.results.runs import Run

# What makes two runs runs of one model, in a manifest's words, and what is said where two of them differ.
_SEALS = {
    "commit": "they are of different commits",
    "fingerprint": "their weights differ, by hash",
}
_FORMS = {
    "layers": "the models have different numbers of layers",
    "dtype": "the models were loaded in different dtypes",
    "quantisation": "the models are quantised differently",
    "adapter": "they were measured with different adapters",
    "gguf_file": "they are of different GGUF files",
    "tower": "they are of different towers",
    "initial_seed": "their fresh weights were drawn with different seeds",
}


def without_fresh(runs: list[Run]) -> tuple[list[Run], list[str]]:
    """The runs without those on freshly initialised weights, if that leaves any, and a note on these."""
    trained = [run for run in runs if (run.manifest.get("model") or {}).get("initial_seed") is None]
    if not trained or len(trained) == len(runs):
        return runs, []
    fresh = [run.directory.name for run in runs if run not in trained]
    verb = "is" if len(fresh) == 1 else "are"
    return trained, [f"{', '.join(fresh)} {verb} left out, measured on freshly initialised weights."]


def without_adapted(runs: list[Run], named: Container[Path]) -> tuple[list[Run], list[str]]:
    """The runs without those of the model with an adapter, where others are without one; a note on these.

    Args:
        runs: Runs of one model.
        named: Directories of runs that were named one by one, so that all of them are meant.
    """
    adapted = [run for run in runs if (run.manifest.get("model") or {}).get("adapter") is not None]
    plain = [run for run in runs if run not in adapted]
    left = [run for run in adapted if run.directory.resolve() not in named]
    if not plain or not left:
        return runs, []
    names = ", ".join(run.directory.name for run in left)
    adapters = ", ".join(dict.fromkeys(_shown(run.manifest["model"]["adapter"]) for run in left))
    verb, what = ("is", "the directory") if len(left) == 1 else ("are", "the directories")
    return [run for run in runs if run not in left], [
        f"{names} {verb} left out, measured with the adapter {adapters}. To report them, give {what} of "
        f"{'this run' if len(left) == 1 else 'these runs'}."
    ]


def check_same_model(first: Run, other: Run) -> None:
    """Pass if two runs are of one model in one form; what a manifest leaves out is not a difference."""
    here, there = (run.manifest.get("model") or {} for run in (first, other))
    seals = {key: words for key, words in _SEALS.items() if here.get(key) and there.get(key)}
    forms = {key: words for key, words in _FORMS.items() if key in here and key in there}
    # One directory of weights can be given by several names.
    for key, what in {**(seals or {"id": "they are of different models"}), **forms}.items():
        if here.get(key) != there.get(key):
            raise RunError(
                f"{first.directory} and {other.directory} do not belong in one report: {what} "
                f"({_shown(here.get(key))} and {_shown(there.get(key))}).",
                "Give runs of one model in one form.",
            )


def _shown(value: Any) -> str:
    """A fact of a manifest in a sentence: an adapter by its id, a hash by its beginning."""
    if isinstance(value, dict):
        value = value.get("id", value)
    text = "none" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:12]}..."


def what_differs(runs: Sequence[Run]) -> list[str]:
    """Notes on what differs between runs of one report and does not forbid it: text, depthprobe's version."""
    notes = []
    for what, key, name in (
        ("measured on different texts", "data", "dataset"),
        ("made by different versions of depthprobe", "versions", "depthprobe"),
    ):
        by_value: dict[str, list[str]] = {}
        for run in runs:
            value = (run.manifest.get(key) or {}).get(name)
            if value is not None:
                by_value.setdefault(str(value), []).append(run.directory.name)
        if len(by_value) > 1:
            each = "; ".join(f"{value}: {', '.join(names)}" for value, names in by_value.items())
            notes.append(f"The runs were {what} ({each}).")
    return notes
