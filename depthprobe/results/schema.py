"""What the manifest of a run must be for its run to be read: checked once, so that nobody else has to.

Entries that are not named here are recorded for people, and nothing is read from them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from depthprobe.declaring import MOST_LAYERS
from depthprobe.errors import RunError
from depthprobe.results.forms import (
    either,
    listing,
    mapping,
    matching,
    maybe,
    number,
    record,
    text,
    truth,
    whole,
)
from depthprobe.results.manifest import SEAL, way_out

_COUNT = whole(0)
_LAYERS = whole(1, MOST_LAYERS)
_HASH = matching("the hash of a file", re.compile("[0-9a-f]{64}").fullmatch)
# It names the file: a stem must not lead out of the directory.
_STEM = re.compile(r"\w[\w-]{0,99}", re.ASCII)
_TYPE = matching(
    "a type of column (integer, number, boolean or text)",
    ("integer", "number", "boolean", "text").__contains__,
)

_COLUMN = record({"name": text, "type": _TYPE}, {"unit": text, "meaning": text})

_OF_A_MODEL = {
    **dict.fromkeys(
        ("id", "commit", "fingerprint", "architecture", "norm_placement", "dtype", "quantisation"), text
    ),
    **dict.fromkeys(("tower", "device", "device_name", "gguf_file", "attention"), text),
    "layers": _LAYERS,
    "adapter": either(text, record({}, {"id": text})),
    "initial_seed": whole(),
}

_DATA = record(
    {},
    {
        **dict.fromkeys(("dataset", "split", "tokens_sha256"), text),
        **dict.fromkeys(("samples", "tokens", "seq_len"), _COUNT),
        "seed": whole(),
    },
)

# What was asked of the probes, and what they found beside their tables, by name.
_FACTS = record(
    {},
    {
        "tasks": listing(text),
        "block": _LAYERS,
        "num_fewshot": _COUNT,
        "limit": number(0),
        "headline": mapping(text),
        "higher_is_better": mapping(maybe(truth)),
        "chance": mapping(maybe(number())),
        "detectable": mapping(maybe(number(0))),
        "requests": record({}, {"tasks": mapping(record({}, {"sha256": text}))}),
        "objective": text,
        "loss_nats": number(),
        **dict.fromkeys(("predicted_tokens", "per_batch", "gradient_batches"), _COUNT),
        "without_branches": mapping(listing(whole(0, MOST_LAYERS))),
        "notes": listing(text),
    },
)

_COMPARED = listing(
    record(
        {
            "label": text,
            "model": record({"layers": _LAYERS}, _OF_A_MODEL),
            "runs": mapping(record({"data": _DATA, "options": _FACTS}, {"run": text, "results": _FACTS})),
        }
    )
)

_MANIFEST = record(
    {
        "probe": matching("the name of a probe", re.compile(r"\w[\w-]{0,99}", re.ASCII).fullmatch),
        "settings": record({}, {"text": record({})}),
        "columns": mapping(listing(_COLUMN)),
        "files": mapping(record({"name": text}, {"sha256": _HASH, "rows": _COUNT})),
    },
    {
        "format": whole(1),
        SEAL: _HASH,
        "model": record({}, _OF_A_MODEL),
        "data": _DATA,
        "options": _FACTS,
        "results": _FACTS,
        "compared": _COMPARED,
        "command": listing(text),
        "versions": mapping(text),
        "elapsed_s": number(0),
    },
)


def check_manifest(path: Path, manifest: dict[str, Any]) -> None:
    """Pass if a manifest has all that reading its run relies on, in the right form.

    Raises:
        RunError: if it has not (somebody may have edited it).
    """
    wrong = _MANIFEST(manifest, "") or _tables(manifest)
    if wrong:
        raise RunError(f"{path} cannot be used: {wrong}.", way_out(path.parent))


def _tables(manifest: dict[str, Any]) -> str:
    """What is wrong with the tables that a manifest declares, beyond the forms of the entries."""
    columns, files = manifest["columns"], manifest["files"]
    if not columns:
        return "columns names no table"
    for stem, declared in columns.items():
        if not _STEM.fullmatch(stem):
            return f"columns names {stem[:40]!r}, which is no table"
        if stem not in files or files[stem].get("rows") is None:
            return f"files does not say how many rows {stem}.csv has"
        names = [column["name"] for column in declared]
        if not names:
            return f"columns.{stem} names no column"
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            return f"columns.{stem} names {twice[:40]!r} twice"
    return ""
