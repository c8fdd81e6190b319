"""How a probe is declared: its options, its tables, which columns score a layer, what memory it needs.

A leaf without torch, pandas or typer: ``catalogue`` holds the declarations themselves, and commands,
Python functions, checks, manifests, charts, tables, report and documentation are loops over them.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from depthprobe.errors import OptionError
from depthprobe.measurement import Column, Measurement, Table

if TYPE_CHECKING:
    import pandas as pd

# What an option does: decide the numbers, only how they are computed, or the figure.
Role = Literal["numbers", "means", "figure"]

# Far beyond any model; a run that speaks of more has been damaged, and would fill the memory.
MOST_LAYERS = 10_000


# Nothing that is counted here comes in larger numbers, and libraries end in tracebacks at some of them.
MOST = 10**9
# numpy takes no larger one.
MOST_SEED = 2**32 - 1


@dataclass(frozen=True)
class Option:
    """The description of one field of a dataclass of options, beyond its type and default.

    Args:
        help: One or two sentences.
        role: What it does.
        at_least: The smallest number allowed.
        at_most: The largest number allowed; None where :data:`MOST` is, as for every count.
        flags: How it is written on the command line; by default ``--name-of-field``.
        metavar: What stands for the value in the help.
        default: What the help shows instead of a default of None.
        panel: Its heading in the help.
        parse: Turns the text of the command line into the value, or raises an OptionError; None goes by the
            type.
        positional: Whether it is a positional argument on the command line.
    """

    help: str
    role: Role = "numbers"
    at_least: int | None = None
    at_most: int | None = None
    flags: tuple[str, ...] = ()
    metavar: str | None = None
    default: str | None = None
    panel: str | None = None
    parse: Callable[[str], Any] | None = None
    positional: bool = False


@dataclass(frozen=True)
class Field:
    """One option of a dataclass of options: its name, type without ``None``, default and description."""

    name: str
    type: Any
    default: Any
    option: Option

    @property
    def flags(self) -> tuple[str, ...]:
        """How it is written on the command line."""
        if self.option.flags:
            return self.option.flags
        flag = self.name.replace("_", "-")
        # What is on by default needs a way to be switched off.
        return (f"--{flag}/--no-{flag}",) if self.default is True else (f"--{flag}",)

    @property
    def choices(self) -> tuple[str, ...] | None:
        """The words that are allowed, if the type lists them."""
        return typing.get_args(self.type) if typing.get_origin(self.type) is Literal else None

    def check(self, value: Any) -> None:
        """Raise an OptionError unless the field takes the value."""
        name, least, most = self.flags[0], self.option.at_least, self.option.at_most
        if value is None and self.default is None:
            return
        if self.choices is not None and value not in self.choices:
            raise OptionError(f"{name} must be {' or '.join(self.choices)}, got {value!r}.")
        if self.type in (int, float):
            number = isinstance(value, self.type) and not isinstance(value, bool)
            if not number and not (self.type is float and isinstance(value, int)):
                kind = "a whole number" if self.type is int else "a number"
                raise OptionError(f"{name} must be {kind}, got {value!r}.")
            if isinstance(value, float) and not math.isfinite(value):
                raise OptionError(f"{name} must be a finite number, got {value}.")
            if least is not None and value < least:
                raise OptionError(f"{name} must be at least {least}, got {value}.")
            most = MOST if most is None and self.type is int else most
            if most is not None and value > most:
                raise OptionError(f"{name} must be at most {most}, got {_large(value)}.")


def _large(value: float) -> str:
    """Return a number as a message shows it, however long it is."""
    return f"{value}" if value < 1e40 else "a number of more than 40 digits"


def fields_of(options: type) -> tuple[Field, ...]:
    """Return the options of a dataclass: its fields that are ``Annotated[type, Option(...)]``, in order."""
    if options not in _FIELDS:
        _FIELDS[options] = _fields_of(options)
    return _FIELDS[options]


_FIELDS: dict[type, tuple[Field, ...]] = {}


def _fields_of(options: type) -> tuple[Field, ...]:
    known = {each.name for each in dataclasses.fields(options)}
    if not known.issuperset(vars(options).get("__annotations__", ())):
        raise TypeError(f"{options.__name__} must be decorated with @dataclass(frozen=True).")
    hints = typing.get_type_hints(options, include_extras=True)
    found = []
    for each in dataclasses.fields(options):
        kind, *told = typing.get_args(hints[each.name]) or (None,)
        option = next((one for one in told if isinstance(one, Option)), None)
        if option is None:
            continue  # not an option for users
        if typing.get_origin(kind) in (typing.Union, types.UnionType):
            parts = [part for part in typing.get_args(kind) if part is not type(None)]
            kind = parts[0] if len(parts) == 1 else Any
        found.append(Field(each.name, kind, each.default, option))
    return tuple(found)


@dataclass(frozen=True)
class Options:
    """The options of a probe, which derives a frozen dataclass from this one.

    Raises:
        OptionError: if a field does not take its value.
    """

    def __post_init__(self) -> None:
        for each in fields_of(type(self)):
            each.check(getattr(self, each.name))

    def of_role(self, role: Role) -> dict[str, Any]:
        """Return the values of the options with this role, by name."""
        each_of = fields_of(type(self))
        return {each.name: getattr(self, each.name) for each in each_of if each.option.role == role}

    def settings(self) -> dict[str, Any]:
        """Return what decides the numbers besides model and text, as JSON values."""
        return self.of_role("numbers")

    def recorded(self) -> dict[str, Any]:
        """Return what a manifest records of them under ``options``."""
        return self.of_role("numbers")

    def ending(self) -> str:
        """Return what follows the probe's name in the run's directory name; usually nothing."""
        return ""

    def files(self) -> Sequence[str]:
        """Return the files and directories they name whose contents decide the numbers."""
        return ()

    def wanted_files(self) -> Sequence[str]:
        """Return patterns of the files that are asked for beside the tables, which not every run has."""
        return ()

    def lacks(self, directory: Path) -> str:
        """Return what the finished run in a directory lacks of the files asked for, as in "this run, but"."""
        missing = [pattern for pattern in self.wanted_files() if not any(directory.glob(pattern))]
        return f"without {', '.join(missing)}" if missing else ""

    def text_seed(self) -> int | None:
        """Return the seed of the text if these options decide it, else None."""
        return None


@dataclass(frozen=True)
class TableOf:
    """A table that a probe writes.

    Args:
        stem: The file's stem: ``angular`` for ``angular.csv``.
        columns: All its columns, in order.
        quantity: The column that charts draw and ``compare`` takes differences of.
        keys: The columns that identify a row together with ``layer``.
        across: The key that spans a map with ``layer``; None for a table with one row for each layer.
        varying: The key whose values not every model has, such as a branch.
        outside: Values of ``varying`` that do not stand for a layer.
        behind: Values of ``varying`` that have a row behind the last layer, whose ``layer`` is the number of
            layers; None where any row may stand there.
        compared: Whether ``compare`` shows it side by side.
    """

    stem: str
    columns: tuple[Column, ...]
    quantity: str
    keys: tuple[str, ...] = ()
    across: str | None = None
    varying: str | None = None
    outside: tuple[str, ...] = ()
    behind: tuple[str, ...] | None = None
    compared: bool = True

    def column(self, name: str) -> Column:
        """Return one of the columns."""
        return next(column for column in self.columns if column.name == name)


@dataclass(frozen=True)
class Score:
    """A number that scores each layer: a cheap stand-in for the layer's importance.

    Args:
        name: Its column in the table with one row for each layer, such as ``angular_distance``.
        words: What it is called in figures and tables.
        table: The stem of the table that holds it.
        column: The column of that table.
        where: Which rows of it, one for each layer: values by column.
        reading: ``module:function`` that computes it if it is not a column: takes the table, returns values
            by layer as a Series.
        spared: Which layers it says can be spared: those with ``small`` or with ``large`` values.
    """

    name: str
    words: str
    table: str
    column: str = ""
    where: Mapping[str, Any] = field(default_factory=dict)
    reading: str | None = None
    spared: Literal["small", "large"] = "small"


@dataclass(frozen=True)
class Text:
    """The text that a probe measures on.

    Args:
        role: What it is, as in ``the text that angular is measured on``.
        samples: How many by default; None for as many as in the papers.
        count: The option that says how many.
        optional: The option by which a run goes without it; None if it cannot.
    """

    role: str
    samples: int | None = None
    count: str = "samples"
    optional: str | None = None


@dataclass(frozen=True)
class Working:
    """What a probe keeps in memory beside the weights and one batch inside one block.

    Args:
        vectors: Vectors of the stream's width for each token, in float32.
        boundaries: Whether it keeps the stream of a batch at every boundary.
        logits: Whether it reads the head's outputs, a part at a time.
        gradients: Whether it keeps the gradients of a block, and a batch to be run again.
    """

    vectors: int = 0
    boundaries: bool = False
    logits: bool = False
    gradients: bool = False


def loaded_function(place: str) -> Callable[..., Any]:
    """Return the function that ``module:function`` names."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


