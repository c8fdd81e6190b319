"""Whether runs may stand side by side: the same text, the same options, the same tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from depthprobe.comparing.sides import Side
from depthprobe.errors import RunError
from depthprobe.results.naming import flat

# Settings that say which model was measured and how it was loaded: these may differ.
_OF_THE_MODEL = {
    "model", "commit", "fingerprint", "dtype", "device", "adapter", "tower", "remote_code", "initial_seed",
    "depthprobe", "libraries",
}  # fmt: skip
_TOLD_OF_THE_MODEL = ("dtype", "quantisation", "device")


def check_agreement(sides: Sequence[Side], probe: str) -> list[str]:
    """Return what a reader should know of runs that may be compared, a sentence each.

    Other tokenizers cut the same text into other tokens, other machines compute in another dtype: that is
    told. Another text, other options of the probe or other tasks are refused.

    Raises:
        RunError: if the runs were not made of the same data with the same settings.
    """
    first, *others = [(side, side.runs[probe]) for side in sides]
    notes: list[str] = []
    for side, run in others:
        mine, theirs = first[1].manifest, run.manifest
        hashes = [_data(manifest).get("tokens_sha256") for manifest in (mine, theirs)]
        same_tokens = hashes[0] is not None and hashes[0] == hashes[1]
        differing = _differing(mine, theirs, same_tokens)
        if differing:
            told = "; ".join(f"{name} {here} and {there}" for name, here, there in differing[:4])
            raise RunError(
                f"{first[0].label} and {side.label} were not measured alike by {probe}: {told}.",
                "Measure both with the same options.",
            )
        if not same_tokens:
            notes.append(
                f"{side.label} and {first[0].label} cut the same {probe} text into other tokens "
                f"({_tokens(theirs)} and {_tokens(mine)})."
            )
    for key in _TOLD_OF_THE_MODEL:
        values = {side.label: (side.runs[probe].manifest.get("model") or {}).get(key) for side in sides}
        if len(set(values.values())) > 1:
            notes.append(f"{key} differs: {', '.join(f'{name} {value}' for name, value in values.items())}.")
    return list(dict.fromkeys(notes))


def settings_that_differ(run_settings: Mapping[str, Any], text: Mapping[str, Any]) -> list[str]:
    """Return the settings of a text that a finished run does not have, as ``NAME HERE and THERE``."""
    there = flat({"text": dict(run_settings.get("text") or {})})
    here = flat({"text": dict(text)})
    return [
        f"{key.removeprefix('text.')} {there.get(key)} and {here.get(key)}"
        for key in sorted(there.keys() | here.keys())
        if there.get(key) != here.get(key)
    ]


def _differing(
    mine: Mapping[str, Any], theirs: Mapping[str, Any], same_tokens: bool
) -> list[tuple[str, Any, Any]]:
    """The settings and facts in which two runs differ and must not: name, here, there."""
    left, right = (_comparable(manifest, same_tokens) for manifest in (mine, theirs))
    return [
        (key.removeprefix("text.").replace("_", " "), left.get(key), right.get(key))
        for key in sorted(left.keys() | right.keys())
        if left.get(key) != right.get(key)
    ]


def _comparable(manifest: Mapping[str, Any], same_tokens: bool) -> dict[str, Any]:
    settings = {key: value for key, value in manifest["settings"].items() if key not in _OF_THE_MODEL}
    if same_tokens:
        settings.pop("text", None)  # however it was named, it is the same
    known = {key: str(value) if isinstance(value, list) else value for key, value in flat(settings).items()}
    if not same_tokens and _data(manifest).get("seq_len") is not None:
        known["text.seq_len"] = _data(manifest)["seq_len"]  # the model's limit may have shortened it
    objective = (manifest.get("options") or {}).get("objective")
    return known if objective is None else {**known, "objective": objective}


def _data(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    return manifest.get("data") or {}


def _tokens(manifest: Mapping[str, Any]) -> str:
    count = _data(manifest).get("tokens")
    return "an unknown number of tokens" if count is None else f"{count:,} tokens"
