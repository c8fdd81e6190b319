"""The manifest of a run: strict JSON that says what happened, with every secret removed.

JSON has no NaN and no Python objects. Both are errors here rather than strings, because a manifest that says
``"<torch.dtype object>"`` cannot be read back and compared.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NoReturn

from depthprobe.errors import RunError
from depthprobe.redaction import redact
from depthprobe.results.files import machine_error, write_through

MANIFEST_NAME = "manifest.json"


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
    """Return a manifest as the bytes of its file: sorted keys, indented, LF, UTF-8.

    Raises:
        RunError: if the manifest holds NaN, an infinity or a type that JSON does not have.
    """
    ready = plain(manifest)
    text = json.dumps(ready, sort_keys=True, allow_nan=False, indent=2, ensure_ascii=False) + "\n"
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        # File names that are not valid Unicode reach Python as lone surrogates; \uXXXX can hold them.
        return (json.dumps(ready, sort_keys=True, allow_nan=False, indent=2) + "\n").encode("ascii")


def write_manifest(path: Path, manifest: dict[str, Any]) -> None:
    """Write a manifest to a new file.

    Raises:
        RunError: if the manifest holds NaN, an infinity or a type that JSON does not have.
        OSError: if the file cannot be written.
    """
    write_through(path, manifest_bytes(manifest))


def read_manifest(path: Path) -> dict[str, Any]:
    """Return the manifest in a file.

    Raises:
        RunError: if there is no such file, or it is not one JSON object without NaN.
        MachineError: if the file cannot be read.
    """

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not a JSON number")

    try:
        manifest = json.loads(path.read_bytes().decode("utf-8"), parse_constant=refuse)
    except FileNotFoundError:
        raise RunError(f"{path} does not exist.") from None
    except OSError as error:
        raise machine_error("read", path, error) from error
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is not a manifest: {error}.", "Run the measurement again.") from error
    if not isinstance(manifest, dict):
        raise RunError(f"{path} is not a manifest: it holds a {type(manifest).__name__}, not an object.")
    return manifest


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
