r"""A table as LaTeX: booktabs' three rules, no vertical ones, numbers to the right.

It compiles in a document whose preamble is ``\documentclass{article}`` and ``\usepackage{booktabs}``.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from depthprobe.render.escapes import in_latex, plain


def latex_table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[bool], caption: str
) -> str:
    """A ``tabular`` as text that ends with a line break, with the caption as comments above it.

    Args:
        heads: The heads of the columns.
        rows: Their cells as text.
        numeric: By column, whether it holds numbers.
        caption: What a paper has to say of the table.
    """
    # % in the text of a comment is text; a line break is not.
    said = [f"% {line}" for line in textwrap.wrap(plain(caption), 100)]
    columns = "".join("r" if number else "l" for number in numeric)
    lines = [" & ".join(map(in_latex, row)) + r" \\" for row in (heads, *rows)]
    return "\n".join(
        [
            *said,
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )
