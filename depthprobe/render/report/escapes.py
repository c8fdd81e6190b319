"""Outside text on its way into a LaTeX table or Markdown: nothing in it is taken for markup."""

from __future__ import annotations

import re

from depthprobe.findings.words import plain

# The fonts that LaTeX begins with (OT1) have some characters of a keyboard in mathematics or typewriter only.
_LATEX = {
    "\\": r"\textbackslash{}",
    **{character: rf"\{character}" for character in "{}$&%#_"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"${character}$" for character in "<>|"},
    **{character: rf"{{\ttfamily\char{ord(character)}}}" for character in "\"'`"},
    # A bracket that opens a row would be read as an option of the line end before it.
    "[": "{[}",
    "]": "{]}",
    "\N{MINUS SIGN}": "$-$",
    "\N{EN DASH}": r"\textendash{}",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{GREEK CAPITAL LETTER DELTA}": r"$\Delta$",
}
# Of the Latin letters with accents those that OT1 cannot compose.
_NOT_COMPOSED = "\xd0\xde\xf0\xfe\xf7"
# Only what could mean something where it stands, so that the text can be read as it is, too.
_MARKDOWN = re.compile(
    r"[\\`*\[\]<|~&$#]"
    # Emphasis, but not inside a word.
    r"|(?<![^\W_])_|_(?![^\W_])"
    # At the beginning: quotations, lists, rules and underlined headings.
    r"|^>|^[-+=](?=[-+=\s]|$)"
    # Addresses become links, and :words: small pictures, on some sites.
    r"|:(?=//|[\w+-]+:)|(?<=www)\."
)
_NUMBERED = re.compile(r"^(\d+)(?=[.)](?:\s|$))")


def in_latex(text: str) -> str:
    """The text as it may stand in a LaTeX document without packages; beyond Latin letters, as its code."""
    return _apart("".join(_latex_character(character) for character in plain(text)))


def _apart(latex: str) -> str:
    """Keep hyphens in a row from being joined to one longer dash."""
    return latex.replace("--", "-{}-").replace("--", "-{}-")


# x^l, x^0, x^(l+1) and x^{l+n} are the stream at a boundary.
_BOUNDARY = re.compile(r"(\bx\^(?:\([^()\s]*\)|\{[^{}\s]*\}|\w+))")


def sentences_in_latex(text: str) -> str:
    """The same for a caption, in which the stream x^l at a boundary is set as mathematics."""
    pieces = _BOUNDARY.split(plain(text))
    return "".join(
        f"$x^{{{piece[2:].strip('(){}')}}}$" if number % 2 else _prose(piece)
        for number, piece in enumerate(pieces)
    )


def _prose(text: str) -> str:
    """Words of a sentence, in which an apostrophe is one."""
    signs = (character if character == "'" else _latex_character(character) for character in text)
    return _apart("".join(signs).replace("''", "'{}'"))


def _latex_character(character: str) -> str:
    if character in _LATEX:
        return _LATEX[character]
    composed = "\xc0" <= character <= "\xff" and character not in _NOT_COMPOSED
    return character if " " <= character < "\x7f" or composed else f"U+{ord(character):04X}"


def in_markdown(text: str) -> str:
    """The text as it may stand in a line or a table cell of Markdown; its own characters mean nothing."""
    return _NUMBERED.sub(r"\1\\", _MARKDOWN.sub(r"\\\g<0>", plain(text)))


def in_code(text: str) -> str:
    """The text as a piece of code in Markdown, in a fence that is longer than any in it."""
    text = plain(text)
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    return f"{fence} {text} {fence}" if "`" in text or not text else f"{fence}{text}{fence}"
