"""Which calibration text, and how much of it: what is known before any of it is read."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from depthprobe.builtin import corpus
from depthprobe.declaring import MOST_SEED, Option, fields_of
from depthprobe.errors import OptionError, TextError
from depthprobe.machine.local_data import content_hash, local_files

BUILTIN = "builtin"

# The papers' text: 1000 samples x 256 tokens of C4 (Curse of Depth, 2502.05795, section 2).
PAPER_DATASET, PAPER_CONFIG, PAPER_SPLIT = "allenai/c4", "en", "validation"
PAPER_LENGTH = 256

SHORTEST_SAMPLE = 2  # a single token has no context: its stream says nothing about the text

# Files of rows, as their names end; a file of text ends in .txt.
ROW_FORMATS = (".jsonl", ".ndjson", ".json", ".parquet", ".csv", ".tsv", ".arrow")
# What may follow it; Parquet and Arrow files are packed inside.
PACKINGS = (".gz", ".bz2", ".xz", ".zst")

# No hub id begins like this.
OF_A_PATH = ("/", "./", "../", "~")


def format_of(name: str) -> str | None:
    """Return how the name of a file ends that can be read, without its packing; None for other names."""
    path = Path(name.lower())
    if path.suffix in PACKINGS:
        suffix = Path(path.stem).suffix
        return suffix if suffix in (".txt", *ROW_FORMATS) and suffix not in (".parquet", ".arrow") else None
    return path.suffix if path.suffix in (".txt", *ROW_FORMATS) else None


def is_there(path: str) -> bool:
    """Return whether a name is that of something on this machine, readable or not."""
    try:
        os.stat(path)
    except PermissionError:
        return True
    except (OSError, ValueError):  # no such file; a name that no file can have
        return False
    return True


@dataclass(frozen=True)
class TextOptions:
    """Which text, and how much of it.

    ``samples`` counts samples, ``seq_len`` tokens in each. None for ``samples`` means 1000, or 128 of the
    built-in text; None for ``seq_len`` means 256, or what the model takes if that is less. ``seed`` decides
    which samples are drawn if there are more. ``named`` is False if the user did not name the data set:
    errors about it then need other words.
    """

    dataset: Annotated[
        str,
        Option(
            "Hub data set id; .jsonl, .json, .parquet, .arrow, .csv or .tsv file, or a directory of them "
            "(one sample in each row); a .txt file (cut into samples); .gz, .bz2, .xz and .zst are unpacked; "
            "or builtin (the Python standard library's held-out sources).",
            default="allenai/c4; builtin for embedded models",
        ),
    ] = BUILTIN
    config: Annotated[
        str | None,
        Option("Configuration of a hub data set.", flags=("--dataset-config",), default="en for allenai/c4"),
    ] = None
    split: Annotated[
        str | None, Option("Split of the data set.", default="validation, else test, else train")
    ] = None
    column: Annotated[
        str | None,
        Option(
            "Column that holds the text, or conversations for the model's chat template.",
            default="text, or the only one that is plainly text",
        ),
    ] = None
    samples: Annotated[
        int | None, Option("Number of samples.", at_least=1, default="1000; 128 of the builtin text")
    ] = None
    seq_len: Annotated[
        int | None,
        Option("Most tokens in a sample.", at_least=SHORTEST_SAMPLE, default="256, or the model's limit"),
    ] = None
    seed: Annotated[
        int,
        Option(
            "Decides which samples are drawn if there are more than asked for.",
            at_least=0,
            at_most=MOST_SEED,
        ),
    ] = 0
    named: bool = field(default=True, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.dataset.strip():
            raise OptionError("--dataset is empty.", "Name a data set, a file, or builtin.")
        whole_text = self.dataset == BUILTIN or self.is_text_file
        ignored = {
            "--dataset-config": self.config if whole_text or self.is_local else None,
            "--column": self.column if whole_text else None,
            "--split": self.split if self.is_text_file or self.is_file_of_rows else None,
        }
        for option, value in ignored.items():
            if value is not None:
                raise OptionError(f"{option} does not apply to {self.dataset}.", "Leave it out.")
        for each in fields_of(TextOptions):
            each.check(getattr(self, each.name))
        if self.dataset == BUILTIN and self.split not in (None, *corpus.PARTS):
            raise OptionError(
                f"The built-in text has no split {self.split!r}.", f"Its splits: {', '.join(corpus.PARTS)}."
            )

    @property
    def is_text_file(self) -> bool:
        """Whether the text is one running text in a file."""
        return format_of(self.dataset) == ".txt" and not os.path.isdir(self.dataset)

    @property
    def is_file_of_rows(self) -> bool:
        """Whether the text is one file of rows, which has no splits."""
        return format_of(self.dataset) in ROW_FORMATS and not os.path.isdir(self.dataset)

    @property
    def is_local(self) -> bool:
        """Whether the text is a file or directory on this machine."""
        return self.dataset != BUILTIN and is_there(self.dataset)

    @property
    def is_on_hub(self) -> bool:
        """Whether the text can only be a data set on the hub, which has to be reached."""
        return not (
            self.dataset == BUILTIN
            or self.is_text_file
            or self.is_file_of_rows
            or self.is_local
            or self.dataset.startswith(OF_A_PATH)
        )

    @property
    def wanted(self) -> int:
        """How many samples are asked for."""
        return self.samples or (128 if self.dataset == BUILTIN else 1000)

    def length(self, context_tokens: int | None) -> int:
        """Return the tokens in a sample for a model with this many positions (None: no limit).

        Raises:
            TextError: if the length asked for is more than the model takes.
        """
        if self.seq_len is None:
            return min(PAPER_LENGTH, context_tokens or PAPER_LENGTH)
        if context_tokens is not None and self.seq_len > context_tokens:
            raise TextError(
                f"--seq-len must be at most the model's {context_tokens} positions, got {self.seq_len}."
            )
        return self.seq_len

    def settings(self) -> dict[str, Any]:
        """Return what decides the samples, as JSON values that are cheaply known before anything is read."""
        known = asdict(self) | {"samples": self.wanted, "seq_len": self.seq_len or PAPER_LENGTH}
        del known["named"]
        if self.dataset == BUILTIN:
            known["python"] = platform.python_version()
        elif self.is_local:
            # Identified by its contents: it may move, and be named in many ways.
            path = Path(self.dataset)
            folder = path if path.is_dir() else path.parent
            known |= {"dataset": path.resolve().name, "sha256": content_hash(folder, self.files())}
        return known

    def files(self) -> list[Path]:
        """Return the files of a local text, with those elsewhere that its card names; none of another."""
        return local_files(self.dataset) if self.is_local else []


def default_options(embedded: bool, **given: Any) -> TextOptions:
    """Return the options with a default text for the model if no data set was named.

    The embedded models read Python, so they are measured on the standard library's held-out part; other
    models on the papers' text, C4's English validation split.
    """
    if given.get("dataset") is None:
        given |= {"dataset": BUILTIN if embedded else PAPER_DATASET, "named": False}
    if given["dataset"] == PAPER_DATASET:
        given["config"] = given.get("config") or PAPER_CONFIG
        given["split"] = given.get("split") or PAPER_SPLIT
    return TextOptions(**given)
