"""Directory names for runs: safe on every file system, and readable."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

from depthprobe.errors import OptionError
from depthprobe.results.manifest import canonical

# Longer names fail on eCryptfs (143 bytes) and leave no room for the suffixes below.
_LONGEST_MODEL = 96
_LONGEST_TELLING = 60
_RESERVED_ON_WINDOWS = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
# A hub id is `name` or `owner/name` in these characters, perhaps followed by `:FILE.gguf`; anything else with
# a slash is a path.
_HUB_ID = re.compile(
    r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(:\w[\w./-]*\.gguf)?", re.ASCII | re.IGNORECASE
)
_BUILTIN = re.compile(r"builtin:[\w.-]+", re.ASCII)


def _safe(text: str, longest: int) -> str:
    """Return the text in letters, digits and ``._-``, never empty, hidden, reserved or too long.

    Where shortening or replacing could make two texts equal, eight characters of a hash keep them apart.
    """
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip(" .-")
    if _RESERVED_ON_WINDOWS.match(name):
        name = f"model-{name}"
    if name and len(name) <= longest:
        return name
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{name[: longest - 9].rstrip('.-') or 'model'}-{digest}"


def run_directory_name(model: str) -> str:
    """Return the directory of a model's runs: ``owner--name`` for ``owner/name``, a path's last component.

    Two local directories with the same last component share it; their runs differ in their settings, which
    hold the whole path or the weights' hash.
    """
    if _BUILTIN.fullmatch(model) or (_HUB_ID.fullmatch(model) and ".." not in model):
        return _safe(re.sub("[/:]", "--", model), _LONGEST_MODEL)
    parts = [part for part in re.split(r"[/\\]", model) if part not in ("", ".", "..")]
    return _safe(parts[-1] if parts else "", _LONGEST_MODEL)


def usual_run_name(probe: str, ending: str) -> str:
    """Return the usual name of a run's directory: the probe and what follows it, shortened if need be."""
    return _safe("-".join(filter(None, [probe, ending])), _LONGEST_MODEL)


def comparison_name(models: Sequence[str]) -> str:
    """Return the directory of a comparison: ``compare-`` and each model's name without its owner."""
    names = [re.split(r"[/\\:]", model.rstrip("/\\"))[-1] for model in models]
    return _safe("-".join(["compare", *names]), _LONGEST_MODEL)


def checked_name(name: str) -> str:
    """Return the name that the user chose for a run, unchanged.

    Raises:
        OptionError: if it is not a plain directory name.
    """
    if not name or _safe(name, _LONGEST_MODEL) != name:
        raise OptionError(
            f"--name must be a plain directory name, got {name!r}.",
            f"Use up to {_LONGEST_MODEL} letters, digits, '.', '_' and '-', starting with a letter or digit.",
        )
    return name


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as one level: keys joined by dots, in their order."""
    level: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            level.update(flat(value, f"{prefix}{key}."))
        else:
            level[f"{prefix}{key}"] = value
    return level


def differences(settings: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return the flat settings that ``other`` lacks or has differently, in the order of ``settings``."""
    here, there = flat(settings), flat(other)
    return {
        key: value
        for key, value in here.items()
        if key not in there or canonical({"": value}) != canonical({"": there[key]})
    }


# What a setting that holds a hash stands for; its value says nothing to a reader.
_HASHED = {
    "fingerprint": "other files of the model",
    "tokens_sha256": "other tokens",
    "text.sha256": "other contents of the text",
    "text.tokens_sha256": "other tokens",
    "adapter": "another adapter",
}


def told_differences(settings: dict[str, Any], other: dict[str, Any]) -> str:
    """Return in words what of ``other`` differs from settings: ``samples 64, another task hellaswag``."""
    there = flat(other)
    told = []
    for key in differences(settings, other):
        task = key.removeprefix("task_sha256.")
        if task != key:
            known = f"other contents of the task {task}"
            told.append(known if key in there else f"contents of the task {task} not recorded")
        else:
            told.append(_HASHED.get(key) or f"{key} {there.get(key, 'unset')}")
    return ", ".join(told)


def distinct_names(base: str, settings: dict[str, Any], other: dict[str, Any] | None) -> list[str]:
    """Return names to try for a run if ``base`` is taken, the most descriptive first.

    Args:
        base: The taken name.
        settings: What decides the numbers of the new run.
        other: The settings of the run at ``base``; None if what is there is not a run.

    Returns:
        ``angular-samples-64-seed-1`` if the difference fits in 60 characters, then ``angular-`` and 8
        characters of the settings' hash, then numbered forms of that.
    """
    digest = hashlib.sha256(canonical(settings).encode("utf-8", "surrogatepass")).hexdigest()[:8]
    names = [f"{base}-{digest}", *(f"{base}-{digest}-{number}" for number in range(2, 1000))]
    words = []
    for key, value in differences(settings, settings if other is None else other).items():
        if isinstance(value, list | dict):
            return names
        spoken = "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        words += [key.rpartition(".")[2].replace("_", "-"), spoken]
    told = re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join([base, *words])).strip(".-")
    if words and len(told) <= _LONGEST_TELLING:
        names.insert(0, told)
    return names
