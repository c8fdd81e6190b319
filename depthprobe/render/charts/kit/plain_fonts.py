"""The one change that is made to another library: fonts go into a PDF without the tables it does not need.

matplotlib has fontTools open a font, reduce it to the letters in use and write it into the file. The rules
by which letters are set and the names of their shapes are reduced as well, though text in a PDF is set
already: that is half of a PDF's time, and a report of five tasks has 13 of them. No option avoids it.
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
    """Embed fonts without unused tables while the body draws a PDF.

    A public name of fontTools stands for another function meanwhile. If a version of matplotlib opens fonts
    in another way, files are only larger and slower to write.
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
