"""What to evaluate and how: lm-eval's own options in its own words, checked before anything is loaded."""

from __future__ import annotations

import ast
import glob
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

from depthprobe.declaring import MOST_SEED, Option, Options
from depthprobe.errors import OptionError
from depthprobe.machine.looks import files_below
from depthprobe.redaction import is_text

_YAML = (".yaml", ".yml")

Seeds = tuple[int | None, int | None, int | None, int | None]

# lm-eval's own: for Python's random, numpy, torch and the few-shot sampler (lm_eval.defaults).
DEFAULT_SEEDS: Seeds = (0, 1234, 1234, 1234)

EMBEDDED_TASK = "stdlib_mc"


# A change of these may move a number in the last digits, or a prompt.
DECISIVE_LIBRARIES = ("lm-eval", "torch", "transformers", "datasets")

MOST_LAYERS = 100_000

_TASKS, _SWEEP = "Tasks (lm-eval's own options)", "Sweep"


def listed(text: str) -> tuple[str, ...]:
    """Return the names that a comma separated text lists, each once, in order."""
    return tuple(dict.fromkeys(filter(None, (part.strip() for part in text.split(",")))))


def parse_seeds(text: str) -> Seeds:
    """Return the four seeds of lm-eval's ``--seed``: random, numpy, torch, few-shot sampling.

    One number seeds all four; three leave the last at its default; ``None`` leaves a generator unseeded.

    Raises:
        OptionError: if they are not one, three or four whole numbers or ``None``.
    """
    try:
        seeds = [None if part.strip() == "None" else int(part) for part in text.split(",")]
    except ValueError:
        seeds = []
    if len(seeds) == 1:
        seeds = seeds * 4
    elif len(seeds) == 3:
        seeds = [*seeds, DEFAULT_SEEDS[3]]
    if len(seeds) != 4 or any(seed is not None and not 0 <= seed <= MOST_SEED for seed in seeds):
        raise OptionError(
            f"--seed must be a whole number from 0 to {MOST_SEED}, got {text or 'nothing'}.",
            "Give one, or four separated by commas for random, numpy, torch and few-shot sampling.",
        )
    return seeds[0], seeds[1], seeds[2], seeds[3]


# lm-eval's names for running a model with transformers.
HF_BACKENDS = ("hf", "hf-auto", "huggingface")

# Its model arguments that shape prompts and answers.
MODEL_ARGS = ("add_bos_token", "prefix_token_id", "enable_thinking", "think_end_token", "chat_template_args")


def parse_model_args(text: str) -> dict[str, Any]:
    """Return model arguments written as lm-eval has them: ``NAME=VALUE,NAME=VALUE`` or JSON.

    Raises:
        OptionError: if they are not written so.
    """
    problem = f"--model-args must be NAME=VALUE, separated by commas, or JSON; got {text or 'nothing'}."
    if is_json(text):
        try:
            return dict(json.loads(text))
        except ValueError:
            raise OptionError(problem) from None
    found: dict[str, Any] = {}
    # A comma within brackets or quotes belongs to a value.
    for part in re.findall(r"(?:\{[^}]*\}|\[[^\]]*\]|\"[^\"]*\"|'[^']*'|[^,])+", text):
        name, equals, value = part.partition("=")
        if not equals or not name.strip():
            raise OptionError(problem)
        found[name.strip()] = _value(value.strip())
    return found


