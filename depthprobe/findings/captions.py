"""What a caption in a paper says of runs: the model and its form, the tasks, the text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from depthprobe.catalogue import PRUNE_SWEEP
from depthprobe.findings.drops import CALIBRATION
from depthprobe.findings.words import counted, plain, spans
from depthprobe.results.forms import shortened
from depthprobe.results.runs import Run

_DIGITS_OF_A_HASH = 12
# The embedded text, as manifests name it.
BUILTIN = "builtin"
# In characters; of longer lists of picked items, or of those of more tasks, only their number is told.
_LONGEST_PICKED, _MOST_PICKED = 60, 3
_LONGEST_INSTRUCTION = 80


class Caption(str):
    """The caption of a figure or a table: all that must be known where it stands alone, as in a paper.

    ``on_page`` is what of it a page says that tells once how everything on it was measured.
    """

    on_page: str

    def __new__(cls, what: str, measured: str, rescaled: str = "") -> Caption:
        """Return the caption.

        Args:
            what: What is shown, as sentences.
            measured: On what model, tasks and text it was measured, as sentences.
            rescaled: What was rescaled for a picture, and how; empty for tables.
        """
        said = f"Rescaled: {rescaled}." if rescaled else ""
        caption = super().__new__(cls, " ".join(filter(None, [what, measured, said])))
        caption.on_page = what if rescaled in ("", "nothing") else f"{what} {said}"
        return caption


def model_words(run: Run) -> str:
    """The model of a run in a sentence: its id, commit or weights hash, layers, precision and device."""
    model: Mapping[str, Any] = run.manifest.get("model") or {}
    words = [plain(model_title(run))]
    if model.get("commit"):
        words.append(f"commit {str(model['commit'])[:_DIGITS_OF_A_HASH]}")
    elif model.get("fingerprint"):
        words.append(f"weights hash {str(model['fingerprint'])[:_DIGITS_OF_A_HASH]}")
    if model.get("layers"):
        words.append(counted(model["layers"], "layer"))
    words += [plain(word) for word in _precision(model)]
    if model.get("device"):
        words.append(f"on {plain(str(model['device']))}")
    return ", ".join(words)


def data_words(run: Run) -> str:
    """The text of a run in a sentence: data set, split, samples, tokens, seed; empty if it does not say."""
    data: Mapping[str, Any] = run.manifest.get("data") or {}
    if not data.get("dataset"):
        return ""
    parts = [plain(dataset_words(data))]
    parts += [f"split {plain(str(data['split']))}"] if data.get("split") else []
    if data.get("samples"):
        up_to = f" of up to {counted(data['seq_len'], 'token')}" if data.get("seq_len") else ""
        parts.append(f"{counted(data['samples'], 'sample')}{up_to}")
    parts += [f"{counted(data['tokens'], 'token')} in all"] if data.get("tokens") else []
    parts += [f"seed {data['seed']}"] if data.get("seed") is not None else []
    return ", ".join(parts)


def task_words(run: Run, only: str | None = None) -> str:
    """The tasks of a sweep, or ``only`` that one, in a sentence; empty for other runs."""
    tasks = [plain(str(task)) for task in run.facts.get("tasks") or []]
    if not tasks:
        return ""
    shots = run.facts.get("num_fewshot")
    words = [", ".join(tasks) if only is None else plain(only)]
    words += [f"{counted(shots, 'example')} in the prompt"] if shots is not None else []
    spoken_of = (_asked(run) or tasks) if only is None else [only]
    return "; ".join([*words, *asked_words(run.facts, spoken_of)])


def _asked(run: Run) -> list[str]:
    """The tasks that a sweep has rows of: a group's members are tasks too."""
    frame = run.tables.get(PRUNE_SWEEP.stem)
    there = [] if frame is None or "task" not in frame else list(dict.fromkeys(map(str, frame["task"])))
    return [task for task in there if task != CALIBRATION]


def asked_words(facts: Mapping[str, Any], tasks: Sequence[str]) -> list[str]:
    """How tasks were asked, in phrases: which of their items, chat template and instruction.

    Args:
        facts: Of a sweep.
        tasks: Those that are spoken of.
    """
    limit = facts.get("limit")
    template, instruction = facts.get("apply_chat_template"), facts.get("system_instruction")
    words = [limit_words(limit, len(tasks))] if limit is not None else []
    words += picked_words(facts.get("documents") or {}, tasks)
    if template:
        words.append(f"chat template {plain(template)}" if isinstance(template, str) else "chat template")
    if instruction:
        words.append(f'system instruction "{shortened(plain(str(instruction)), _LONGEST_INSTRUCTION)}"')
    return words


