"""``depthprobe pretrain``: train a small model from scratch, with its norms where you want them."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from depthprobe import interruption
from depthprobe.commands import options as shared
from depthprobe.commands.show import Watch, guarded, importing
from depthprobe.errors import OptionError, RunError
from depthprobe.models.own.placements import INITIALISATIONS, NORMS

if TYPE_CHECKING:
    from depthprobe.training.recipe import Recipe

MODEL, TEXT, TRAINING = "Model", "Training text", "Training"


class Precision(StrEnum):
    """What the forward and backward pass compute in; weights and optimiser are float32."""

    float32 = "float32"
    bfloat16 = "bfloat16"


@guarded
def command(
    output: Annotated[
        Optional[Path],
        typer.Option(
            "--output",
            "-o",
            help="Directory for the model, its log and its checkpoints.",
            show_default="runs/NORM, for example runs/pre-ln",
        ),
    ] = None,
    norm: Annotated[
        str, typer.Option(help=f"Where the norms are: {', '.join(NORMS)}.", rich_help_panel=MODEL)
    ] = "pre",
    init: Annotated[
        str,
        typer.Option(
            help="normal, or scaled: output projections smaller by a factor of sqrt(2 x layers).",
            rich_help_panel=MODEL,
        ),
    ] = "normal",
    preset: Annotated[
        Optional[str],
        typer.Option(
            help="Shape and hyperparameters of the papers' models: 9m, 35m, 60m, 130m or 250m, on C4. "
            "Other options override it.",
            rich_help_panel=MODEL,
            show_default="the recipe of the embedded models",
        ),
    ] = None,
    layers: Annotated[
        Optional[int], typer.Option(min=1, help="Number of blocks.", rich_help_panel=MODEL, show_default="12")
    ] = None,
    hidden: Annotated[
        Optional[int],
        typer.Option(
            min=8,
            help="Width of the residual stream, a multiple of 8; that of the feed-forward part is 8/3 of it.",
            rich_help_panel=MODEL,
            show_default="128",
        ),
    ] = None,
    heads: Annotated[
        Optional[int],
        typer.Option(
            min=1,
            help="Attention heads.",
            rich_help_panel=MODEL,
            show_default="4; from a width of 512, one for each 64",
        ),
    ] = None,
    dataset: Annotated[
        Optional[str],
        typer.Option(
            help="Hub data set id (streamed), local file, or builtin (this Python's standard library).",
            rich_help_panel=TEXT,
            show_default="builtin",
        ),
    ] = None,
    dataset_config: Annotated[
        Optional[str],
        typer.Option(
            help="Configuration of a hub data set.", rich_help_panel=TEXT, show_default="en for allenai/c4"
        ),
    ] = None,
    split: Annotated[
        Optional[str],
        typer.Option(help="Split to train on.", rich_help_panel=TEXT, show_default="train"),
    ] = None,
    column: shared.Column = None,
    tokenizer: Annotated[
        Optional[str],
        typer.Option(
            help="Model whose tokenizer to use, hub id or directory.",
            rich_help_panel=TEXT,
            show_default="one trained on the text",
        ),
    ] = None,
    vocab: Annotated[
        Optional[int],
        typer.Option(
            min=258,
            help="Vocabulary size of the tokenizer that is trained.",
            rich_help_panel=TEXT,
            show_default="4096",
        ),
    ] = None,
    seq_len: Annotated[
        Optional[int],
        typer.Option(min=2, help="Tokens in a sequence.", rich_help_panel=TEXT, show_default="256"),
    ] = None,
    steps: Annotated[
        Optional[int],
        typer.Option(min=1, help="Optimiser steps.", rich_help_panel=TRAINING, show_default="2000"),
    ] = None,
    batch: Annotated[
        Optional[int],
        typer.Option(
            min=1,
            help="Sequences in a step, over all processes.",
            rich_help_panel=TRAINING,
            show_default="16",
        ),
    ] = None,
    micro_batch: Annotated[
        Optional[int],
        typer.Option(
            min=1,
            help="Most sequences that a process takes at once; gradients are accumulated over a step.",
            rich_help_panel=TRAINING,
            show_default="16 on a CPU, else 64",
        ),
    ] = None,
    lr: Annotated[
        Optional[float],
        typer.Option(min=0.0, help="Peak learning rate.", rich_help_panel=TRAINING, show_default="0.002"),
    ] = None,
    warmup: Annotated[
        Optional[int],
        typer.Option(
            min=0,
            help="Steps until the peak learning rate is reached.",
            rich_help_panel=TRAINING,
            show_default="a fifth of the steps; presets a tenth",
        ),
    ] = None,
    precision: Annotated[
        Optional[Precision],
        typer.Option(
            help="Precision of the forward and backward passes; the weights are trained in float32.",
            rich_help_panel=TRAINING,
            show_default="bfloat16",
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(help="Seed of the initial weights and of the data's order.", rich_help_panel=TRAINING),
    ] = 0,
    log_every: Annotated[
        int,
        typer.Option(
            min=1,
            help="Steps from one log of the layers to the next; a few early steps are logged as well.",
            rich_help_panel=TRAINING,
        ),
    ] = 100,
    save_every: Annotated[
        int, typer.Option(min=1, help="Steps from one checkpoint to the next.", rich_help_panel=TRAINING)
    ] = 250,
    report_to: Annotated[
        str,
        typer.Option(
            help="Where else to log: tensorboard, wandb or another reporter of transformers' Trainer.",
            rich_help_panel=TRAINING,
        ),
    ] = "none",
    device: shared.Device = "auto",
    quiet: shared.Quiet = False,
    verbose: shared.Verbose = False,
) -> None:
    """Train a small Llama with its norms where one of the papers puts them, and log every layer.

    Norms are placed as pre, post, deepnorm, mix (Post-LN in the first quarter of the blocks), lns (LayerNorm
    Scaling) or sandwich; pre and lns are saved as plain Llamas. The defaults are the recipe of the embedded
    models, on the standard library's sources. An interrupted run continues from its last checkpoint when
    started again with the same options. OUTPUT/training holds the log: loss, held-out loss, and the output
    variance and gradient norm of each layer, which depthprobe plot draws.
    """
    if norm not in NORMS:
        raise OptionError(f"--norm must be one of {', '.join(NORMS)}, got {norm}.")
    if init not in INITIALISATIONS:
        raise OptionError(f"--init must be {' or '.join(INITIALISATIONS)}, got {init}.")
    if norm == "deepnorm" and init == "scaled":
        raise OptionError(
            "--init scaled cannot be used with --norm deepnorm.",
            "DeepNorm scales its initial weights itself: leave --init out.",
        )
    from depthprobe.training.recipe import PRESETS, Recipe

    if preset is not None and preset not in PRESETS:
        raise OptionError(f"--preset must be one of {', '.join(PRESETS)}, got {preset}.")
    asked = {
        "norm": norm,
        "initialisation": init,
        "layers": layers,
        "hidden": hidden,
        "heads": heads,
        "dataset": dataset,
        "config": dataset_config,
        "split": split,
        "column": column,
        "tokenizer": tokenizer,
        "vocab_size": vocab,
        "context_tokens": seq_len,
        "steps": steps,
        "batch_samples": batch,
        "learning_rate": lr,
        "warmup_steps": warmup,
        "precision": None if precision is None else precision.value,
        "seed": seed,
    }
    recipe = recipe_of(Recipe() if preset is None else PRESETS[preset], asked)
    output = output or Path("runs") / (f"{norm}-ln" if norm in ("pre", "post", "mix") else norm)
    watch = Watch(quiet, verbose)

    with importing():
        from depthprobe.models.loading.placement import choose_device
        from depthprobe.training.pretraining import kept, pretrain, sample

    kind = choose_device(device).type
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"Cannot write in {output}: {error.strerror}.", "Choose another --output.") from error
    with interruption.told(lambda: kept(output)):
        record = pretrain(
            recipe,
            output,
            device=kind,
            checkpoint_steps=save_every,
            log_steps=log_every,
            micro_batch=micro_batch,
            report_to=report_to,
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
