"""The report of a study put together, and written: page, text, figures, tables and lists in one folder."""

from __future__ import annotations

from pathlib import Path

from depthprobe.findings.findings import read_findings
from depthprobe.findings.study import Study
from depthprobe.render.charts.kit.encoding import render_all
from depthprobe.render.charts.kit.page_sizes import drawn_for
from depthprobe.render.report.contents import Report, report_of
from depthprobe.render.report.latex import latex_figure, latex_table
from depthprobe.render.report.markdown import markdown
from depthprobe.render.report.page import files_named, page
from depthprobe.results.folders import check_replaceable, replace_folder

FOLDER = "report"
PAGE, TEXT, FIGURES, TABLES, LISTS = "report.html", "report.md", "figures", "tables", "lists"


def write_report(study: Study, folder: Path, style: str = "auto", subtitle: bool = True) -> Report:
    """Return the report that was written into a folder, in place of an earlier one.

    The folder holds ``report.html`` (needs nothing else), ``report.md``, ``figures`` (each as PDF, PNG of
    300 dpi and SVG, with its caption as text and as a LaTeX figure), ``tables`` (CSV and LaTeX) and
    ``lists``. The same runs give the same bytes.

    Args:
        study: The runs.
        folder: The folder, which is replaced once everything is written.
        style: What figures and LaTeX tables are for, a name of ``PAGE_SIZES``.
        subtitle: Whether a figure says below its title what it was measured on; its caption does anyway.

    Raises:
        OptionError: if the style is unknown.
        RunError: if a table of a run cannot be used, or the folder holds something else.
        MachineError: if the disk is full or cannot be written to.
    """
    with drawn_for(style, subtitle):
        check_replaceable(folder, (PAGE, TEXT, FIGURES, TABLES, LISTS), _files_before(folder / PAGE))
        report = report_of(read_findings(study))
        files = _said(report, style) | _drawn(report, style)
        stems = {figure.name: f"{FIGURES}/{figure.name}" for figure in report.figures}
        drawn = {name: (files[f"{stem}.svg"], files.get(f"{stem}.png", b"")) for name, stem in stems.items()}
        names = sorted([*files, PAGE])
        replace_folder(folder, files | {PAGE: _utf8(page(report, drawn, names))})
    return report


def _files_before(path: Path) -> list[str]:
    """The files of the report whose page this is, as it names them; none where there is no page."""
    try:
        return files_named(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return []


def _said(report: Report, style: str) -> dict[str, bytes]:
    """The files of a report without figures in them, by their path in its folder."""
    files = {TEXT: _utf8(markdown(report))}
    for table in report.tables:
        files[f"{TABLES}/{table.name}.csv"] = table.csv
        paper = table.for_paper()
        files[f"{TABLES}/{table.name}.tex"] = _utf8(
            latex_table(paper.head_texts, paper.texts, paper.numeric, paper.caption, table.name, style)
        )
    for snippet in report.snippets:
        files[f"{LISTS}/{snippet.name}"] = _utf8(snippet.text)
    return files


def _drawn(report: Report, style: str) -> dict[str, bytes]:
    """The files of figures, each with its caption, by their path in the report's folder."""
    files = {}
    for each in report.figures:
        figure = each.draw()
        for kind, content in render_all(figure).items():
            files[f"{FIGURES}/{each.name}.{kind}"] = content
        files[f"{FIGURES}/{each.name}.txt"] = _utf8(f"{each.caption}\n")
        files[f"{FIGURES}/{each.name}.tex"] = _utf8(
            latex_figure(f"{each.name}.pdf", figure.get_figwidth(), each.caption, each.name, style)
        )
    return files


def _utf8(text: str) -> bytes:
    """The text as bytes; a question mark for what is not valid Unicode, which names of files can hold."""
    return text.encode("utf-8", "replace")
