"""The files behind a data set on this machine, wherever its name, its options or its card point."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from depthprobe.machine.looks import files_below

# Where a directory says which of its files, and of others, belong to it.
CARDS = ("README.md", ".huggingface.yaml")


def local_files(path: str | Path | None, files: Any = None, folder: str | None = None) -> list[Path]:
    """Return the files of a local data set, sorted; none for one of the hub.

    Args:
        path: A directory, a file, or the name of a loader such as ``json``.
        files: What ``data_files`` says: paths and patterns, also in lists and dictionaries.
        folder: What ``data_dir`` says.
    """
    base = Path(path).expanduser() if path else Path()
    found: set[Path] = set()
    if path and base.exists():
        found.update(files_below(base))
        if base.is_dir():
            found.update(_named(base, _of_card(base)))
        else:
            base = base.parent
    else:
        base = Path()
    for each in filter(None, (folder, files)):
        found.update(_named(base, each))
    return sorted(found)


def content_hash(root: Path, files: Iterable[Path]) -> str:
    """Return the SHA-256 over the contents of files and where they lie as seen from a directory."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            inside = file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name
            digest.update(inside.encode("utf-8", "surrogateescape"))
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


def _of_card(folder: Path) -> Any:
    """Return all that a directory's card says about its configurations."""
    import yaml  # takes a while, and few need it

    said = []
    for name in CARDS:
        try:
            text = (folder / name).read_text(encoding="utf-8")
            if name.endswith(".md"):
                _, mark, text = text.partition("---\n") if text.startswith("---") else ("", "", "")
                text = text.partition("\n---")[0]
            card = yaml.safe_load(text)
            said.append(card.get("configs") if isinstance(card, dict) else None)
        except (OSError, ValueError, yaml.YAMLError, RecursionError):
            continue  # datasets itself says what is wrong with it
    return said


def _named(base: Path, said: Any) -> Iterator[Path]:
    """Yield the files that paths and patterns name, seen from a directory."""
    for text in texts_in(said):
        # "zip://*.csv::data.zip" is a file in an archive; what is left with a scheme is not on this machine.
        pattern = text.rpartition("::")[2]
        if "://" in pattern or not pattern or len(pattern) > 4096 or "\0" in pattern:
            continue
        for found in glob.glob(os.path.join(base, os.path.expanduser(pattern)), recursive=True):
            yield from files_below(Path(found))


def texts_in(value: Any) -> Iterator[str]:
    """Yield the texts in any nest of lists and dictionaries."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from texts_in(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from texts_in(each)
