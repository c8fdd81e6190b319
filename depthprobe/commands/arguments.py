"""From declared options to a command of the program, and from what was typed back to their dataclasses."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Optional, TypeVar

import typer

from depthprobe.commands.help import Command
from depthprobe.commands.show import guarded
from depthprobe.declaring import Field, Option, fields_of

Kind = TypeVar("Kind")

MODEL, TEXT, OUTPUT, TERMINAL = "Model", "Calibration text", "Output", "Terminal"


@dataclass(frozen=True)
class OptionGroup:
    """Options of a command that come from one dataclass.

    Args:
        options: The dataclass, whose fields are declared with ``Option``.
        panel: The heading of those that do not name their own.
        only: Names of the fields that are offered; None for all.
        other: Descriptions that replace the declared ones, by name of the field.
    """

    options: type
    panel: str | None = None
    only: Sequence[str] | None = None
    other: Mapping[str, Option] = dataclasses.field(default_factory=dict)

    def fields(self) -> Iterable[Field]:
        """Yield the fields that are offered, in the order of the dataclass."""
        for field in fields_of(self.options):
            if self.only is None or field.name in self.only:
                option = self.other.get(field.name, field.option)
                panel = option.panel or self.panel
                yield dataclasses.replace(field, option=dataclasses.replace(option, panel=panel))


@dataclass(frozen=True)
class Asked:
    """What was typed after a command: for each group, the fields that were named or have plain defaults."""

    typed: Mapping[type, Mapping[str, Any]]
    # (option as typed, group, name) of those that differ from their defaults
    given: tuple[tuple[str, type, str], ...]

    def values(self, options: type) -> dict[str, Any]:
        """Return the values of a group by name of the field, without those that were left open."""
        return dict(self.typed.get(options, {}))

    def options(self, options: type[Kind], **more: Any) -> Kind:
        """Return a group's dataclass; ``more`` sets further fields.

        Raises:
            OptionError: if a field does not take its value.
        """
        return options(**(self.values(options) | more))


@dataclass(frozen=True)
class _Parameter:
    """One parameter of a command: its name there, and the field that it sets."""

    name: str
    group: type
    field: Field


def add_command(
    app: typer.Typer,
    name: str,
    help: str,
    groups: Sequence[OptionGroup],
    action: Callable[[Asked], None],
    example: str,
) -> None:
    """Add a command whose options follow from dataclasses.

    Where two groups declare the same flag, only the earlier group's is offered.

    Args:
        app: The program.
        name: The command's name.
        help: What it does, in paragraphs.
        groups: Its options, in the order in which they are offered.
        action: Does the work.
        example: A command line.
    """
    parameters: list[_Parameter] = []
    taken: set[str] = set()
    for group in groups:
        for field in group.fields():
            if taken.isdisjoint(field.flags):
                taken.update(() if field.option.positional else field.flags)
                same = sum(each.field.name == field.name for each in parameters)
                called = f"{field.name}_{same + 1}" if same else field.name
                parameters.append(_Parameter(called, group.options, field))

    def do(typed: Any) -> None:
        values = {each.name: getattr(typed, each.name) for each in parameters}
        verbose = any(each.field.name == "verbose" and values[each.name] for each in parameters)
        guarded(lambda verbose: action(_asked(parameters, values)))(verbose=verbose)

    typed = dataclasses.make_dataclass(
        f"Typed_{name.replace('-', '_')}",
        [(each.name, _annotation(each.field), _default(each.field)) for each in parameters],
        frozen=True,
        namespace={"perform": do},
    )
    app.command(name, help=help, epilog=example, cls=Command)(typed)


def perform(typed: Any, **_: Any) -> None:
    """Do what was typed: what every command made by :func:`add_command` returns comes here."""
    if hasattr(typed, "perform"):
        typed.perform()


def _asked(parameters: Sequence[_Parameter], values: Mapping[str, Any]) -> Asked:
    found: dict[type, dict[str, Any]] = {}
    given = []
    for each in parameters:
        value, field = values[each.name], each.field
        if value != _default(field):
            given.append((field.flags[0], each.group, field.name))
        if value is not None:
            value = _parsed(field, value)
            field.check(value)
            found.setdefault(each.group, {})[field.name] = value
    return Asked(found, tuple(given))


def _parsed(field: Field, value: Any) -> Any:
    parse = field.option.parse
    if isinstance(value, list):
        if parse is None:
            return tuple(value)
        return tuple(dict.fromkeys(part for text in value for part in parse(text)))
    return parse(value) if parse is not None and isinstance(value, str) else value


def _default(field: Field) -> Any:
    """Return typer's default: None where the help shows words instead, or where values may be many."""
    if field.option.default is not None or _is_listed(field):
        return None
    return field.default


def _is_listed(field: Field) -> bool:
    return (
        typing.get_origin(field.type) is tuple
        and typing.get_args(field.type)[1:] == (...,)
        and (field.option.metavar is None or field.option.parse is None or field.option.positional)
    )


def _annotation(field: Field) -> Any:
    """Return the annotation that typer reads: the type of what is typed, and its description."""
    option = field.option
    words: dict[str, Any] = {"help": option.help, "metavar": option.metavar, "rich_help_panel": option.panel}
    kind: Any
    shown = option.default or (field.default not in (None, (), ""))
    if option.positional:
        kind = list[str] if _is_listed(field) else str
        return Annotated[Optional[kind], typer.Argument(show_default=False, **words)]
    if field.choices is not None:
        words["metavar"] = f"[{'|'.join(field.choices)}]"
    flags = field.flags
    if field.type is bool or isinstance(field.default, bool):
        kind = bool
    elif _is_listed(field):
        kind = list[Path] if Path in typing.get_args(field.type) else list[str]
    else:
        kind = field.type if field.type in (int, float, Path) and option.parse is None else str
    if kind is bool and field.default is False:
        return Annotated[bool, typer.Option(*flags, **words)]
    return Annotated[Optional[kind], typer.Option(*flags, show_default=shown, **words)]
