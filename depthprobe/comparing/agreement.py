"""Whether runs may stand side by side: the same text, the same options, the same tasks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from depthprobe.comparing.subjects import Subject
from depthprobe.errors import RunError
from depthprobe.results.manifest import current_settings
from depthprobe.results.naming import flat

# Settings that say which model was measured and how it was loaded: these may differ.
_OF_THE_MODEL = {
    "model", "commit", "fingerprint", "dtype", "device", "adapter", "tower", "remote_code", "initial_seed",
    "libraries", "environment", "tokenizer", "attention",
}  # fmt: skip
# What the tasks say, ask and run, by name; runs of earlier versions do not record it.
_OF_THE_TASKS = "task_sha256"
_NOTED_OF_THE_MODEL = {
    "dtype": "The models were measured in different dtypes",
    "quantisation": "The models are quantised differently",
    "device": "The models were measured on different devices",
    "attention": "The models were measured with different attention kernels",
}
# What a manifest calls them -> what a reader does.
_WORDS = {"sha256": "hash of the text", "seq_len": "tokens in a sample", "python": "Python"}
# This much of a hash tells two texts apart.
_HASH, _OF_A_HASH = re.compile("[0-9a-f]{40,}"), 12


def check_agreement(subjects: Sequence[Subject], probes: Sequence[str]) -> list[str]:
    """Return what a reader should know of runs that may be compared, a sentence each.

    Other tokenizers split the same text differently, other machines compute in another dtype: that is
    noted, once for all probes. A different text, other options of a probe or other tasks are refused.

    Raises:
        RunError: if the runs were not made of the same data with the same settings.
    """
    first, *others = subjects
    notes: list[str] = []
    for subject in others:
        # By the counts of tokens, theirs and mine: the probes whose samples are not the same tokens.
        cut: dict[tuple[str, str], list[str]] = {}
        unknown: list[str] = []
        for probe in probes:
            mine, theirs = first.runs[probe].manifest, subject.runs[probe].manifest
            hashes = [_tokens_hash(manifest) for manifest in (mine, theirs)]
            same_tokens = hashes[0] is not None and hashes[0] == hashes[1]
            differing = _differing(mine, theirs, same_tokens)
            recorded = [_OF_THE_TASKS in manifest["settings"] for manifest in (mine, theirs)]
            if any(recorded) and not all(recorded):
                older = (first, subject)[recorded.index(False)].label
                notes.append(
                    f"{older} was measured by an earlier version, which did not record what its tasks say "
                    "and ask, so it is not known whether they are the same."
                )
            if differing:
                raise RunError(
                    f"The {probe} runs of {first.label} and {subject.label} differ: "
                    f"{'; '.join(differing[:4])}.",
                    "Measure both with the same options.",
                )
            if same_tokens:
                continue
            changed = _changed_text(mine, theirs)
            if changed:
                raise RunError(
                    f"The {probe} runs of {first.label} and {subject.label} are on different texts: "
                    f"{changed}.",
                    "Measure both on the same text.",
                )
            if changed is None:
                unknown.append(probe)
            else:
                cut.setdefault((_tokens(theirs), _tokens(mine)), []).append(probe)
        if cut:
            both = f"{subject.label} and {first.label}"
            notes.append(f"{both} split the same text into different tokens{_counted(cut)}.")
        if unknown:
            notes.append(
                f"{subject.label} and {first.label} were measured on different tokens "
                f"({', '.join(unknown)}): their tokenizers differ, or the text has changed between the runs."
            )
    for probe in probes:
        models = {subject.label: subject.runs[probe].manifest.get("model") or {} for subject in subjects}
        for key, differ in _NOTED_OF_THE_MODEL.items():
            if len({model.get(key) for model in models.values()}) > 1:
                each = ", ".join(f"{name}: {model.get(key) or 'none'}" for name, model in models.items())
                notes.append(f"{differ} ({each}).")
    return list(dict.fromkeys(notes))


def _changed_text(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> str | None:
    """Return how the text of two runs with different tokens changed.

    Returns:
        What shows it; empty if the text is the same, and split by different tokenizers; None if the runs do
        not say enough.
    """
    here, there = _data(mine), _data(theirs)
    if "" in (_tokens_hash(mine), _tokens_hash(theirs)):
        return ""  # measured without a text
    revisions = here.get("revision"), there.get("revision")
    if None not in revisions and revisions[0] != revisions[1]:
        return f"revisions {_shown(revisions[0])} and {_shown(revisions[1])} of the data set"
    tokenizers = here.get("tokenizer_sha256"), there.get("tokenizer_sha256")
    if None not in tokenizers and tokenizers[0] == tokenizers[1]:
        return "the same tokenizer made different tokens of it, so it has changed in between"
    text = current_settings(mine["settings"]).get("text") or {}
    known = None not in revisions or text.get("sha256") or text.get("python")
    return "" if known else None


def _counted(cut: Mapping[tuple[str, str], Sequence[str]]) -> str:
    """How many tokens the text gave, in brackets; nothing where the numbers are the same."""
    counts = [
        f"{theirs} and {mine}" + (f" for {', '.join(probes)}" if len(cut) > 1 else "")
        for (theirs, mine), probes in cut.items()
        if theirs != mine
    ]
    return f" ({'; '.join(counts)})" if counts else ""


def settings_that_differ(run_settings: Mapping[str, Any], text: Mapping[str, Any]) -> list[str]:
    """Return the settings of a text that a finished run does not have, as ``NAME HERE and THERE``."""
    there, here = (flat({"text": dict(each or {})}) for each in (run_settings.get("text"), text))
    return _unequal(there, here)


def _unequal(left: Mapping[str, Any], right: Mapping[str, Any]) -> list[str]:
    """Where two sets of facts differ, as ``NAME LEFT and RIGHT``."""
    said = []
    for key in sorted(left.keys() | right.keys()):
        if left.get(key) != right.get(key):
            name, task = key.removeprefix("text."), key.removeprefix(f"{_OF_THE_TASKS}.")
            words = _WORDS.get(name, name.replace("_", " "))
            if task != key:
                words = f"contents of the task {task}"
            said.append(f"{words} {_shown(left.get(key))} and {_shown(right.get(key))}")
    return said


def _shown(value: Any) -> str:
    if value is None:
        return "not recorded"
    return str(value)[:_OF_A_HASH] if _HASH.fullmatch(str(value)) else str(value)


def _differing(mine: Mapping[str, Any], theirs: Mapping[str, Any], same_tokens: bool) -> list[str]:
    """The settings and facts in which two runs differ and must not, as ``NAME HERE and THERE``."""
    sides = [_comparable(manifest, same_tokens) for manifest in (mine, theirs)]
    if any(_OF_THE_TASKS not in manifest["settings"] for manifest in (mine, theirs)):
        tasks = f"{_OF_THE_TASKS}."
        sides = [{key: side[key] for key in side if not key.startswith(tasks)} for side in sides]
    if any(side.get("text.dataset") == "none" for side in sides):
        # That one has no text at all says everything about it.
        sides = [
            {key: side[key] for key in side if key == "text.dataset" or not key.startswith("text.")}
            for side in sides
        ]
    return _unequal(*sides)


def _comparable(manifest: Mapping[str, Any], same_tokens: bool) -> dict[str, Any]:
    settings = {
        key: value
        for key, value in current_settings(manifest["settings"]).items()
        if key not in _OF_THE_MODEL
    }
    if same_tokens:
        settings.pop("text", None)  # however it was named, it is the same
    if _tokens_hash(manifest) == "" and not same_tokens:
        settings["text"] = {"dataset": "none"}
    known = {key: str(value) if isinstance(value, list) else value for key, value in flat(settings).items()}
    if not same_tokens and _data(manifest).get("seq_len") is not None:
        known["text.seq_len"] = _data(manifest)["seq_len"]  # the model's limit may have shortened it
    objective = {**(manifest.get("options") or {}), **(manifest.get("results") or {})}.get("objective")
    return known if objective is None else {**known, "objective": objective}


def _data(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    return manifest.get("data") or {}


def _tokens_hash(manifest: Mapping[str, Any]) -> str | None:
    """What tells the tokens of a run from those of another; empty where it was measured without text."""
    return "" if _data(manifest).get("samples") == 0 else _data(manifest).get("tokens_sha256")


def _tokens(manifest: Mapping[str, Any]) -> str:
    count = _data(manifest).get("tokens")
    return "an unknown number of tokens" if count is None else f"{count:,} tokens"
