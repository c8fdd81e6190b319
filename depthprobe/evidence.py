"""How files look: cheap evidence that what a number rests on is still what it was when it was read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

# Size, time of the last change of content and of anything, inode; of a directory the names in it.
Look = list[Any]


def look_of(path: Path | str) -> Look | None:
    """Return how a file or directory looks, links followed; None if nothing is there."""
    try:
        found = os.stat(path)
        if Path(path).is_dir():
            return sorted(os.listdir(path))
    except OSError:
        return None
    # The time of the inode's last change cannot be set, so it gives away a file rewritten in place.
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def looks_of(paths: Iterable[Path | str]) -> dict[str, Look | None]:
    """Return how files and directories look, by absolute path."""
    return {os.path.abspath(path): look_of(path) for path in sorted(map(str, paths))}


def still_look_so(looks: Mapping[str, Look | None]) -> bool:
    """Whether all of them look as they did."""
    return all(look_of(path) == look for path, look in looks.items())


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
