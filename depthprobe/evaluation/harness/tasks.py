"""Names -> lm-eval's task objects with their data, set up as ``lm_eval.simple_evaluate`` would."""

from __future__ import annotations

import difflib
import fnmatch
import glob
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import lm_eval
import lm_eval.api.task
from lm_eval.api.group import Group
from lm_eval.api.task import ConfigurableTask, Task
from lm_eval.tasks import TaskManager
from lm_eval.utils import simple_parse_args_string

from depthprobe.errors import DepthprobeError, OptionError, TextError
from depthprobe.evaluation.harness.embedded_task import EMBEDDED
from depthprobe.evaluation.harness.foreign import (
    FOREIGN,
    check_groups,
    load_error,
    loading_told,
    reason,
    shown,
)
from depthprobe.evaluation.harness.fresh_data import no_stale_documents
from depthprobe.evaluation.harness.isolation import RandomState, quiet
from depthprobe.evaluation.harness.options import TaskOptions, is_json
from depthprobe.evaluation.harness.own_files import check_file, refuse_broken, refuse_twice
from depthprobe.machine.connection import explain_full_disk, is_offline
from depthprobe.machine.local_data import texts_in

# What loading a data set raises: no file, no hub, no such configuration, a damaged or half-read file.
DATA_EXCEPTIONS = (OSError, ValueError, RuntimeError, lm_eval.api.task.datasets.exceptions.DatasetsError)

# What dataset_path says where the data are files that dataset_kwargs names.
_LOADERS = ("json", "csv", "parquet", "text", "arrow", "pandas", "xml", "webdataset")
LOCAL_COPY = (
    "Point --include-path at a directory with the task's YAML whose dataset_path is a copy on this machine, "
    "or fill the cache on a machine with a network"
    + ("." if is_offline() else " and set HF_HUB_OFFLINE=1 here.")
)


@dataclass(frozen=True)
class Tasks:
    """Loaded tasks: what to ask, with every option applied, before a model is known.

    Args:
        options: The options as given.
        tasks: Every leaf task by name.
        groups: Every group by name, with its subgroups.
        asked: Each name as the user wrote it -> the tasks or groups that it names.
        notes: Sentences for the user about options that could not be followed.
        randomness: The global random state as lm-eval would have it now.
    """

    options: TaskOptions
    tasks: dict[str, Task]
    groups: dict[str, Group]
    asked: dict[str, tuple[str, ...]]
    notes: tuple[str, ...]
    randomness: RandomState


def find_tasks(options: TaskOptions) -> Tasks:
    """Return the tasks that the options name, their data loaded and their settings overridden.

    Needs no model: everything that can be wrong with tasks and data is found before weights are read.

    Raises:
        OptionError: if a name is unknown, a task would run unsafe code or needs images or sound, a document
            number is out of range, two names lead to the same task, or a package is missing.
        TextError: if a task's data cannot be reached.
        MachineError: if the disk is full.
    """
    manager, found = _checked_names(options)
    randomness = RandomState(options.seeds[0], options.seeds[1])
    tasks: dict[str, Task] = {}
    groups: dict[str, Group] = {}
    asked: dict[str, tuple[str, ...]] = {}
    origin: dict[str, str] = {}
    with quiet(), randomness.advancing():
        for wanted, names in found.items():
            tops: list[str] = []
            for name in names:
                loaded = _load(manager, name)
                for task in loaded["tasks"]:
                    if origin.setdefault(task, name) != name and (
                        loaded["groups"] or origin[task] in groups or _is_yaml(name) or _is_yaml(origin[task])
                    ):
                        raise OptionError(
                            f"The task {task} is named twice: by {origin[task]} and by {name}.",
                            "Name one of them.",
                        )
                check_groups(loaded["groups"])
                tasks |= loaded["tasks"]
                groups |= loaded["groups"]
                tops += _tops(loaded)
            asked[wanted] = tuple(dict.fromkeys(tops))
        notes = _apply_options(options, tasks)
    _check(options, tasks)
    return Tasks(options, tasks, groups, asked, notes, randomness)


def check_names(options: TaskOptions) -> None:
    """Raise an OptionError if a task is unknown or would run unsafe code; no data are read."""
    _checked_names(options)


def _checked_names(options: TaskOptions) -> tuple[TaskManager, dict[str, list[str]]]:
    manager, found = _resolve(options)
    if not options.confirm_run_unsafe_code:
        _refuse_unsafe(
            name
            for leaf in _leaves([name for names in found.values() for name in names], manager.task_index)
            if (name := leaf[0]) and (leaf[1] or {}).get("unsafe_code")
        )
    return manager, found


