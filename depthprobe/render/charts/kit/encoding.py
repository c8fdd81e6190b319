"""A figure as the bytes of a file: the same ones every time, magnified as its page size says."""

from __future__ import annotations

import io
import re
from typing import Any

from matplotlib.backends.backend_pdf import Op, PdfFile, RendererPdf
from matplotlib.figure import Figure

from depthprobe.render.charts.kit.page_sizes import magnification
from depthprobe.render.charts.kit.plain_fonts import plain_fonts
from depthprobe.render.charts.kit.style import style

# Left out of each kind of file, so that drawing twice gives the same bytes: the date and the version.
_METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
    "svg": {"Date": None, "Creator": None},
}
FORMATS = tuple(_METADATA)
DOTS_PER_INCH = 300
# Of 9; the usual 6 makes these files 8% smaller and takes a third longer.
_COMPRESS_LEVEL = 3


def render_bytes(figure: Figure, file_format: str) -> bytes:
    """Return the bytes of a ``png`` (300 dpi), ``pdf`` or ``svg`` file; the same ones every time."""
    factor = magnification(*map(float, figure.get_size_inches()))
    if factor != 1 and file_format == "pdf":
        return _magnified_pdf(figure, factor)
    options: dict[str, Any] = {"dpi": DOTS_PER_INCH}
    if file_format == "png":
        # More dots for the same drawing; the file says how large they are meant to be.
        options = {
            "dpi": DOTS_PER_INCH * factor,
            "pil_kwargs": {"dpi": (DOTS_PER_INCH, DOTS_PER_INCH), "compress_level": _COMPRESS_LEVEL},
        }
    with io.BytesIO() as buffer, style(), plain_fonts():
        figure.savefig(buffer, format=file_format, metadata=_METADATA[file_format], **options)
        content = buffer.getvalue()
    return _magnified_svg(content, factor) if factor != 1 and file_format == "svg" else content


def render_all(figure: Figure) -> dict[str, bytes]:
    """Return the bytes of a file of each format."""
    return {kind: render_bytes(figure, kind) for kind in FORMATS}


def _magnified_pdf(figure: Figure, factor: float) -> bytes:
    """Return a magnified PDF; matplotlib saves at one size only, so its parts are called here."""
    width, height = map(float, figure.get_size_inches())
    laid_out_at = figure.dpi
    with io.BytesIO() as buffer, style(), plain_fonts():
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


def _magnified_svg(content: bytes, factor: float) -> bytes:
    """Return an SVG magnified; its view box stays."""

    def larger(match: re.Match[bytes]) -> bytes:
        return b'%s="%.6gpt"' % (match[1], float(match[2]) * factor)

    head, tag, rest = content.partition(b"<svg ")
    attributes, end, body = rest.partition(b">")
    return head + tag + re.sub(rb'\b(width|height)="([\d.]+)pt"', larger, attributes) + end + body
