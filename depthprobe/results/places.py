"""Where a run will be: chosen and tried before the expensive part, and never where something else is."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from depthprobe.errors import DepthprobeError, RunError
from depthprobe.results.aside import clear_leftovers, file_aside
from depthprobe.results.files import flush, machine_error
from depthprobe.results.locks import NO_LOCKS, Lock, remove_if_free
from depthprobe.results.manifest import (
    MANIFEST_NAME,
    canonical,
    current_settings,
    plain,
    read_manifest,
)
from depthprobe.results.naming import checked_name, distinct_names, run_directory_name, told_differences
from depthprobe.results.runs import Run, read_run

_LOCK = re.compile(r"\..+-[0-9a-f]{8}\.lock")


@dataclass(frozen=True)
class Place:
    """Where a run will be saved.

    Args:
        directory: The run's directory; it does not exist yet, unless ``finished``.
        finished: The run with equal settings that is already there, or None.
        note: One sentence if another run made this one take another name, else empty.
        settings: What decides the numbers, as JSON values and without secrets.
        created: Directories made for this place, outermost first.
        lock: Held against equal measurements at the same time; None where the file system has no locks, and
            in copies for other processes.
    """

    directory: Path
    finished: Run | None
    note: str
    settings: dict[str, Any] = field(default_factory=dict)
    created: tuple[Path, ...] = ()
    lock: Lock | None = field(default=None, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "lock": None}

    def abandon(self) -> None:
        """Let equal measurements begin; remove the directories made for this place that are still empty."""
        if self.lock is not None:
            self.lock.release()
        for directory in reversed(self.created):
            with contextlib.suppress(OSError):
                directory.rmdir()


def _settings_at(directory: Path, probe: str) -> dict[str, Any] | None:
    """Return the settings of the run in a directory; None if no run of this probe is there."""
    try:
        manifest = read_manifest(directory / MANIFEST_NAME)
    except DepthprobeError:
        return None
    measured, settings = manifest.get("probe"), manifest.get("settings")
    # Runs of `prune-sweep` have names such as `prune-sweep-mmlu`.
    mine = isinstance(measured, str) and (probe == measured or probe.startswith(f"{measured}-"))
    return current_settings(settings) if mine and isinstance(settings, dict) else None


def _equal_run(directory: Path, probe: str, settings: dict[str, Any]) -> Run | None:
    """Return the run in a directory if it is whole and has these settings, else None."""
    found = _settings_at(directory, probe)
    if found is None or canonical(found) != canonical(settings):
        return None
    try:
        return read_run(directory)
    except DepthprobeError:
        # Damaged: measure again beside it, because it may still be of use to its owner.
        return None


def free_directory(parent: Path, base: str, settings: dict[str, Any], other: dict[str, Any] | None) -> Path:
    """Return the first free directory under ``parent``, named after ``base`` and what differs."""
    for name in distinct_names(base, settings, other):
        # is_symlink: even a broken link belongs to somebody.
        if not (parent / name).exists() and not (parent / name).is_symlink():
            return parent / name
    raise RunError(f"{parent} holds a thousand runs named {base}.", "Choose a name with --name.")


def _make(directory: Path) -> Iterator[Path]:
    """Make a directory and its missing parents, yielding each as it is made."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    for path in reversed(missing):
        with contextlib.suppress(FileExistsError):
            path.mkdir()
            yield path


def clear(directory: Path) -> None:
    """Remove what dead processes left among a model's runs: what they wrote aside, and their locks."""
    clear_leftovers(directory)
    with contextlib.suppress(OSError):
        for path in directory.iterdir():
            if _LOCK.fullmatch(path.name):
                remove_if_free(path)


def _try_writing(directory: Path) -> tuple[Path, ...]:
    """Make a directory, write and remove a file in it; return the directories that were made."""
    created: list[Path] = []
    try:
        created.extend(_make(directory))
        with file_aside(directory / "trial") as (_, trial):
            trial.write(b"A file to test whether this place can be written.\n")
            flush(trial)
        clear(directory)
    except BaseException as error:
        Place(directory, None, "", created=tuple(created)).abandon()
        if isinstance(error, NotADirectoryError | FileExistsError):
            blocking = next((path for path in (directory, *directory.parents) if path.exists()), directory)
            problem = f"Results cannot be saved in {directory}: {blocking} is not a directory."
            raise RunError(problem, "Choose a directory with --output.") from error
        if isinstance(error, OSError):
            raise machine_error("write in", directory, error) from error
        raise
    return tuple(created)


def _candidates(parent: Path, probe: str, name: str | None) -> list[Path]:
    """Return where a run may already be: under the name it would take first, or one beside it."""
    if name is not None:
        return [parent / checked_name(name)]
    others = sorted(path for path in parent.glob(f"{probe}-*") if path.is_dir()) if parent.is_dir() else []
    return [parent / probe, *others]


