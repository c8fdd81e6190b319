"""Tasks -> lm-eval's requests as texts, a model's chat template applied: all that needs no weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lm_eval.api.task import Task

from depthprobe.errors import DepthprobeError, OptionError, TextError
from depthprobe.evaluation.harness.chat import ChatTemplate, TemplateFailure, chat_arguments
from depthprobe.evaluation.harness.foreign import FOREIGN, documents_told, reason, shown
from depthprobe.evaluation.harness.isolation import quiet
from depthprobe.evaluation.harness.options import TaskOptions
from depthprobe.evaluation.harness.suspicions import suspicions
from depthprobe.evaluation.harness.tasks import Tasks
from depthprobe.evaluation.harness.trial import try_scoring
from depthprobe.redaction import is_text


@dataclass(frozen=True)
class Prompts:
    """That the tasks' requests are built, and what came up.

    Args:
        notes: Sentences for the user.
        system_messages: For each task with a system message (``--system-instruction``, or a description with
            a chat template): how many ``prompts`` it has, how many are ``with_it``, and the ``reason`` if
            that is not all of them.
        arguments: What was handed to the chat template.
    """

    notes: tuple[str, ...] = ()
    system_messages: dict[str, dict[str, Any]] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)


def build_prompts(
    tasks: Tasks,
    model: str,
    tokenizer: Any,
    config: Any = None,
    advance: Callable[[int], None] | None = None,
) -> Prompts:
    """Build the requests of tasks, with lm-eval's prompts and few-shot examples, and look them over.

    Args:
        tasks: Their ``instances`` are built here.
        model: The model's name, for messages.
        tokenizer: Its tokenizer, whose chat template is applied.
        config: Its configuration, None if it has none.
        advance: Called with 1 for every document whose prompt was built.

    Raises:
        OptionError: if the chat template fails on a prompt, or text cannot be generated as a task wants it.
        TextError: if a task's own templates or functions fail, or it can give no number.
    """
    options = tasks.options
    _check_thinking(tasks)
    arguments = chat_arguments(options, tokenizer)
    chat = ChatTemplate(tokenizer, config, arguments) if options.apply_chat_template else None
    numbers = {name: options.documents_of(name) for name in tasks.tasks}
    with tasks.randomness.advancing():
        for name, task in tasks.tasks.items():
            if chat is not None:
                chat.task = name
            _build(name, task, options, numbers[name], model, chat, advance)
    # What follows asks the tasks again, and must not move the seeds.
    with quiet(), tasks.randomness.replayed():
        notes = _chat_notes(tasks, model, chat)
        notes += suspicions(options, tasks.tasks, numbers)
        try_scoring(tasks.tasks, numbers)
    return Prompts(tuple(notes), _system_messages(tasks, chat), arguments)


def _check_thinking(tasks: Tasks) -> None:
    if not (tasks.options.model_args or {}).get("enable_thinking"):
        return
    scored = [name for name, task in tasks.tasks.items() if task.OUTPUT_TYPE != "generate_until"]
    if scored:
        raise OptionError(
            f"--model-args enable_thinking=True needs tasks that generate text; {', '.join(scored)} scores "
            "given answers.",
            "Leave it out, or name other tasks.",
        )


def _build(
    name: str,
    task: Task,
    options: TaskOptions,
    numbers: list[int] | None,
    model: str,
    chat: ChatTemplate | None,
    advance: Callable[[int], None] | None,
) -> None:
    """Build the requests of one task; ``numbers`` are those of its chosen documents, None for all."""
    done = 0

    def step(count: int) -> None:
        nonlocal done
        done += count
        if advance is not None:
            advance(count)

    def number(index: int) -> int:
        return index if numbers is None or index >= len(numbers) else numbers[index]

    try:
        with quiet(step), documents_told(lambda: number(done)):
            task.build_all_requests(
                limit=limit_of(task, options),
                samples=numbers,
                rank=0,
                world_size=1,
                system_instruction=options.system_instruction,
                apply_chat_template=chat is not None,
                fewshot_as_multiturn=options.fewshot_as_multiturn is not False,
                chat_template=chat,
            )
    except DepthprobeError:
        raise
    except TemplateFailure as failure:
        assert failure.__cause__ is not None, "raised from what the template raised"
        in_turns = task.get_config("num_fewshot") and options.fewshot_as_multiturn is not False
        raise OptionError(
            f"The chat template of {model} fails on document {number(done)} of the task {name}: "
            f"{reason(failure.__cause__)}.",
            "Try --no-fewshot-as-multiturn, or leave out --apply-chat-template."
            if in_turns
            else "Leave out --apply-chat-template, or mend the template.",
        ) from failure
    except FOREIGN as error:
        _refuse_few_examples(name, task, error)
        if getattr(task, "instances", None) == []:
            raise TextError(f"No document of the task {name} asks anything of the model.") from error
        raise TextError(
            f"The prompt of document {number(done)} of the task {name} cannot be built: {reason(error)}."
        ) from error
    for instance in task.instances:
        strange = next((text for text in instance.args if isinstance(text, str) and not is_text(text)), None)
        if strange is not None:
            raise TextError(
                f"The prompt of document {number(instance.doc_id)} of the task {name} holds a character that "
                f"no text can hold (half of a surrogate pair): {shown(strange)}.",
                "Correct the task's data, or how its function reads them.",
            )
    asked = {instance.doc_id for instance in task.instances}
    missing = next((index for index in range(done) if index not in asked), None)
    if missing is not None:
        raise TextError(f"Document {number(missing)} of the task {name} asks nothing of the model.")


def _refuse_few_examples(name: str, task: Task, error: BaseException) -> None:
    """Raise a TextError if there are fewer examples than a prompt is to hold."""
    wanted, pool = task.get_config("num_fewshot"), getattr(getattr(task, "sampler", None), "df", None)
    if wanted and pool is not None and len(pool) <= wanted and isinstance(error, ValueError | AssertionError):
        raise TextError(
            f"The task {name} has only {len(pool)} examples, but each prompt is to hold {wanted} others.",
            "Give fewer with --num-fewshot.",
        ) from error


def limit_of(task: Task, options: TaskOptions) -> int | None:
    """Return the most documents asked of a task, None for all."""
    limit = options.limit
    if limit is None or limit >= 1:
        return None if limit is None else int(limit)
    return math.ceil(len(task.eval_docs) * limit)


def _chat_notes(tasks: Tasks, model: str, chat: ChatTemplate | None) -> list[str]:
    if chat is None:
        return []
    notes = []
    oddity = chat.oddity()
    if oddity:
        notes.append(f"The chat template of {model} {oddity}.")
    if chat.dropped:
        what = ["--system-instruction"] if tasks.options.system_instruction else []
        described = [name for name in chat.dropped if tasks.tasks[name].get_config("description")]
        what += [f"the description of {name}" for name in described[:5]]
        what += [f"that of {len(described) - 5} more tasks"] if len(described) > 5 else []
        listed = " and ".join([", ".join(what[:-1]), what[-1]] if len(what) > 1 else what)
        how = f"refuses a system message ({chat.refusal})" if chat.refusal else "ignores a system message"
        count, lost = chat.asked.total(), chat.dropped.total()
        where = (
            f"in none of the {count} prompts" if lost == count else f"missing from {lost} of {count} prompts"
        )
        verb = "are" if len(what) > 1 else "is"
        notes.append(f"The chat template of {model} {how}: {listed} {verb} {where}, as in lm-eval.")
    return notes


def _system_messages(tasks: Tasks, chat: ChatTemplate | None) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name, task in tasks.tasks.items():
        if chat is not None:
            prompts, lost = chat.asked[name], chat.dropped[name]
            why = (
                f"the chat template refuses it ({chat.refusal})"
                if chat.refusal
                else "the chat template ignores it"
            )
        else:
            prompts = len({instance.doc_id for instance in task.instances})
            prompts, lost, why = prompts if tasks.options.system_instruction else 0, 0, ""
        if task.OUTPUT_TYPE == "loglikelihood_rolling":
            lost, why = prompts, "running text is scored without a prompt"
        if prompts:
            found[name] = {"prompts": prompts, "with_it": prompts - lost, "reason": why if lost else None}
    return found
