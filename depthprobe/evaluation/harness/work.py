"""The one door to lm-eval: tasks in, token-level requests out, answers back in, lm-eval's own numbers out.

Three steps that know nothing of each other's engine::

    tasks = find_tasks(options)                # names and data; no model yet
    prompts = build_prompts(tasks, name, tokenizer)      # as texts; no weights yet
    work = build_work(tasks, model, prompts=prompts)     # as tokens, once
    outcome = work.results(loglikelihoods, greedy, work.generate())      # once for each variant

``lm_eval.simple_evaluate`` on the same model gives the same numbers. In between, ``work.score_requests`` may
be answered in any order and for any number of variants of the model.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

import lm_eval
import numpy as np
import torch
from lm_eval.api.instance import Instance
from lm_eval.utils import handle_non_serializable

from depthprobe.errors import MeasureError
from depthprobe.evaluation.harness.isolation import quiet, torch_seeded
from depthprobe.evaluation.harness.options import DEFAULT_SEEDS, TaskOptions, parse_seeds
from depthprobe.evaluation.harness.outcome import (
    DocScores,
    Key,
    Metric,
    Outcome,
    chance_level,
    collect_outcome,
)
from depthprobe.evaluation.harness.prompts import Prompts, build_prompts
from depthprobe.evaluation.harness.requests import (
    Requests,
    TokenizingLM,
    build_requests,
    check_checkpoint,
    open_lm,
)
from depthprobe.evaluation.harness.tasks import Tasks, find_tasks
from depthprobe.evaluation.scores import ScoreRequest
from depthprobe.models.loading.loading import LoadedModel
from depthprobe.private_names import lm_answering_with

__all__ = [
    "DEFAULT_SEEDS",
    "DocScores",
    "Key",
    "Metric",
    "Outcome",
    "Prompts",
    "ScoreRequest",
    "TaskOptions",
    "Tasks",
    "Work",
    "build_prompts",
    "build_work",
    "check_checkpoint",
    "find_tasks",
    "parse_seeds",
]

FEW_CHARACTERS = 32


def build_work(
    tasks: Tasks,
    model: LoadedModel,
    *,
    batch_size: int = 1,
    prompts: Prompts | None = None,
) -> Work:
    """Return everything that tasks ask of a model, tokenised, each distinct sequence once.

    Args:
        tasks: As :func:`find_tasks` loaded them. They belong to this work from now on: its requests and
            answers live in them.
        model: The model whose tokenizer, chat template and number of positions shape the requests.
        batch_size: Prompts that :meth:`Work.generate` answers at once.
        prompts: What :func:`build_prompts` returned for this model; None builds them now.

    Raises:
        LoadError: if lm-eval cannot score the model.
        OptionError: if the options do not fit the model.
        TextError: if a document has nothing to score, more than the model can read or a token that it does
            not have, or a task's own code fails.
    """
    lm = open_lm(tasks.options, model, batch_size)
    if prompts is None:
        prompts = build_prompts(tasks, model.source.name, model.tokenizer, model.model.config)
    return Work(tasks, lm, build_requests(tasks, lm, prompts, model.vocabulary), prompts)


class Work:
    """The requests of a set of tasks, and the way back from answers to lm-eval's numbers.

    Args:
        tasks: The tasks, their instances built.
        lm: lm-eval's view of the model, for generation only.
        requests: The instances as tokens.
        prompts: What building them told.

    ``score_requests`` are the distinct sequences to score; ``generation_requests`` lm-eval's requests for
    text, each as often as it is to be repeated; ``truncated`` counts the requests that lose their beginning
    because the model has too few positions; ``notes`` are sentences for the user.
    """

    def __init__(self, tasks: Tasks, lm: TokenizingLM, requests: Requests, prompts: Prompts) -> None:
        self.tasks = tasks
        self.score_requests: list[ScoreRequest] = requests.score
        self.generation_requests: list[Instance] = requests.generation
        self.truncated = requests.truncated
        self.max_length = lm.max_length
        self._lm = lm
        self._score_index = requests.score_index
        self._documents = {name: tasks.options.documents_of(name) for name in tasks.tasks}
        self._chances = {name: chance_level(task) for name, task in tasks.tasks.items()}
        count = len(self._score_index) + len({id(instance) for instance in self.generation_requests})
        self.notes = (*tasks.notes, *prompts.notes)
        self._system_messages = prompts.system_messages
        if self.truncated:
            self.notes += (
                f"{self.truncated} of {count} requests are longer than the {self.max_length} tokens that the "
                "model reads and lose their beginning, as in lm-eval.",
            )

    def generate(
        self, indices: Sequence[int] | None = None, *, model: torch.nn.Module | None = None
    ) -> list[str]:
        """Return the texts that lm-eval's own loop generates for ``generation_requests``.

        Runs the model in its present state: call it inside whatever changes the model, or pass another one.
        The loop is cached decoding, so blocks must be run and discarded or deleted, not passed through.
        Sampled decoding starts from the torch seed in every call.

        Args:
            indices: Which requests; all by default. Batches are made of these alone.
            model: A model to use instead, with the same tokenizer and positions.
        """
        wanted = range(len(self.generation_requests)) if indices is None else indices
        return self._generate([self.generation_requests[index] for index in wanted], model)

    def generate_briefly(self) -> None:
        """Generate one token after the last characters of one prompt of each task.

        Uses the tasks' own settings, so that those transformers does not accept show up at once.
        """
        first = {instance.task_name: instance for instance in reversed(self.generation_requests)}
        for instance in first.values():
            prompt, settings = instance.args[:2]
            brief = copy.copy(instance)
            least = {name: value for name, value in settings.items() if not name.startswith("min_")}
            brief.arguments = (prompt[-FEW_CHARACTERS:], least | {"max_gen_toks": 1})
            self._generate([brief])

    def _generate(self, requests: list[Instance], model: torch.nn.Module | None = None) -> list[str]:
        if not requests:
            return []
        seeded = torch_seeded(self.tasks.options.seeds[2], self._lm.device)
        with lm_answering_with(self._lm, model), quiet(), seeded:
            return self._lm.generate_until(requests, disable_tqdm=True)

    def results(
        self,
        loglikelihoods: np.ndarray,
        greedy: np.ndarray,
        generations: Sequence[str] = (),
        *,
        samples: bool = False,
    ) -> Outcome:
        """Return lm-eval's numbers for one model's answers. May be called for any number of models.

        Args:
            loglikelihoods: float64 ``[score request]``: the sum over the scored tokens, in nats.
            greedy: bool ``[score request]``: whether every scored token is the most probable one.
            generations: The text for each of ``generation_requests``.
            samples: Whether to make the rows of ``--log-samples``.

        Raises:
            MeasureError: if there are not as many answers as requests, or a log-likelihood is NaN.
        """
        asked = (len(self.score_requests), len(self.score_requests), len(self.generation_requests))
        given = (len(loglikelihoods), len(greedy), len(generations))
        if asked != given:
            raise MeasureError(f"There are {given} answers to {asked} requests.")
        missing = int(np.isnan(loglikelihoods).sum())
        if missing:
            raise MeasureError(
                f"The log-likelihood of {missing} of {len(loglikelihoods)} requests is NaN.",
                "The model overflows: try --dtype float32 or bfloat16.",
            )
        for task in self.tasks.tasks.values():
            for instance in task.instances:
                instance.resps, instance.filtered_resps = [], {}
        nats, exact = np.asarray(loglikelihoods).tolist(), np.asarray(greedy).tolist()
        for instance, indices in self._score_index:
            if instance.request_type == "loglikelihood_rolling":
                answer: Any = sum(nats[index] for index in indices)
            else:
                answer = (nats[indices[0]], bool(exact[indices[0]]))
            instance.resps = [answer] * (instance.repeats or 1)
        for instance, text in zip(self.generation_requests, generations, strict=True):
            instance.resps.append(text)
        with quiet(), self.tasks.randomness.replayed():
            return collect_outcome(
                self.tasks.tasks, self.tasks.groups, self._documents, self._chances, samples=samples
            )

    def describe(self) -> dict[str, Any]:
        """Return what is asked, JSON-safe: versions, counts, and hashes of what decides the numbers."""
        tasks = {
            name: {
                "version": str(task.VERSION),
                "num_fewshot": task.get_config("num_fewshot"),
                "output_type": task.OUTPUT_TYPE,
                "dataset": task.DATASET_PATH,
                "dataset_config": task.DATASET_NAME,
                "docs": len({instance.doc_id for instance in task.instances}),
                "requests": len(task.instances),
                "sha256": _digest(
                    item
                    for instance in task.instances
                    for item in (instance.doc, instance.arguments, instance.idx, instance.repeats)
                ),
            }
            for name, task in self.tasks.tasks.items()
        }
        return {
            "lm_eval": lm_eval.__version__,
            "tasks": tasks,
            "groups": {
                name: {"version": group.version, "members": group.child_names}
                for name, group in self.tasks.groups.items()
            },
            "max_length": self.max_length,
            "score_requests": len(self.score_requests),
            "score_requests_sha256": self._score_requests_hash(),
            "generation_requests": len(self.generation_requests),
            "truncated": self.truncated,
            **({"system_messages": self._system_messages} if self._system_messages else {}),
        }

    def _score_requests_hash(self) -> str:
        digest = hashlib.sha256()
        for request in self.score_requests:
            digest.update(
                np.asarray([len(request.tokens), request.scored, *request.tokens], dtype="<i8").tobytes()
            )
        return digest.hexdigest()


def _digest(items: Iterable[Any]) -> str:
    digest = hashlib.sha256()
    for item in items:
        digest.update(json.dumps(item, default=handle_non_serializable, sort_keys=True).encode())
    return digest.hexdigest()
