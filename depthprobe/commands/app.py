"""The program: every subcommand by name."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Annotated, Any

import typer

import depthprobe
from depthprobe.catalogue import PROBES
from depthprobe.commands import arguments, measuring
from depthprobe.commands.help import HELP, Command, Group, asked_of, show

# Beside the probes: those whose options are declared, and those that are plain functions for typer.
_DECLARED = ("compare", "report", "inspect", "pretrain")
_PLAIN = ("convert", "plot", "docs")

NAME = "depthprobe"
# Set by the shell while it completes a line.
COMPLETING = "_DEPTHPROBE_COMPLETE"


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"depthprobe {depthprobe.__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def program(only: str | None = None, names: bool = False) -> typer.Typer:
    """Return the program, or the part of it that is needed: building all of it takes a while.

    Args:
        only: The one command that is needed; None for all.
        names: Whether names and help of the commands are enough, without their options.
    """
    app = typer.Typer(
        name=NAME,
        cls=Group,
        help="How much does each layer of a language model really do? Measure it, table it, draw it.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
        result_callback=arguments.perform,
    )
    app.callback()(_root)
    for name in (*PROBES, *_DECLARED, *_PLAIN):
        if only in (None, name):
            _add(app, name, names)
    return app


def _add(app: typer.Typer, name: str, bare: bool) -> None:
    if name in PROBES:
        probe = PROBES[name]
        measure = partial(measuring.measure, probe)
        groups = () if bare else measuring.groups_of(probe)
        arguments.add_command(app, name, probe.help, groups, measure, probe.example)
        return
    module = import_module(f"depthprobe.commands.{name}")
    command: Callable[..., Any] = module.command
    if name in _DECLARED:
        groups = () if bare else module.GROUPS
        arguments.add_command(app, name, _paragraphs(command), groups, command, module.EXAMPLE)
    else:
        added = app.command(name, help=_paragraphs(command), epilog=module.EXAMPLE, cls=Command)
        added((lambda: None) if bare else command)


def _paragraphs(command: Callable[..., Any]) -> str:
    """Return a command's docstring with every paragraph on one line: the terminal wraps them itself."""
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    return "\n\n".join(" ".join(text.split()) for text in paragraphs)


def run(words: Sequence[str]) -> None:
    """Run the program with the words of a command line."""
    if COMPLETING in os.environ:
        program()(prog_name=NAME)
        return
    first = words[0] if words else ""
    known = first in (*PROBES, *_DECLARED, *_PLAIN)
    if not asked_of(words) or not (known or first in HELP):
        # Under this name completion is installed, also by `python -m depthprobe`.
        program(first if known else None)(list(words), prog_name=NAME)
        return
    # Without parsing the line, for which typer imports pydantic.
    group: Any = typer.main.get_command(program(first if known else None, names=not known))
    context = typer.Context(group, info_name=NAME)
    command = group.commands[first] if known else group
    show(command, typer.Context(command, info_name=first, parent=context) if known else context)


def __getattr__(name: str) -> Any:
    if name == "app":
        app = program()
        setattr(sys.modules[__name__], name, app)
        return app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
