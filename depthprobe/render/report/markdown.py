"""A report as Markdown, for a repository or a note; its figures and tables lie beside it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from depthprobe.render.report.contents import NUMBERING, Report, Snippet
from depthprobe.render.report.escapes import in_code, in_markdown
from depthprobe.render.report.figures import ReportFigure
from depthprobe.render.report.sheets import Sheet


def markdown(report: Report) -> str:
    """The report as text that ends with a line break."""
    pieces = [
        f"# {in_markdown(report.model)}",
        in_markdown(report.subtitle),
        NUMBERING,
        *_part("Verdict", [_list(report.verdict), *map(_figure, report.figures.overview)]),
        *_part("Figures", map(_figure, report.figures.single)),
        *_part(
            "How far the cheap measurements can be trusted",
            [_list(report.trust), *map(_table, report.trust_sheets), *map(_figure, report.figures.trust)],
        ),
        *_part("Lists to copy", [_snippet(snippet) for snippet in report.snippets if snippet.shown]),
        *_part("Tables", map(_table, report.sheets)),
        *_part("How it was measured", [_list(report.notes), *map(_run, report.runs)]),
    ]
    return "\n\n".join(filter(None, pieces)) + "\n"


def _part(heading: str, pieces: Iterable[str]) -> list[str]:
    """A part with its heading; nothing where it is empty."""
    filled = [piece for piece in pieces if piece]
    return [f"## {heading}", *filled] if filled else []


def _list(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {in_markdown(sentence)}" for sentence in sentences)


def _figure(plate: ReportFigure) -> str:
    heading = in_markdown(plate.heading)
    return f"### {heading}\n\n![{heading}](figures/{plate.name}.png)\n\n{in_markdown(plate.caption)}"


def _table(sheet: Sheet) -> str:
    marks = ["---:" if number else "---" for number in sheet.numeric]
    rows = [
        [in_markdown(head) for head in sheet.head_texts],
        marks,
        *([in_markdown(cell) for cell in row] for row in sheet.texts),
    ]
    lines = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"### {in_markdown(sheet.heading)}\n\n{lines}\n\n{in_markdown(sheet.caption)}"


def _snippet(snippet: Snippet) -> str:
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", snippet.text)), default=0))
    note = f"\n\n{in_markdown(snippet.note)}" if snippet.note else ""
    return f"### {in_markdown(snippet.heading)}{note}\n\n{fence}text\n{snippet.text.rstrip()}\n{fence}"


def _run(run: tuple[str, dict[str, str]]) -> str:
    name, facts = run
    lines = "\n".join(f"- {fact}: {in_code(said)}" for fact, said in facts.items())
    return f"### {in_markdown(name)}\n\n{lines}"
