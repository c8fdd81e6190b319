"""What a report of one model says, before it becomes a page, a text and files."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from depthprobe.findings.captions import data_words, model_words, task_words
from depthprobe.findings.findings import Findings
from depthprobe.render.report.figures import ReportFigure, overview_figures, run_figures, trust_figures
from depthprobe.render.report.snippets import Snippet, snippets_of
from depthprobe.render.report.tables import ReportTable, tables_of, trust_tables
from depthprobe.results.runs import Run

NUMBERING = "Layers are counted from 0. Every number comes from the CSV files of the runs named at the end."


@dataclass(frozen=True)
class Section:
    """A section of a report, whose pieces stand in this order; one without any is left out.

    Args:
        anchor: Its id on the page.
        heading: A few words.
        lead: A sentence that can be quoted.
        sentences: Its text, one bullet for each.
        tables, figures, snippets: What follows.
        runs: What is known of every run: its name, then what was measured and how.
    """

    anchor: str
    heading: str
    lead: str = ""
    sentences: Sequence[str] = ()
    tables: Sequence[ReportTable] = ()
    figures: Sequence[ReportFigure] = ()
    snippets: Sequence[Snippet] = ()
    runs: Sequence[tuple[str, dict[str, str]]] = ()

    @property
    def empty(self) -> bool:
        """Whether there is nothing in it."""
        return not any((self.lead, self.sentences, self.tables, self.figures, self.snippets, self.runs))


@dataclass(frozen=True)
class Report:
    """A report of one model.

    Args:
        findings: What its runs say.
        subtitle: The model, tasks and texts of everything on the page.
        sections: In the order of the page; none of them empty.
        snippets: All lists to copy, including those that no section shows.
    """

    findings: Findings
    subtitle: str
    sections: list[Section]
    snippets: list[Snippet]

    @property
    def tables(self) -> list[ReportTable]:
        """Every table, in the order of the page."""
        return [table for section in self.sections for table in section.tables]

    @property
    def figures(self) -> list[ReportFigure]:
        """Every figure, in the order of the page."""
        return [figure for section in self.sections for figure in section.figures]


def report_of(findings: Findings) -> Report:
    """Return the report of what a model's runs say; its figures are not drawn yet."""
    study, trust, snippets = findings.study, findings.trust, snippets_of(findings)
    sections = [
        Section(
            "verdict",
            "Verdict",
            findings.verdict.sentence,
            findings.verdict.points,
            figures=overview_figures(findings),
        ),
        Section("readings", "What each run says", sentences=findings.verdict.readings),
        Section("figures", "Figures", figures=run_figures(findings)),
        Section(
            "trust",
            "How far the cheap measurements can be trusted",
            sentences=trust.sentences,
            tables=trust_tables(findings),
            figures=trust_figures(findings),
        ),
        Section("lists", "Lists to copy", snippets=[snippet for snippet in snippets if snippet.shown]),
        Section("tables", "Tables", tables=tables_of(findings)),
        Section(
            "runs",
            "How it was measured",
            sentences=study.notes,
            runs=[(run.directory.name, provenance(run)) for run in study.all_runs],
        ),
    ]
    return Report(findings, study.measured, [section for section in sections if not section.empty], snippets)


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
        "command": shlex.join(_without_directories(str(part)) for part in manifest.get("command") or []),
        "versions": ", ".join(map(" ".join, (manifest.get("versions") or {}).items())),
        "time": f"{manifest['elapsed_s']:,.1f} s" if manifest.get("elapsed_s") is not None else None,
        "tables": ", ".join(
            f"{entry.get('name')} (sha256 {str(entry.get('sha256'))[:12]})"
            for entry in (manifest.get("files") or {}).values()
            if "rows" in entry
        ),
    }
    return {name: str(value) for name, value in facts.items() if value}


def _without_directories(part: str) -> str:
    """A part of a command line without the directories of somebody's disk that it names."""
    option, equals, value = part.partition("=") if part.startswith("--") else ("", "", part)
    path = Path(value)
    return f"{option}{equals}{path.name}" if path.is_absolute() or value.startswith("~") else part
