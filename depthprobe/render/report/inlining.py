"""A figure as a piece of a page: an SVG whose ids are its own and whose size follows the page."""

from __future__ import annotations

import re

from depthprobe.render.report.escapes import in_html

# On a screen, figures made for print are read from further away.
SCREEN_SCALE = 1.4


def width_pt(content: bytes) -> float:
    """How wide the drawing of an SVG file that this package wrote is, in points, before any magnification."""
    box = re.search(rb'viewBox="\S+ \S+ (\S+) \S+"', content)
    if box is None:
        raise ValueError("the SVG has no view box")
    return float(box[1])


def inline_svg(content: bytes, name: str, label: str) -> str:
    """The SVG element of a file that this package wrote, to be put into HTML.

    Args:
        content: The file.
        name: Of the figure, in letters, digits, ``-`` and ``_``: it goes before every id, so that several
            figures on a page do not take each other's shapes.
        label: What the figure shows, for those who do not see it.
    """
    text = content.decode("utf-8")
    text = text[text.index("<svg") :]
    # What a reader of the page does not need: the licence-like metadata, and a rule for the whole document.
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<style type="text/css">.*?</style>', "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    # The empty half of a map: cells without colour or edge, half of the page of a deep model.
    text = re.sub(r'<path d="[^"]*"(?: clip-path="[^"]*")? style="fill: none"/>', "", text)
    text = "\n".join(line for line in map(str.strip, text.split("\n")) if line)
    for before in (' id="', 'href="#', "url(#"):
        text = text.replace(before, f"{before}{name}-")
    head, _, body = text.partition(">")
    box = re.search(r'viewBox="([^"]*)"', head)
    width = re.search(r'\bwidth="([\d.]+)pt"', head)
    if box is None or width is None:
        raise ValueError(f"the SVG of {name} has no width or view box")
    shown = float(width[1]) * SCREEN_SCALE
    return (
        f'<svg xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{box[1]}" role="img" '
        f'aria-label="{in_html(label)}" style="width:{shown:.5g}pt">{body}'
    )
