r"""Tables as LaTeX: whole environments with caption and label, booktabs' three rules, numbers to the right.

What a table is set for decides its environment: a column or both columns of two-column proceedings, as
floats, or the pages of a one-column appendix, as ``longtable``. The preamble needs ``booktabs``, for an
appendix ``longtable`` too. A table fits its place: heads are broken, then type is made smaller, then columns
move to a table below. So do rows of a float that would be higher than a page.

pandas' ``Styler.to_latex`` does not do this: its longtable breaks rows over pages, but not columns, and it
leaves the minus sign, < > and | as they are, for which LaTeX's default fonts have other signs or none.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, takewhile

from depthprobe.findings.words import plain
from depthprobe.render.report.escapes import sentences_in_latex

# A float may be as high as a page of article in 10 points, less rules and the gap to its caption.
_HEIGHT_PT = 500.0
# A caption's line, and the width of a typical character in it.
_CAPTION_LINE_PT, _CAPTION_CHARACTER_PT = 12.0, 4.6
_WIDEST_COLUMN_IN = 3.4
# The lines of article in one column, and the least of a page's height that is left to a figure.
_ROOM_IN, _LEAST_SHARE = 4.75, 0.3
_UNBROKEN = 1000


@dataclass(frozen=True)
class _Place:
    """Where a table stands.

    Args:
        environment: LaTeX's name for it.
        room: How wide a table may be in points.
        paged: Whether its rows break over pages by themselves.
    """

    environment: str
    room: float
    paged: bool = False


# A column of article in two columns has 200 points, of ACL 219, of ICML 235; both together have 410, 455 and
# 487, and article in one column 345. Our estimate of widths wants some points to spare.
_COLUMN = _Place("table", 194.0)
_BOTH_COLUMNS = _Place("table*", 395.0)
# By style: the places to try, the first in which the table fits. What fits in the last one of auto also fits
# a page in one column.
_PLACES = {
    "auto": (_COLUMN, _Place("table*", 330.0)),
    "paper-single": (_COLUMN,),
    "paper-double": (_BOTH_COLUMNS,),
    "appendix": (_Place("longtable", 330.0, paged=True),),
    "slides": (_Place("table", 330.0),),
}
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
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    numeric: Sequence[bool],
    caption: str,
    label: str,
    style: str = "auto",
) -> str:
    """Return a table as one environment or several, as text that ends with a line break.

    Args:
        heads: The heads of the columns.
        rows: Their cells as text.
        numeric: Of each column, whether it holds numbers.
        caption: What a paper has to say of the table; later parts refer to the first.
        label: Its label is ``tab:`` and this; those of later parts end with ``-2``, ``-3`` and so on.
        style: What it is set for, a name of ``PAGE_SIZES``.
    """

    def set_in(setting: _Setting) -> list[_Column]:
        cells = [[row[index] for row in rows] for index in range(len(heads))]
        return [_Column(*column, setting) for column in zip(heads, cells, numeric, strict=True)]

    ways = [(place, one) for place in _PLACES[style] for one in _SETTINGS]
    fitting = [way for way in ways if _width(set_in(way[1])) <= way[0].room]
    if fitting:
        place, setting = fitting[0]
    else:
        place = _PLACES[style][-1]
        several = {one: _parts(set_in(one), place.room) for one in _OF_SEVERAL}
        # As few as possible that are too wide, then as few as possible.
        setting = min(
            several,
            key=lambda one: (sum(_width(part) > place.room for part in several[one]), len(several[one])),
        )
    height = _HEIGHT_PT - _CAPTION_LINE_PT * (1 + len(caption) * _CAPTION_CHARACTER_PT // place.room)
    parts = [
        (part, numbers)
        for part in _parts(set_in(setting), place.room)
        for numbers in ([range(len(rows))] if place.paged else _pages(part, len(rows), setting.line, height))
    ]
    packages = "booktabs, longtable" if place.paged else "booktabs"
    tables = [rf"% \usepackage{{{packages}}}"]
    for number, (part, numbers) in enumerate(parts, start=1):
        said = sentences_in_latex(caption) if number == 1 else rf"Continued from Table~\ref{{tab:{label}}}."
        named = rf"\caption{{{said}}}\label{{tab:{label}{f'-{number}' if number > 1 else ''}}}"
        tables.append(_environment(place, setting, named, part, numbers))
    return "\n\n".join(tables) + "\n"


def _environment(
    place: _Place, setting: _Setting, named: str, columns: Sequence[_Column], numbers: range
) -> str:
    """One table with its caption and label; the type is made smaller for its cells alone."""
    size = rf"{setting.size}\setlength{{\tabcolsep}}{{{setting.gap:g}pt}}%"
    kinds, head, rows = _lines_of(columns, numbers)
    begin, end = rf"\begin{{{place.environment}}}", rf"\end{{{place.environment}}}"
    if place.paged:
        top = [r"\toprule", head, r"\midrule"]
        first = [rf"{named}\\", *top, r"\endfirsthead", *top, r"\endhead", r"\bottomrule", r"\endlastfoot"]
        return "\n".join([f"{{{size}", rf"{begin}{{{kinds}}}", *first, *rows, f"{end}}}"])
    tabular = [rf"\begin{{tabular}}{{{kinds}}}", r"\toprule", head, r"\midrule", *rows, r"\bottomrule"]
    lines = [rf"{begin}[tbp]", r"\centering", named, r"\smallskip", rf"{{{size}", *tabular]
    return "\n".join([*lines, r"\end{tabular}}", end])


def latex_figure(file: str, width_in: float, caption: str, label: str, style: str = "auto") -> str:
    """Return a figure as one environment, no higher than a page with its caption.

    In proceedings it is as wide as a column, or as both where it is wider than one; on the pages of an
    appendix it keeps its width.

    Args:
        file: The PDF as the document names it.
        width_in: How wide it was drawn, in inches.
        caption: What a paper has to say of it.
        label: Its label is ``fig:`` and this.
        style: What it is set for, a name of ``PAGE_SIZES``.
    """
    wide = width_in > _WIDEST_COLUMN_IN
    environment = "figure*" if wide and style in ("auto", "paper-single", "paper-double") else "figure"
    room = _BOTH_COLUMNS.room if wide or style in ("appendix", "slides") else _COLUMN.room
    lines = 2 + len(caption) * _CAPTION_CHARACTER_PT // room
    share = max(_LEAST_SHARE, 1 - lines * _CAPTION_LINE_PT / _HEIGHT_PT)
    width = rf"{min(width_in, _ROOM_IN):.3g}in" if style == "appendix" else r"\linewidth"
    size = rf"width={width},height={share:.2f}\textheight,keepaspectratio"
    return "\n".join(
        [
            r"% \usepackage{graphicx}",
            rf"\begin{{{environment}}}[tbp]",
            r"\centering",
            rf"\includegraphics[{size}]{{{file}}}",
            rf"\caption{{{sentences_in_latex(caption)}}}\label{{fig:{label}}}",
            rf"\end{{{environment}}}",
            "",
        ]
    )


def _width(columns: Sequence[_Column]) -> float:
    """About how wide a table is in points."""
    return sum(column.width for column in columns)


def _pages(columns: Sequence[_Column], rows: int, line: float, highest: float) -> list[range]:
    """Which rows stand in a table together, so that it is no higher than a page."""
    heights = [line * max(len(column.cells[row]) for column in columns) for row in range(rows)]
    highest -= line * max((len(column.head) for column in columns), default=0)
    starts, height = [0], 0.0
    for row in range(rows):
        if row > starts[-1] and height + heights[row] > highest:
            starts.append(row)
            height = 0.0
        height += heights[row]
    return [range(start, end) for start, end in zip(starts, [*starts[1:], rows], strict=True)]


def _parts(columns: Sequence[_Column], room: float) -> list[list[_Column]]:
    """The columns as one table, or several that are narrow enough; each names its rows."""
    leading = list(takewhile(lambda column: not column.numeric, columns)) or list(columns[:1])
    names = _keys(leading)
    parts = [list(leading)]
    groups: list[list[_Column]] = []
    for column in columns[len(leading) :]:
        task = groups[-1][-1].task if groups else None
        if groups and (column.of_interval or (column.task and column.task == task)):
            groups[-1].append(column)
        else:
            groups.append([column])
    for group in groups:
        bare = len(leading if len(parts) == 1 else names)
        if len(parts[-1]) > bare and _width([*parts[-1], *group]) > room:
            parts.append(list(names))
        parts[-1] += group
    return parts


def _keys(columns: Sequence[_Column]) -> list[_Column]:
    """The columns that name a row in later parts: one or two of these whose cells tell all rows apart."""

    def tells_apart(some: Sequence[_Column]) -> bool:
        rows = list(zip(*(map(tuple, column.cells) for column in some), strict=True))
        return len(set(rows)) == len(rows)

    choices: list[Sequence[_Column]] = [some for count in (1, 2) for some in combinations(columns, count)]
    return list(next((some for some in choices if tells_apart(some)), columns[:2]))


def _lines_of(columns: Sequence[_Column], numbers: range) -> tuple[str, str, list[str]]:
    """The kinds of the columns as tabular has them, the row of heads, and the rows of cells."""
    kinds = "".join("r" if column.numeric else "l" for column in columns)

    def row(cells: Sequence[Sequence[str]], place: str) -> str:
        joined = " & ".join(_cell(lines, place, kind) for lines, kind in zip(cells, kinds, strict=True))
        return rf"{joined} \\"

    head = row([column.head for column in columns], "b")
    return kinds, head, [row([column.cells[number] for column in columns], "t") for number in numbers]


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
        return sentences_in_latex(lines[0])
    stacked = r" \\ ".join(map(sentences_in_latex, lines))
    return rf"\begin{{tabular}}[{place}]{{@{{}}{kind}@{{}}}}{stacked}\end{{tabular}}"