@lru_cache(maxsize=4)
def _manager(include_path: tuple[Path, ...], include_defaults: bool) -> TaskManager:
    """Return the index of all task names; reading lm-eval's 15,000 YAML files takes seconds."""
    try:
        with quiet():
            return TaskManager(include_path=list(include_path) or None, include_defaults=include_defaults)
    except FOREIGN as error:
        refuse_broken(include_path)
        listed = ", ".join(map(str, include_path))
        raise OptionError(f"The task files in {listed} cannot be read: {reason(error)}.") from error


def _resolve(options: TaskOptions) -> tuple[TaskManager, dict[str, list[str]]]:
    """Return lm-eval's index and, for each name as written, the task names or YAML files that it means.

    lm-eval's own thousands of tasks are searched only if a name is found nowhere else.
    """
    manager = _manager(options.include_path, False)
    known = set(manager.all_tasks) | EMBEDDED.keys()
    is_local = all(
        name in EMBEDDED
        or _is_yaml(name)
        or (name in known and all(config is not None for _, config in _leaves([name], manager.task_index)))
        for name in options.tasks
    )
    if not is_local:
        manager = _manager(options.include_path, True)
        known = set(manager.all_tasks) | EMBEDDED.keys()
    found: dict[str, list[str]] = {}
    for name in options.tasks:
        if name in known:
            found[name] = [name]
        elif _is_yaml(name):
            found[name] = sorted(str(Path(path).absolute()) for path in glob.glob(name))
        else:
            found[name] = sorted(fnmatch.filter(known, name))
    unknown = [name for name, names in found.items() if not names]
    if unknown:
        refuse_broken(options.include_path, unknown[0])
        _refuse_unknown(unknown[0], known)
    _check_members(options, found, manager.task_index)
    return manager, found


def _check_members(options: TaskOptions, found: Mapping[str, list[str]], index: Mapping[str, Any]) -> None:
    """Raise an OptionError if a group holds what no file defines, or a name is defined by two files."""
    asked: set[str] = set()
    for name in (name for names in found.values() for name in names):
        if _is_yaml(name):
            check_file(name)
            continue
        asked.add(name)
        for leaf, config in _leaves([name], index):
            asked.add(leaf)
            if config is None and leaf not in index and leaf not in EMBEDDED:
                refuse_broken(options.include_path, leaf)
                raise OptionError(f"The group {name} holds {leaf}, which lm-eval does not know.")
    refuse_twice(options.include_path, asked)


def _refuse_unknown(name: str, known: set[str]) -> None:
    if _is_yaml(name):
        raise OptionError(f"There is no task file {name}.", "Check the path given to --task.")
    nearest = difflib.get_close_matches(name, sorted(known), n=5)
    raise OptionError(
        f"lm-eval {lm_eval.__version__} has no task {name}.",
        f"The nearest names: {', '.join(nearest)}." if nearest else "`lm-eval ls tasks` lists them all.",
    )


def _is_yaml(name: str) -> bool:
    return name.endswith((".yaml", ".yml"))


def _leaves(
    names: list[str], index: Mapping[str, Any], within: tuple[str, ...] = ()
) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Yield the leaf tasks under names of lm-eval's index with what their YAML says; None if not indexed."""
    for name in names:
        if name in within:
            raise OptionError(f"The group {name} contains itself.", "Check the task list of its YAML file.")
        entry: Any = index.get(name)
        kind = "TASK" if entry is None else entry.kind.name
        if kind == "TAG":
            yield from _leaves(sorted(entry.tags), index, (*within, name))
        elif kind == "GROUP":
            for member in _members(name, entry.cfg.get("task")):
                child = member.get("group") or member.get("task")
                if isinstance(child, str) and child in index:
                    yield from _leaves([child], index, (*within, name))
                else:  # defined inside the group, or a name that only the full index knows
                    yield str(child), member if len(member) > 1 else None
        else:
            yield name, None if entry is None else entry.cfg


def _members(group: str, listed: Any) -> list[dict[str, Any]]:
    """Return what a group's YAML lists, each as a dictionary with the key ``task`` or ``group``."""
    members = [{"task": each} if isinstance(each, str) else each for each in listed or []]
    known = all(isinstance(each, dict) and ("task" in each or "group" in each) for each in members)
    if not members or not isinstance(listed, list) or not known:
        raise OptionError(f"The group {group} must list its tasks by name, got task: {shown(str(listed))}.")
    names = [str(each.get("group") or each.get("task")) for each in members]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise OptionError(f"The group {group} lists {twice} twice, and lm-eval keeps only one of them.")
    return members


