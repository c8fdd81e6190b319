"""The program: every subcommand by name."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Annotated

import typer

import depthprobe
from depthprobe.catalogue import PROBES
from depthprobe.commands import arguments, compare, convert, docs, measuring, plot, pretrain, report
from depthprobe.commands import inspect as inspect_model

app = typer.Typer(
    name="depthprobe",
    help="How much does each layer of a language model really do? Measure it, table it, draw it.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    result_callback=arguments.perform,
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


def _paragraphs(docstring: str) -> str:
    """Docstrings are wrapped for the source; the terminal wraps each paragraph for itself."""
    return "\n\n".join(" ".join(text.split()) for text in inspect.cleandoc(docstring).split("\n\n"))


for probe in PROBES.values():
    arguments.add_command(
        app,
        probe.name,
        probe.help,
        measuring.groups_of(probe),
        partial(measuring.measure, probe),
    )
for name, module in (
    ("compare", compare),
    ("report", report),
    ("inspect", inspect_model),
):
    arguments.add_command(app, name, _paragraphs(module.command.__doc__ or ""), module.GROUPS, module.command)
for name, command in (
    ("convert", convert.command),
    ("plot", plot.command),
    ("pretrain", pretrain.command),
    ("docs", docs.command),
):
    app.command(name, help=_paragraphs(command.__doc__ or ""))(command)