def _value(text: str) -> Any:
    """Return a value as lm-eval reads it: true and false, numbers, Python literals, or else the text."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text


def parse_documents(text: str) -> dict[str, Any]:
    """Return the documents that ``--documents`` picks, from JSON or a JSON file.

    Raises:
        OptionError: if it is neither.
    """
    try:
        path = Path(text)
        found = json.loads(path.read_text(encoding="utf-8") if path.is_file() else text)
    except (ValueError, OSError):
        found = None
    if not isinstance(found, dict):
        raise OptionError(
            f"--documents must be JSON or a JSON file, got {text or 'nothing'}.", 'Write {"TASK": [0, 3, 6]}.'
        )
    return found


def parse_layers(text: str) -> tuple[int, ...]:
    """Return the layers that ``--layers`` lists, ascending.

    Raises:
        OptionError: if it is not a list of 0-based layers and ranges.
    """
    layers: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise OptionError(
                f"--layers must be a list such as 0,5,20-31 (0-based), got {text or 'nothing'}."
            )
        if int(last if dash else first) > MOST_LAYERS:
            raise OptionError(f"--layers must be at most {MOST_LAYERS}, got {text}.")
        layers.update(range(int(first), int(last if dash else first) + 1))
    return tuple(sorted(layers))


@dataclass(frozen=True)
class TaskOptions(Options):
    """Which tasks, on which documents, with which prompts. Names and defaults are lm-eval's.

    ``tasks`` are names of tasks, groups or tags, patterns such as ``mmlu_*``, or YAML files. ``limit`` is
    the number of documents of each task, or their share if below 1; ``documents`` picks them by number,
    for each task. ``fewshot_as_multiturn`` None means lm-eval's default: examples are turns of their own if a
    chat template is applied. ``max_length`` is in tokens; None takes the model's positions as lm-eval reads
    them. ``seeds`` are as :func:`parse_seeds` returns them.
    """

    tasks: Annotated[
        tuple[str, ...],
        Option(
            "Tasks, groups or tags of lm-eval, comma separated or repeated; stdlib_mc is embedded.",
            flags=("--task", "--tasks"),
            panel=_TASKS,
            parse=listed,
        ),
    ] = (EMBEDDED_TASK,)
    num_fewshot: Annotated[
        int | None,
        Option("Worked examples in each prompt.", at_least=0, default="the task's own", panel=_TASKS),
    ] = None
    limit: Annotated[
        float | None, Option("Documents of each task, a whole number; or below 1 their share.", panel=_TASKS)
    ] = None
    documents: Annotated[
        Mapping[str, Sequence[int]] | None,
        Option(
            'Documents by number, as JSON or a JSON file: {"TASK": [0, 3, 6]}.',
            metavar="JSON",
            panel=_TASKS,
            parse=parse_documents,
        ),
    ] = None
    max_length: Annotated[
        int | None,
        Option(
            "Most tokens that the model may read.", at_least=1, default="the model's positions", panel=_TASKS
        ),
    ] = None
    apply_chat_template: Annotated[bool | str, Option("Use the chat template.", panel=_TASKS)] = False
    chat_template: Annotated[
        str | None, Option("Name of the chat template, if there are several.", panel=_TASKS)
    ] = None
    system_instruction: Annotated[str | None, Option("System instruction for the prompts.", panel=_TASKS)] = (
        None
    )
    fewshot_as_multiturn: Annotated[
        bool | None,
        Option(
            "Give the examples as turns of a conversation.",
            flags=("--fewshot-as-multiturn/--no-fewshot-as-multiturn",),
            default="if a chat template is applied",
            panel=_TASKS,
        ),
    ] = None
    gen_kwargs: Annotated[
        str | Mapping[str, Any] | None,
        Option(
            "Generation settings: temperature=0,top_p=1 or JSON.", metavar="TEXT", panel=_TASKS, parse=str
        ),
    ] = None
    model_args: Annotated[
        Mapping[str, Any] | None,
        Option(
            "lm-eval's model arguments, NAME=VALUE,... or JSON: " + ", ".join(MODEL_ARGS) + ".",
            metavar="TEXT",
            panel=_TASKS,
            parse=parse_model_args,
        ),
    ] = None
    include_path: Annotated[
        tuple[Path, ...],
        Option("Directory with task YAML files of your own.", metavar="PATH", panel=_TASKS),
    ] = ()
    confirm_run_unsafe_code: Annotated[bool, Option("Run tasks that execute code.", panel=_TASKS)] = False
    seeds: Annotated[
        Seeds,
        Option(
            "Seeds of random, numpy, torch and few-shot sampling: four, or one for all. The first also "
            "seeds the text.",
            flags=("--seed",),
            metavar="TEXT",
            default=",".join(map(str, DEFAULT_SEEDS)),
            panel=_TASKS,
            parse=parse_seeds,
        ),
    ] = DEFAULT_SEEDS

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.chat_template is not None:
            object.__setattr__(self, "apply_chat_template", self.chat_template)
        if not self.tasks:
            raise OptionError("No task is named.", "Name one with --task, for example --task hellaswag.")
        if self.limit is not None:
            object.__setattr__(self, "limit", _checked_limit(self.limit))
        if self.limit is not None and self.documents is not None:
            raise OptionError("--limit and --documents cannot be combined.", "Leave one of them out.")
        if self.documents is not None:
            for name, numbers in self.documents.items():
                listed = isinstance(numbers, (list, tuple)) and len(numbers) > 0
                if not listed or any(type(n) is not int or n < 0 for n in numbers):
                    raise OptionError(
                        f"--documents must list document numbers for {name}, got {numbers!r}.",
                        'Write them as {"TASK": [0, 3, 6]}.',
                    )
        if self.fewshot_as_multiturn and not self.apply_chat_template:
            raise OptionError("--fewshot-as-multiturn needs a chat template.", "Add --apply-chat-template.")
        for name in ("system_instruction", "gen_kwargs", "chat_template"):
            text = getattr(self, name)
            if isinstance(text, str) and not is_text(text):
                raise OptionError(f"--{name.replace('_', '-')} is not UTF-8 text: {text!r}.")
        if isinstance(self.gen_kwargs, str):
            _check_generation(self.gen_kwargs)
        _check_model_args(self.model_args or {})
        for folder in self.include_path:
            if not folder.is_dir():
                raise OptionError(
                    f"There is no directory {folder}.", "Check the path given to --include-path."
                )

    def documents_of(self, task: str) -> list[int] | None:
        """Return the numbers of the documents picked for a task, ascending; None for all.

        Ascending whatever order was given: lm-eval goes through the documents in that order and would
        otherwise log one document's answer under another's number.
        """
        picked = (self.documents or {}).get(task)
        return None if picked is None else sorted(set(picked))

    def settings(self) -> dict[str, Any]:
        """Return the options of the tasks as JSON values, as a manifest records them."""
        known = {each.name: getattr(self, each.name) for each in fields(TaskOptions)}
        del known["chat_template"]  # apply_chat_template holds its name
        del known["documents"]
        if self.model_args is None:
            del known["model_args"]  # earlier runs know of none
        return known | {
            "tasks": list(self.tasks),
            "samples": {name: self.documents_of(name) for name in sorted(self.documents or {})} or None,
            "gen_kwargs": dict(self.gen_kwargs) if isinstance(self.gen_kwargs, Mapping) else self.gen_kwargs,
            "include_path": [path.name for path in self.include_path],
            "seeds": list(self.seeds),
        }

    def text_seed(self) -> int | None:
        """Return the seed of the calibration text: that of Python's random."""
        return self.seeds[0] or 0


