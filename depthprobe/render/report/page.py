"""A report as one HTML file that needs nothing else: no network, no other file, no framework.

Every piece of outside text goes through :func:`depthprobe.render.report.escapes.in_html`.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from depthprobe.render.report.contents import NUMBERING, Report, Snippet
from depthprobe.render.report.escapes import block_in_html, in_html
from depthprobe.render.report.figures import ReportFigure
from depthprobe.render.report.inlining import inline_svg, width_pt
from depthprobe.render.report.sheets import Sheet

_ASSETS = Path(__file__).parent / "assets"
# Longer tables scroll in a window of their own.
_LONG = 24
# Figures of more than one column take a row for themselves.
_WIDE_PT = 330


def page(report: Report, svgs: Mapping[str, bytes], files: Sequence[str]) -> str:
    """The page as text.

    Args:
        report: What it says.
        svgs: By name of a figure its SVG file.
        files: The paths of all files of the report, for :func:`files_named`.
    """
    style = (_ASSETS / "report.css").read_text(encoding="utf-8")
    script = (_ASSETS / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # Nothing may be fetched, and no script but ours runs; the figures carry style attributes and the
    # picture of a colour bar.
    policy = (
        "default-src 'none'; "
        f"script-src 'sha256-{digest}'; "
        "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    sections = [section for section in _sections(report, svgs) if section[2]]
    contents = "\n".join(f'<li><a href="#{key}">{in_html(heading)}</a></li>' for key, heading, _ in sections)
    body = "\n".join(
        f'<section aria-labelledby="{key}">\n<h2 id="{key}">{in_html(heading)}</h2>\n{inner}\n</section>'
        for key, heading, inner in sections
    )
    title = in_html(report.model)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<meta name="files" content="{" ".join(map(in_html, files))}">
<title>{title}: what its layers do</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{title}</h1>
<p>{in_html(report.subtitle)}</p>
<p>{NUMBERING}</p>
<nav aria-label="Contents">
<ul>
{contents}
</ul>
</nav>
</header>
<main>
{body}
</main>
<footer>
<p>Made by depthprobe from saved runs.</p>
</footer>
<script>{script}</script>
</body>
</html>
"""


def _sections(report: Report, svgs: Mapping[str, bytes]) -> list[tuple[str, str, str]]:
    """The sections as (id, heading, HTML); an empty one is left out."""
    return [
        ("verdict", "Verdict", _sentences(report.verdict) + _figures(report.figures.overview, svgs)),
        ("figures", "Figures", _figures(report.figures.single, svgs)),
        (
            "trust",
            "How far the cheap measurements can be trusted",
            "\n".join([_sentences(report.trust), *map(_table, report.trust_sheets)]).strip()
            + _figures(report.figures.trust, svgs),
        ),
        (
            "lists",
            "Lists to copy",
            "\n".join(_snippet(snippet) for snippet in report.snippets if snippet.shown),
        ),
        ("tables", "Tables", "\n".join(map(_table, report.sheets))),
        ("runs", "How it was measured", _sentences(report.notes) + _runs(report)),
    ]


def files_named(page_before: str) -> list[str]:
    """The files of the report that a page belongs to; none where the page does not tell."""
    named = re.search(r'<meta name="files" content="([^"]*)">', page_before)
    return named[1].split() if named else []


def _sentences(sentences: Sequence[str]) -> str:
    if not sentences:
        return ""
    items = "\n".join(f"<li>{in_html(sentence)}</li>" for sentence in sentences)
    return f'<ul class="verdict">\n{items}\n</ul>\n'


def _figures(plates: Sequence[ReportFigure], svgs: Mapping[str, bytes]) -> str:
    if not plates:
        return ""
    drawn = "\n".join(_figure(plate, svgs[plate.name]) for plate in plates)
    return f'<div class="figures">\n{drawn}\n</div>'


def _figure(plate: ReportFigure, svg: bytes) -> str:
    wide = width_pt(svg) > _WIDE_PT
    files = " ".join(
        f'<a href="figures/{plate.name}.{kind}">{kind.upper()}</a>' for kind in ("pdf", "png", "svg")
    )
    return (
        f'<figure class="{"wide" if wide else "narrow"}" id="figure-{plate.name}">\n'
        f"<h3>{in_html(plate.heading)}</h3>\n{inline_svg(svg, plate.name, plate.heading)}\n"
        f"<figcaption>{in_html(plate.caption)}</figcaption>\n"
        f'<p class="files">{files}</p>\n</figure>'
    )


def _table(sheet: Sheet) -> str:
    numeric = sheet.numeric
    kinds = ["number" if number else "text" for number in numeric]
    heads = "".join(
        f'<th scope="col" class="{kind}"><button type="button">{in_html(head)}</button></th>'
        for kind, head in zip(kinds, sheet.head_texts, strict=True)
    )
    # The numbers themselves, which sort where the shown ones are rounded.
    keys = [[_key(value) for value in sheet.frame[column]] for column in sheet.frame.columns]
    rows = "\n".join(
        "<tr>"
        + "".join(
            f'<td class="{kind}" data-value="{in_html(keys[column][row])}">{in_html(text)}</td>'
            for column, (kind, text) in enumerate(zip(kinds, texts, strict=True))
        )
        + "</tr>"
        for row, texts in enumerate(sheet.texts)
    )
    long = " long" if len(sheet.frame) > _LONG else ""
    files = f'<a href="tables/{sheet.name}.csv">CSV</a> <a href="tables/{sheet.name}.tex">LaTeX</a>'
    heading = in_html(sheet.heading)
    return (
        f'<h3 id="table-{sheet.name}">{heading}</h3>\n'
        f'<div class="scroll{long}" tabindex="0" role="region" aria-label="{heading}">\n'
        f'<table class="data">\n'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n</div>\n"
        f'<p class="note">{in_html(sheet.caption)}</p>\n<p class="files">{files}</p>'
    )


def _key(value: object) -> str:
    if value is None or pd.isna(value):
        return ""
    return repr(float(value)) if isinstance(value, float) else str(value)


def _snippet(snippet: Snippet) -> str:
    return (
        f"<h3>{in_html(snippet.heading)}</h3>\n"
        + (f'<p class="note">{in_html(snippet.note)}</p>\n' if snippet.note else "")
        + f'<div class="copy"><pre tabindex="0">{block_in_html(snippet.text)}</pre>'
        '<button type="button" hidden>Copy</button></div>'
    )


def _runs(report: Report) -> str:
    pieces = []
    for name, facts in report.runs:
        rows = "\n".join(
            f'<tr><th scope="row">{in_html(fact)}</th><td>{in_html(said)}</td></tr>'
            for fact, said in facts.items()
        )
        pieces.append(f'<h3>{in_html(name)}</h3>\n<table class="facts">\n<tbody>\n{rows}\n</tbody>\n</table>')
    return "\n".join(pieces)
