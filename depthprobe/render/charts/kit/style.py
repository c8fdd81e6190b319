"""How figures look: one style for all, the looks of curves, and text that fits where it is put.

One thing looks the same in every figure, and dashes and marks set it apart in grey as well.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any

import matplotlib
import matplotlib.style
from fontTools import ttLib
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.lines import Line2D
from matplotlib.textpath import text_to_path

# A font that comes with matplotlib, so that a figure is the same on every machine.
FONT = "DejaVu Sans"
LABEL_PT, TICK_PT, NOTE_PT = 8.0, 7.0, 6.5
TITLE_SIZES_PT = (8.5, 8.0, 7.5, 7.0)
INK, FAINT = "#1a1a1a", "#5c5c5c"
LINE_SPACING = 1.25

# Page widths of two-column proceedings; heights follow from the content.
SINGLE_COLUMN_IN, DOUBLE_COLUMN_IN = 3.3, 6.9

_STYLE = {
    "font.size": LABEL_PT,
    "mathtext.fontset": "dejavusans",
    "axes.labelsize": LABEL_PT,
    "axes.labelcolor": INK,
    "axes.labelpad": 3.0,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.labelsize": TICK_PT,
    "ytick.labelsize": TICK_PT,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 2.0,
    "ytick.major.size": 2.0,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "xtick.major.pad": 2.0,
    "ytick.major.pad": 2.0,
    "legend.fontsize": NOTE_PT,
    "legend.frameon": False,
    "legend.borderaxespad": 0.0,
    "legend.labelcolor": FAINT,
    # Type 42 keeps text as text: journals refuse Type 3, and a reader can search the figure.
    "pdf.fonttype": 42,
    # matplotlib 3.11 reads this for PDFs too, to see how many characters a font can hold: with the usual 3,
    # every font with a minus sign or a Greek letter is embedded twice.
    "ps.fonttype": 42,
    # Fixed, so that the same run gives the same bytes.
    "svg.hashsalt": "depthprobe",
}


@contextmanager
def style() -> Iterator[None]:
    """Draw in the house style, whatever the user's own settings are, which come back afterwards."""
    with matplotlib.style.context(["default", _STYLE | {"font.family": list(families())}]):
        yield


@dataclass(frozen=True)
class Look:
    """How a curve is drawn."""

    color: str
    width: float
    dashes: tuple[float, ...] = ()
    marker: str = ""
    filled: bool = False
    level: int = 3

    @property
    def line(self) -> dict[str, Any]:
        """Colour and dashes as matplotlib takes them."""
        return {"color": self.color, "linestyle": (0, self.dashes) if self.dashes else "-"}

    @property
    def drawn(self) -> dict[str, Any]:
        """Everything but the size of the marks, as matplotlib takes it."""
        return {
            **self.line,
            "linewidth": self.width,
            "marker": self.marker or None,
            "markerfacecolor": self.color if self.filled else "white",
            "markeredgewidth": 0.0 if self.filled else 0.6,
            "zorder": self.level,
        }

    @property
    def sign(self) -> Line2D:
        """What stands for the curve in a key."""
        return Line2D([], [], markersize=3.2 if self.filled else 2.8, **self.drawn)


# Hues that colour-blind readers can tell apart, of different lightness.
MAIN = Look("#0b3c5d", 1.3, marker="o", filled=True, level=5)
SECOND = Look("#dd8500", 0.9, (4.0, 1.6), "^")
BRANCH_LOOKS = {
    "attention": SECOND,
    "feedforward": Look("#007f5f", 0.9, (5.0, 1.4, 1.0, 1.4), "s"),
    "norm": Look("#8e5ea2", 0.9, (1.2, 1.2), "D"),
    "other": Look("#7a7a7a", 0.9, (2.4, 1.2), "v"),
}
# Bars in a middle tone: interval lines show on it, and hollow bars differ from it, in grey as well.
BAR = "#5b9bd0"
BAR_EDGE = "#2b6496"

# The light end of the map is left out: on white it is hardly seen.
_COLOURS = matplotlib.colormaps["viridis"].resampled(256)
_LIGHTEST = 0.85


def depth_colours(last: float) -> ScalarMappable:
    """Return a colour map of 0 to ``last``, 0 darkest."""
    return ScalarMappable(Normalize(0, max(last, 1) / _LIGHTEST), _COLOURS)


