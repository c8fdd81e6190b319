"""What a task's own templates, functions and settings raise, told in one sentence with task and document.

A YAML file of one's own runs code of one's own, which may raise anything. It is caught around that code
alone: what lm-eval or we do wrong keeps its traceback.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, cast
from unittest.mock import patch

import lm_eval.api.task
import yaml
from lm_eval.api.group import Group
from lm_eval.api.registry import METRIC_REGISTRY
from lm_eval.api.task import ConfigurableTask, Task
from lm_eval.config.group import AggMetricConfig

from depthprobe.errors import DepthprobeError, OptionError, TextError, first_line

# A function of a task may even call sys.exit.
FOREIGN = (Exception, SystemExit)

# Settings of a task that are asked of one document: templates, columns or functions.
ASKED_OF_A_DOCUMENT = ("doc_to_text", "doc_to_target", "doc_to_choice", "doc_to_prefix")
_SETTING = {"doc_to_prefix": "gen_prefix"}

_SHOWN = 60


def reason(error: BaseException) -> str:
    """Return what foreign code raised as the end of a sentence, without a full stop."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        where = "" if mark is None else f" in line {mark.line + 1}"
        return f"{error.problem or error.context or 'it is not valid YAML'}{where}".rstrip(".")
    # datasets says only that it failed, and gives the reason as the cause.
    if type(error).__name__ == "DatasetGenerationError" and error.__cause__ is not None:
        return reason(error.__cause__)
    # str() of a KeyError puts its message into quotes, with escapes for line ends.
    if isinstance(error, KeyError) and error.args and isinstance(error.args[0], str) and " " in error.args[0]:
        return first_line(ValueError(error.args[0]), kind=False)
    return first_line(error)


def shown(text: str) -> str:
    """Return the beginning of a text in quotes, for a sentence."""
    return repr(text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}...")


@contextmanager
def loading_told() -> Iterator[None]:
    """While the body loads tasks, what is wrong with one is told in a sentence with its name.

    Done around lm-eval's own steps, because the caller knows only the group that was asked for. lm-eval tries
    a task on its first document when it loads it.
    """
    with ExitStack() as stack:
        stack.enter_context(documents_told(lambda: 0))
        for name in ("training_docs", "validation_docs", "test_docs", "fewshot_docs"):
            method = getattr(ConfigurableTask, name)
            stack.enter_context(patch.object(ConfigurableTask, name, _splits_told(method, name)))
        for name in ("get_metric", "get_aggregation", "get_metric_aggregation"):
            function = getattr(lm_eval.api.task, name)
            stack.enter_context(patch.object(lm_eval.api.task, name, _known(function, name)))
        stack.enter_context(
            patch.object(ConfigurableTask, "__init__", _set_up_told(ConfigurableTask.__init__))
        )
        for logger in map(logging.getLogger, ("lm_eval", "datasets")):  # log as errors what is told here
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.CRITICAL)
        yield


@contextmanager
def documents_told(at: Callable[[], int]) -> Iterator[None]:
    """While the body runs, an error of a task's own setting names the setting and the document at hand.

    Args:
        at: Returns the number of the document at hand.
    """
    with ExitStack() as stack:
        for name in ASKED_OF_A_DOCUMENT:
            method = getattr(ConfigurableTask, name)
            stack.enter_context(patch.object(ConfigurableTask, name, _setting_told(method, name, at)))
        yield


def load_error(name: str, error: BaseException) -> DepthprobeError:
    """Return what is told of a task or group that does not load."""
    if isinstance(error, ImportError) and not str(error).startswith("Cannot import module"):
        return OptionError(
            f"The task {name} needs a Python package that is missing: {first_line(error)}.",
            "Install it and run again; of a file of your own, put its directory into PYTHONPATH.",
        )
    if isinstance(error, RecursionError):
        return TextError(
            f"The task {name} does not load: it contains itself, or its code calls itself without end.",
            "Check its YAML file.",
        )
    return TextError(f"The task {name} does not load: {reason(error)}.", "Check its YAML file.")


def check_groups(groups: Mapping[str, Group]) -> None:
    """Raise a TextError if what groups are to sum up is not written as lm-eval reads it."""
    for name, group in groups.items():
        for setting in group.aggregate_metric_list or []:
            if not isinstance(setting, AggMetricConfig):
                raise TextError(
                    f"aggregate_metric_list of the group {name} holds {shown(str(setting))}, "
                    "which is not a metric.",
                    "Write {metric: acc}.",
                )


def _setting_told(method: Callable[..., Any], name: str, at: Callable[[], int]) -> Callable[..., Any]:
    @functools.wraps(method)
    def run(task: Task, document: Any, *given: Any, **named: Any) -> Any:
        try:
            found = method(task, document, *given, **named)
        except DepthprobeError:
            raise
        except FOREIGN as error:
            why, cause = reason(error), cast("BaseException | None", error)
            # lm-eval reads what a template gives as Python.
            if name == "doc_to_choice" and isinstance(error, ValueError | SyntaxError):
                why = f"it must give a list of texts ({why.split(' on line')[0].split(' (<unknown>')[0]})"
        else:
            why, cause = (_not_choices(found) if name == "doc_to_choice" else ""), None
        if not why:
            return found
        # lm-eval hands over the template itself only for examples.
        is_example = bool(given) and given[0] is not None
        which = "an example for document" if is_example else "document"
        columns = ", ".join(map(str, document)) if isinstance(document, Mapping) else ""
        raise TextError(
            f"{_SETTING.get(name, name)} of the task {name_of(task)} fails on {which} {at()}: {why}.",
            f"The columns of its data: {columns}." if columns else "",
        ) from cause

    return run


