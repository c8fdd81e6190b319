"""What the ``datasets`` library says of a data set: its splits, its columns, and why it does not open."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from depthprobe.errors import TextError, first_line
from depthprobe.texts.columns import CONVERSATION, NOTHING, TEXT
from depthprobe.texts.conversations import KEYS

# Text that models are not usually trained on is preferred.
SPLIT_PREFERENCE = ("validation", "test", "train")


def opening_exceptions() -> tuple[type[Exception], ...]:
    """Return what the datasets library and its parsers raise for data that they cannot open or read."""
    import pyarrow as pa
    from datasets.exceptions import DatasetsError

    return (
        OSError,
        ValueError,
        RuntimeError,
        ImportError,
        KeyError,
        TypeError,
        DatasetsError,
        pa.ArrowException,
    )


def chosen_split(splits: Mapping[str, Any], wanted: str | None, dataset: str) -> str:
    """Return the split that is read.

    Raises:
        TextError: if there is no such split.
    """
    if wanted is not None and wanted not in splits or not splits:
        raise TextError(
            f"The data set {dataset} has no split{'' if wanted is None else f' {wanted!r}'}.",
            f"Its splits: {', '.join(map(str, splits))}." if splits else "Name another --dataset.",
        )
    return wanted or next((name for name in SPLIT_PREFERENCE if name in splits), str(next(iter(splits))))


def readable_columns(rows: Any) -> tuple[Any, dict[str, str]]:
    """Return a stream without columns that cannot hold text, such as images, and what these hold.

    They would be decoded for nothing, by packages that may be missing, and fill the memory.
    """
    features = rows.features
    if features is None:
        return rows, {}
    unread = {name: held for name, feature in features.items() if (held := _not_text(feature)) is not None}
    kept = [name for name in features if name not in unread]
    rows = rows.select_columns(kept) if unread else rows
    if "_view'" in str(features):
        # Arrow cannot pick rows of these types, which shuffling does; after a step in Python, Python does.
        rows = rows.map(dict, features=rows.features)
    return rows, unread


def declared_kind(feature: Any) -> str:
    """Return what a column is declared to hold, in the words of ``columns.kind_of``."""
    if isinstance(feature, Mapping):
        return "objects"
    inside = feature[0] if isinstance(feature, list) and feature else getattr(feature, "feature", None)
    if inside is not None:
        talks = isinstance(inside, Mapping) and any(set(keys) <= set(inside) for keys in KEYS)
        return CONVERSATION if talks else f"lists of {declared_kind(inside)}"
    name = str(getattr(feature, "dtype", None))
    if "string" in name:
        return TEXT
    if name == "bool":
        return "truth values"
    if name.startswith(("time", "date")):
        return "dates"
    return "numbers" if name.startswith(("int", "uint", "float", "decimal")) else NOTHING


def _not_text(feature: Any) -> str | None:
    """Return what a column holds that is neither text nor numbers, nor a nesting of them; None for others."""
    if isinstance(feature, Mapping):
        return next((held for part in feature.values() if (held := _not_text(part)) is not None), None)
    if isinstance(feature, list):
        return _not_text(feature[0]) if feature else None
    name = type(feature).__name__
    if name in ("List", "LargeList", "Sequence"):
        return _not_text(feature.feature)
    if name == "Value":
        return "bytes" if "binary" in feature.dtype else None
    known = ("ClassLabel", "Json", "Translation", "TranslationVariableLanguages")
    return None if name in known or name.startswith("Array") else f"{name.lower()} data"


def explain_not_opened(dataset: str, config: str | None, error: Exception) -> TextError:
    """Return our error for one of :func:`opening_exceptions`."""
    said = str(error)
    if "trust_remote_code" in said or "scripts are no longer supported" in said:
        return TextError(
            f"The data set {dataset} is made by a script of its own, which is not run.",
            "Name a data set, a file or a directory that holds the data itself.",
        )
    if isinstance(error, ImportError) or "zstd" in said:
        missing = "zstandard" if "zst" in said else first_line(error)
        return TextError(
            f"The data set {dataset} needs a Python package that is missing: {missing}.",
            "Install it and run again.",
        )
    shown = re.search(r"vailable[^\[]*\[(.*?)\]", said, flags=re.DOTALL)
    names = re.findall(r"'([^']+)'", shown[1]) if shown and isinstance(error, ValueError) else []
    if not names:
        return TextError(f"The data set {dataset} cannot be opened: {first_line(error, kind=False)}.")
    listed = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    problem = f"has no configuration {config!r}" if config else "has several configurations"
    return TextError(f"The data set {dataset} {problem}.", f"Name one with --dataset-config: {listed}.")