def picked_words(documents: Mapping[str, Sequence[int]], tasks: Sequence[str]) -> list[str]:
    """Which items of tasks were picked by their numbers, in a phrase for each task; none where none were."""
    picked = {task: sorted(set(documents[task])) for task in tasks if documents.get(task)}
    if len(picked) > _MOST_PICKED:
        count = sum(map(len, picked.values()))
        return [f"{counted(count, 'item')} of {len(picked)} tasks picked by number"]
    said = []
    for task, numbers in picked.items():
        of = f" of {plain(task)}" if len(tasks) > 1 else ""
        which = f"item{'s' * (len(numbers) > 1)} {spans(numbers)}{of}"
        few = len(which) <= _LONGEST_PICKED
        said.append(f"{which if few else counted(len(numbers), 'item') + of} picked by number")
    return said


def limit_words(limit: float, tasks: int = 2) -> str:
    """What ``--limit`` leaves of so many tasks: of each a number of items, or below 1 their share."""
    if limit < 1:
        whose = "the" if tasks == 1 else "each task's"
        return f"the first {100 * limit:.4g}% of {whose} items"
    which = f"the first {int(limit):,} items" if limit >= 2 else "the first item"
    return which if tasks == 1 else f"{which} of each task"


def measured_on_task(run: Run, task: str) -> str:
    """The model of a sweep and one of its tasks in sentences; of the calibration loss, the text."""
    said = [f"Model: {model_words(run)}."]
    if task == CALIBRATION:
        said += [f"Text: {words}." for words in [data_words(run)] if words]
    else:
        said += [f"Task: {words}." for words in [task_words(run, task)] if words]
    return " ".join(said)


def measured_words(runs: Sequence[Run]) -> str:
    """The models, tasks and texts of runs in sentences, each once; whose a text is where not all have it."""
    said = [f"Model: {words}." for words in _once(map(model_words, runs))]
    said += [f"Tasks: {words}." for words in _once(map(task_words, runs))]
    texts: dict[str, list[str]] = {}
    for run in runs:
        texts.setdefault(data_words(run), []).append(str(run.manifest.get("probe")))
    for words in _once(texts):
        whose = f" of {', '.join(_once(texts[words]))}" if len(texts[words]) < len(runs) else ""
        said.append(f"Text{whose}: {words}.")
    return " ".join(said)


def _once(words: Iterable[str]) -> list[str]:
    """The words without repeats and empty ones, in order."""
    return list(dict.fromkeys(filter(None, words)))


def data_caption(run: Run) -> str:
    """Return in a few words on what and how a run was measured; empty if its manifest does not say."""
    return measured_on(run.manifest.get("data") or {}, run.manifest.get("model") or {})


def measured_on(data: Mapping[str, Any], model: Mapping[str, Any]) -> str:
    """Return the same from what a manifest says of the data and the model."""
    words = [dataset_words(data)] if data.get("dataset") else []
    if data.get("samples") and data.get("seq_len"):
        words.append(f"{data['samples']:,} samples of up to {data['seq_len']:,} tokens")
    return ", ".join([*words, *_precision(model)])


def dataset_words(data: Mapping[str, Any]) -> str:
    """What a data set is called in a sentence; ``builtin`` says nothing to a reader of a paper."""
    if data["dataset"] != BUILTIN:
        return without_directories(str(data["dataset"]))
    version = f" {data['python']}" if data.get("python") else ""
    return f"Python{version}'s standard library"


def _precision(model: Mapping[str, Any]) -> list[str]:
    """The form of a model's weights: dtype, quantisation, adapter, tower, untrained."""
    words = [str(model[name]) for name in ("dtype", "quantisation") if model.get(name)]
    adapter = model.get("adapter")
    if adapter:
        words.append(
            f"adapter {without_directories(str(adapter.get('id') if isinstance(adapter, dict) else adapter))}"
        )
    if model.get("tower") == "encoder":
        words.append("encoder")
    if model.get("initial_seed") is not None:
        words.append(f"freshly initialised, seed {model['initial_seed']}")
    return words


def is_encoder(model: Mapping[str, Any]) -> bool:
    """Whether a manifest's model is an encoder, whose layers no tool for decoders can take out."""
    name = str(model.get("architecture") or "")
    bare = name.endswith("Model") and not name.endswith("LMHeadModel")
    return model.get("tower") == "encoder" or "MaskedLM" in name or "PreTraining" in name or bare


def model_title(run: Run) -> str:
    """The id of the model a run was measured on; of a local one the directory's name."""
    known = (run.manifest.get("model") or {}).get("id")
    return without_directories(known or run.directory.parent.name)


def without_directories(name: str) -> str:
    """A name as it may stand in a paper: where it lies on somebody's disk is left to the manifest."""
    name = plain(name)
    path = Path(name)
    return path.name or name if path.is_absolute() or name.startswith((".", "~")) else name
