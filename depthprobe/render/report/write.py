"""The report of a study put together, and written: page, text, figures, tables and lists in one folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from depthprobe.findings.captions import model_words
from depthprobe.findings.study import Study
from depthprobe.findings.trust import trust_frame, trust_reading
from depthprobe.findings.verdict import verdict
from depthprobe.render.charts.kit.encoding import render_all
from depthprobe.render.charts.kit.page_sizes import drawn_for
from depthprobe.render.report.contents import Figures, Report, provenance
from depthprobe.render.report.figures import ReportFigure, overview_figures, run_figures, trust_figures
from depthprobe.render.report.latex import latex_table
from depthprobe.render.report.markdown import markdown
from depthprobe.render.report.page import files_named, page
from depthprobe.render.report.sheets import sheets_of
from depthprobe.render.report.snippets import snippets_of
from depthprobe.render.report.trust_sheets import trust_sheets
from depthprobe.results.folders import check_replaceable, replace_folder

FOLDER = "report"
PAGE, TEXT, FIGURES, TABLES, LISTS = "report.html", "report.md", "figures", "tables", "lists"


def figures_of(study: Study, trust: pd.DataFrame) -> Figures:
    """The figures of a report, laid out for the preset that holds; none is drawn yet.

    Args:
        study: The runs.
        trust: The correlations of their cheap measurements with the measured drops, from ``trust_frame``.

    Raises:
        RunError: if a table of a run cannot be used.
    """
    return Figures(overview_figures(study), list(run_figures(study)), trust_figures(study, trust))


def report_of(study: Study, trust: pd.DataFrame, figures: Figures) -> Report:
    """What the runs of a study say.

    Args:
        study, trust: As of :func:`figures_of`.
        figures: What that function gives.

    Raises:
        RunError: if a table of a run cannot be used.
    """
    return Report(
        model=study.model,
        subtitle=f"{model_words(study.all_runs[0])}.",
        verdict=verdict(study),
        figures=figures,
        correlations=trust,
        trust=trust_reading(study),
        trust_sheets=trust_sheets(study, trust),
        snippets=snippets_of(study),
        sheets=sheets_of(study),
        notes=list(study.notes),
        runs=[(run.directory.name, provenance(run)) for run in study.all_runs],
    )


def write_report(study: Study, folder: Path, style: str = "auto") -> Report:
    """The report that was written into a folder, in place of an earlier one.

    The folder holds ``report.html`` (needs nothing else), ``report.md``, ``figures`` (each as PDF, PNG of
    300 dpi and SVG, with its caption as text), ``tables`` (CSV and LaTeX) and ``lists``. The same runs give
    the same bytes.

    Args:
        study: The runs.
        folder: The folder; its name is taken once all is written.
        style: For what the figures are made, a name of ``PAGE_SIZES``.

    Raises:
        OptionError: if there is no such style.
        RunError: if a table of a run cannot be used, or something else lies at the folder's name.
        MachineError: if the disk is full or may not be written.
    """
    with drawn_for(style):
        check_replaceable(folder, (PAGE, TEXT, FIGURES, TABLES, LISTS), _files_before(folder / PAGE))
        trust = trust_frame(study)
        figures = figures_of(study, trust)
        report = report_of(study, trust, figures)
        files = _said(report) | _drawn(figures.all)
        svgs = {figure.name: files[f"{FIGURES}/{figure.name}.svg"] for figure in figures.all}
        names = sorted([*files, PAGE])
        replace_folder(folder, files | {PAGE: _utf8(page(report, svgs, names))})
    return report


def _files_before(path: Path) -> list[str]:
    """The files of the report whose page this is, as it names them; none where there is no such page."""
    try:
        return files_named(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return []


def _said(report: Report) -> dict[str, bytes]:
    """The files of a report without figures in them, by their path in its folder."""
    files = {TEXT: _utf8(markdown(report))}
    for sheet in report.all_sheets:
        files[f"{TABLES}/{sheet.name}.csv"] = sheet.csv
        files[f"{TABLES}/{sheet.name}.tex"] = _utf8(
            latex_table(sheet.head_texts, sheet.texts, sheet.numeric, sheet.caption)
        )
    for snippet in report.snippets:
        files[f"{LISTS}/{snippet.name}"] = _utf8(snippet.text)
    return files


def _drawn(figures: Sequence[ReportFigure]) -> dict[str, bytes]:
    """The files of figures, each with its caption, by their path in the report's folder."""
    files: dict[str, bytes] = {}
    for figure in figures:
        for kind, content in render_all(figure.draw()).items():
            files[f"{FIGURES}/{figure.name}.{kind}"] = content
        files[f"{FIGURES}/{figure.name}.txt"] = _utf8(f"{figure.caption}\n")
    return files


def _utf8(text: str) -> bytes:
    """The text as bytes; what is no valid Unicode (names of files can be so) becomes a question mark."""
    return text.encode("utf-8", "replace")
