"""Answered requests -> lm-eval's scores, document by document and in sum, without its bootstrapped errors."""

from __future__ import annotations

import copy
import json
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from lm_eval.api.group import Group
from lm_eval.api.instance import Instance
from lm_eval.api.metrics import mean
from lm_eval.api.registry import AGGREGATION_REGISTRY
from lm_eval.api.task import Task
from lm_eval.utils import handle_non_serializable, hash_string

from depthprobe.errors import TextError
from depthprobe.evaluation.harness.foreign import FOREIGN, name_of, reason
from depthprobe.evaluation.harness.suspicions import has_own_scoring, is_choice

# (task or group, metric, filter)
Key = tuple[str, str, str]

# Metrics of multiple choice that are 1 when lm-eval's pick is the right choice, else 0.
# What scores a document, by whether it is the task's own.
_SCORING = {False: "The scoring", True: "process_results"}

PICKED_RIGHT = frozenset({"acc", "acc_norm", "acc_bytes", "acc_mutual_info"})


@dataclass(frozen=True)
class DocScores:
    """What ``process_results`` gave for every document that has this metric.

    Args:
        doc_ids: int64 ``[doc]``, ascending; the numbers of the documents in the task's data.
        values: float64 ``[doc]``; or ``[doc, part]`` where a document gives several numbers: the
            log-likelihood in nats and the count of words or bytes for rolling perplexities, the right and
            the chosen class for f1 and mcc. None where it gives no numbers (BLEU's texts).
        items: The same as lm-eval holds them, one for each document: what :attr:`Metric.aggregate` takes.
    """

    doc_ids: np.ndarray
    values: np.ndarray | None
    items: tuple[Any, ...]


@dataclass(frozen=True)
class Metric:
    """What a number means.

    Args:
        aggregation: lm-eval's name for how documents are summed up: ``mean``, ``perplexity`` (exp of minus
            the mean), ``weighted_perplexity`` (exp of minus sum over sum), ``bits_per_byte``, ...;
            ``custom`` for a task's own, ``group`` for a group.
        higher_is_better: As the task says; None where it does not say, or where a group's tasks differ.
        chance: What picking at random scores, where that is known: the mean over documents of the share of
            right choices.
        docs: Documents with this metric.
        aggregate: lm-eval's function from any list of :attr:`DocScores.items` to the number, for paired
            resampling; None for a group.
        members: For a group: leaf task -> weight, summing to 1.
    """

    aggregation: str
    higher_is_better: bool | None
    chance: float | None
    docs: int
    aggregate: Callable[[Sequence[Any]], Any] | None = field(default=None, compare=False)
    members: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """lm-eval's results for one model.

    Args:
        aggregate: Every number of lm-eval's ``results`` and ``groups``, except standard errors.
        per_doc: What they are computed from, for tasks only.
        metrics: What each number means.
        samples: For each task the rows of ``--log-samples`` as lm-eval writes them, if asked for.
        left_out: Why a number of a task, or a group's that is made of it, is not there.
    """

    aggregate: dict[Key, float]
    per_doc: dict[Key, DocScores]
    metrics: dict[Key, Metric]
    samples: dict[str, list[dict[str, Any]]]
    left_out: dict[Key, str]


