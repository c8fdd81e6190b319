"""The program: every subcommand by name."""

from __future__ import annotations

import inspect
from typing import Annotated

import typer

import depthprobe
from depthprobe.commands import (
    angular,
    compare,
    convert,
    docs,
    gradnorm,
    plot,
    pretrain,
    prune_sweep,
    report,
    variance,
)
from depthprobe.commands import inspect as inspect_model

app = typer.Typer(
    name="depthprobe",
    help="How much does each layer of a language model really do? Measure it, table it, draw it.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"depthprobe {depthprobe.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    pass


for name, command in (
    ("angular", angular.command),
    ("prune-sweep", prune_sweep.command),
    ("gradnorm", gradnorm.command),
    ("variance", variance.command),
    ("compare", compare.command),
    ("inspect", inspect_model.command),
    ("convert", convert.command),
    ("plot", plot.command),
    ("report", report.command),
    ("pretrain", pretrain.command),
    ("docs", docs.command),
):
    # Docstrings are wrapped for the source; the terminal wraps each paragraph for itself.
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    app.command(name, help="\n\n".join(" ".join(text.split()) for text in paragraphs))(command)
