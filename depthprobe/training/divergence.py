"""When a training run is over before its time: the loss is no number, or long worse than it began."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

if TYPE_CHECKING:
    import torch
    from transformers import TrainerControl, TrainerState, TrainingArguments

# So many logged losses in a row above the first one; a spike of a few logs is no divergence.
PATIENCE = 10
# In nats. Losses of single batches differ by so much where nothing has been learned yet.
MARGIN = 0.2


def broken_weight(model: torch.nn.Module) -> str | None:
    """The name of the first parameter with NaN or infinite values, None where there is none."""
    return next((name for name, weight in model.named_parameters() if not weight.isfinite().all()), None)


class DivergenceStop(TrainerCallback):
    """Stops a training whose loss is NaN or infinite, or for :data:`PATIENCE` logs clearly above its first.

    ``reason`` says in a sentence what was seen, None as long as all is well. The Trainer must log such losses
    as they are (``logging_nan_inf_filter=False``).
    """

    def __init__(self, patience: int = PATIENCE) -> None:
        self.patience = patience
        self.reason: str | None = None

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: torch.nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        """Before a checkpoint is written: one with weights that are no numbers would push out a good one."""
        if control.should_save and model is not None:
            broken = broken_weight(model)
            if broken:
                self.reason = f"{broken} holds NaN or infinite values at step {state.global_step}."
                control.should_save, control.should_training_stop = False, True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Judge the losses so far; those before a checkpoint are in the state that it holds."""
        losses = [
            (int(entry["step"]), float(entry["loss"])) for entry in state.log_history if "loss" in entry
        ]
        if not losses or "loss" not in (logs or {}):
            return
        (first_step, first), (step, last) = losses[0], losses[-1]
        late = losses[1:][-self.patience :]
        if not math.isfinite(last):
            self.reason = f"The loss is {last} at step {step}."
        elif len(late) == self.patience and all(loss > first + MARGIN for _, loss in late):
            self.reason = (
                f"The loss has been above its start ({first:.3f} at step {first_step}) since step "
                f"{late[0][0]}: {last:.3f} at step {step}."
            )
        if self.reason:
            control.should_training_stop = True
