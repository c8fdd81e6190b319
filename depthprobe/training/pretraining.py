"""Train a small model from scratch, in several starts if need be, and say what it reached.

transformers' ``Trainer`` does the training: in one process or, under ``accelerate launch`` or torchrun, in
several; its checkpoints let a killed run continue with the same loss curve.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from depthprobe.errors import MeasureError, OptionError, first_line
from depthprobe.machine.provenance import versions
from depthprobe.models.own.building import build_model, fold_lns
from depthprobe.private_names import use_one_gpu
from depthprobe.results.aside import clear_leftovers, remove_folder
from depthprobe.results.files import failed_writing, machine_error, replace_file
from depthprobe.results.locks import NO_LOCKS, Lock
from depthprobe.training.checkpoints import STATE, clear_broken, last_checkpoint, step_of
from depthprobe.training.data import TrainingData, read_training_data
from depthprobe.training.divergence import DivergenceStop, broken_weight
from depthprobe.training.layer_log import LayerLog
from depthprobe.training.recipe import Recipe
from depthprobe.training.refusals import (
    DATA_HASH,
    RECIPE,
    read_json,
    refuse_other_run,
    refuse_other_text,
    refuse_too_large,
    refuse_unknown_reporter,
)

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

RECORD, CHECKPOINTS, LOG = "training.json", "checkpoints", "training"
LOCK = ".pretrain.lock"

# Most sequences that a process takes at once; gradients are accumulated over its share of a step.
MICRO_BATCH = {"cpu": 16}
MICRO_BATCH_ELSEWHERE = 64

LOGGED_WINDOWS = 32
STEPS_A_LOSS = 50


@torch.inference_mode()
def mean_loss(model: torch.nn.Module, samples: np.ndarray, batch_samples: int = 16) -> float:
    """Return the mean next-token loss in nats over all predicted tokens of ``[sample, token]`` ids."""
    device = next(model.parameters()).device
    total, count = 0.0, 0
    for start in range(0, len(samples), batch_samples):
        ids = torch.as_tensor(samples[start : start + batch_samples], dtype=torch.long, device=device)
        logits = model(input_ids=ids).logits[:, :-1].float()
        losses = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
        )
        total += losses.double().sum().item()
        count += losses.numel()
    return total / count


def kept(output: Path) -> str:
    """Return the sentence that says what an interrupted training leaves, judged by what is on disk."""
    if (output / RECORD).is_file():
        return f"Interrupted: the training is finished and saved in {output}."
    begun = last_checkpoint(output / CHECKPOINTS)
    if begun is None:
        return "Interrupted before the first checkpoint: the same command starts the training again."
    step = step_of(begun)
    return f"Interrupted: the checkpoint of step {step} is on disk in {output}; the same command continues."


def pretrain(
    recipe: Recipe,
    output: Path,
    device: str = "cpu",
    checkpoint_steps: int = 250,
    log_steps: int = 100,
    micro_batch: int | None = None,
    report_to: str = "none",
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Train by the recipe, save the model to ``output``, return what it reached.

    A run that was killed continues from its last checkpoint when called again with the same recipe and
    output. The saved checkpoint is in bf16, with its tokenizer: a plain ``LlamaForCausalLM`` for ``pre`` and
    ``lns``, else depthprobe's own model type. Beside it are ``training.json`` (recipe, data hash, versions,
    losses) and, in ``training/``, the log of every layer (:class:`LayerLog`).

    Args:
        recipe: What to train.
        output: Directory of the finished model; checkpoints go to ``checkpoints/`` in it.
        device: ``cpu``, ``cuda`` or ``mps``.
        checkpoint_steps: Steps from one checkpoint to the next.
        log_steps: Steps from one log of the layers to the next.
        micro_batch: Most sequences that a process takes at once; does not change what a step is.
        report_to: Where the Trainer reports to: ``none``, ``tensorboard``, ``wandb``, ...
        say: Called with each line of news, only in the first process.

    Returns:
        The record that ``training.json`` holds; losses in nats a token.

    Raises:
        RunError: if ``output`` holds a run of another recipe, or another process trains there.
        MeasureError: if the training diverged; checkpoints and log stay.
        OptionError: if a step cannot be shared equally by the processes, or ``report_to`` is not available.
        TextError, LoadError: as :func:`read_training_data`.
        MachineError: if the hub cannot be reached, or the disk is full or may not be written; what is whole
            stays, and the same call continues.
    """
    args = _arguments(recipe, output, device, checkpoint_steps, micro_batch, report_to)
    first = args.process_index == 0
    say = say if first else lambda line: None
    refuse_unknown_reporter(report_to)
    refuse_too_large(recipe, args.device)
    with _alone(output) if first else nullcontext():
        refuse_other_run(recipe, output)
        finished = read_json(output / RECORD)
        # For a finished run only a file is read again: it can change and keep its name.
        if not finished or Path(recipe.dataset).is_file():
            data = read_training_data(recipe)
            refuse_other_text(data, finished or read_json(output / RECIPE), recipe, output)
        if finished:
            say(f"Already trained: {output}.")
            if first:
                remove_folder(output / CHECKPOINTS)  # killed before it had done so
            return finished
        # Not earlier: a missing text must not tie a directory to its recipe.
        claimed = {**asdict(recipe), DATA_HASH: data.facts[DATA_HASH]}
        if first:
            replace_file(output / RECIPE, (json.dumps(claimed, indent=2) + "\n").encode("utf-8"))
        for note in data.notes:
            say(note)
        size = len(data.tokenizer)
        train_tokens = data.facts.get("train_tokens")
        shown = "train on a stream" if train_tokens is None else f"train {train_tokens:,} tokens"
        say(f"{shown}, held out {data.facts['heldout_tokens']:,} tokens, vocabulary {size:,}")
        if data.baseline is not None:
            say(f"bigram baseline: {data.baseline:.3f} nats a token held out")
        transformers.set_seed(recipe.seed)
        sizes = recipe.model_config(size, data.tokenizer.bos_token_id, data.tokenizer.eos_token_id)
        model = build_model(sizes, recipe.norm, recipe.initialisation)
        say(f"model: {sum(parameter.numel() for parameter in model.parameters()):,} parameters")
        with _disk_told(output):
            trained = _train(model, args, data, output, log_steps, say)
            if not first:
                return {}
            record = _finish(trained, recipe, data, output)
    reached, baseline = record["heldout_loss_nats"], data.baseline
    than = f"; bigram baseline {baseline:.3f} (perplexity {math.exp(baseline):.1f})" if baseline else ""
    say(f"held-out loss {reached:.3f} nats a token (perplexity {math.exp(reached):.1f}){than}")
    return record