def collect_outcome(
    tasks: Mapping[str, Task],
    groups: Mapping[str, Group],
    documents: Mapping[str, list[int] | None],
    chances: Mapping[str, float | None],
    *,
    samples: bool = False,
) -> Outcome:
    """Return the scores of tasks all of whose requests have their answers in ``resps``.

    Args:
        tasks: Leaf tasks by name.
        groups: Groups by name.
        documents: For each task the numbers of the chosen documents; None where they start at 0.
        chances: For each task what picking at random scores.
        samples: Whether to make the rows of ``--log-samples``.
    """
    outcome = Outcome({}, {}, {}, {}, {})
    reported: dict[str, dict[str, Any]] = {}  # what lm-eval's Group.aggregate reads
    for name, task in tasks.items():
        raw, rows = score_documents(task, documents[name], samples)
        if samples:
            outcome.samples[name] = rows
        reported[name] = {"sample_len": max((len(scored) for scored in raw.values()), default=0)}
        for (metric, filter_name), scored in raw.items():
            items = tuple(item for _, item in scored)
            key = (name, metric, filter_name)
            aggregate = task.aggregation().get(metric, mean)
            try:
                number = aggregate(list(items))
            except FOREIGN as error:
                outcome.left_out[key] = f"its aggregation fails: {reason(error)}"
                continue
            values = _numbers(items)
            why = _not_a_number(number, values, [doc_id for doc_id, _ in scored])
            if why:
                outcome.left_out[key] = why
                continue
            reported[name][f"{metric},{filter_name}"] = number
            outcome.aggregate[key] = float(number)
            doc_ids = np.asarray([doc_id for doc_id, _ in scored], dtype=np.int64)
            outcome.per_doc[key] = DocScores(doc_ids, values, items)
            outcome.metrics[key] = Metric(
                _aggregation_name(aggregate),
                task.higher_is_better().get(metric),
                chances[name] if metric in PICKED_RIGHT else None,
                len(items),
                aggregate,
            )
    for name, group in groups.items():
        _collect_group(name, group, reported, outcome)
    return outcome


def chance_level(task: Task) -> float | None:
    """Return what picking one of the choices at random scores on a task's requests; None where unknown.

    Known for multiple choice scored by lm-eval itself: the mean over documents of 1 over the number of
    choices, or of the share of right choices where several are right; 0 where none of them is.
    """
    if task.OUTPUT_TYPE != "multiple_choice" or callable(task.get_config("process_results")):
        return None
    shares = []
    for document in {instance.doc_id: instance.doc for instance in task.instances}.values():
        choices = task.doc_to_choice(document)
        target = task.doc_to_target(document)
        right = len(set(target)) if isinstance(target, list) else 1
        # A task with several inputs chooses among prompts, and its target is what follows them all.
        if not has_own_scoring(task) and not getattr(task, "multiple_input", 0):
            targets = target if isinstance(target, list) else [target]
            right = len({each for each in targets if is_choice(each, choices)})
        shares.append(right / len(choices))
    return float(np.mean(shares))


def score_documents(
    task: Task, documents: list[int] | None, samples: bool, most: int | None = None
) -> tuple[dict[tuple[str, str], list[tuple[int, Any]]], list[dict[str, Any]]]:
    """Return ``(metric, filter) -> [(document number, item)]`` in lm-eval's order, and the sample rows.

    Args:
        task: Its instances have their answers in ``resps``.
        documents: The numbers of the chosen documents; None where they start at 0.
        samples: Whether to make the sample rows.
        most: The most documents to score, None for all.

    Raises:
        TextError: if the task's own filters or ``process_results`` fail.
    """
    name = name_of(task)
    try:
        task.apply_filters()
    except FOREIGN as error:
        raise TextError(
            f"The filters of the task {name} fail: {reason(error)}.", "Check its filter_list."
        ) from error
    by_document: dict[int, list[Instance]] = defaultdict(list)
    for instance in task.instances:
        by_document[instance.doc_id].append(instance)
    raw: dict[tuple[str, str], list[tuple[int, Any]]] = defaultdict(list)
    rows = []
    for filter_name in task.instances[0].filtered_resps:
        for index, instances in islice(by_document.items(), most):
            instances = sorted(instances, key=lambda instance: instance.idx)
            # A copy: lm-eval reads documents afresh for each evaluation, so tasks may alter them.
            document = copy.deepcopy(instances[0].doc)
            number = index if documents is None else documents[index]
            answers = [instance.filtered_resps[filter_name] for instance in instances]
            try:
                scores = task.process_results(document, answers)
            except FOREIGN as error:
                raise TextError(
                    f"{_SCORING[callable(task.get_config('process_results'))]} of the task {name} fails on "
                    f"document {number}: {reason(error)}."
                ) from error
            if not isinstance(scores, Mapping):
                raise TextError(
                    f"process_results of the task {name} must give a dictionary, got "
                    f"{type(scores).__name__} for document {number}."
                )
            for metric, item in scores.items():
                raw[metric, filter_name].append((number, item))
            if samples:
                rows.append(_sample_row(task, number, document, instances, filter_name, scores))
    return raw, rows


