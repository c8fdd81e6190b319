"""When to stop a training run early: the loss is not finite, or has long been worse than at the start."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

if TYPE_CHECKING:
    import torch
    from transformers import TrainerControl, TrainerState, TrainingArguments

# This many logged losses in a row above the first one; a spike of a few logs is not a divergence.
PATIENCE = 10
# In nats: how much losses of single batches differ while nothing has been learned yet.
MARGIN = 0.2


def broken_weight(model: torch.nn.Module) -> str | None:
    """Return the name of the first parameter with NaN or infinite values, None if there is none."""
    return next((name for name, weight in model.named_parameters() if not weight.isfinite().all()), None)


class DivergenceStop(TrainerCallback):
    """Stops a training whose loss is NaN or infinite, or clearly above its first for :data:`PATIENCE` logs.

    ``reason`` says in a sentence what was seen; None as long as all is well. The Trainer must log such losses
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
        """Check the weights before a checkpoint is written: a broken one would replace a good one."""
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
        """Judge the losses so far; a checkpoint's state holds those before it."""
        if "loss" in (logs or {}):
            self.judge(state)
        if self.reason:
            control.should_training_stop = True

    def judge(self, state: TrainerState) -> None:
        """Set ``reason`` if the logged losses give one."""
        losses = [
            (int(entry["step"]), float(entry["loss"])) for entry in state.log_history if "loss" in entry
        ]
        if not losses:
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
