"""Characters that matplotlib's font lacks: told, or drawn with an installed font."""

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager

from depthprobe.render.charts.kit import style as kit
from depthprobe.render.charts.kit.encoding import render_all

CHARACTER = "\N{CJK UNIFIED IDEOGRAPH-6A21}"


@pytest.fixture
def forgetting():
    """No font beside matplotlib's is known before and after."""
    caches = (kit.families, kit._known_characters, kit._width_of_one)
    for cache in caches:
        cache.cache_clear()
    before = list(fontManager.ttflist)
    yield
    fontManager.ttflist[:] = before
    for cache in caches:
        cache.cache_clear()


def install(folder):
    """A TrueType font that has one Chinese character."""
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder([".notdef", "mo"])
    font.setupCharacterMap({ord(CHARACTER): "mo"})
    pen = TTGlyphPen(None)
    for place, corner in enumerate([(0, 0), (0, 800), (800, 800), (800, 0)]):
        (pen.lineTo if place else pen.moveTo)(corner)
    pen.closePath()
    font.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "mo": pen.glyph()})
    font.setupHorizontalMetrics({".notdef": (500, 0), "mo": (900, 0)})
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": "WenQuanYi Micro Hei", "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    font.save(folder / "font.ttf")
    fontManager.addfont(folder / "font.ttf")


def test_a_character_that_no_font_has_is_noted(forgetting, monkeypatch):
    monkeypatch.setattr(kit, "_CJK_FONTS", ())
    with kit.lacking_characters() as lacking:
        assert kit.printable(f"model {CHARACTER}\N{GREEK SMALL LETTER ALPHA}") == (
            "model ?\N{GREEK SMALL LETTER ALPHA}"
        )
    assert lacking == {CHARACTER}


def test_an_installed_font_draws_it(forgetting, tmp_path):
    install(tmp_path)
    with kit.lacking_characters() as lacking, kit.style():
        assert kit.printable(f"a {CHARACTER}") == f"a {CHARACTER}" and not lacking
        assert kit.width_in(CHARACTER, 72) == pytest.approx(0.8, abs=0.15)
        figure = Figure(figsize=(2, 1))
        figure.text(0.1, 0.5, f"a {CHARACTER}")
        # A missing character would be a warning of matplotlib's, and warnings are errors here.
        assert {"svg", "pdf", "png"} == set(render_all(figure))


def test_fonts_whose_outlines_a_pdf_cannot_hold_are_left_out(forgetting, tmp_path, monkeypatch):
    install(tmp_path)
    monkeypatch.setattr(kit, "_has_outlines", lambda path: False)
    assert kit.families() == (kit.FONT,)
