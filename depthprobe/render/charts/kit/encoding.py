"""A figure as the bytes of a file: the same ones every time, magnified as its page size says."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fontTools import subset
from matplotlib.backends.backend_pdf import Op, PdfFile, RendererPdf
from matplotlib.figure import Figure

from depthprobe.render.charts.kit.page_sizes import magnification
from depthprobe.render.charts.kit.style import style

# What each kind of file must not say, so that drawing twice gives the same bytes: when, and by which version.
_METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
    "svg": {"Date": None, "Creator": None},
}
FORMATS = tuple(_METADATA)
_DOTS_PER_INCH = 300
# Of 9; the usual 6 makes these files 8% smaller and takes a third longer.
_COMPRESS_LEVEL = 3
# Tables of a font by which text is set, and the names of its shapes. In a PDF the text is set already and no
# reader looks at them, but to keep of them what belongs to the letters at hand is half of a PDF's time.
_UNUSED_TABLES = frozenset({"GDEF", "GPOS", "GSUB", "MATH", "kern", "post"})
_cutting_fonts = threading.Lock()


def render_bytes(figure: Figure, file_format: str) -> bytes:
    """A figure as the bytes of a ``png`` (300 dpi), ``pdf`` or ``svg`` file; the same ones every time."""
    factor = magnification(*map(float, figure.get_size_inches()))
    if factor != 1 and file_format == "pdf":
        return _magnified_pdf(figure, factor)
    options: dict[str, Any] = {"dpi": _DOTS_PER_INCH}
    if file_format == "png":
        # More dots for the same drawing; the file says how large they are meant to be.
        options = {
            "dpi": _DOTS_PER_INCH * factor,
            "pil_kwargs": {"dpi": (_DOTS_PER_INCH, _DOTS_PER_INCH), "compress_level": _COMPRESS_LEVEL},
        }
    with io.BytesIO() as buffer, style(), _plain_fonts():
        figure.savefig(buffer, format=file_format, metadata=_METADATA[file_format], **options)
        content = buffer.getvalue()
    return _magnified_svg(content, factor) if factor != 1 and file_format == "svg" else content


def _magnified_pdf(figure: Figure, factor: float) -> bytes:
    """The PDF of a figure on a page so much larger, drawn in coordinates of the same scale.

    matplotlib saves a PDF at one size only, so its parts are called here one by one.
    """
    width, height = map(float, figure.get_size_inches())
    laid_out_at = figure.dpi
    with io.BytesIO() as buffer, style(), _plain_fonts():
        file = PdfFile(buffer, metadata=_METADATA["pdf"])
        try:
            figure.dpi = 72
            file.newPage(width * factor, height * factor)
            file.output(factor, 0, 0, factor, 0, 0, Op.concat_matrix)
            renderer = RendererPdf(file, 72, height, width)
            figure.draw(renderer)
            renderer.finalize()
            file.finalize()
            return buffer.getvalue()
        finally:
            file.close()
            figure.dpi = laid_out_at


@contextmanager
def _plain_fonts() -> Iterator[None]:
    """Embed fonts without what no reader of a PDF looks at, while the body draws a PDF.

    matplotlib has no option for it. It has fontTools open the font, by a public name which stands for another
    function meanwhile; where a version opens fonts in another way, files are larger and take longer, no more.
    """

    def opened(*given: Any, **options: Any) -> Any:
        font = usual(*given, **options)
        if "glyf" not in font:
            return font
        for table in _UNUSED_TABLES & set(font.keys()):
            del font[table]
        font.setGlyphOrder([f"g{index}" for index in range(font["maxp"].numGlyphs)])
        return font

    with _cutting_fonts:
        usual = subset.load_font
        subset.load_font = opened
        try:
            yield
        finally:
            subset.load_font = usual


def _magnified_svg(content: bytes, factor: float) -> bytes:
    """An SVG whose picture fills a page so much larger; its view box stays."""

    def larger(match: re.Match[bytes]) -> bytes:
        return b'%s="%.6gpt"' % (match[1], float(match[2]) * factor)

    head, tag, rest = content.partition(b"<svg ")
    attributes, end, body = rest.partition(b">")
    return head + tag + re.sub(rb'\b(width|height)="([\d.]+)pt"', larger, attributes) + end + body
