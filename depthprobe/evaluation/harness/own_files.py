"""The YAML files of one's own: those that lm-eval passes over in silence, and names given twice."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lm_eval.tasks.manager import load_yaml

from depthprobe.errors import OptionError
from depthprobe.evaluation.harness.foreign import FOREIGN, reason


@dataclass
class OwnFiles:
    """What stands in some directories: ``broken`` files with the reason, and the ``files`` of each name."""

    broken: dict[Path, str] = field(default_factory=dict)
    files: dict[str, list[Path]] = field(default_factory=dict)


def read_own_files(folders: Sequence[Path], names: Collection[str] = ()) -> OwnFiles:
    """Return what the YAML files of these directories define, as lm-eval finds them.

    Args:
        folders: Those of ``--include-path``.
        names: Files without any of these words are passed over; every file is read if there are none.
    """
    found = OwnFiles()
    for path in (path for folder in folders for path in sorted(folder.glob("**/*.yaml"))):
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
            if names and path.stem not in names and not any(name in text for name in names):
                continue
            config = load_yaml(path, resolve_func=False)
        except FOREIGN as error:
            found.broken[path] = reason(error)
            continue
        key = "group" if "group" in config else "task"
        if key not in config:
            continue  # a part that others include
        name = config[key]
        if isinstance(name, str):
            found.files.setdefault(name, []).append(path)
        else:
            found.broken[path] = f"its {key} must be a name, got {name!r}"
    return found


def check_file(path: str) -> None:
    """Raise an OptionError if a YAML file given by its path does not define one task."""
    try:
        config = load_yaml(path, resolve_func=False)
    except FOREIGN as error:
        raise OptionError(
            f"The task file {path} cannot be read: {reason(error)}.", "Check its YAML."
        ) from error
    if "group" in config:
        raise OptionError(
            f"{path} defines a group, which lm-eval finds only by its name.",
            f"Give its directory with --include-path, and --task {config['group']}.",
        )
    name = config.get("task")
    if not isinstance(name, str):
        raise OptionError(f"The task file {path} names no task, got task: {name!r}.", "Write task: NAME.")


def refuse_broken(folders: Sequence[Path], name: str | None = None) -> None:
    """Raise an OptionError if a file cannot be read that may be what was asked for.

    Args:
        folders: Those of ``--include-path``.
        name: The task that lm-eval does not find; None for any.
    """
    for path, why in read_own_files(folders, () if name is None else (name,)).broken.items():
        raise OptionError(f"The task file {path} cannot be read: {why}.", "Check its YAML.")


def refuse_twice(folders: Sequence[Path], names: Collection[str]) -> None:
    """Raise an OptionError if a task is defined by two files: lm-eval takes one and says nothing.

    Args:
        folders: Those of ``--include-path``; a later one may replace a task of an earlier one.
        names: The tasks and groups that are asked for.
    """
    for folder in folders:
        files = read_own_files((folder,), names).files
        for name in names:
            if len(files.get(name, ())) > 1:
                first, second = files[name][:2]
                raise OptionError(
                    f"The task {name} is defined twice: by {first} and by {second}.",
                    "Rename or remove one of them.",
                )
