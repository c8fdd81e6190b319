"""The user's pages, Markdown files shipped with the program; ``depthprobe docs`` shows them.

A probe without a page of its own gets one made from its entry in the catalogue.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from depthprobe.catalogue import PROBES
from depthprobe.declaring import Probe, fields_of
from depthprobe.errors import OptionError
from depthprobe.measurement import Column

# An option in a sentence that is not marked as code yet.
_OPTION = re.compile(r"(?<![\w`-])(--[a-z][a-z-]*)")


def pages() -> dict[str, Path]:
    """Return every page that is a file, name -> file, sorted by name."""
    return {path.stem: path for path in sorted(Path(__file__).parent.glob("*.md"))}


def titles() -> dict[str, str]:
    """Return the heading of every page, without the ``#``, by the name of the page."""
    made = {name: page_of(probe) for name, probe in PROBES.items()}
    texts = made | {name: path.read_text(encoding="utf-8") for name, path in pages().items()}
    return {name: text.partition("\n")[0].removeprefix("#").strip() for name, text in sorted(texts.items())}


def text_of(name: str) -> str:
    """Return the Markdown of a page.

    Raises:
        OptionError: if there is no page with this name.
    """
    written = pages()
    if name in written:
        return written[name].read_text(encoding="utf-8")
    if name in PROBES:
        return page_of(PROBES[name])
    raise OptionError(f"There is no page {name!r}.", f"The pages are {', '.join(titles())}.")


def page_of(probe: Probe) -> str:
    """Return the page for a probe that has no file: its question, its options and its columns."""
    options = [
        (f"`{field.flags[0]}`", field.option.help, field.option.default or f"`{field.default}`")
        for field in fields_of(probe.options)
    ]
    parts = [
        f"# depthprobe {probe.name}: {probe.question[:1].lower()}{probe.question[1:]}",
        f"```bash\ndepthprobe {probe.name} MODEL\n```",
        probe.help,
        *(["## Options", markdown_table(("option", "meaning", "default"), options)] if options else []),
        "All other options are those of [angular](angular.md#options).",
        *(f"## {table.stem}.csv\n\n{columns_table(table.columns)}" for table in probe.tables),
    ]
    return "\n\n".join(parts) + "\n"


def columns_table(columns: Sequence[Column]) -> str:
    """Return the Markdown table of the columns of a table."""
    rows = [(f"`{column.name}`", column.unit, column.meaning) for column in columns]
    return markdown_table(("column", "unit", "meaning"), rows)


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; in its cells options are code and bars are escaped."""
    cells = [[_OPTION.sub(r"`\1`", cell).replace("|", r"\|") for cell in row] for row in rows]
    lines = [heads, ["---"] * len(heads), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
