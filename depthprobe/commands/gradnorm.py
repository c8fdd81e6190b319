"""``depthprobe gradnorm``: the gradient norm of every layer."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from depthprobe.commands import options as shared
from depthprobe.commands.measuring import Asked, measuring
from depthprobe.errors import OptionError

GRADIENTS = "Gradients"


@measuring
def command(
    asked: Asked,
    initial: shared.Initial = False,
    per_batch: Annotated[
        Optional[int],
        typer.Option(
            help="Mean and standard deviation of the norm over batches of so many samples, as training logs "
            "show it.",
            rich_help_panel=GRADIENTS,
            show_default="all samples as one batch",
        ),
    ] = None,
    memory: Annotated[
        str,
        typer.Option(
            help="auto, whole (all gradients at once), or how many blocks' gradients are held at a time, one "
            "pass each. The numbers stay the same.",
            rich_help_panel=GRADIENTS,
        ),
    ] = "auto",
) -> None:
    """Gradient norm of every layer: the L2 norm over a block's parameters of the gradient of the loss.

    The loss is the mean next-token loss in nats over all predicted tokens of the calibration set, taken as
    one batch (of a masked model the masked-token loss, with a seeded mask). Neither batches nor padding
    change it. Writes gradnorm.csv, with the norms of attention, feed-forward and norms beside the whole
    block, the figure and manifest.json to OUTPUT/MODEL/gradnorm/.
    """
    wanted: str | int = int(memory) if memory.isdecimal() else memory
    if per_batch is not None and per_batch < 1:
        raise OptionError(f"--per-batch must be at least 1, got {per_batch}.")
    if wanted not in ("auto", "whole") and not (isinstance(wanted, int) and wanted >= 1):
        raise OptionError(
            f"--memory {memory} says nothing.",
            "Use auto, whole, or how many blocks are taken at a time, such as 4.",
        )
    run = asked.measure("gradnorm", initial, {"memory": wanted}, per_batch=per_batch)
    if run is None:
        return

    from depthprobe.render.terminal.listing import lines_of

    asked.show(run, lines_of(run))
