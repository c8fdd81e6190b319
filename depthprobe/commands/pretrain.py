"""``depthprobe pretrain``: train a small model with any norm placement from scratch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from depthprobe import interruption
from depthprobe.commands import options as shared
from depthprobe.commands.arguments import Asked, OptionGroup
from depthprobe.commands.show import Watch, importing
from depthprobe.declaring import Option
from depthprobe.errors import OptionError, RunError
from depthprobe.models.loading.options import LoadOptions
from depthprobe.models.own.placements import INITIALISATIONS, NORMS
from depthprobe.training.recipe import PRESETS, Recipe


@dataclass(frozen=True)
class PretrainOptions:
    """How a recipe is run."""

    preset: Annotated[
        str | None,
        Option(
            "Shape and hyperparameters of the papers' models: 9m, 35m, 60m, 130m or 250m, on C4. Other "
            "options override it.",
            default="the recipe of the embedded models",
            panel="Model",
        ),
    ] = None
    micro_batch: Annotated[
        int | None,
        Option(
            "Most sequences that a process takes at once; gradients are accumulated over a step.",
            at_least=1,
            default="16 on a CPU, else 64",
        ),
    ] = None
    log_every: Annotated[
        int,
        Option(
            "Steps from one log of the layers to the next; a few early steps are logged as well.", at_least=1
        ),
    ] = 100
    save_every: Annotated[int, Option("Steps from one checkpoint to the next.", at_least=1)] = 250
    report_to: Annotated[
        str,
        Option("Where else to log: tensorboard, wandb or another reporter of transformers' Trainer."),
    ] = "none"
    output: Annotated[
        Path | None,
        Option(
            "Directory for the model, its log and its checkpoints.",
            flags=("--output", "-o"),
            default="runs/NORM, for example runs/pre-ln",
            panel="Output",
        ),
    ] = None


EXAMPLE = "depthprobe pretrain --steps 200"
GROUPS = (
    OptionGroup(PretrainOptions, only=("preset",)),
    OptionGroup(Recipe),
    OptionGroup(PretrainOptions, "Training", only=("micro_batch", "log_every", "save_every", "report_to")),
    OptionGroup(LoadOptions, "Training", only=("device",)),
    OptionGroup(PretrainOptions, only=("output",)),
    shared.OF_TERMINAL,
)


def command(asked: Asked) -> None:
    """Train a small Llama with its norms where one of the papers puts them, and log every layer.

    Norms are placed as pre, post, deepnorm, mix (Post-LN in the first quarter of the blocks), lns (LayerNorm
    Scaling) or sandwich; pre and lns are saved as plain Llamas. The defaults are the recipe of the embedded
    models, on the standard library's sources. An interrupted run continues from its last checkpoint when
    started again with the same options. OUTPUT/training holds the log: loss, held-out loss, and the output
    variance and gradient norm of each layer, which depthprobe plot draws.
    """
    given, wanted = asked.values(Recipe), asked.options(PretrainOptions)
    norm, init = given["norm"], given["initialisation"]
    if norm not in NORMS:
        raise OptionError(f"--norm must be one of {', '.join(NORMS)}, got {norm}.")
    if init not in INITIALISATIONS:
        raise OptionError(f"--init must be {' or '.join(INITIALISATIONS)}, got {init}.")
    if norm == "deepnorm" and init == "scaled":
        raise OptionError(
            "--init scaled cannot be used with --norm deepnorm.",
            "DeepNorm scales its initial weights itself: leave --init out.",
        )
    if wanted.preset is not None and wanted.preset not in PRESETS:
        raise OptionError(f"--preset must be one of {', '.join(PRESETS)}, got {wanted.preset}.")
    if "vocab_size" in given and "tokenizer" in given:
        raise OptionError(
            "--vocab is the size of a tokenizer that is trained, and --tokenizer names one that is there.",
            "Leave out one of them.",
        )
    recipe = recipe_of(Recipe() if wanted.preset is None else PRESETS[wanted.preset], given)
    output = wanted.output or Path("runs") / (f"{norm}-ln" if norm in ("pre", "post", "mix") else norm)
    watch = Watch(**asked.values(shared.TerminalOptions))

    with importing():
        from depthprobe.models.loading.placement import choose_device
        from depthprobe.training.pretraining import kept, pretrain, sample

    kind = choose_device(asked.values(LoadOptions)["device"]).type
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"Cannot write in {output}: {error.strerror}.", "Choose another --output.") from error
    with interruption.told(lambda: kept(output)):
        record = pretrain(
            recipe,
            output,
            device=kind,
            checkpoint_steps=wanted.save_every,
            log_steps=wanted.log_every,
            micro_batch=wanted.micro_batch,
            report_to=wanted.report_to,
            say=watch.say,
        )
    if record:  # only the first of several processes has it
        typer.echo(sample(output, "def parse(" if recipe.dataset == "builtin" else "The"))


def recipe_of(base: Recipe, asked: dict[str, Any]) -> Recipe:
    """Return a recipe changed by what was asked for (None: unchanged), and by what follows from that.

    Raises:
        OptionError: if the width cannot be divided into heads, or the warm-up is longer than the training.
    """
    given = {name: value for name, value in asked.items() if value is not None}
    if given.get("dataset", base.dataset) != base.dataset:
        # The parts of one data set mean nothing for another.
        c4 = "en" if given["dataset"] == "allenai/c4" else None
        given = {"config": c4, "split": None, "column": None} | given
    if "hidden" in given and given["hidden"] != base.hidden:
        width = given["hidden"]
        of_64 = width >= 512 and width % 64 == 0
        given = {"heads": width // 64 if of_64 else 4, "feedforward": round(width * 8 / 3 / 8) * 8} | given
    if "steps" in given and "warmup_steps" not in given:
        given["warmup_steps"] = given["steps"] * base.warmup_steps // base.steps
    recipe = replace(base, **given)
    if recipe.hidden % (2 * recipe.heads):
        raise OptionError(
            f"--hidden {recipe.hidden} cannot be divided into {recipe.heads} heads of an even width.",
            "Give another --hidden or --heads.",
        )
    if recipe.warmup_steps > recipe.steps:
        raise OptionError(
            f"--warmup must be at most the {recipe.steps} steps of the training, got {recipe.warmup_steps}.",
            "Give a shorter --warmup, or more --steps.",
        )
    return recipe