def _load(manager: TaskManager, name: str) -> dict[str, Any]:
    """Return lm-eval's ``{"tasks": ..., "groups": ...}`` of one name, data included."""
    try:
        with loading_told(), _data_errors_told(), no_stale_documents():
            return manager.load([EMBEDDED[name]() if name in EMBEDDED else name])
    except DepthprobeError:
        raise
    except FOREIGN as error:
        raise load_error(name, error) from error


@contextmanager
def _data_errors_told() -> Iterator[None]:
    """Turn what a task's data set raises while the body loads tasks into our errors.

    Done here because the caller knows only the group that was asked for, not the data set.
    """

    def explained(download: Any) -> Any:
        def run(self: Task, *args: Any, **options: Any) -> None:
            try:
                download(self, *args, **options)
            except DATA_EXCEPTIONS as error:
                raise _data_error(self, error) from error

        return run

    with ExitStack() as stack:
        for kind in (Task, ConfigurableTask):
            stack.enter_context(patch.object(kind, "download", explained(kind.download)))
        yield


def _data_error(task: Task, error: BaseException) -> DepthprobeError:
    full = explain_full_disk(error, "the data of a task")
    if full is not None:
        return full
    # A task written as a class loads its data before its name is set.
    name = getattr(getattr(task, "config", None), "task", None) or type(task).__name__
    config = f" ({task.DATASET_NAME})" if task.DATASET_NAME else ""
    what = f"data set {task.DATASET_PATH}{config}" if task.DATASET_PATH else "data"
    path = str(task.DATASET_PATH or "")
    if path in _LOADERS or Path(path).expanduser().exists():
        files = getattr(getattr(task, "config", None), "dataset_kwargs", None) or {}
        named = ", ".join(texts_in(files.get("data_files"))) or path
        problem = f"The data of the task {name} cannot be read ({named}): {reason(error)}."
        return TextError(problem, "Correct the file, or the paths in the task's dataset_kwargs.")
    return TextError(f"The {what} of the task {name} cannot be read: {reason(error)}.", LOCAL_COPY)


def _tops(loaded: Mapping[str, Any]) -> list[str]:
    """Return the groups that are in no other, then the tasks that are in no group."""
    children = {name for group in loaded["groups"].values() for name in group.child_names}
    return [name for kind in ("groups", "tasks") for name in loaded[kind] if name not in children]


def _apply_options(options: TaskOptions, tasks: Mapping[str, Task]) -> tuple[str, ...]:
    """Override the tasks' own settings as ``simple_evaluate`` does; return notes on those that stay."""
    generation = _generation_settings(options.gen_kwargs)
    fixed = []
    for name, task in tasks.items():
        if generation and task.get_config("output_type") == "generate_until":
            task.set_config(key="generation_kwargs", value=dict(generation), update=True)
        own = task.get_config("num_fewshot")
        if options.num_fewshot is None:
            if own is None:
                task.set_config(key="num_fewshot", value=0)
        elif own == 0:
            if options.num_fewshot:
                fixed.append(name)
        else:
            task.set_config(key="num_fewshot", value=options.num_fewshot)
        task.set_fewshot_seed(seed=options.seeds[3])
    if not fixed:
        return ()
    listed = ", ".join(fixed[:5]) + (f" and {len(fixed) - 5} more" if len(fixed) > 5 else "")
    return (f"--num-fewshot does not apply to {listed}: lm-eval defines it to have no examples.",)


def _generation_settings(given: str | Mapping[str, Any] | None) -> dict[str, Any]:
    if not isinstance(given, str):
        return dict(given or {})
    return json.loads(given) if is_json(given) else simple_parse_args_string(given)


def _check(options: TaskOptions, tasks: Mapping[str, Task]) -> None:
    """Raise an OptionError for whatever shows only once the tasks are loaded."""
    if not options.confirm_run_unsafe_code:
        _refuse_unsafe(name for name, task in tasks.items() if getattr(task, "UNSAFE_CODE", False))
    for name, task in tasks.items():
        if getattr(task, "MULTIMODAL", False):
            raise OptionError(
                f"The task {name} uses images or sound; only text can be scored.", "Leave it out."
            )
    for name in options.documents or {}:
        if name not in tasks:
            raise OptionError(
                f"--documents names {name}, which is not among the tasks.", f"They are: {', '.join(tasks)}."
            )
        count, last = len(tasks[name].eval_docs), (options.documents_of(name) or [0])[-1]
        if last >= count:
            raise OptionError(
                f"--documents names document {last} of {name}, which has {count} documents.",
                f"They are numbered 0 to {count - 1}.",
            )


def _refuse_unsafe(names: Iterator[str]) -> None:
    name = next(names, None)
    if name is not None:
        raise OptionError(
            f"The task {name} runs code that the model writes.",
            "Add --confirm-run-unsafe-code if this machine may run it.",
        )
