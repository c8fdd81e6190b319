"""What a report of one model says, before it becomes a page, a text and files."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from depthprobe.findings.captions import data_words, model_words, task_words
from depthprobe.render.report.figures import ReportFigure
from depthprobe.render.report.sheets import Sheet
from depthprobe.results.runs import Run

NUMBERING = "Layers are counted from 0. Every number comes from the CSV files of the runs named at the end."


@dataclass(frozen=True)
class Snippet:
    """A list to be copied: the name of its file, what it is, its text; and whether the page shows it."""

    name: str
    heading: str
    note: str
    text: str
    shown: bool = True


@dataclass(frozen=True)
class Figures:
    """The figures of a report.

    Args:
        overview: Those that stand beside the verdict.
        single: Of single measurements.
        trust: Of the cheap measurements against the measured drops.
    """

    overview: list[ReportFigure]
    single: list[ReportFigure]
    trust: list[ReportFigure]

    @property
    def all(self) -> list[ReportFigure]:
        """Every one of them, in the order of the page."""
        return [*self.overview, *self.single, *self.trust]


@dataclass(frozen=True)
class Report:
    """A report of one model.

    Args:
        model: Its id, as a title shows it.
        subtitle: The model in a sentence: commit, layers, precision.
        verdict: Sentences made from the numbers, and what they cannot say.
        figures: All its figures.
        correlations: Of the cheap measurements with the measured drops, from ``trust_frame``.
        trust_sheets, trust: The same as tables and sentences.
        snippets: Lists to be copied.
        sheets: The tables of single measurements.
        notes: Sentences on runs that were left out or are missing.
        runs: What is known of every run: its name, then what and how it was measured.
    """

    model: str
    subtitle: str
    verdict: list[str]
    figures: Figures
    correlations: pd.DataFrame
    trust: list[str]
    trust_sheets: list[Sheet]
    snippets: list[Snippet]
    sheets: list[Sheet]
    notes: list[str]
    runs: list[tuple[str, dict[str, str]]]

    @property
    def all_sheets(self) -> list[Sheet]:
        """Every table, in the order of the page."""
        return [*self.trust_sheets, *self.sheets]


def provenance(run: Run) -> dict[str, str]:
    """What is known of how a run was measured, by name of the fact; nothing of the disk that it lies on."""
    manifest: Mapping[str, Any] = run.manifest
    model, data = manifest.get("model") or {}, manifest.get("data") or {}
    facts = {
        "model": model_words(run),
        "commit": model.get("commit"),
        "weights hash": model.get("fingerprint"),
        "architecture": model.get("architecture"),
        "norm placement": model.get("norm_placement"),
        "attention kernel": model.get("attention"),
        "device": model.get("device_name") or model.get("device"),
        "tasks": task_words(run),
        "text": data_words(run),
        "hash of the tokens": data.get("tokens_sha256"),
        "command": " ".join(
            shlex.quote(_without_directories(str(part))) for part in manifest.get("command") or []
        ),
        "versions": ", ".join(
            f"{name} {version}" for name, version in (manifest.get("versions") or {}).items()
        ),
        "time": f"{manifest['elapsed_s']:,.1f} s" if manifest.get("elapsed_s") is not None else None,
        "tables": ", ".join(
            f"{entry.get('name')} (sha256 {str(entry.get('sha256'))[:12]})"
            for entry in (manifest.get("files") or {}).values()
        ),
    }
    return {name: str(value) for name, value in facts.items() if value}


def _without_directories(part: str) -> str:
    """A part of a command line without the directories of somebody's disk that it names."""
    option, equals, value = part.partition("=") if part.startswith("--") else ("", "", part)
    path = Path(value)
    return f"{option}{equals}{path.name}" if path.is_absolute() or value.startswith("~") else part
