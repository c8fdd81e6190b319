"""A report as Markdown, for a repository or a note; its figures and tables lie beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from depthprobe.render.report.contents import NUMBERING, Report, Section
from depthprobe.render.report.escapes import in_code, in_markdown
from depthprobe.render.report.figures import ReportFigure
from depthprobe.render.report.snippets import Snippet
from depthprobe.render.report.tables import ReportTable


def markdown(report: Report) -> str:
    """Return the report as text that ends with a line break."""
    head = [f"# {in_markdown(report.findings.model)}", in_markdown(report.subtitle), NUMBERING]
    pieces = [piece for section in report.sections for piece in _section(section)]
    return "\n\n".join([*head, *pieces]) + "\n"


def _section(section: Section) -> list[str]:
    """A section, piece by piece."""
    return [
        f"## {section.heading}",
        *([in_markdown(section.lead)] if section.lead else []),
        *([_list(section.sentences)] if section.sentences else []),
        *map(_table, section.tables),
        *map(_figure, section.figures),
        *map(_snippet, section.snippets),
        *map(_run, section.runs),
    ]


def _list(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {in_markdown(sentence)}" for sentence in sentences)


def _figure(figure: ReportFigure) -> str:
    heading = in_markdown(figure.heading)
    return (
        f"### {heading}\n\n![{heading}](figures/{figure.name}.png)\n\n{in_markdown(figure.caption.on_page)}"
    )


def _table(table: ReportTable) -> str:
    marks = ["---:" if number else "---" for number in table.numeric]
    rows = [
        [in_markdown(head) for head in table.head_texts],
        marks,
        *([in_markdown(cell) for cell in row] for row in table.texts),
    ]
    lines = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    if table.folded:
        # In Markdown nothing folds, so that the table is left to its own file.
        return (
            f"### {in_markdown(table.heading)}\n\n[{table.name}.csv](tables/{table.name}.csv) holds them. "
            f"{in_markdown(table.caption.on_page)}"
        )
    return f"### {in_markdown(table.heading)}\n\n{lines}\n\n{in_markdown(table.caption.on_page)}"


def _snippet(snippet: Snippet) -> str:
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", snippet.text)), default=0))
    note = f"\n\n{in_markdown(snippet.note)}" if snippet.note else ""
    return f"### {in_markdown(snippet.heading)}{note}\n\n{fence}text\n{snippet.text.rstrip()}\n{fence}"


def _run(run: tuple[str, dict[str, str]]) -> str:
    name, facts = run
    lines = "\n".join(f"- {fact}: {in_code(said)}" for fact, said in facts.items())
    return f"### {in_markdown(name)}\n\n{lines}"
