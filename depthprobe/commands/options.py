"""The options that subcommands share, beyond those that models, texts and probes declare themselves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, make_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from depthprobe.commands.arguments import MODEL, OUTPUT, TERMINAL, TEXT, OptionGroup
from depthprobe.declaring import Option, Probe, fields_of
from depthprobe.errors import OptionError
from depthprobe.models.loading.options import LoadOptions
from depthprobe.texts.options import TextOptions

FORMATS = ("png", "pdf", "svg")
# As depthprobe.render.charts.kit.page_sizes has them, which imports matplotlib; a test holds them together.
STYLES = ("auto", "paper-single", "paper-double", "appendix", "slides")


@dataclass(frozen=True)
class ModelOptions:
    """Which model is meant."""

    model: Annotated[
        str | None,
        Option(
            "Hugging Face id, local directory or builtin:NAME, also as MODEL+ADAPTER. Without it: --model, "
            "then DEPTHPROBE_MODEL, then model in ./depthprobe.toml, then the embedded model builtin:pre-ln.",
            positional=True,
            metavar="MODEL",
        ),
    ] = None
    named: Annotated[str | None, Option("The same as MODEL.", flags=("--model",))] = None


@dataclass(frozen=True)
class InitialOptions:
    """Whether freshly initialised weights are measured."""

    initial: Annotated[
        bool,
        Option("Measure freshly initialised weights of the same configuration, drawn with --seed."),
    ] = False


@dataclass(frozen=True)
class BatchOptions:
    """How the work is divided."""

    batch_size: Annotated[str, Option("Samples in a batch, or auto.", role="means")] = "auto"


@lru_cache
def own_count(probe: Probe) -> type:
    """Return the options for a text that its probe counts by a name of its own, and may go without.

    A dataclass with a field for the number of samples and one for leaving the text out, named as the probe
    declares them.
    """
    text = probe.text
    assert text is not None, "its options would not be offered"
    count = Option("Samples of calibration text.", at_least=0, default=str(text.samples))
    without = Option("Measure the tasks alone, without the loss on calibration text.")
    fields: list[Any] = [(text.count, Annotated[Optional[int], count], None)]
    if text.optional:
        fields.append((text.optional, Annotated[bool, without], False))
    return make_dataclass(f"CountOf_{probe.stem}", fields, frozen=True)


def counts_of(probes: Iterable[Probe]) -> list[OptionGroup]:
    """Return the options of those probes that count their text by a name of their own."""
    return [
        OptionGroup(own_count(probe), TEXT)
        for probe in probes
        if probe.text is not None and probe.text.count != "samples"
    ]


def folder_of(text: str) -> Path:
    """Return the directory that an option names."""
    if not text:
        raise OptionError("--output is empty.", "Name a directory, or leave it out.")
    return Path(text)


def formats_of(text: str) -> tuple[str, ...]:
    """Return the figure formats that ``--format`` lists, checked before anything expensive."""
    formats = tuple(
        dict.fromkeys(part.strip().lower().lstrip(".") for part in text.split(",") if part.strip())
    )
    if not formats or set(formats) - set(FORMATS):
        raise OptionError(f"--format must be one or more of {', '.join(FORMATS)}, got {text or 'nothing'}.")
    return formats


def style_of(text: str) -> str:
    """Return the style of figures that ``--style`` names."""
    if text not in STYLES:
        raise OptionError(f"--style must be one of {', '.join(STYLES)}, got {text}.")
    return text


_FORMAT = "Figure formats, comma separated: png, pdf, svg."
_STYLE = (
    "What figures are for: auto (as wide as the layers need), paper-single (3.25 in), paper-double "
    "(6.75 in), appendix (one column), slides (13.33 x 7.5 in at most, large type)."
)
_TABLES_TOO = " LaTeX tables fit there too."
_SUBTITLE = (
    "Leave out the grey lines below a figure's title: what it was measured on, which its caption says."
)
_QUIET = "No progress and no news, only the result."
_VERBOSE = "Show the libraries' messages and, on errors, the traceback."


@dataclass(frozen=True)
class OutputOptions:
    """Where a run and its figure go."""

    output: Annotated[
        Path,
        Option(
            "Where runs are saved: OUTPUT/MODEL/PROBE/.",
            flags=("--output", "-o"),
            metavar="PATH",
            parse=folder_of,
        ),
    ] = Path("reports")
    name: Annotated[str | None, Option("Name of the run's directory.", default="the probe's name")] = None
    format: Annotated[str, Option(_FORMAT)] = "png,pdf"


@dataclass(frozen=True)
class StyleOptions:
    """What figures are for."""

    style: Annotated[str, Option(_STYLE + _TABLES_TOO)] = "auto"
    no_subtitle: Annotated[bool, Option(_SUBTITLE)] = False


@dataclass(frozen=True)
class TerminalOptions:
    """What is printed while a command runs."""

    quiet: Annotated[bool, Option(_QUIET, flags=("--quiet", "-q"))] = False
    verbose: Annotated[bool, Option(_VERBOSE, flags=("--verbose", "-v"))] = False


OF_MODEL = (OptionGroup(ModelOptions, MODEL), OptionGroup(LoadOptions, MODEL))
OF_TEXT = OptionGroup(TextOptions, TEXT)
# The text of tasks' probes, which count its samples by a name of their own.
OF_CALIBRATION = OptionGroup(
    TextOptions,
    TEXT,
    only=[field.name for field in fields_of(TextOptions) if field.name != "samples"],
)
OF_OUTPUT = OptionGroup(OutputOptions, OUTPUT)
OF_TERMINAL = OptionGroup(TerminalOptions, TERMINAL)


def _declared(options: type, name: str) -> dict[str, Any]:
    option = next(field.option for field in fields_of(options) if field.name == name)
    return {"help": option.help, "show_default": option.default or True}


# For commands that are plain functions.
Revision = Annotated[Optional[str], typer.Option(rich_help_panel=MODEL, **_declared(LoadOptions, "revision"))]
TrustRemoteCode = Annotated[
    bool,
    typer.Option("--trust-remote-code", rich_help_panel=MODEL, **_declared(LoadOptions, "trust_remote_code")),
]
Adapter = Annotated[Optional[str], typer.Option(rich_help_panel=MODEL, **_declared(LoadOptions, "adapter"))]
Format = Annotated[str, typer.Option("--format", help=_FORMAT, rich_help_panel=OUTPUT)]
Style = Annotated[str, typer.Option(help=_STYLE, rich_help_panel=OUTPUT)]
NoSubtitle = Annotated[bool, typer.Option("--no-subtitle", help=_SUBTITLE, rich_help_panel=OUTPUT)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help=_QUIET, rich_help_panel=TERMINAL)]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help=_VERBOSE, rich_help_panel=TERMINAL)]
