"""The help of a command, drawn from its options: typer's own takes pydantic, Markdown and Pygments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from typer import echo
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from depthprobe.commands.console import Console
from depthprobe.commands.spelling import as_declared
from depthprobe.errors import OptionError

NARROWEST = 60
HELP = ("-h", "--help")
ARGUMENTS, OPTIONS, COMMANDS = "Arguments", "Options", "Commands"
# The placeholder of a value in the help, by the name of its type.
_KINDS = {"integer": "INTEGER", "int": "INTEGER", "float": "FLOAT", "path": "PATH", "Path": "PATH"}


class Command(TyperCommand):
    """A command whose help is drawn here, and which takes lm-eval's spelling of options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take what was typed; usage errors end the program."""
        try:
            args, notes = as_declared(args, [each for each in self.params if isinstance(each, TyperOption)])
        except OptionError as error:
            ctx.fail(str(error))
        quiet = {"-q", "--quiet"} & set(args)
        for note in () if quiet else notes:
            echo(note, err=True)
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help."""
        show(self, ctx)


class Group(TyperGroup):
    """The program, whose help is drawn here."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help."""
        show(self, ctx)


def show(command: TyperCommand | TyperGroup, ctx: Any) -> None:
    """Print the help of a command: usage, what it does, and its options under their headings.

    Args:
        command: The command, or the whole program.
        ctx: The context in which it is called.
    """
    console = Console(highlight=False)
    # COLUMNS may be anything; in fewer than this there is nothing to read.
    console.width = max(console.width, NARROWEST)
    console.print(Padding(Text(" ".join(command.get_usage(ctx).split()), style="bold"), (1, 1)))
    console.print(Padding(Text(command.help or ""), (0, 1, 1, 1)))
    if command.epilog:
        console.print(Padding(Text(f"Example: {command.epilog}"), (0, 1, 1, 1)))
    panels: dict[str, list[tuple[Text, ...]]] = {}
    for parameter in command.get_params(ctx):
        if isinstance(parameter, TyperArgument):
            row = (Text(parameter.metavar or str(parameter.name), style="cyan"), Text(), _told(parameter))
            panels.setdefault(ARGUMENTS, []).append(row)
        elif not getattr(parameter, "hidden", False):
            panel = getattr(parameter, "rich_help_panel", None) or OPTIONS
            panels.setdefault(panel, []).append(_row(parameter))
    if isinstance(command, TyperGroup):
        panels[COMMANDS] = [
            (Text(name, style="cyan"), Text(), Text((each.help or "").partition("\n")[0]))
            for name, each in command.commands.items()
        ]
    general = panels.pop(OPTIONS, [])
    for heading, rows in [*panels.items(), *([(OPTIONS, general)] if general else [])]:
        console.print(_panel(heading, rows))


def _row(option: Any) -> tuple[Text, ...]:
    """Return the flags of an option, the placeholder of its value, and its description."""
    # A flag and its opposite are one option: --[no-]flag.
    names = [f"--[no-]{name[2:]}" for name in option.opts] if option.secondary_opts else option.opts
    return Text(", ".join(names), style="cyan"), Text(_value(option), style="yellow"), _told(option)


def _value(option: Any) -> str:
    if option.metavar:
        return str(option.metavar)
    if option.is_flag or option.count:
        return ""
    described = getattr(option, "type_descriptor", None)  # from typer 0.20 on
    kind = getattr(described, "annotation", None) if described is not None else option.type
    return _KINDS.get(str(getattr(kind, "name", getattr(kind, "__name__", ""))), "TEXT")


def _told(parameter: Any) -> Text:
    told = Text(parameter.help or "")
    shown = getattr(parameter, "show_default", False)
    if isinstance(shown, str):
        told.append(f" [default: {shown}]", style="dim")
    elif shown and isinstance(parameter, TyperOption) and parameter.default not in (None, False, ()):
        told.append(f" [default: {parameter.default}]", style="dim")
    return told


def _panel(heading: str, rows: Sequence[tuple[Text, ...]]) -> Panel:
    table = Table.grid(padding=(0, 2), expand=True)
    for _ in range(2):
        table.add_column(no_wrap=True)
    table.add_column(ratio=1)
    for row in rows:
        table.add_row(*row)
    return Panel(table, title=heading, title_align="left", border_style="dim")


def asked_of(arguments: Sequence[str]) -> bool:
    """Return whether somebody asks for help rather than for a result."""
    before = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return any(argument in HELP for argument in before)
