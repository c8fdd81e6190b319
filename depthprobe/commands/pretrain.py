"""``depthprobe pretrain``: train an embedded model from scratch by the project's recipe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from depthprobe.commands import options as shared
from depthprobe.commands.show import Watch, guarded, importing
from depthprobe.errors import OptionError, RunError
from depthprobe.lab.norms import INITIALISATIONS, NORMS


@guarded
def command(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Directory of the model and its checkpoints.")
    ] = Path("runs/pre-ln"),
    norm: Annotated[str, typer.Option(help=f"Where the norms stand: {', '.join(NORMS)}.")] = "pre",
    init: Annotated[
        str,
        typer.Option(help="normal, or scaled: output projections drawn smaller by sqrt(2 x layers)."),
    ] = "normal",
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps of 16 samples x 256 tokens.")] = 3000,
    layers: Annotated[int, typer.Option(min=1, help="Blocks.")] = 12,
    hidden: Annotated[int, typer.Option(min=8, help="Width of the residual stream; a multiple of 8.")] = 128,
    seed: Annotated[int, typer.Option(help="Seed of the initial weights and the order of the data.")] = 0,
    device: shared.Device = "auto",
    quiet: shared.Quiet = False,
    verbose: shared.Verbose = False,
) -> None:
    """Train a small Llama on this Python's standard library, the held-out modules left out.

    The norms stand as one of the papers has them: pre, post, deepnorm, mix (Post-LN in the first quarter of
    the blocks), lns (LayerNorm Scaling) or sandwich; pre and lns are saved as plain Llamas. The defaults are
    the recipe of builtin:pre-ln. A run that was interrupted continues from its last checkpoint when started
    again with the same options. Prints the held-out loss beside that of the best interpolated bigram model,
    and a sample.
    """
    if norm not in NORMS:
        raise OptionError(f"--norm {norm} is no norm placement.", f"Choose {', '.join(NORMS)}.")
    if init not in INITIALISATIONS or (norm == "deepnorm" and init == "scaled"):
        raise OptionError(
            f"--init {init} cannot be had with --norm {norm}.",
            "Choose normal or scaled; DeepNorm scales its initial weights itself.",
        )
    if hidden % 8:
        raise OptionError(f"--hidden {hidden} does not divide into heads.", "Give a multiple of 8.")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"Cannot write in {output}: {error.strerror}.", "Choose another --output.") from error
    watch = Watch(quiet, verbose)

    with importing():
        from depthprobe.lab.pretraining import pretrain, sample
        from depthprobe.lab.recipe import Recipe
        from depthprobe.models.placement import choose_device

    recipe = replace(
        Recipe(),
        norm=norm,
        initialisation=init,
        steps=steps,
        layers=layers,
        hidden=hidden,
        feedforward=round(hidden * 8 / 3 / 8) * 8,
        seed=seed,
    )
    pretrain(recipe, output, device=choose_device(device).type, say=watch.say)
    typer.echo(sample(output))
