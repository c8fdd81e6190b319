r"""Tables as LaTeX: booktabs' three rules, no vertical ones, numbers to the right, no larger than a page.

They compile in a document whose preamble is ``\documentclass{article}`` and ``\usepackage{booktabs}``, and
fit its lines of 345 points: heads are broken, then type is made smaller, then columns move to a table below.
So do rows that would not fit its 550 points of height.

pandas' ``Styler.to_latex`` does not do this: its longtable breaks rows over pages, but not columns, and it
leaves the minus sign, < > and | as they are, for which LaTeX's default fonts have other signs or none.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from depthprobe.findings.words import plain
from depthprobe.render.report.escapes import in_latex

# The lines of article in 10 points, less the indent of a paragraph.
_ROOM_PT = 330.0
# Its height, less heads and rules.
_HEIGHT_PT = 490.0
_UNBROKEN = 1000
# Longer names of tasks are broken; no text can hold the mark for where.
_LONG, _BREAK = 12, "\x00 "
# Most characters are about as wide as a digit; these are not.
_NARROW, _WIDE = frozenset(" !'(),-./:;I[]fijlrst|"), frozenset("%+<=>@ABCDGHKMNOQRUVWXYmw_~\N{MINUS SIGN}")


@dataclass(frozen=True)
class _Setting:
    """How a table is set.

    Args:
        size: LaTeX's command for the size of type.
        em: Its em in points, by the width of a digit there, which is half of it.
        gap: Points on either side of a column.
        line: Points from one line to the next.
        head, cell: In characters, how long lines of heads and of words in cells may be; longer where there is
            no place to break, heads also where the cells are.
    """

    size: str
    em: float
    gap: float
    line: float
    head: int
    cell: int


_SETTINGS = (
    _Setting("", 10.0, 6, 12.0, _UNBROKEN, _UNBROKEN),
    _Setting("", 10.0, 6, 12.0, 6, 24),
    _Setting(r"\footnotesize", 8.5, 4, 9.5, 6, 24),
    _Setting(r"\scriptsize", 8.0, 3, 8.0, 6, 16),
)
# Where there must be several tables, they need not be in the smallest type.
_OF_SEVERAL = _SETTINGS[2:]


class _Column:
    """A column with its head and cells in lines."""

    def __init__(self, head: str, cells: Sequence[str], numeric: bool, setting: _Setting) -> None:
        self.numeric = numeric
        # The columns of a task stay together, "p (Holm), arc", and intervals with what they are of.
        self.task = head.rpartition(", ")[2] if ", " in head else ""
        self.of_interval = head.startswith("95%")
        self.cells = [_lines(cell, _UNBROKEN if numeric else setting.cell) for cell in cells]
        longest = max((len(line) for cell in self.cells for line in cell), default=0)
        self.head = _lines(head, max(setting.head, longest))
        lines = [*self.head, *(line for cell in self.cells for line in cell)]
        self.width = max(map(_ems, lines)) * setting.em + 2 * setting.gap


def latex_table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[bool], caption: str
) -> str:
    """One ``tabular`` or several as text that ends with a line break, with the caption as comments above.

    Args:
        heads: The heads of the columns.
        rows: Their cells as text.
        numeric: Of each column, whether it holds numbers.
        caption: What a paper has to say of the table.
    """

    def set_in(setting: _Setting) -> list[_Column]:
        cells = [[row[index] for row in rows] for index in range(len(heads))]
        return [_Column(*column, setting) for column in zip(heads, cells, numeric, strict=True)]

    setting = next((one for one in _SETTINGS if _width(set_in(one)) <= _ROOM_PT), None)
    if setting is None:
        several = {one: _parts(set_in(one)) for one in _OF_SEVERAL}
        # As few as possible that are too wide, then as few as possible.
        setting = min(
            several,
            key=lambda one: (sum(_width(part) > _ROOM_PT for part in several[one]), len(several[one])),
        )
    tables = [
        _tabular(part, numbers)
        for part in _parts(set_in(setting))
        for numbers in _pages(part, len(rows), setting.line)
    ]
    if setting.size:
        begin = rf"{{{setting.size}\setlength{{\tabcolsep}}{{{setting.gap:g}pt}}%"
        tables = [f"{begin}\n{table}}}" for table in tables]
    # % in the text of a comment is text; a line break is not.
    said = [f"% {line}" for line in textwrap.wrap(plain(caption), 100)]
    return "\n".join([*said, "\n\n\\medskip\n\n".join(tables), ""])


def _width(columns: Sequence[_Column]) -> float:
    """About how wide a table is in points."""
    return sum(column.width for column in columns)


def _pages(columns: Sequence[_Column], rows: int, line: float) -> list[range]:
    """Which rows stand in a table together, so that it is no higher than a page."""
    heights = [line * max(len(column.cells[row]) for column in columns) for row in range(rows)]
    starts, height = [0], 0.0
    for row in range(rows):
        if row > starts[-1] and height + heights[row] > _HEIGHT_PT:
            starts.append(row)
            height = 0.0
        height += heights[row]
    return [range(start, end) for start, end in zip(starts, [*starts[1:], rows], strict=True)]


def _parts(columns: Sequence[_Column]) -> list[list[_Column]]:
    """The columns as one table, or several that are narrow enough; each names its rows as the first does."""
    names = list(takewhile(lambda column: not column.numeric, columns)) or list(columns[:1])
    parts = [list(names)]
    groups: list[list[_Column]] = []
    for column in columns[len(names) :]:
        task = groups[-1][-1].task if groups else None
        if groups and (column.of_interval or (column.task and column.task == task)):
            groups[-1].append(column)
        else:
            groups.append([column])
    for group in groups:
        if len(parts[-1]) > len(names) and _width([*parts[-1], *group]) > _ROOM_PT:
            parts.append(list(names))
        parts[-1] += group
    return parts


def _tabular(columns: Sequence[_Column], numbers: range) -> str:
    kinds = "".join("r" if column.numeric else "l" for column in columns)

    def row(cells: Sequence[Sequence[str]], place: str) -> str:
        joined = " & ".join(_cell(lines, place, kind) for lines, kind in zip(cells, kinds, strict=True))
        return rf"{joined} \\"

    head = row([column.head for column in columns], "b")
    rows = [row([column.cells[number] for column in columns], "t") for number in numbers]
    begin, end = rf"\begin{{tabular}}{{{kinds}}}", r"\end{tabular}"
    return "\n".join([begin, r"\toprule", head, r"\midrule", *rows, r"\bottomrule", end])


def _ems(line: str) -> float:
    """About how wide a line is in LaTeX's type, in em."""
    narrow, wide = (sum(character in some for character in line) for some in (_NARROW, _WIDE))
    return 0.5 * len(line) - 0.17 * narrow + 0.3 * wide


def _lines(text: str, characters: int) -> list[str]:
    """A text in lines; what stands around an equals sign stays together, and long names break behind a _."""
    bound = plain(text).replace(" = ", "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}")
    words = [word.replace("_", f"_{_BREAK}") if len(word) > _LONG else word for word in bound.split(" ")]
    lines = textwrap.wrap(" ".join(words), characters, break_long_words=False)
    joined = [line.replace("\N{NO-BREAK SPACE}", " ").replace(_BREAK, "") for line in lines]
    return [line.removesuffix(_BREAK.rstrip()) for line in joined] or [""]


def _cell(lines: Sequence[str], place: str, kind: str) -> str:
    """The lines of a cell, which stand with the top or bottom one in the row's line."""
    if len(lines) == 1:
        return in_latex(lines[0])
    stacked = r" \\ ".join(map(in_latex, lines))
    return rf"\begin{{tabular}}[{place}]{{@{{}}{kind}@{{}}}}{stacked}\end{{tabular}}"