@contextmanager
def _alone(output: Path) -> Iterator[None]:
    """Let no other process train in a directory while the body runs, where the file system has locks."""
    hint = "Wait until that has ended, or choose another --output."
    try:
        output.mkdir(parents=True, exist_ok=True)
        lock = Lock.take(output / LOCK, f"{output} is being trained in", hint)
    except OSError as error:
        # A finished run may be on a disk that can only be read.
        if error.errno not in NO_LOCKS and not (output / RECORD).is_file():
            raise machine_error("write in", output, error) from error
        yield
        return
    try:
        clear_leftovers(output)
        yield
    finally:
        lock.release()


@contextmanager
def _disk_told(output: Path) -> Iterator[None]:
    """Turn what the libraries that write checkpoints and models raise on a full disk into our error."""
    try:
        yield
    except Exception as error:  # foreign code: tokenizers raises bare exceptions, torch bare RuntimeErrors
        failed = failed_writing(error)
        if failed is None:
            raise
        hint = "Free some space there: the same command continues from the last whole checkpoint."
        raise machine_error("write in", output, failed, hint) from error


def _arguments(
    recipe: Recipe,
    output: Path,
    device: str,
    checkpoint_steps: int,
    micro_batch: int | None,
    report_to: str,
) -> TrainingArguments:
    """Return the Trainer's arguments; a step is the same however it is divided."""
    fixed = {
        "output_dir": str(output / CHECKPOINTS),
        "max_steps": recipe.steps,
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": "cosine_with_min_lr",
        "lr_scheduler_kwargs": {"min_lr_rate": recipe.final_learning_rate_share},
        "warmup_steps": recipe.warmup_steps,
        "weight_decay": recipe.weight_decay,
        "adam_beta2": recipe.adam_beta2,
        "max_grad_norm": recipe.clip_norm,
        "bf16": recipe.precision == "bfloat16",
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        "use_cpu": device == "cpu",
        "save_steps": checkpoint_steps,
        "save_total_limit": 2,
        "logging_steps": _steps_a_loss(recipe.steps, checkpoint_steps),
        "logging_nan_inf_filter": False,
        "report_to": report_to,
        "disable_tqdm": True,
    }
    try:
        world = TrainingArguments(output_dir=fixed["output_dir"], use_cpu=device == "cpu").world_size
    except ValueError as error:  # what the Trainer reads from the environment contradicts itself
        raise OptionError(
            f"The environment tells of several processes, but not well: {first_line(error, kind=False)}.",
            "Start them with torchrun or accelerate launch, or unset WORLD_SIZE, RANK and LOCAL_RANK.",
        ) from error
    share, rest = divmod(recipe.batch_samples, world)
    largest = micro_batch or MICRO_BATCH.get(device, MICRO_BATCH_ELSEWHERE)
    if rest or not share:
        raise OptionError(
            f"A step of {recipe.batch_samples} samples cannot be shared equally by {world} processes.",
            "Start a different number of processes, or give another --batch.",
        )
    micro = max(size for size in range(1, min(share, largest) + 1) if share % size == 0)
    arguments = TrainingArguments(
        **fixed, per_device_train_batch_size=micro, gradient_accumulation_steps=share // micro
    )
    if arguments.n_gpu > 1:
        # The Trainer would give a micro-batch to each GPU that a single process sees, which would change the
        # step. Several GPUs are for several processes.
        use_one_gpu(arguments)
    return arguments


