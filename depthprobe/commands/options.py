"""The options that subcommands share, each described once, and what they are turned into."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from depthprobe.errors import OptionError

MODEL, TEXT, OUTPUT, TERMINAL = "Model", "Calibration text", "Output", "Terminal"
TASKS = "Tasks (lm-eval's own options)"

Model = Annotated[
    Optional[str],
    typer.Argument(
        metavar="MODEL",
        help="Hugging Face id, local directory or builtin:NAME. Without it: --model, then DEPTHPROBE_MODEL, "
        "then model in ./depthprobe.toml, then the embedded model builtin:pre-ln.",
        show_default=False,
    ),
]
ModelOption = Annotated[
    Optional[str],
    typer.Option("--model", help="The same as MODEL.", rich_help_panel=MODEL, show_default=False),
]
Revision = Annotated[
    Optional[str],
    typer.Option(
        help="Branch, tag or commit of a hub model.", rich_help_panel=MODEL, show_default="the main branch"
    ),
]
Dtype = Annotated[
    str,
    typer.Option(
        help="auto (the checkpoint's own on a GPU, float32 on a CPU), float32, bfloat16 or float16.",
        rich_help_panel=MODEL,
    ),
]
Device = Annotated[
    str,
    typer.Option(help="auto (cuda, then mps, then cpu), cpu, cuda, cuda:N or mps.", rich_help_panel=MODEL),
]
TrustRemoteCode = Annotated[
    bool,
    typer.Option(
        "--trust-remote-code", help="Run Python code that comes with the checkpoint.", rich_help_panel=MODEL
    ),
]
Adapter = Annotated[
    Optional[str],
    typer.Option(
        help="PEFT adapter, hub id or directory, merged into the weights in memory.", rich_help_panel=MODEL
    ),
]
DeviceMap = Annotated[
    Optional[str],
    typer.Option(
        help="auto: split the model over all GPUs and the main memory.",
        rich_help_panel=MODEL,
        show_default="one device if it holds the weights",
    ),
]
TowerOption = Annotated[
    Optional[str],
    typer.Option(
        help="decoder or encoder of an encoder-decoder model.",
        rich_help_panel=MODEL,
        show_default="decoder",
    ),
]
Initial = Annotated[
    bool,
    typer.Option(
        "--initial",
        help="Measure freshly initialised weights of the same configuration, drawn with --seed.",
        rich_help_panel=MODEL,
    ),
]
NumFewshot = Annotated[
    Optional[int],
    typer.Option(help="Examples in the prompt.", rich_help_panel=TASKS, show_default="the task's own"),
]
Limit = Annotated[
    Optional[float],
    typer.Option(help="Documents a task, or their share below 1.", rich_help_panel=TASKS),
]
Dataset = Annotated[
    Optional[str],
    typer.Option(
        help="Hub data set id; .jsonl, .json, .parquet or .csv file, or a directory of them (one sample a "
        "row); a .txt file (cut into samples); or builtin (the Python standard library's held-out sources).",
        rich_help_panel=TEXT,
        show_default="allenai/c4; builtin for embedded models",
    ),
]
DatasetConfig = Annotated[
    Optional[str],
    typer.Option(
        help="Configuration of a hub data set.", rich_help_panel=TEXT, show_default="en for allenai/c4"
    ),
]
Split = Annotated[
    Optional[str],
    typer.Option(
        help="Split of the data set.", rich_help_panel=TEXT, show_default="validation, else test, else train"
    ),
]
Column = Annotated[
    Optional[str],
    typer.Option(
        help="Column that holds the text.", rich_help_panel=TEXT, show_default="text, or the only one"
    ),
]
SampleCount = Annotated[
    Optional[int],
    typer.Option(
        "--samples",
        help="How many samples.",
        rich_help_panel=TEXT,
        show_default="1000; 128 of the builtin text",
    ),
]
SeqLen = Annotated[
    Optional[int],
    typer.Option(
        "--seq-len",
        help="Tokens a sample, at most.",
        rich_help_panel=TEXT,
        show_default="256, or the model's limit",
    ),
]
Seed = Annotated[
    int, typer.Option(help="Which samples are drawn where there are more.", rich_help_panel=TEXT)
]
BatchSize = Annotated[
    str,
    typer.Option(
        help="Samples a batch, or auto: as many tokens as fit the device. The numbers stay the same.",
        rich_help_panel=TEXT,
    ),
]
Output = Annotated[
    Path,
    typer.Option(
        "--output", "-o", help="Directory of the runs: OUTPUT/MODEL/PROBE/.", rich_help_panel=OUTPUT
    ),
]
Name = Annotated[
    Optional[str],
    typer.Option(
        help="Name of the run's directory.", rich_help_panel=OUTPUT, show_default="the probe's name"
    ),
]
Format = Annotated[
    str,
    typer.Option("--format", help="Figure formats, comma separated: png, pdf, svg.", rich_help_panel=OUTPUT),
]
# As depthprobe.render.charts.kit.page_sizes has them, which imports matplotlib; a test holds them together.
STYLES = ("auto", "paper-single", "paper-double", "slides")
Style = Annotated[
    str,
    typer.Option(
        help="For what the figures are made: auto (as wide as the layers need), paper-single (3.25 in), "
        "paper-double (6.75 in), slides (13.33 x 7.5 in at most, large type).",
        rich_help_panel=OUTPUT,
    ),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="No progress and no news, only the result.", rich_help_panel=TERMINAL),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        help="Show the libraries' messages and, on errors, the traceback.",
        rich_help_panel=TERMINAL,
    ),
]


def listed(values: list[str]) -> tuple[str, ...]:
    """Return what an option that is comma separated or repeated names, each once, in order."""
    parts = [part.strip() for text in values for part in text.split(",")]
    return tuple(dict.fromkeys(filter(None, parts)))


def formats_of(text: str) -> tuple[str, ...]:
    """Return the figure formats that ``--format`` lists, checked before anything expensive."""
    known = ("png", "pdf", "svg")
    formats = tuple(
        dict.fromkeys(part.strip().lower().lstrip(".") for part in text.split(",") if part.strip())
    )
    unknown = [name for name in formats if name not in known]
    if unknown or not formats:
        raise OptionError(f"--format must be some of {', '.join(known)}, got {text}.")
    return formats