# Families with Chinese, Japanese and Korean characters, as systems name them.
_CJK_FONTS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Noto Sans JP", "Noto Sans KR"),
    *("Source Han Sans SC", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Droid Sans Fallback"),
    *("IPAexGothic", "IPAGothic", "TakaoGothic", "NanumGothic", "Microsoft YaHei", "SimHei", "SimSun"),
    *("Yu Gothic", "MS Gothic", "Malgun Gothic", "Heiti TC", "STHeiti", "AppleGothic", "Arial Unicode MS"),
)


@cache
def families() -> tuple[str, ...]:
    """Return the fonts of text: that of matplotlib, then installed ones for characters that it lacks."""
    installed = {font.name: font.fname for font in fontManager.ttflist}
    return (FONT, *(name for name in _CJK_FONTS if name in installed and _has_outlines(installed[name])))


def _has_outlines(path: str) -> bool:
    """Whether a font's shapes are such that matplotlib can put them into a PDF as text."""
    try:
        with ttLib.TTFont(path, fontNumber=0, lazy=True) as font:
            return "glyf" in font
    except (OSError, ttLib.TTLibError):
        return False


@cache
def _known_characters() -> frozenset[int]:
    fonts = (get_font(findfont(FontProperties(family=family))) for family in families())
    return frozenset(character for font in fonts for character in font.get_charmap())


# Characters that no font has; None where nobody wants to know.
_lacking: ContextVar[set[str] | None] = ContextVar("lacking", default=None)


@contextmanager
def lacking_characters() -> Iterator[set[str]]:
    """Yield a set that gets the characters that stand as ``?`` in what is drawn while the body runs."""
    found: set[str] = set()
    token = _lacking.set(found)
    try:
        yield found
    finally:
        _lacking.reset(token)


def printable(text: str) -> str:
    """Return the text on one line, with ``?`` for each character that no font here has."""
    text = " ".join(unicodedata.normalize("NFC", text).split())
    there = [ord(each) in _known_characters() and each.isprintable() for each in text]
    wanted = _lacking.get()
    if wanted is not None:
        wanted.update(each for each, known in zip(text, there, strict=True) if not known)
    return "".join(each if known else "?" for each, known in zip(text, there, strict=True))


def width_in(text: str, size_pt: float, weight: str = "normal", *, mathematics: bool = False) -> float:
    """Return the width of one line of text in inches; only our own text may hold mathematics."""
    return _width_of_one(text, weight, mathematics and "$" in text) * size_pt / 72


@cache
def _width_of_one(text: str, weight: str, mathematics: bool) -> float:
    """Return the width of a line of text at a size of one point."""
    font = FontProperties(family=list(families()), size=1, weight=weight)
    return float(text_to_path.get_text_width_height_descent(text, font, ismath=mathematics)[0])


def fit(text: str, size_pt: float, room_in: float, weight: str = "normal") -> list[str]:
    """Return the text as lines that each fit into ``room_in`` inches.

    Lines break after a space, slash, hyphen, underscore, dot, colon or comma, but not within a number such
    as 1,000 or beside an equals sign; a word breaks only where there is no other place.
    """
    lines: list[str] = []
    rest = printable(text)
    while rest:
        ends = range(1, len(rest) + 1)
        # At least one character, though there may be no room for it.
        end = max(1, bisect_right(ends, room_in, key=lambda n: width_in(rest[:n].rstrip(), size_pt, weight)))
        if end < len(rest):
            after = max((place + 1 for place in range(end) if _may_break(rest, place)), default=0)
            # A break in the first third would leave a line that looks forgotten.
            end = after if after > end / 3 else end
        lines.append(rest[:end].rstrip())
        rest = rest[end:].lstrip()
    return lines


def _may_break(text: str, place: int) -> bool:
    """Return whether a line may end with the character at ``place``."""
    before, after = text[place - 1 : place], text[place + 1 : place + 2]
    in_number = text[place] in ".," and before.isdigit() and after.isdigit()
    in_equation = text[place] == " " and "=" in (before, after)
    return text[place] in " /-_.:," and not in_number and not in_equation


def fit_title(text: str, room_in: float) -> tuple[float, list[str]]:
    """Return the size of a title in points and its lines: as few as possible, then as large as possible."""
    return fewest_lines((size, fit(text, size, room_in, weight="bold")) for size in TITLE_SIZES_PT)


def fewest_lines(choices: Iterable[tuple[float, list[str]]]) -> tuple[float, list[str]]:
    """Return the choice (a size in points, and lines) with the fewest lines, then the largest type."""
    return min(choices, key=lambda choice: (len(choice[1]), -choice[0]))


def text_height(lines: Sequence[str], size_pt: float) -> float:
    """Return the height of lines of text in inches."""
    return len(lines) * size_pt * LINE_SPACING / 72