def _steps_a_loss(steps: int, checkpoint_steps: int) -> int:
    """Return over how many steps a logged training loss is averaged.

    Checkpoints fall on logged steps: a Trainer that is killed forgets its mean so far.
    """
    most = max(min(STEPS_A_LOSS, steps // 4, checkpoint_steps), 1)
    return max(count for count in range(1, most + 1) if checkpoint_steps % count == 0)


class _Report(TrainerCallback):
    """Tells a person how the training is going."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Report losses as they come."""
        share = f"step {state.global_step}/{state.max_steps}"
        if logs and "loss" in logs:
            self.say(f"{share}  loss {float(logs['loss']):.3f}  lr {float(logs['learning_rate']):.2e}")
        elif logs and "layer_loss" in logs:
            self.say(f"{share}  held-out loss {logs['layer_loss']:.3f} ({LOGGED_WINDOWS} windows)")


def _train(
    model: LlamaForCausalLM,
    args: TrainingArguments,
    data: TrainingData,
    output: Path,
    log_steps: int,
    say: Callable[[str], None],
) -> LlamaForCausalLM:
    """Return the trained model, in evaluation mode and without the Trainer's wrappers."""
    trainer = Trainer(model=model, args=args, train_dataset=data.train, processing_class=data.tokenizer)
    # The Trainer's own log lines would go to stdout beside ours.
    trainer.remove_callback(transformers.PrinterCallback)
    stop = DivergenceStop()
    texts = data.heldout[:: max(1, len(data.heldout) // LOGGED_WINDOWS)][:LOGGED_WINDOWS]
    log = LayerLog(
        trainer,
        every=log_steps,
        output=output / LOG,
        name=output.resolve().name,
        texts=list(texts),
        samples=LOGGED_WINDOWS,
        seq_len=data.heldout.shape[1],
    )
    for callback in (_Report(say), stop, log):
        trainer.add_callback(callback)
    begun = last_checkpoint(output / CHECKPOINTS)
    if args.process_index == 0:
        clear_broken(output / CHECKPOINTS)
    if begun and step_of(begun) >= args.max_steps:
        # The Trainer would take one step more.
        say(f"All {args.max_steps} steps are done: saving the model.")
        model = _taken(begun, trainer, log, stop)
    else:
        if begun:
            say(f"Continuing from step {step_of(begun)}.")
        trainer.train(resume_from_checkpoint=begun)
        model = trainer.accelerator.unwrap_model(trainer.model)
    broken = broken_weight(model)
    reason = stop.reason or (f"{broken} holds NaN or infinite values." if broken else None)
    if reason:
        kept = last_checkpoint(output / CHECKPOINTS)
        shown = f"{Path(kept).name} and the" if kept else "The"
        raise MeasureError(
            f"The training diverged. {reason}",
            f"{shown} log up to here are kept in {output}; try a lower --lr or a longer --warmup in another "
            "--output.",
        )
    return model.eval()


def _taken(checkpoint: str, trainer: Trainer, log: LayerLog, stop: DivergenceStop) -> LlamaForCausalLM:
    """Return the model of a checkpoint behind which no step is left; write the last loss to the log."""
    model = type(trainer.accelerator.unwrap_model(trainer.model)).from_pretrained(
        checkpoint, dtype=torch.float32
    )
    state = TrainerState.load_from_json(str(Path(checkpoint) / STATE))
    state.is_world_process_zero = trainer.is_world_process_zero()
    trainer.state = state
    stop.judge(state)
    log.on_train_begin(trainer.args, state, TrainerControl())
    log.on_train_end(trainer.args, state, TrainerControl())
    return model.to(trainer.args.device)


def _finish(model: LlamaForCausalLM, recipe: Recipe, data: TrainingData, output: Path) -> dict[str, Any]:
    """Save the model with its tokenizer, and return the record of what the saved one reaches."""
    if recipe.norm == "lns":
        model = fold_lns(model)
    for parameter in model.parameters():
        # Not model.to: that would also round the tables of the rotary positions, which are not weights.
        parameter.data = parameter.data.to(torch.bfloat16)
    model.config.dtype = torch.bfloat16
    model.save_pretrained(output)
    data.tokenizer.save_pretrained(output)
    device = next(model.parameters()).device
    saved = transformers.AutoModelForCausalLM.from_pretrained(output, dtype=torch.float32).to(device)
    record = {
        "recipe": asdict(recipe),
        **data.facts,
        "tokens_seen": recipe.steps * recipe.batch_samples * recipe.context_tokens,
        "bigram_loss_nats": data.baseline,
        "heldout_loss_nats": mean_loss(saved.eval(), data.heldout),
        **versions(),
    }
    # The record says that everything is done, so it is written last.
    replace_file(output / RECORD, (json.dumps(record, indent=2, allow_nan=False) + "\n").encode("utf-8"))
    remove_folder(output / CHECKPOINTS)
    return record


def sample(directory: Path, prompt: str = "def parse(", tokens: int = 120, seed: int = 0) -> str:
    """Return ``prompt`` continued by the model in ``directory``, at temperature 0.8 with a fixed seed."""
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    transformers.set_seed(seed)
    encoded = tokenizer(prompt, return_tensors="pt")
    ids = model.generate(**encoded, max_new_tokens=tokens, do_sample=True, temperature=0.8, top_k=0)
    return tokenizer.decode(ids[0], skip_special_tokens=True)
