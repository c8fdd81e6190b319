"""The Python files behind a task's functions: the one that holds them, and what that imports or names.

Found by reading, not by running: what a file imports inside a function counts too. Installed packages do not,
since their versions stand for them; lm-eval's own tasks do, because people edit them in place.
"""

from __future__ import annotations

import ast
import os
import re
import sys
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from depthprobe.machine.looks import files_below

PACKAGE = Path(__file__).parents[2]

# A directory with more files than this is no data of a task.
MOST_FILES = 1000

LONGEST_NAME = 200

_VARIABLE = re.compile("[A-Z][A-Z0-9_]{2,}")


@cache
def _installed() -> tuple[str, ...]:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    return tuple({os.path.realpath(sysconfig.get_path(name)) + os.sep for name in names})


def is_own(path: Path) -> bool:
    """Whether a file is somebody's own: not of an installed package, except for a task of lm-eval."""
    real = os.path.realpath(path)
    if real.startswith(os.path.realpath(PACKAGE) + os.sep):
        return False  # a probe's own version stands for it
    if f"{os.sep}lm_eval{os.sep}tasks{os.sep}" in real:
        return Path(real).parent.name != "tasks"  # lm-eval's own code, not a task's
    installed = real.startswith(_installed()) or f"{os.sep}site-packages{os.sep}" in real
    return not installed


def sources_behind(path: Path) -> list[Path]:
    """Return a Python file, all of one's own that it imports, and the files that these name in strings."""
    found: dict[Path, None] = {}
    waiting = [path]
    while waiting:
        file = Path(os.path.realpath(waiting.pop()))
        if file in found or not file.is_file() or not is_own(file):
            continue
        found[file] = None
        if file.suffix == ".py":
            waiting += [*_imported(file), *_named(file)]
    return sorted(found)


def variables_in(file: Path) -> set[str]:
    """Return the names in a Python file's strings that may be variables of the environment."""
    if file.suffix != ".py":
        return set()
    constants = (node.value for node in ast.walk(_tree(file)) if isinstance(node, ast.Constant))
    return {text for text in constants if isinstance(text, str) and _VARIABLE.fullmatch(text)}


def _tree(file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, OSError, RecursionError, MemoryError):  # running it says what is wrong
        return ast.Module([], [])


def _imported(file: Path) -> Iterator[Path]:
    """Yield the files that a file's imports may mean."""
    beside = file.parent
    for node in ast.walk(_tree(file)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _modules([beside, *map(Path, sys.path)], alias.name)
        elif isinstance(node, ast.ImportFrom):
            roots = [beside, *map(Path, sys.path)]
            if node.level:
                roots = [Path(beside, *[".."] * (node.level - 1))]
            for alias in node.names:
                yield from _modules(roots, f"{node.module}.{alias.name}" if node.module else alias.name)


def _modules(roots: list[Path], name: str) -> Iterator[Path]:
    """Yield the files of a dotted name's packages and module below the first directory that has them."""
    first, *rest = name.split(".")
    for root in roots:
        at = root / first
        if not (at.is_dir() or at.with_suffix(".py").is_file()):
            continue
        for part in (None, *rest):
            at = at if part is None else at / part
            yield from (at.with_name(f"{at.name}.py"), at / "__init__.py")
        return


def _named(file: Path) -> Iterator[Path]:
    """Yield the files and the contents of directories that the strings in a file name, seen from it."""
    for node in ast.walk(_tree(file)):
        text = node.value if isinstance(node, ast.Constant) else None
        if not isinstance(text, str) or not 0 < len(text) <= LONGEST_NAME or not text.strip("./\\ "):
            continue
        if "\n" in text or "\0" in text:
            continue
        here = file.parent / text
        if here.is_dir():
            below = [each for each, _ in zip(files_below(here), range(MOST_FILES + 1), strict=False)]
            yield from below if len(below) <= MOST_FILES else ()
        elif here.is_file():
            yield here
        elif os.sep in text or "." in text:
            yield Path(text)
