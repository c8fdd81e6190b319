"""A report as one HTML file that needs nothing else: no network, no other file, no framework.

Every piece of text that the template writes is outside text: one line of characters that can be printed, then
escaped.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup, escape

from depthprobe.findings.words import plain, printed
from depthprobe.render.report.contents import NUMBERING, Report
from depthprobe.render.report.tables import ReportTable

_ASSETS = Path(__file__).parent / "assets"
# Longer tables scroll in a window of their own.
_LONG = 24
# Figures of more than one column take a row for themselves.
_WIDE_PT = 330
# Drawings with thousands of cells or marks are shown as pixels, where those take less.
_LARGE_SVG = 250_000
# On a screen, figures made for print are read from further away.
_SCREEN_SCALE = 1.4


def page(report: Report, drawn: Mapping[str, tuple[bytes, bytes]], files: Sequence[str]) -> str:
    """Return the page as text.

    Args:
        report: What it says.
        drawn: By name of a figure its SVG file and its PNG file, empty where there is none.
        files: The paths of all files of the report, for :func:`files_named`.
    """
    script = (_ASSETS / "report.js").read_text(encoding="utf-8")
    return (
        page_environment()
        .get_template("report.html")
        .render(
            report=report,
            numbering=NUMBERING,
            files=files,
            pictures={name: _picture(*files) for name, files in drawn.items()},
            style=Markup((_ASSETS / "report.css").read_text(encoding="utf-8")),
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            long=_LONG,
        )
    )


def page_environment() -> jinja2.Environment:
    """Return what fills in the page's template: every value is one line of text, escaped."""
    environment = jinja2.Environment(
        autoescape=True,
        finalize=_one_line,
        loader=jinja2.FileSystemLoader(_ASSETS),
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"lines": _lines, "cells": _cells, "heads": _heads}
    return environment


def files_named(page_before: str) -> list[str]:
    """Return the files of the report that a page belongs to; none where the page does not say."""
    named = re.search(r'<meta name="files" content="([^"]*)">', page_before)
    return named[1].split() if named else []


def _one_line(value: Any) -> Any:
    return value if isinstance(value, Markup) else plain(value)


def _lines(text: str) -> Markup:
    """Lines of text as they may stand in ``<pre>``: their indentation stays."""
    return Markup("\n").join(escape(printed(line)) for line in text.splitlines())


def _picture(svg: bytes, png: bytes) -> dict[str, Any]:
    """A drawing as the address of an image that holds it, how wide it is shown, and whether that is wide."""
    _, root = next(ElementTree.iterparse(io.BytesIO(svg), events=("start",)))
    # The view box is that of the page before a slide is magnified.
    width_pt = float(root.attrib["viewBox"].split()[2])
    large = len(svg) > max(_LARGE_SVG, len(png) or len(svg))
    kind, image = ("png", png) if large else ("svg+xml", svg)
    return {
        "address": Markup(f"data:image/{kind};base64,{base64.b64encode(image).decode()}"),
        "width_pt": f"{float(root.attrib['width'].removesuffix('pt')) * _SCREEN_SCALE:.5g}",
        "kind": "wide" if width_pt > _WIDE_PT else "narrow",
    }


def _kinds(table: ReportTable) -> list[str]:
    return ["number" if number else "text" for number in table.numeric]


def _heads(table: ReportTable) -> list[tuple[str, str]]:
    """The text of each head, and the kind of its cells."""
    return list(zip(table.head_texts, _kinds(table), strict=True))


def _cells(table: ReportTable) -> list[list[tuple[str, str, str]]]:
    """By row the kind of each cell, its number as it sorts where the shown one is rounded, and its text."""
    kinds = _kinds(table)
    keys = zip(*(map(_key, table.frame[column]) for column in table.frame.columns), strict=True)
    return [list(zip(kinds, *row, strict=True)) for row in zip(keys, table.texts, strict=True)]


def _key(value: object) -> str:
    if value is None or pd.isna(value):
        return ""
    return repr(float(value)) if isinstance(value, float) else str(value)
