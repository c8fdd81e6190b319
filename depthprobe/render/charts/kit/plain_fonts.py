"""The one change that is made to another library: fonts go into a PDF without what no reader looks at.

matplotlib has fontTools open a font, cut it down to the letters at hand and write it into the file. The
rules by which letters are set, and the names of their shapes, go through the same cutting, though in a PDF
the text is set already: that is half of a PDF's time, and a report of five tasks has 13 of them. There is no
option for it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fontTools import subset

# Tables of a font by which text is set, and the names of its shapes.
_UNUSED_TABLES = frozenset({"GDEF", "GPOS", "GSUB", "MATH", "kern", "post"})
# The change holds for the whole process, so only one PDF is written at a time.
_changed = threading.Lock()


@contextmanager
def plain_fonts() -> Iterator[None]:
    """Embed fonts without what no reader of a PDF looks at, while the body draws one.

    A public name of fontTools stands for another function meanwhile; where a version of matplotlib opens
    fonts in another way, files are larger and take longer, no more.
    """

    def opened(*given: Any, **options: Any) -> Any:
        font = usual(*given, **options)
        if "glyf" not in font:
            return font
        for table in _UNUSED_TABLES & set(font.keys()):
            del font[table]
        font.setGlyphOrder([f"g{index}" for index in range(font["maxp"].numGlyphs)])
        return font

    with _changed:
        usual = subset.load_font
        subset.load_font = opened
        try:
            yield
        finally:
            subset.load_font = usual
