"""What to evaluate and how: lm-eval's own options in its own words, checked before anything is loaded."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from depthprobe.errors import OptionError

Seeds = tuple[int | None, int | None, int | None, int | None]

# lm-eval's own: for Python's random, numpy, torch and the few-shot sampler (lm_eval.defaults).
DEFAULT_SEEDS: Seeds = (0, 1234, 1234, 1234)


@dataclass(frozen=True)
class TaskOptions:
    """Which tasks, on which documents, with which prompts. Names and defaults are lm-eval's.

    ``tasks`` are names of tasks, groups or tags, patterns such as ``mmlu_*``, or YAML files. ``limit``
    is documents a task, or their share if below 1; ``samples`` picks documents by number, task by task.
    ``fewshot_as_multiturn`` None means lm-eval's default: examples are turns of their own wherever a chat
    template is applied. ``max_length`` is in tokens; None takes the model's positions as lm-eval reads
    them. ``seeds`` as :func:`parse_seeds` gives them.
    """

    tasks: tuple[str, ...]
    num_fewshot: int | None = None
    limit: int | float | None = None
    samples: Mapping[str, Sequence[int]] | None = None
    apply_chat_template: bool | str = False
    system_instruction: str | None = None
    fewshot_as_multiturn: bool | None = None
    gen_kwargs: str | Mapping[str, Any] | None = None
    include_path: tuple[Path, ...] = ()
    max_length: int | None = None
    confirm_run_unsafe_code: bool = False
    seeds: Seeds = DEFAULT_SEEDS

    def __post_init__(self) -> None:
        if not self.tasks:
            raise OptionError("No task is named.", "Name one with --task, for example --task hellaswag.")
        if self.limit is not None and not (math.isfinite(self.limit) and self.limit > 0):
            raise OptionError(
                f"--limit {self.limit} leaves no document to score.",
                "Ask for 1 or more documents, or for a share of them such as 0.1.",
            )
        if self.limit is not None and self.samples is not None:
            raise OptionError("--limit and --samples exclude each other.", "Leave one of them out.")
        if self.samples is not None:
            for name, numbers in self.samples.items():
                listed = isinstance(numbers, (list, tuple)) and len(numbers) > 0
                if not listed or any(type(n) is not int or n < 0 for n in numbers):
                    raise OptionError(
                        f"--samples gives {name} no usable document numbers.",
                        'Write them as {"TASK": [0, 3, 6]}.',
                    )
        if self.num_fewshot is not None and self.num_fewshot < 0:
            raise OptionError(
                f"--num-fewshot {self.num_fewshot} is no number of examples.", "Give 0 or more."
            )
        if self.max_length is not None and self.max_length < 1:
            raise OptionError(
                f"--max-length {self.max_length} leaves no token to score.", "Give 1 token or more."
            )
        if self.fewshot_as_multiturn and not self.apply_chat_template:
            raise OptionError(
                "--fewshot-as-multiturn has no turns without a chat template.", "Add --apply-chat-template."
            )
        if isinstance(self.gen_kwargs, str):
            _check_generation(self.gen_kwargs)
        for folder in self.include_path:
            if not folder.is_dir():
                raise OptionError(
                    f"There is no directory {folder}.", "Check the path given to --include-path."
                )

    def documents(self, task: str) -> list[int] | None:
        """Return the numbers of the documents picked for a task, ascending; None where all are meant.

        Ascending whatever the order given: lm-eval walks the documents in that order and would
        otherwise log one document's answer under another's number.
        """
        picked = (self.samples or {}).get(task)
        return None if picked is None else sorted(set(picked))

    def settings(self) -> dict[str, Any]:
        """Return the options in JSON values, as a manifest records them."""
        known = asdict(self)
        return known | {
            "tasks": list(self.tasks),
            "samples": {name: self.documents(name) for name in sorted(self.samples or {})} or None,
            "gen_kwargs": dict(self.gen_kwargs) if isinstance(self.gen_kwargs, Mapping) else self.gen_kwargs,
            "include_path": [path.name for path in self.include_path],
            "seeds": list(self.seeds),
        }


def is_json(gen_kwargs: str) -> bool:
    """Whether generation settings are written as a JSON object, not as ``NAME=VALUE``."""
    return gen_kwargs.lstrip().startswith("{")


def _check_generation(text: str) -> None:
    if is_json(text):
        try:
            json.loads(text)
        except ValueError as error:
            raise OptionError(f"--gen-kwargs {text} is no JSON: {error}.", 'Write {"NAME": VALUE}.') from None
        return
    for part in text.split(","):
        if part and "=" not in part:
            raise OptionError(
                f"--gen-kwargs {text} has no value for {part}.", "Write NAME=VALUE, separated by commas."
            )


def parse_seeds(text: str) -> Seeds:
    """Return the four seeds of lm-eval's ``--seed``: random, numpy, torch, few-shot sampling.

    One number seeds all four; three leave the last at its default; ``None`` leaves one unset.

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
    if len(seeds) != 4 or any(seed is not None and not 0 <= seed < 2**32 for seed in seeds):
        raise OptionError(
            f"--seed {text} is no seed.",
            "Give one whole number, or four separated by commas: random,numpy,torch,few-shot.",
        )
    return seeds[0], seeds[1], seeds[2], seeds[3]
