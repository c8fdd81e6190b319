"""Data sets on this machine: files of rows, directories of them, and what ``save_to_disk`` wrote.

None of them needs the cache of the ``datasets`` library, which may not be writable. That library is asked
which files of a directory belong to which split, with a cache that is thrown away.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from depthprobe.errors import TextError
from depthprobe.texts.files import check_file, errors_told
from depthprobe.texts.formats import rows_of_files, unread_columns
from depthprobe.texts.library import chosen_split, explain_not_opened, opening_exceptions, readable_columns
from depthprobe.texts.options import ROW_FORMATS, format_of

# What the datasets library writes beside its data.
_STATE, _SPLITS = "state.json", "dataset_dict.json"
_NOT_DATA = {_STATE, _SPLITS, "dataset_info.json", "dataset_infos.json"}


@dataclass(frozen=True)
class LocalRows:
    """Rows in their stored order, the split they are of, columns left unread, and what is to be said."""

    stored: Iterable[dict[str, Any]]
    split: str | None = None
    unread: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def open_local(dataset: str, config: str | None, split: str | None) -> LocalRows:
    """Return the rows of a file or directory.

    Raises:
        TextError: if it cannot be read, or has no such split.
    """
    if os.path.isdir(dataset):
        return _open_directory(dataset, config, split)
    check_file(dataset)
    if format_of(dataset) not in ROW_FORMATS:
        hint = f"Its name must end in {', '.join(ROW_FORMATS)} or .txt."
        if dataset.lower().endswith((".zip", ".tar", ".tgz", ".tar.gz")):
            hint = "Unpack it, and name the file or directory that comes out."
        raise TextError(f"{dataset} is not a file that can be read as text.", hint)
    return _of_files([dataset])


def _of_files(files: Sequence[str], split: str | None = None, notes: tuple[str, ...] = ()) -> LocalRows:
    """Return the rows of files as a stream that shuffles the files too."""
    from datasets.io.generator import GeneratorDatasetInputStream

    unread = unread_columns(files[0])
    with tempfile.TemporaryDirectory(prefix="depthprobe-") as cache:
        stream = GeneratorDatasetInputStream(
            generator=rows_of_files,
            gen_kwargs={"files": list(files), "leave": tuple(unread)},
            streaming=True,
            cache_dir=cache,
        ).read()
    return LocalRows(stream, split, unread, notes)


def _open_directory(path: str, config: str | None, split: str | None) -> LocalRows:
    files = _files_below(path)
    for each in files:
        # A pipe is waited for; and all files are hashed.
        if not os.access(each, os.R_OK):
            raise TextError(f"{each} cannot be read: permission denied.")
    top = Path(path)
    if (top / _SPLITS).is_file():
        splits = _field(top / _SPLITS, "splits")
        chosen = chosen_split({name: None for name in map(str, splits)}, split, path)
        return _saved(top / chosen, chosen)
    if (top / _STATE).is_file():
        if split is not None:
            raise TextError(f"{path} was saved without splits.", "Leave out --split.")
        return _saved(top, None)
    return _data_files(path, config, split, files)


def _files_below(path: str) -> list[str]:
    """Return the regular files below a directory, without hidden ones."""
    found = []
    with errors_told(path):
        for folder, folders, names in os.walk(path, onerror=_raise):
            folders[:] = [name for name in folders if not name.startswith(".")]
            found += [os.path.join(folder, name) for name in names if not name.startswith(".")]
    return sorted(each for each in found if os.path.isfile(each))


def _raise(error: OSError) -> None:
    raise error


def _field(path: Path, name: str) -> list[Any]:
    """Return a list that one of the files of ``save_to_disk`` holds."""
    with errors_told(path):
        text = path.read_text(encoding="utf-8")
    try:
        found = json.loads(text)[name]
    except (ValueError, KeyError, TypeError, RecursionError):
        found = None
    if not isinstance(found, list):
        raise TextError(f"{path} is not what save_to_disk writes.", "Save the data set again.")
    return found


def _saved(folder: Path, split: str | None) -> LocalRows:
    """Return the rows of a data set that was saved with ``save_to_disk``."""
    entries = _field(folder / _STATE, "_data_files")
    names = [entry.get("filename") for entry in entries if isinstance(entry, dict)]
    files = [str(folder / name) for name in names if isinstance(name, str)]
    if not files:
        raise TextError(f"{folder} is empty.", "Name another --dataset or --split.")
    return _of_files(files, split)


def _data_files(path: str, config: str | None, split: str | None, there: Sequence[str]) -> LocalRows:
    """Return the rows of a directory of data files, sorted into splits by the datasets library."""
    import datasets

    with tempfile.TemporaryDirectory(prefix="depthprobe-") as cache:
        try:
            whole = str(Path(path).resolve())  # "." is no name to the library
            builder = datasets.load_dataset_builder(whole, config, cache_dir=cache)
            found = {str(name): list(files) for name, files in (builder.config.data_files or {}).items()}
            chosen = chosen_split(found, split, path)
            files = found[chosen]
            if all(_is_ours(file) for file in files) and getattr(builder.config, "field", None) is None:
                return _of_files(files, chosen, _left_out(path, files, there))
            # Lines of text, images with captions and the like: what the library makes of them.
            rows = datasets.load_dataset(whole, config, split=chosen, streaming=True, cache_dir=cache)
        except opening_exceptions() as error:
            raise explain_not_opened(path, config, error) from error
    rows, unread = readable_columns(rows)
    return LocalRows(rows, chosen, unread, _left_out(path, files, there))


def _is_ours(file: str) -> bool:
    return format_of(file) in ROW_FORMATS and os.path.isfile(file)


def _left_out(path: str, used: Sequence[str], there: Sequence[str]) -> tuple[str, ...]:
    """Return a note if a directory holds data of other formats too: only those of one are read."""
    taken = {format_of(file) for file in used}
    kinds = {format_of(file) for file in there if os.path.basename(file) not in _NOT_DATA}
    others = sorted(kind for kind in kinds - taken if kind in ROW_FORMATS)
    if not others or not taken & set(ROW_FORMATS):
        return ()
    shown = ", ".join(sorted(map(str, taken)))
    return (f"Of {path} only the {shown} files are read; those ending in {', '.join(others)} are left out.",)
