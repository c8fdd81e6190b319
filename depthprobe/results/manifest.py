"""The manifest of a run: strict JSON that says what happened, with every secret removed, and sealed.

JSON has no NaN and no Python objects. Both are errors here rather than strings, because a manifest that says
``"<torch.dtype object>"`` cannot be read back and compared. The seal is a hash of what the reading of a run
depends on: a manifest in which somebody turned ``higher_is_better`` round would turn the picture round.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from depthprobe.errors import RunError
from depthprobe.redaction import redact
from depthprobe.results.files import read_file, write_through

MANIFEST_NAME = "manifest.json"

# Raised when a manifest means something else than before, or must hold more. 1, which is not written down:
# without a seal, and without the hashes of files that are not tables.
FORMAT = 2

SEAL = "sha256"
# What was typed and what it cost says nothing about the numbers: it may be taken out before runs are shared.
_UNSEALED = {SEAL, "command", "elapsed_s", "peak_memory_bytes"}

# Ours are a handful of levels deep. Far deeper ones cannot be worked on.
_DEEPEST = 40
# As far as 64-bit integers reach, signed or not.
_LARGEST_WHOLE = 2**64


def plain(value: Any, where: str = "manifest") -> Any:
    """Return the value as JSON would give it back (lists for tuples, plain strings), without secrets.

    Args:
        value: Nested dicts, lists, tuples, strings, finite numbers, booleans and None.
        where: How an error names the value, such as ``manifest`` or ``settings``.

    Raises:
        RunError: if it contains anything else, such as NaN or an infinity.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        # str.__str__ gives the bare text of subclasses such as torch's version string and str enums.
        return redact(str.__str__(value))
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise RunError(f"{where} is {value!r}, which a manifest cannot hold.")
        return float(value)
    if isinstance(value, list | tuple):
        return [plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise RunError(f"{where} has the key {key!r}, but a manifest's keys must be text.")
        return {redact(str.__str__(key)): plain(item, f"{where}.{key}") for key, item in value.items()}
    raise RunError(f"{where} is a {type(value).__name__}, which a manifest cannot hold.")


def canonical(settings: dict[str, Any]) -> str:
    """Return a line of JSON that is equal for equal settings, whatever the order of their keys.

    Unlike ``==``, it tells ``1``, ``1.0`` and ``True`` apart.
    """
    return json.dumps(settings, sort_keys=True, allow_nan=False, separators=(",", ":"))


def manifest_bytes(manifest: dict[str, Any]) -> bytes:
    """Return a manifest, sealed, as the bytes of its file: sorted keys, indented, LF, UTF-8.

    Raises:
        RunError: if the manifest holds NaN, an infinity or a type that JSON does not have.
    """
    ready = plain({**manifest, "format": FORMAT})
    ready[SEAL] = seal_of(ready)
    text = json.dumps(ready, sort_keys=True, allow_nan=False, indent=2, ensure_ascii=False) + "\n"
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        # File names that are not valid Unicode reach Python as lone surrogates; \uXXXX can hold them.
        return (json.dumps(ready, sort_keys=True, allow_nan=False, indent=2) + "\n").encode("ascii")


def seal_of(manifest: dict[str, Any]) -> str:
    """Return the hash of what decides how the run is read: all but what was typed and what it cost."""
    decisive = {key: value for key, value in manifest.items() if key not in _UNSEALED}
    return hashlib.sha256(canonical(decisive).encode("ascii")).hexdigest()


def write_manifest(path: Path, manifest: dict[str, Any]) -> None:
    """Write a manifest to a new file.

    Raises:
        RunError: if the manifest holds NaN, an infinity or a type that JSON does not have.
        OSError: if the file cannot be written.
    """
    write_through(path, manifest_bytes(manifest))


def way_out(directory: Path) -> str:
    """Return what can be done about a run whose files do not belong together, or are damaged."""
    return f"Restore the file, or remove or rename {directory} and measure again."


def read_manifest(path: Path) -> dict[str, Any]:
    """Return the manifest in a file; what it says is not checked.

    Raises:
        RunError: if there is no such file, or it is not one JSON object without NaN.
        MachineError: if the file cannot be read.
    """
    try:
        text = read_file(path).decode("utf-8-sig")
        manifest = json.loads(
            text,
            parse_constant=_refuse,
            parse_float=_finite,
            parse_int=_whole,
            object_pairs_hook=_without_repeats,
        )
        too_deep = _depth_exceeds(manifest, _DEEPEST)
    except FileNotFoundError:
        raise RunError(f"{path} does not exist.") from None
    except UnicodeDecodeError:
        raise _no_manifest(path, "is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        where = (
            f"is not JSON from line {error.lineno}, column {error.colno} on" if text.strip() else "is empty"
        )
        raise _no_manifest(path, where) from None
    except RecursionError:
        too_deep = True
    except _ImpossibleError as error:
        raise _no_manifest(path, str(error)) from None
    if too_deep:
        raise _no_manifest(path, f"is nested more than {_DEEPEST} levels deep")
    if not isinstance(manifest, dict):
        raise _no_manifest(path, f"holds {_KINDS[type(manifest)]}, not an object")
    return manifest


def check_format(path: Path, manifest: dict[str, Any]) -> None:
    """Pass if this version knows what such a manifest means.

    Raises:
        RunError: if a later version wrote it.
    """
    version = manifest.get("format", 1)
    if isinstance(version, int) and version > FORMAT:
        raise RunError(
            f"{path} was written by a later version of depthprobe: its format is {version}, and this version "
            f"reads formats up to {FORMAT}.",
            "Upgrade depthprobe.",
        )


def check_seal(path: Path, manifest: dict[str, Any]) -> None:
    """Pass if a manifest says what it said when it was written; one of a version without seals passes.

    Raises:
        RunError: if it has changed since.
    """
    if SEAL not in manifest and manifest.get("format", 1) == 1:
        return
    if manifest.get(SEAL) != seal_of(manifest):
        raise RunError(
            f"{path} was changed after the run: what it says is not what its hash ({SEAL}) was taken of.",
            way_out(path.parent),
        )


_KINDS = {
    list: "a list",
    str: "text",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}


class _ImpossibleError(ValueError):
    """What no manifest holds, as the end of a sentence."""


def _refuse(constant: str) -> NoReturn:
    raise _ImpossibleError(f"holds {constant}, which is not a number")


def _finite(text: str) -> float:
    if not math.isfinite(float(text)):
        raise _ImpossibleError("holds a number that is too large")
    return float(text)


def _whole(text: str) -> int:
    # Before it is converted: Python refuses thousands of digits with words of its own.
    if len(text) > len(str(_LARGEST_WHOLE)) + 1 or abs(int(text)) > _LARGEST_WHOLE:
        raise _ImpossibleError("holds a number that is too large")
    return int(text)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _ImpossibleError(f"says {twice[:40]!r} twice")
    return found


def _depth_exceeds(value: Any, most: int) -> bool:
    """Return whether lists and objects are nested more than so deep."""
    level: Iterable[Any] = [value]
    for _ in range(most + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, list | dict)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return any(isinstance(each, list | dict) for each in level)


def _no_manifest(path: Path, why: str) -> RunError:
    return RunError(f"{path} is not a manifest: it {why}.", way_out(path.parent))


def current_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of an earlier run as today's runs have them.

    Earlier ones named the package's version, although only the probe's own version decides its numbers; runs
    without one are of its version 1. They recorded a number of documents as 25.0.
    """
    current = {key: value for key, value in ({"probe_version": 1} | settings).items() if key != "depthprobe"}
    tasks = current.get("tasks")
    if isinstance(tasks, dict) and isinstance(tasks.get("limit"), float) and tasks["limit"].is_integer():
        current["tasks"] = tasks | {"limit": int(tasks["limit"])}
    return current