def _not_choices(found: Any) -> str:
    """Return why these cannot be the choices of a document, empty if they can."""
    if not isinstance(found, Collection) or isinstance(found, str):
        return f"it must give a list of texts, got {type(found).__name__}"
    if not len(found):
        return "it gives no choices"
    other = next((choice for choice in found if not isinstance(choice, str)), None)
    return "" if other is None else f"every choice must be text, got {shown(str(other))}"


def _splits_told(method: Callable[..., Any], name: str) -> Callable[..., Any]:
    @functools.wraps(method)
    def run(task: ConfigurableTask) -> Any:
        try:
            documents = method(task)
        except DepthprobeError:
            raise
        except FOREIGN as error:
            split = task.fewshot_cfg.split if name == "fewshot_docs" else _split_of(task, name)
            if split is not None and isinstance(task.dataset, Mapping) and split not in task.dataset:
                raise TextError(
                    f"The data of the task {name_of(task)} have no split {split}.",
                    f"Their splits: {', '.join(map(str, task.dataset))}.",
                ) from error
            what = f"split {split}" if split is not None else "examples"
            raise TextError(
                f"The {what} of the task {name_of(task)} cannot be read: {reason(error)}.",
                "Check its process_docs." if task.get_config("process_docs") is not None else "",
            ) from error
        asked = "test_docs" if task.has_test_docs() else "validation_docs"
        if name == asked and _split_of(task, name) is not None:
            _check_documents(task, documents, _split_of(task, name))
        return documents

    return run


def _split_of(task: ConfigurableTask, name: str) -> str | None:
    split: str | None = task.get_config(name.replace("_docs", "_split"))
    return split


def _check_documents(task: ConfigurableTask, documents: Any, split: str | None) -> None:
    """Raise a TextError if a split that is asked about does not hold documents as lm-eval reads them."""
    name = name_of(task)
    processed = task.get_config("process_docs") is not None
    if not hasattr(documents, "features"):
        what = "process_docs" if processed else "The data set"
        raise TextError(
            f"{what} of the task {name} must give a data set of the library datasets, "
            f"got {type(documents).__name__}.",
            "Return datasets.Dataset.from_list(rows)." if processed else "",
        )
    if not hasattr(documents, "__len__"):
        raise TextError(
            f"The data of the task {name} are streamed.", "Leave streaming out of dataset_kwargs."
        )
    if not len(documents):
        after = " once process_docs has run" if processed else ""
        raise TextError(f"The task {name} has no documents: its split {split} is empty{after}.")


class _UnknownName(Exception):
    """A name that lm-eval does not know, in words that follow the name of a task."""


def _known(function: Callable[..., Any], what: str) -> Callable[..., Any]:
    @functools.wraps(function)
    def run(name: Any, *given: Any) -> Any:
        found = function(name, *given)
        if found is None and what == "get_metric":
            raise _UnknownName(
                f"asks for the metric {name}, which neither lm-eval nor the library evaluate has"
            )
        if found is None and what == "get_aggregation":
            raise _UnknownName(f"asks for the aggregation {name}, which lm-eval does not have")
        if found is None and name in METRIC_REGISTRY:
            raise _UnknownName(f"must say by which aggregation the metric {name} is summed up")
        if found is None:
            raise _UnknownName(f"asks for the metric {name}, which lm-eval does not have")
        return found

    return run


def _set_up_told(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)  # lm-eval looks at the parameters
    def run(task: ConfigurableTask, *given: Any, **named: Any) -> None:
        try:
            init(task, *given, **named)
        except (DepthprobeError, ImportError):
            raise
        except FOREIGN as error:
            config = named.get("config") or {}
            name = config.get("task") or type(task).__name__
            if isinstance(error, _UnknownName):
                raise TextError(f"The task {name} {error}.", "Check its metric_list.") from error
            if hasattr(task, "dataset") and not (task.has_test_docs() or task.has_validation_docs()):
                raise TextError(
                    f"The task {name} names neither a test_split nor a validation_split."
                ) from error
            if isinstance(error, StopIteration):  # of a data file without a row
                raise TextError(f"The task {name} has no documents: its data are empty.") from error
            _refuse_target(task, error)
            if (
                task.DATASET_PATH is None
                and not config.get("custom_dataset")
                and hasattr(task, "fewshot_cfg")
            ):
                raise TextError(
                    f"The task {name} has no data: it names no dataset_path.",
                    "A task that a group names by its name must be found by --include-path."
                    if "::" in name
                    else "Check its YAML file.",
                ) from error
            raise TextError(
                f"The task {name} cannot be set up: {reason(error)}.", "Check its YAML file."
            ) from error

    return run


def _refuse_target(task: ConfigurableTask, error: BaseException) -> None:
    """Raise a TextError if it is the first document's target, or an empty choice of it, that is wrong."""
    documents = getattr(task, "task_docs", None)
    if not isinstance(error, IndexError) or not documents or task.get_config("doc_to_choice") is None:
        return
    target, choices = task.doc_to_target(documents[0]), task.doc_to_choice(documents[0])
    where = f"document 0 of the task {name_of(task)}"
    if "" in choices:
        raise TextError(f"One of the choices of {where} is empty.") from error
    if isinstance(target, int) and target >= len(choices):
        raise TextError(
            f"The target of {where} is {target}, but its choices are numbered 0 to {len(choices) - 1}."
        ) from error


def name_of(task: Task) -> str:
    """Return a task's name; lm-eval's own property for it draws from Python's random generator."""
    # A task written as a class loads its data before its name is set.
    return getattr(getattr(task, "config", None), "task", None) or type(task).__name__
