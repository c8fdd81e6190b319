"""Caches of the Hugging Face libraries that cannot be written: a private one stands in for each.

On clusters and in containers the cache may be shared and read-only, or there is no home at all. What is in
such a cache can be read, but the libraries want to put locks beside it. So a run gets directories of its own,
with links to all that is there; they are deleted at its end.
"""

from __future__ import annotations

import atexit
import errno
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from depthprobe.errors import MachineError

# The variable that names a cache -> where it is without it, below HF_HOME.
_BELOW_HOME = {
    "HF_HUB_CACHE": "hub",
    "HF_DATASETS_CACHE": "datasets",
    "HF_MODULES_CACHE": "modules",
    "HF_EVALUATE_CACHE": "evaluate",
    "HF_METRICS_CACHE": "metrics",
    "HF_ASSETS_CACHE": "assets",
    "HF_XET_CACHE": "xet",
}
_OLD_NAMES = {"HF_HUB_CACHE": "HUGGINGFACE_HUB_CACHE", "HF_ASSETS_CACHE": "HUGGINGFACE_ASSETS_CACHE"}

# Of these a private cache has copies: they are small, and written again.
_COPIED = "refs"


def make_usable() -> str:
    """Put a private cache in the place of each that cannot be written; return the note that says so, or "".

    The libraries read where their caches are when they are imported, so this must come before.

    Raises:
        MachineError: if no temporary directory can be written either.
    """
    unusable = {name: path for name, path in _places(os.environ).items() if not _can_be_written(path)}
    if not unusable:
        return ""
    try:
        private = Path(tempfile.mkdtemp(prefix="depthprobe-cache-"))
    except OSError as error:
        raise MachineError(
            f"Neither the cache in {_shown(unusable)} nor any temporary directory can be written.",
            "Point HF_HOME or TMPDIR at a directory that can.",
        ) from error
    atexit.register(shutil.rmtree, private, ignore_errors=True)
    for name, path in unusable.items():
        os.environ[name] = str(private / _BELOW_HOME[name])
        _link(path, private / _BELOW_HOME[name])
    return (
        f"The cache in {_shown(unusable)} cannot be written: what this run downloads is not kept. "
        "Point HF_HOME at a directory of yours to keep it."
    )


def _places(environment: Mapping[str, str]) -> dict[str, Path]:
    """Return where each cache is."""
    general = Path(environment.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    home = Path(environment.get("HF_HOME") or general)
    places = {}
    for name, below in _BELOW_HOME.items():
        named = environment.get(name) or environment.get(_OLD_NAMES.get(name, name))
        places[name] = Path(os.path.expanduser(os.path.expandvars(named or home / below)))
    return places


def _can_be_written(path: Path) -> bool:
    """Return whether a directory, or the one that it would be made in, can be written; tried on the disk.

    A full disk counts as one that can: it has a sentence of its own, and weights do not belong in a temporary
    directory then.
    """
    there = next((each for each in (path, *path.parents) if os.path.exists(each)), path)
    try:
        with tempfile.TemporaryFile(dir=there):
            return True
    except OSError as error:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)


def _link(source: Path, target: Path) -> None:
    """Make a directory like another, with links in the place of its files; locks are left out."""
    target.mkdir(parents=True)
    for folder, folders, files in os.walk(source):
        folders[:] = [name for name in folders if name != ".locks"]
        here = target / os.path.relpath(folder, source)
        linked = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in folders:
            if name not in linked:
                (here / name).mkdir()
        for name in (*files, *linked):
            there = Path(folder, name)
            if name.endswith(".lock"):
                continue
            if here.name == _COPIED or here.parent.name == _COPIED:
                shutil.copyfile(there, here / name)
            else:
                (here / name).symlink_to(there.absolute())


def _shown(unusable: Mapping[str, Path]) -> str:
    return os.path.commonpath([str(path) for path in unusable.values()])