def _checked_limit(limit: float) -> float:
    """The limit as lm-eval means it: a whole number of documents, or below 1 their share."""
    if not (math.isfinite(limit) and limit > 0):
        raise OptionError(
            f"--limit must be more than 0, got {limit:g}.",
            "Give a number of documents, or a share of them such as 0.1.",
        )
    if limit >= 1 and limit != int(limit):
        raise OptionError(
            f"--limit must be a whole number of documents, or a share of them below 1, got {limit:.12g}.",
            f"Give {int(limit)}, or a share such as 0.1.",
        )
    return int(limit) if limit >= 1 else limit


def is_json(gen_kwargs: str) -> bool:
    """Whether generation settings are written as a JSON object, not as ``NAME=VALUE``."""
    return gen_kwargs.lstrip().startswith("{")


def _check_model_args(args: Mapping[str, Any]) -> None:
    unknown = sorted(set(args) - set(MODEL_ARGS))
    if unknown:
        raise OptionError(
            f"--model-args does not take {', '.join(unknown)}.",
            f"It takes {', '.join(MODEL_ARGS)}; how a model is loaded is said by options such as --dtype.",
        )
    if args.get("enable_thinking") and args.get("think_end_token") is None:
        raise OptionError(
            "--model-args enable_thinking=True needs think_end_token, after which the answer begins.",
            "Add it, for example think_end_token=</think>.",
        )


def _check_generation(text: str) -> None:
    if is_json(text):
        try:
            json.loads(text)
        except ValueError as error:
            raise OptionError(
                f"--gen-kwargs is not valid JSON ({error}): {text}.", 'Write {"NAME": VALUE}.'
            ) from None
        return
    for part in text.split(","):
        if part and "=" not in part:
            raise OptionError(f"--gen-kwargs must be NAME=VALUE, separated by commas, or JSON; got {text}.")


@dataclass(frozen=True)
class SweepOptions(TaskOptions):
    """What ``prune-sweep`` may be asked for: the tasks, and what is removed.

    ``layers`` are the first layers to remove, None for all that fit; ``block`` is how many consecutive
    layers a variant leaves out.
    """

    log_samples: Annotated[
        bool, Option("Write lm-eval's sample rows for every variant.", role="means", panel=_TASKS)
    ] = False
    layers: Annotated[
        tuple[int, ...] | None,
        Option(
            "0-based layers to remove, such as 0,5,20-31.",
            metavar="TEXT",
            default="all",
            panel=_SWEEP,
            parse=parse_layers,
        ),
    ] = None
    block: Annotated[
        int, Option("Consecutive layers removed at once: l .. l+BLOCK-1.", at_least=1, panel=_SWEEP)
    ] = 1

    def settings(self) -> dict[str, Any]:
        """Return what decides the numbers besides model and text, as known before the tasks are read."""
        import importlib.metadata  # takes a while, and only measuring needs it

        return {
            "tasks": super().settings(),
            "layers": None if self.layers is None else list(self.layers),
            "block": self.block,
            "libraries": {name: importlib.metadata.version(name) for name in DECISIVE_LIBRARIES},
        }

    def recorded(self) -> dict[str, Any]:
        """Return what a manifest records of them under ``options``; its settings hold them all."""
        names = ("num_fewshot", "limit", "block")
        return {"tasks": list(self.tasks), **{name: getattr(self, name) for name in names}}

    def ending(self) -> str:
        """Return what follows the probe's name in the run's directory name: the tasks."""
        return "-".join(Path(task).stem for task in self.tasks)

    def wanted_files(self) -> list[str]:
        """Return the pattern of lm-eval's sample rows, where they are asked for."""
        return ["samples_*.jsonl"] if self.log_samples else []

    def files(self) -> list[str]:
        """Return the user's own task files, among which names are looked up; what they name is not here."""
        below = (file for folder in self.include_path for file in files_below(folder))
        named = (name for task in self.tasks if task.endswith(_YAML) for name in glob.glob(task))
        return sorted({str(file) for file in below if file.suffix in _YAML} | set(named))
