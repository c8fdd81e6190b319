"""Cheap evidence that what a number rests on is still what it was when it was read.

A look says how something is now: a file or directory (named by its path), a data set of the hub
(``hub:NAME``), a variable of the environment (``$NAME``). Imports nothing heavy.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from glob import glob
from pathlib import Path
from typing import Any

# Of a file: size, time of the last change of content and of anything, inode; of a directory the names in it.
Look = Any

HUB, VARIABLE = "hub:", "$"
# What is fetched from anywhere, or made by a function of which nothing more is known: never the same.
ELSEWHERE = "elsewhere:"

ANSWER_WITHIN_S = 3


def look_of(name: str) -> Look:
    """Return how a thing looks, links followed; None if nothing is there or the hub does not answer."""
    if name.startswith(HUB):
        return commit_on_hub(name.removeprefix(HUB))
    if name.startswith(VARIABLE):
        return os.environ.get(name.removeprefix(VARIABLE))
    if name.startswith(ELSEWHERE):
        return time.time_ns()
    try:
        found = os.stat(name)
        if os.path.isdir(name):
            return sorted(os.listdir(name))
    except OSError:
        return None
    # The time of the inode's last change cannot be set, so it gives away a file rewritten in place.
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def looks_of(names: Iterable[Path | str]) -> dict[str, Look]:
    """Return how things look, files and directories by absolute path."""
    others = (HUB, VARIABLE, ELSEWHERE)
    known = sorted({name if name.startswith(others) else os.path.abspath(name) for name in map(str, names)})
    return {name: look_of(name) for name in known}


def still_look_so(looks: Mapping[str, Look]) -> tuple[bool, list[str]]:
    """Return whether all look as they did, and the data sets of which the hub said nothing now."""
    silent = []
    for name, look in looks.items():
        now = look_of(name)
        if now == look and (look is not None or name.startswith(VARIABLE)):
            continue
        if now is not None or look is None or not name.startswith(HUB):
            return False, []
        silent.append(name.removeprefix(HUB))
    return True, silent


def files_below(path: Path) -> Iterator[Path]:
    """Yield the files in a directory and below, links followed, each directory once; or the file itself."""
    if not path.is_dir():
        if path.is_file():
            yield path
        return
    seen: set[tuple[int, int]] = set()
    for folder, folders, names in os.walk(path, followlinks=True):
        here = os.stat(folder)
        if (here.st_dev, here.st_ino) in seen:
            folders.clear()
            continue
        seen.add((here.st_dev, here.st_ino))
        folders.sort()
        yield from (file for name in sorted(names) if (file := Path(folder, name)).is_file())


def is_offline() -> bool:
    """Whether the environment forbids to ask the hub."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
    return any(os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE") for name in names)


def hub_cache() -> Path:
    """Return the directory where huggingface_hub keeps what it has fetched."""
    return Path(os.environ.get("HF_HUB_CACHE") or _home() / "hub").expanduser()


def commit_on_hub(dataset: str) -> Look:
    """Return the newest commit of a data set on the hub, asked once and briefly; None without an answer.

    Where the hub may not be asked: which copies of the data set the caches hold.
    """
    if is_offline():
        kept = Path(os.environ.get("HF_DATASETS_CACHE") or _home() / "datasets").expanduser()
        refs = sorted(hub_cache().glob(f"datasets--{dataset.replace('/', '--')}/refs/*"))
        copies = sorted(glob(str(kept / dataset.replace("/", "___").lower() / "*" / "*" / "*")))
        held = [[path, os.stat(path).st_mtime_ns] for path in copies if os.path.isdir(path)]
        return [[str(ref), ref.read_text()] for ref in refs if ref.is_file()] + held or None
    import urllib.request  # takes a while, and few need it

    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    asked = urllib.request.Request(f"{endpoint.rstrip('/')}/api/datasets/{dataset}/revision/main")
    token = os.environ.get("HF_TOKEN")
    if token:
        asked.add_unredirected_header("Authorization", f"Bearer {token.strip()}")
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        with urllib.request.urlopen(asked, timeout=ANSWER_WITHIN_S) as answer:
            return str(json.load(answer)["sha"])
    return None


def _home() -> Path:
    shared = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("HF_HOME") or Path(shared) / "huggingface").expanduser()