def _sample_row(
    task: Task,
    number: int,
    document: Any,
    instances: list[Instance],
    filter_name: str,
    scores: Mapping[str, Any],
) -> dict[str, Any]:
    """Return one row as ``lm_eval.evaluate`` logs it."""
    target = task.doc_to_target(document)
    written = json.dumps(instances[0].doc, indent=2, default=handle_non_serializable, ensure_ascii=False)
    return {
        "doc_id": number,
        "doc": document,
        "target": target,
        "arguments": [instance.args for instance in instances],
        "resps": [instance.resps for instance in instances],
        "filtered_resps": [instance.filtered_resps[filter_name] for instance in instances],
        "filter": filter_name,
        "metrics": list(scores),
        "doc_hash": hash_string(written),
        "prompt_hash": hash_string(instances[0].arguments[0]),
        "target_hash": hash_string(str(target)),
        **scores,
    }


def _collect_group(name: str, group: Group, reported: Mapping[str, Any], outcome: Outcome) -> None:
    """Add a group's numbers: lm-eval's own aggregate, and the weights that it gave each leaf task."""
    numbers = group.aggregate(reported)
    leaves = list(dict.fromkeys(task.task_name for task in group.get_all_tasks()))
    for setting in group.aggregate_metric_list or []:
        filters = {f for task, metric, f in outcome.aggregate if metric == setting.metric and task in leaves}
        lacking = {
            key[2]: leaf for leaf in leaves for key in outcome.left_out if key[:2] == (leaf, setting.metric)
        }
        for filter_name in sorted(filters | lacking.keys()):
            if filter_name in lacking:
                why = f"the task {lacking[filter_name]} lacks it"
                outcome.left_out[name, setting.metric, filter_name] = why
                continue
            number = numbers.get(f"{setting.metric},{filter_name}")
            if number is None:
                continue
            keys = [
                key for leaf in leaves if (key := (leaf, setting.metric, filter_name)) in outcome.aggregate
            ]
            sizes = [reported[key[0]]["sample_len"] if setting.weight_by_size else 1 for key in keys]
            weights = {key[0]: size / sum(sizes) for key, size in zip(keys, sizes, strict=True)}
            metrics = [outcome.metrics[key] for key in keys]
            directions = {metric.higher_is_better for metric in metrics}
            chances = [metric.chance for metric in metrics]
            chance = None
            if None not in chances:
                chance = float(np.dot(list(weights.values()), np.asarray(chances, dtype=np.float64)))
            key = (name, setting.metric, filter_name)
            outcome.aggregate[key] = float(number)
            outcome.metrics[key] = Metric(
                "group",
                directions.pop() if len(directions) == 1 else None,
                chance,
                sum(metric.docs for metric in metrics),
                members=weights,
            )


def _not_a_number(number: Any, values: np.ndarray | None, doc_ids: Sequence[int]) -> str:
    """Return why a number cannot be compared, as the end of a sentence; empty if it can."""
    if not _is_number(number):
        return f"it is no number but {type(number).__name__}"
    if not math.isfinite(number):
        return f"it is {number:g}"
    if values is None or np.isfinite(values).all():
        return ""
    broken = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
    return f"that of document {doc_ids[int(np.argmax(broken))]} is not a finite number"


def _is_number(value: Any) -> bool:
    return isinstance(value, bool | int | float | np.bool_ | np.number)


def _numbers(items: Sequence[Any]) -> np.ndarray | None:
    """Return items as float64, ``[doc]`` or ``[doc, part]``; None where they are not all numbers."""
    if all(_is_number(item) for item in items):
        return np.asarray(items, dtype=np.float64)
    is_row = all(isinstance(item, tuple | list) and all(map(_is_number, item)) for item in items)
    if is_row and len({len(item) for item in items}) == 1:
        return np.asarray(items, dtype=np.float64)
    return None


def _aggregation_name(function: Callable[..., Any]) -> str:
    return next((name for name, known in AGGREGATION_REGISTRY.items() if known is function), "custom")
