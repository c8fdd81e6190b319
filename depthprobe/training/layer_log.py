"""What training does to every layer, logged as it goes: a callback for any ``Trainer``.

On a few fixed texts, before the first update and at regular intervals, the probes of this package measure the
variance of each block's output and the gradient norm of each block's parameters. Both mean what ``depthprobe
variance`` and ``depthprobe gradnorm`` mean by them: they depend neither on the batch that a step happened to
see nor on clipping, accumulation or mixed precision.

Source: the output variance of each layer during training, The Curse of Depth (2502.05795); the gradient norm
of each layer, Mix-LN (2412.13795).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from transformers import TrainerCallback

from depthprobe.catalogue import TRAINING
from depthprobe.errors import DepthprobeError, MeasureError, OptionError
from depthprobe.machine.provenance import versions
from depthprobe.measurement import Table
from depthprobe.models.anatomy.anatomy import Anatomy, describe_anatomy
from depthprobe.models.loading.loading import LoadedModel, already_loaded
from depthprobe.private_names import unwrapped_forward
from depthprobe.probes import gradnorm, variance
from depthprobe.results.growing import known_model, known_rows, known_run, write_run
from depthprobe.texts.samples import Samples
from depthprobe.training.divergence import broken_weight

if TYPE_CHECKING:
    from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments

PROBE = "training"

# Steps that are logged in addition: early in training, much happens within a few steps.
EARLY_STEPS = (0, 1, 2, 5, 10, 20, 50)

LAYER_COLUMNS, LOSS_COLUMNS = (table.columns for table in TRAINING)

LayerRow = tuple[int, int, float, float]
LossRow = tuple[int, str, float]


class LayerLog(TrainerCallback):
    """Logs loss and held-out loss and, layer by layer, output variance and gradient norm.

    The log is a run directory: ``training.csv`` (step, layer, variance, grad_norm), ``loss.csv`` (step, data,
    loss_nats) and ``manifest.json``, whole after every logged step, so that ``depthprobe plot`` can draw it
    at any time. The same numbers go to whatever the Trainer reports to, as ``layer_variance/LAYER``,
    ``layer_grad_norm/LAYER`` and ``layer_loss``. A resumed training continues the log at its checkpoint. Of
    several processes, the first measures; models whose parameters are split among processes (FSDP, DeepSpeed
    stage 3) are not measured. Training is not affected: no random number is drawn, no gradient left behind.

    Args:
        trainer: The Trainer that this is added to.
        every: Steps from one log to the next; a few early steps are logged as well.
        output: Directory of the run; ``training`` in the Trainer's output directory by default.
        texts: Token ids to measure on, one sequence for each sample. By default the first ``samples`` of the
            Trainer's evaluation data, or of its training data if it has none.
        samples: Most samples to use.
        seq_len: Most tokens in a sample.
        name: The model's name in the manifest and above figures; by default its id, or its class.
    """

    def __init__(
        self,
        trainer: Trainer,
        *,
        every: int = 100,
        output: str | Path | None = None,
        texts: Iterable[Sequence[int]] | None = None,
        samples: int = 16,
        seq_len: int = 256,
        name: str | None = None,
    ) -> None:
        if every < 1 or samples < 1 or seq_len < 2:
            raise OptionError(
                "every and samples must be at least 1 and seq_len at least 2, "
                f"got every={every}, samples={samples}, seq_len={seq_len}."
            )
        self.trainer, self.every, self.name = trainer, every, name
        self.directory = Path(output or Path(trainer.args.output_dir) / "training")
        found = list(islice(_texts_of(trainer) if texts is None else texts, samples))
        if any(isinstance(ids, str) for ids in found):
            raise OptionError("texts= must be token ids, got text.", "Give a tokenizer's input_ids.")
        tokens = tuple(np.asarray(ids, dtype=np.int64)[:seq_len] for ids in found if len(ids) > 1)
        if not tokens:
            raise OptionError("LayerLog has no text to measure on.", "Give texts=, sequences of token ids.")
        held_out = texts is not None or trainer.eval_dataset is not None
        facts = {
            "dataset": "held out" if held_out else "of the training data",
            "samples": len(tokens),
            "tokens": sum(map(len, tokens)),
            "seq_len": max(map(len, tokens)),
        }
        self.samples = Samples(tokens, facts)
        self.layers: list[LayerRow] = []
        self.losses: list[LossRow] = []
        self.described: dict[str, Any] = {}
        self.measures = True
        self.anatomy: Anatomy | None = None
        self.said: set[str] = set()

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Continue the log from the checkpoint; before the first step, measure."""
        split = args.deepspeed is not None or getattr(self.trainer, "is_fsdp_enabled", False)
        self.measures = state.is_world_process_zero and not split
        if split and state.is_world_process_zero:
            _say("Not logged: the model's parameters are split among processes.")
        if self.measures and state.global_step:
            # Up to the checkpoint all tables are complete, also if a kill tore them apart later.
            before = known_rows(self.directory, {PROBE: LAYER_COLUMNS, "loss": LOSS_COLUMNS})
            self.layers = [row for row in before[PROBE] if row[0] <= state.global_step]
            self.losses = [row for row in before["loss"] if row[0] <= state.global_step]
        for entry in state.log_history:
            # Logged after the last measurement, so not yet in the file when the training was killed.
            self._take_loss(int(entry["step"]), entry.get("loss"))
        if self.measures and state.global_step == 0:
            _keep_aside(self.directory, self._settings())
            self._log(0, control)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Measure, if this step is to be logged."""
        step = state.global_step
        if step % self.every == 0 or step in EARLY_STEPS or step == state.max_steps:
            self._log(step, control)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Note the training loss that the Trainer logs."""
        self._take_loss(state.global_step, (logs or {}).get("loss"))

    def on_train_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Write the last training loss, which came after the last measurement."""
        if self.measures and self.layers:
            self._write()

    def _take_loss(self, step: int, loss: float | None) -> None:
        if loss is not None and np.isfinite(float(loss)):
            row = (step, "train", float(loss))
            if row[:2] not in {known[:2] for known in self.losses}:
                self.losses.append(row)

    def _log(self, step: int, control: TrainerControl) -> None:
        if not self.measures:
            return
        try:
            values, loss = self._measure()
        except DepthprobeError as error:
            # A model that diverged or cannot be measured is not a reason to end somebody's training.
            if str(error) not in self.said:
                _say(f"Step {step} is not logged: {error}")
            self.said.add(str(error))
            return
        known = {row[0] for row in self.layers}
        if step not in known:
            self.layers += [(step, layer, *pair) for layer, pair in enumerate(values)]
            self.losses.append((step, "heldout", loss))
            self._write()
        reported = {"layer_loss": loss}
        for layer, (spread, norm) in enumerate(values):
            reported |= {f"layer_variance/{layer:02d}": spread, f"layer_grad_norm/{layer:02d}": norm}
        due = control.should_log  # logging here makes the Trainer skip its own turn
        self.trainer.log(reported)
        control.should_log = due

    def _measure(self) -> tuple[list[tuple[float, float]], float]:
        """Return variance and gradient norm of every layer, and the loss."""
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        broken = broken_weight(model)
        if broken:
            raise MeasureError(f"{broken} holds NaN or infinite values.")
        training = {module: module.training for module in model.modules()}
        devices = [self.trainer.args.device] if self.trainer.args.device.type == "cuda" else []
        try:
            model.eval()
            with _without_autocast(model), torch.random.fork_rng(devices=devices):
                loaded = already_loaded(model, self.trainer.processing_class)
                self.samples.check_fits(loaded.context_tokens, loaded.vocabulary)
                # Only once: the NaNs of a diverged model would hide which block passes on what it received.
                self.anatomy = self.anatomy or describe_anatomy(model)
                return self._look(loaded, self.anatomy)
        finally:
            for module, mode in training.items():
                module.training = mode

    def _look(self, loaded: LoadedModel, anatomy: Anatomy) -> tuple[list[tuple[float, float]], float]:
        pulled = gradnorm.measure(loaded, anatomy, self.samples, memory="whole")
        grown = variance.measure(loaded, anatomy, self.samples)
        if not self.described:
            named = {"id": self.name} if self.name else {}
            self.described = {**loaded.describe(), **anatomy.describe(), **named}
        norms = pulled.frame[pulled.frame.part == gradnorm.ALL].set_index("layer").grad_norm
        stream = grown.frame[grown.frame.point == variance.STREAM].set_index("layer").variance
        missing = [layer for layer in range(anatomy.layers) if layer not in norms.index]
        if missing:
            raise MeasureError(f"Layers {missing} have no parameters with a gradient.")
        pairs = [(float(stream[layer + 1]), float(norms[layer])) for layer in range(anatomy.layers)]
        return pairs, float(pulled.facts["loss_nats"])

    def _write(self) -> None:
        names = [column.name for column in LAYER_COLUMNS]
        layers = pd.DataFrame(sorted(self.layers), columns=names)
        order = sorted(self.losses, key=lambda row: row[:2])
        losses = pd.DataFrame(order, columns=[column.name for column in LOSS_COLUMNS])
        # Nothing is measured where a kill left only the last loss to write.
        described = self.described or known_model(self.directory)
        manifest = {"model": described, **self._settings(), "versions": versions()}
        tables = (Table(PROBE, layers, LAYER_COLUMNS), Table("loss", losses, LOSS_COLUMNS))
        write_run(self.directory, PROBE, tables, manifest)

    def _settings(self) -> dict[str, Any]:
        """Return what distinguishes one training's log from another's."""
        args = self.trainer.args
        options = {
            "every": self.every,
            "learning_rate": args.learning_rate,
            "batch_samples": args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
            "seed": args.seed,
            "max_steps": self.trainer.state.max_steps,
        }
        return {"data": self.samples.facts, "options": options}


def _keep_aside(directory: Path, settings: dict[str, Any]) -> None:
    """Rename the log of another training, so that it is not overwritten; that of the same training is."""
    before = known_run(directory)
    if before is None or all(before.manifest.get(name) == value for name, value in settings.items()):
        return
    names = (f"{directory.name}-before-{number}" for number in count(1))
    free = next(path for path in map(directory.with_name, names) if not path.exists())
    directory.rename(free)
    _say(f"The log of another training in {directory} is now {free.name}.")


@contextmanager
def _without_autocast(model: torch.nn.Module) -> Iterator[None]:
    """While the body runs, the model has its own forward pass, without accelerate's mixed precision.

    Otherwise the whole model would compute in half precision, but its inner stack alone in full.
    """
    own = unwrapped_forward(model)
    if own is None:
        yield
        return
    wrapped = model.forward
    try:
        model.forward = own
        yield
    finally:
        model.forward = wrapped


def _texts_of(trainer: Trainer) -> Iterable[Sequence[int]]:
    """Yield the token ids of a Trainer's evaluation or training data, without drawing random numbers."""
    data = trainer.eval_dataset or trainer.train_dataset
    if isinstance(data, dict):
        data = next(iter(data.values()))
    if data is None:
        return
    # A torch IterableDataset has a __getitem__ too, but no length.
    known = hasattr(data, "__getitem__") and hasattr(data, "__len__")
    rows = (data[index] for index in range(len(data))) if known else iter(data)
    for row in rows:
        ids = row.get("input_ids") if hasattr(row, "get") else None
        if ids is None:
            return
        mask = row.get("attention_mask")
        kept = [token for token, there in zip(ids, mask, strict=True) if there] if mask is not None else ids
        yield kept


def _say(news: str) -> None:
    sys.stderr.write(f"depthprobe: {news}\n")