def may_be_finished(
    output: Path, model: str, probe: str, settings: dict[str, Any], name: str | None = None
) -> bool:
    """Return whether a finished run has these settings, among others, and may be the one asked for.

    Args:
        output, model, probe, name: As for :func:`reserve`.
        settings: Those known so far.
    """
    known = plain(settings, "settings")
    for directory in _candidates(Path(output) / run_directory_name(model), probe, name):
        found = _settings_at(directory, probe)
        if found is not None and canonical({key: found.get(key) for key in known}) == canonical(known):
            return True
    return False


def reserve(
    output: Path,
    model: str | None,
    probe: str,
    settings: dict[str, Any],
    name: str | None = None,
    lacks: Callable[[Run], str] = lambda run: "",
) -> Place:
    """Return the place for a run, or the finished run with equal settings that is already there.

    The run goes to ``<output>/<model>/<probe>/``, or to ``<output>/<model>/<name>/`` if the user chose a
    name. If the default is taken by something else, it goes beside it under a name that says what differs.
    Whether the place can be written is tried here, before anything expensive starts.

    Args:
        output: The directory of all runs.
        model: The model's id or path; None for a run beside the models, in ``output`` itself.
        probe: The default name of the run's directory, which starts with the probe's name.
        settings: Everything that decides the numbers, as JSON values.
        name: A name for the directory, chosen by the user.
        lacks: Says what a finished run with these settings lacks, as in "holds this run, but ..."; empty if
            it will do.

    Raises:
        OptionError: if ``name`` is not a plain directory name.
        RunError: if something else has the chosen name, or ``output`` is not a directory.
        MachineError: if the place cannot be written.
    """
    settings = plain(settings, "settings")
    parent = Path(output) if model is None else Path(output) / run_directory_name(model)
    try:
        parent.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass  # made below, or reported there with what is in the way
    except OSError as error:
        raise machine_error("write in", parent, error) from error
    candidates = _candidates(parent, probe, name)
    finished, lacking = _finished(candidates, probe, settings, lacks)
    if finished is not None:
        return finished
    created = _try_writing(parent)
    try:
        lock = _lock(candidates[0], settings)
        # An equal measurement may have ended between the look and the lock.
        finished, lacking = _finished(_candidates(parent, probe, name), probe, settings, lacks)
        if finished is not None:
            if lock is not None:
                lock.release()
            return finished
        directory, note = _free(candidates[0], probe, settings, name, lacking)
    except BaseException:
        Place(parent, None, "", created=created).abandon()
        raise
    return Place(directory, None, note, settings, created, lock)


def _finished(
    candidates: Sequence[Path], probe: str, settings: dict[str, Any], lacks: Callable[[Run], str]
) -> tuple[Place | None, str]:
    """Return the place of the finished run with equal settings, or None and what the first such run lacks."""
    lacking = ""
    for candidate in candidates:
        found = _equal_run(candidate, probe, settings)
        missing = "" if found is None else lacks(found)
        if found is not None and not missing:
            return Place(candidate, found, "", settings), ""
        lacking = lacking or missing
    return None, lacking


def _free(
    directory: Path, probe: str, settings: dict[str, Any], name: str | None, lacking: str
) -> tuple[Path, str]:
    """Return the directory that a run takes, and why it is not the wanted one, if so."""
    if not directory.exists() and not directory.is_symlink():
        return directory, ""
    other = _settings_at(directory, probe)
    taken = f"{directory} {_occupant(settings, other, lacking)}"
    if name is not None:
        raise RunError(f"{taken}.", "Choose another --name; nothing is overwritten.")
    free = free_directory(directory.parent, probe, settings, other)
    return free, f"{taken}, so this one goes to {free}."


def _lock(directory: Path, settings: dict[str, Any]) -> Lock | None:
    """Return the lock against equal measurements; None where the file system has no locks.

    Measurements with other settings go on side by side, whatever they are called.
    """
    digest = hashlib.sha256(canonical(settings).encode("utf-8", "surrogatepass")).hexdigest()[:8]
    path = directory.with_name(f".{directory.name}-{digest}.lock")
    hint = "Wait until that has ended, or give this run another --name or --output."
    try:
        return Lock.take(path, f"{directory} is being measured", hint)
    except OSError as error:
        if error.errno in NO_LOCKS:
            return None
        raise machine_error("write in", directory.parent, error) from error


def _occupant(settings: dict[str, Any], other: dict[str, Any] | None, lacking: str) -> str:
    """Return what is at a taken place, as the end of a sentence; names its settings if few differ."""
    if other is None:
        return "exists but holds no finished run of this kind"
    if canonical(settings) == canonical(other):
        return f"holds this run, but {lacking or 'damaged'}"
    if canonical({**settings, "task_sha256": None}) == canonical({**other, "task_sha256": None}) and (
        "task_sha256" not in other
    ):
        return (
            "holds a run of an earlier version, which did not record what its tasks say and ask, "
            "so that it cannot be known whether it is this one"
        )
    told = told_differences(settings, other)
    return (
        f"holds a run with other settings ({told})"
        if 0 < len(told) <= 120
        else "holds a run with other settings"
    )
