"""What looks wrong about a task's prompts and targets although lm-eval takes it: said before scoring."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask, Task

from depthprobe.errors import TextError
from depthprobe.evaluation.harness.foreign import shown
from depthprobe.evaluation.harness.options import TaskOptions

_SINGLE_BRACES = re.compile(r"(?<![{%#]){\s*(\w+)\s*}(?!})")
_TEMPLATES = ("description", "doc_to_text", "doc_to_choice", "doc_to_target", "gen_prefix")

# Multiple choice takes these from the log-likelihoods; lm-eval passes over any other metric in silence.
_COMPUTED = {
    "multiple_choice": frozenset(
        (
            "acc",
            "acc_norm",
            "acc_bytes",
            "acc_mutual_info",
            "brier_score",
            "exact_match",
            "f1",
            "likelihood",
            "mcc",
        )
    ),
    "loglikelihood": frozenset(("perplexity", "acc")),
    "loglikelihood_rolling": frozenset(("word_perplexity", "byte_perplexity", "bits_per_byte")),
}


def suspicions(
    options: TaskOptions, tasks: Mapping[str, Task], chosen: Mapping[str, list[int] | None]
) -> list[str]:
    """Return sentences on whatever looks wrong in tasks whose requests are built.

    Args:
        options: The options as given.
        tasks: The tasks by name.
        chosen: For each task the numbers of its chosen documents, None for all.

    Raises:
        TextError: if a task can give no number, whatever the model answers.
    """
    notes = []
    for name, task in tasks.items():
        if not isinstance(task, ConfigurableTask):
            continue
        numbers = chosen[name]
        by_document: dict[int, list[Instance]] = {}
        for instance in task.instances:
            number = instance.doc_id if numbers is None else numbers[instance.doc_id]
            by_document.setdefault(number, []).append(instance)
        braces = _single_braces(name, task)
        notes += braces
        if not any(note.startswith("doc_to_text") for note in braces):
            notes += _same_prompts(name, task, by_document)
        if not any(note.startswith("doc_to_target") for note in braces):
            notes += _same_targets(name, task, by_document)
        if task.OUTPUT_TYPE == "multiple_choice":
            notes += _choices(name, task, {number: each[0].doc for number, each in by_document.items()})
        notes += [*_metrics(name, task), *_examples(name, task), *_unused(name, task, options)]
    return notes


def _single_braces(name: str, task: ConfigurableTask) -> list[str]:
    """Name the columns in single braces, which a template prints as they stand."""
    notes = []
    for setting in _TEMPLATES:
        template = task.get_config(setting)
        if not isinstance(template, str) or template in task.features:
            continue
        column = next((each for each in _SINGLE_BRACES.findall(template) if each in task.features), None)
        if column is not None:
            notes.append(
                f"{setting} of the task {name} prints {{{column}}} as it stands, in every document alike: "
                f"a column is put in by double braces, {{{{{column}}}}}."
            )
    return notes


def _same_prompts(name: str, task: ConfigurableTask, documents: Mapping[int, list[Instance]]) -> list[str]:
    """Tell if all documents ask the same, before or after a chat template is applied."""
    first = next(iter(documents.values()))
    if task.OUTPUT_TYPE == "loglikelihood_rolling" or not _differ(
        [each[0].doc for each in documents.values()]
    ):
        return []
    text = task.doc_to_text(first[0].doc)
    if isinstance(text, str) and text.strip():
        if not any(task.doc_to_text(each[0].doc) != text for each in documents.values()):
            return [
                f"All {len(documents)} documents of the task {name} ask the same, {shown(text)}: "
                "check its doc_to_text."
            ]
        prompts = [tuple(instance.args[0] for instance in each) for each in documents.values()]
        if len(set(prompts)) == 1:
            return [
                f"All {len(documents)} documents of the task {name} have the same prompt, "
                f"{shown(prompts[0][0])}."
            ]
    return []


def _same_targets(name: str, task: ConfigurableTask, documents: Mapping[int, list[Instance]]) -> list[str]:
    """Tell if the target is text that is no column and no template."""
    target = task.get_config("doc_to_target")
    is_plain = isinstance(target, str) and target not in task.features and "{" not in target
    if (
        not is_plain
        or task.OUTPUT_TYPE == "multiple_choice"
        or target.strip().isdigit()
        or len(documents) < 2
    ):
        return []
    return [
        f"All {len(documents)} documents of the task {name} have the target {shown(target)}, "
        "which is not a column of its data."
    ]


def _choices(name: str, task: ConfigurableTask, documents: Mapping[int, Any]) -> list[str]:
    """Tell of choices given twice, and of targets that are none of the choices."""
    is_own = has_own_scoring(task)
    alike: list[int] = []
    outside: dict[int, Any] = {}
    for number, document in documents.items():
        choices = task.doc_to_choice(document)
        if len(set(choices)) < len(choices):
            alike.append(number)
        if not is_own and not task.multiple_input:
            target = task.doc_to_target(document)
            targets = target if isinstance(target, list) else [target]
            if not all(isinstance(each, str) or hasattr(each, "__index__") for each in targets):
                raise TextError(
                    f"The target of document {number} of the task {name} must be the number or the text of a "
                    f"choice, got {shown(str(target))}."
                )
            if not any(is_choice(each, choices) for each in targets):
                outside[number] = target
    notes = []
    count = len(documents)
    if alike:
        notes.append(
            f"{len(alike)} of {count} documents of the task {name} have the same choice twice, "
            f"the first of them document {alike[0]}."
        )
    if outside:
        number, target = next(iter(outside.items()))
        choices = task.doc_to_choice(documents[number])
        counted = " (counted from 0)" if isinstance(target, int) else ""
        given = f"the target {shown(str(target))}, which is none of its {len(choices)} choices{counted}"
        if len(outside) == count:
            raise TextError(
                f"No document of the task {name} can be answered right: document {number} has {given}.",
                "Check its doc_to_target.",
            )
        notes.append(
            f"{len(outside)} of {count} documents of the task {name} cannot be answered right: "
            f"document {number} has {given}. As in lm-eval they count as wrong."
        )
    return notes


def has_own_scoring(task: Task) -> bool:
    """Whether a task scores documents by code of its own, which may read targets in its own way."""
    own = type(task).process_results is not ConfigurableTask.process_results
    return own or callable(task.get_config("process_results"))


def is_choice(target: Any, choices: Sequence[str]) -> bool:
    """Whether lm-eval can find a target, a text or a number, among the choices."""
    return target in choices if isinstance(target, str) else 0 <= int(target) < len(choices)


def _metrics(name: str, task: ConfigurableTask) -> list[str]:
    """Tell of metrics that lm-eval does not compute for this kind of task."""
    computed = _COMPUTED.get(str(task.OUTPUT_TYPE))
    asked = task.get_config("metric_list")
    if computed is None or asked is None or has_own_scoring(task):
        return []
    names = [getattr(each["metric"], "__name__", str(each["metric"])) for each in asked]
    idle = [metric for metric in names if metric not in computed]
    if not idle:
        return []
    what = f"lm-eval does not compute {', '.join(idle)} for output_type {task.OUTPUT_TYPE}"
    if len(idle) == len(names):
        raise TextError(
            f"The task {name} would give no number: {what}.",
            f"Its metric_list may name {', '.join(sorted(computed))}.",
        )
    return [f"The task {name} gives fewer numbers than it asks for: {what}."]


def _examples(name: str, task: ConfigurableTask) -> list[str]:
    """Tell if the examples come from the documents asked about, each of which may be its own example."""
    wanted, settings = task.get_config("num_fewshot"), task.fewshot_cfg
    if not wanted or settings.samples is not None and settings.split is None:
        return []
    source = settings.split or task.get_config("training_split") or task.get_config("validation_split")
    asked = task.get_config("test_split") or task.get_config("validation_split")
    # lm-eval leaves out the document itself only where these are the same name, or both are missing.
    if (source or asked) != asked or settings.split == task.get_config("test_split"):
        return []
    return [
        f"The examples in the prompts of the task {name} come from the documents asked about, and lm-eval "
        "does not leave out the document itself: a prompt may hold its own answer."
    ]


def _unused(name: str, task: ConfigurableTask, options: TaskOptions) -> list[str]:
    """Tell what has no effect on running text, which lm-eval scores without any prompt."""
    if task.OUTPUT_TYPE != "loglikelihood_rolling":
        return []
    given = {
        "--system-instruction": options.system_instruction,
        "--apply-chat-template": options.apply_chat_template,
        "its examples": task.get_config("num_fewshot"),
        "its description": task.get_config("description"),
    }
    unused = [what for what, value in given.items() if value]
    if not unused:
        return []
    verb = "have" if len(unused) > 1 or unused[0].endswith("s") else "has"
    return [f"The task {name} scores running text without a prompt: {', '.join(unused)} {verb} no effect."]


def _differ(documents: Sequence[Any]) -> bool:
    return any(document != documents[0] for document in documents[1:])