@dataclass(frozen=True)
class Probe:
    """One probe.

    ``module`` has ``measure(model, anatomy, samples, *, batch_size, processes, advance, **options)``, which
    returns a Measurement. One that ``resumes`` also takes a ``journal`` of finished work; one that needs more
    has ``prepare`` (see ``probes.preparation``).

    Args:
        name: As users type it.
        module: The module that measures it.
        question: The question that it answers, in one line.
        help: The help of its command: a short answer to the question, then paragraphs.
        options: The dataclass of its options.
        tables: What it writes; the first has the probe's name.
        scores: Which of its numbers stand in for the importance of a layer.
        text: What it is measured on.
        batch: The help of ``--batch-size``.
        working: What it keeps in memory.
        resumes: Whether an interrupted run continues where it was.
        initial: Whether freshly initialised weights may be measured (``--initial``).
        needs_loss: Whether it needs a language-model head.
        reported: Whether ``report MODEL`` measures it.
        version: Raised when its numbers change.
        chart: ``module:function`` that draws its run; by default a line for each quantity, or a map.
        findings: ``module:function`` that reads what its tables say: takes the tables by stem, the facts and
            the number of layers, returns a frozen value with ``sentences``; by default the extremes.
        listing: ``module:function`` that shows these findings in a terminal: takes them and the model's name,
            returns tables and sentences; by default a table of the quantity.
    """

    name: str
    module: str
    question: str
    help: str
    tables: tuple[TableOf, ...]
    options: type[Options] = Options
    scores: tuple[Score, ...] = ()
    text: Text | None = None
    batch: str = "Samples in a batch, or auto: as many as fit the device. Does not change the numbers."
    working: Working = Working()
    resumes: bool = False
    initial: bool = False
    needs_loss: bool = False
    reported: bool = True
    version: int = 1
    chart: str | None = None
    findings: str | None = None
    listing: str | None = None

    @property
    def example(self) -> str:
        """A command line that uses it."""
        return f"depthprobe {self.name} builtin:pre-ln"

    @property
    def stem(self) -> str:
        """The name of its main table and its figure, such as ``prune_sweep``."""
        return self.tables[0].stem

    def columns(self, stem: str) -> tuple[Column, ...]:
        """Return the columns of one of its tables."""
        return next(table.columns for table in self.tables if table.stem == stem)

    def measurement(
        self,
        frames: Mapping[str, pd.DataFrame],
        facts: Mapping[str, Any] | None = None,
        files: Mapping[str, bytes] | None = None,
    ) -> Measurement:
        """Return what was measured.

        Args:
            frames: The tables by stem, with the declared columns.
            facts: Numbers found beside them, as JSON values.
            files: Other files of the run by name.

        Raises:
            MeasureError: if a table has the wrong columns, or holds NaN or infinity.
        """
        tables = tuple(
            Table(table.stem, frames[table.stem], table.columns)
            for table in self.tables
            if table.stem in frames
        )
        return Measurement(self.name, tables, dict(facts or {}), dict(files or {}))
