"""What of the tasks decides the numbers, as hashes of contents, and the files that it comes from.

A task is what its configuration says once everything is included and overridden, the sources of its
functions, and its documents. Where they lie does not count: a copy of a task is the same task.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lm_eval.api.group import Group
from lm_eval.api.registry import FILTER_REGISTRY, METRIC_REGISTRY
from lm_eval.api.task import Task

from depthprobe.evaluation.harness.origins import (
    CONFIG_SOURCE,
    Sources,
    where_from,
    yaml_files,
)
from depthprobe.evaluation.harness.prompts import limit_of
from depthprobe.evaluation.harness.tasks import Tasks

# What only names the documents, which are hashed themselves, or is for people.
NOT_DECISIVE = {"dataset_path", "dataset_name", "dataset_kwargs", "custom_dataset", "tag", "task_alias"}
DOCUMENTS_AT_ONCE = 1000


def content_of(tasks: Tasks) -> tuple[dict[str, str], list[str]]:
    """Return a hash of the content of every task and group by name, and what they come from.

    The latter as :mod:`depthprobe.machine.looks` names it.
    """
    sources = Sources()
    hashes = {name: _hash_of_task(name, task, tasks, sources) for name, task in tasks.tasks.items()}
    origins: set[Path | str] = set()
    for group_name, group in tasks.groups.items():
        hashes[group_name] = _hash(json.dumps(_plain_group(group, sources), sort_keys=True).encode())
        origins.update(yaml_files(group.metadata))
    for task in tasks.tasks.values():
        config = getattr(task, "config", None)
        origins.update(yaml_files(getattr(config, "metadata", None)))
        origins.update(where_from(task))
    return hashes, sorted(map(str, origins | sources.files | sources.variables))


def _hash_of_task(name: str, task: Task, tasks: Tasks, sources: Sources) -> str:
    config = sources.plain(getattr(task, "config", None))
    if isinstance(config, dict):
        config = {key: value for key, value in config.items() if key not in NOT_DECISIVE}
        metadata = config.get("metadata")
        if isinstance(metadata, dict):
            config["metadata"] = {key: value for key, value in metadata.items() if key != CONFIG_SOURCE}
    kinds = [kind for kind in type(task).__mro__ if kind is not object]
    digest = hashlib.sha256()
    for part in (config, [sources.plain(kind) for kind in kinds], _registered(task, sources)):
        digest.update(json.dumps(part, sort_keys=True).encode() + b"\0")
    for part in _documents(name, task, tasks):
        digest.update(json.dumps(sources.plain(part), sort_keys=True).encode() + b"\0")
    return digest.hexdigest()


def _registered(task: Task, sources: Sources) -> Any:
    """Return what lm-eval's registries hold for the names of a task's metrics and filters."""
    config = getattr(task, "config", None)
    metrics = [each.get("metric") for each in getattr(config, "metric_list", None) or ()]
    filters = [
        step.get("function")
        for each in getattr(config, "filter_list", None) or ()
        for step in each.get("filter") or ()
    ]
    found: list[Any] = []
    for registry, names in ((METRIC_REGISTRY, metrics), (FILTER_REGISTRY, filters)):
        known = [name for name in names if isinstance(name, str) and name in registry]
        found.append([sources.plain(registry.get(name)) for name in known])
    try:
        found.append(sources.plain(task.aggregation()))
    except Exception:  # somebody's own class: scoring says what is wrong with it
        found.append(None)
    return found


def _documents(name: str, task: Task, tasks: Tasks) -> Iterator[Any]:
    """Yield the documents that are asked, a few at a time, and those that examples are drawn from."""
    documents = getattr(task, "task_docs", None)
    documents = task.eval_docs if documents is None else documents
    yield from _batches(documents, limit_of(task, tasks.options), tasks.options.documents_of(name))
    if task.get_config("num_fewshot"):
        sampler = getattr(task, "sampler", None)
        yield from _batches(getattr(sampler, "df", None) or [], None, None)


def _batches(documents: Any, limit: int | None, numbers: Iterable[int] | None) -> Iterator[Any]:
    if numbers is not None:
        yield [documents[number] for number in numbers]
        return
    if hasattr(documents, "iter") and hasattr(documents, "select"):  # a data set: column by column, faster
        some = documents if limit is None else documents.select(range(min(limit, len(documents))))
        yield from some.iter(batch_size=DOCUMENTS_AT_ONCE)
        return
    held: list[Any] = []
    for count, document in enumerate(documents):
        if count == limit:
            break
        held.append(document)
        if len(held) == DOCUMENTS_AT_ONCE:
            yield held
            held = []
    yield held


def _plain_group(group: Group, sources: Sources) -> Any:
    metadata = {key: value for key, value in (group.metadata or {}).items() if key != CONFIG_SOURCE}
    return [
        sources.plain(group.aggregate_metric_list),
        sources.plain(metadata),
        list(group.child_names),
    ]


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
