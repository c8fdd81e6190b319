"""A task's scoring tried on made-up answers, so that what its code raises shows before any model is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from lm_eval.api.metrics import mean
from lm_eval.api.task import Task
from lm_eval.models.utils import normalize_gen_kwargs

from depthprobe.errors import DepthprobeError, OptionError, TextError
from depthprobe.evaluation.harness.foreign import FOREIGN, reason
from depthprobe.evaluation.harness.outcome import score_documents

# Raised by code that cannot work. Any other may come from numbers that no model would give.
_NEVER_RIGHT = (AttributeError, ImportError, NameError, TypeError)


def try_scoring(tasks: Mapping[str, Task], chosen: Mapping[str, list[int] | None]) -> None:
    """Raise a TextError if a task's filters, ``process_results`` or aggregations cannot work.

    Log-likelihoods may be any numbers, so all documents are scored with some. What is done with a generated
    text may depend on it: one document is scored, and refused only if no text at all will do. Code that runs
    what the model writes is not tried.

    Args:
        tasks: The tasks by name, their requests built.
        chosen: For each task the numbers of its chosen documents, None for all.
    """
    for name, task in tasks.items():
        texts = [i for i in task.instances if i.request_type == "generate_until"]
        _check_repeats(name, task.instances[0].repeats if task.instances else 1)
        if texts:
            _check_generation(name, texts[0].args[1])
            if not getattr(task, "UNSAFE_CODE", False):
                _try_texts(name, task, chosen[name])
        else:
            _try(name, task, chosen[name], lambda number: (-1.0 - number % 7, False))
        for instance in task.instances:
            instance.resps, instance.filtered_resps = [], {}


def _try_texts(name: str, task: Task, numbers: list[int] | None) -> None:
    """Try the first document on texts of several kinds; what one of them suits is kept for later."""
    failure: DepthprobeError | None = None
    for text in ("", "1", "The answer is A."):
        try:
            _try(name, task, numbers, partial(_always, text), most=1)
        except DepthprobeError as error:
            failure = failure or error
        else:
            return
    assert failure is not None, "no text was scored"
    raise failure


def _always(text: str, number: int) -> str:
    return text


def _try(
    name: str, task: Task, numbers: list[int] | None, answer: Callable[[int], Any], most: int | None = None
) -> None:
    for number, instance in enumerate(task.instances):
        one = answer(number)
        if instance.request_type == "loglikelihood_rolling":
            one = one[0]
        instance.resps, instance.filtered_resps = [one] * (instance.repeats or 1), {}
    raw, _ = score_documents(task, numbers, samples=False, most=most)
    if not raw and most is None:
        raise TextError(
            f"The task {name} would give no number: its process_results gives none for any document."
        )
    for (metric, _), scored in raw.items():
        aggregate = task.aggregation().get(metric, mean)
        try:
            aggregate([item for _, item in scored])
        except _NEVER_RIGHT as error:
            raise TextError(
                f"The aggregation of {metric} of the task {name} fails: {reason(error)}.",
                "Check its metric_list.",
            ) from error
        except FOREIGN:
            pass  # made-up numbers may be the cause; told when the real ones are in


def _check_repeats(name: str, repeats: Any) -> None:
    """Raise an OptionError unless a task asks for each answer once or more."""
    if repeats is not None and (type(repeats) is not int or repeats < 1):
        raise OptionError(f"The task {name} must be repeated at least once, got repeats: {repeats!r}.")


def _check_generation(name: str, settings: Any) -> None:
    """Raise an OptionError if lm-eval cannot generate with these settings, or would stop at once."""
    hint = "Check its generation_kwargs and --gen-kwargs."
    try:
        read = normalize_gen_kwargs(settings)
    except FOREIGN as error:
        raise OptionError(
            f"The generation settings of the task {name} fail: {reason(error)}.", hint
        ) from error
    until = read["until"]
    if any(not isinstance(each, str) for each in until):
        raise OptionError(f"The task {name} must stop at texts, got until: {until!r}.", hint)
    if "" in until:
        raise OptionError(
            f"The task {name} stops at an empty text, so that every answer would end at once.", hint
        )
    if not isinstance(settings.get("do_sample"), bool | None):
        raise OptionError(
            f"do_sample of the task {name} must be true or false, got {settings['do_sample']!r}.", hint
        )
    if read["max_gen_toks"] < 1:
        raise OptionError(
            f"The task {name} must generate at least 1 token, got {read['max_gen_toks']}.", hint
        )
