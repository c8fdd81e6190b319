"""Figures on a page: each with ids of its own, and what they lose for it is what nobody sees."""

import re
import xml.etree.ElementTree

import pytest

from depthprobe.render.charts import angular as angular_chart
from depthprobe.render.charts import gradnorm as gradnorm_chart
from depthprobe.render.charts.kit.encoding import render_bytes
from depthprobe.render.report.inlining import inline_svg
from support import profile_frames as frames


def draw_angular(frame, **options):
    return angular_chart.draw({"angular": frame}, {}, **options)


def draw_gradnorm(frame, **options):
    return gradnorm_chart.draw({"gradnorm": frame}, {}, **options)


def gradnorm(make_frame):
    return draw_gradnorm(frames.falling(12), title="a & <b>")


def angular(make_frame):
    return draw_angular(make_frame(7), title="a & <b>")


@pytest.fixture(params=[gradnorm, angular])
def svg(request, make_frame):
    return render_bytes(request.param(make_frame), "svg")


def references(text):
    return re.findall(r'(?:href="|url\()#([^")]+)', text)


def test_ids_are_the_figures_own_and_every_reference_still_finds_its_id(svg):
    first, second = inline_svg(svg, "one", "One"), inline_svg(svg, "two", "Two")
    ids = [set(re.findall(r'\bid="([^"]+)"', text)) for text in (first, second)]
    assert ids[0] and not ids[0] & ids[1]
    before, after = set(references(svg.decode())), set(references(first))
    assert before and after == {f"one-{name}" for name in before} <= ids[0]


def test_the_drawing_keeps_every_visible_shape(svg):
    root = xml.etree.ElementTree.fromstring(svg)
    inlined = xml.etree.ElementTree.fromstring(inline_svg(svg, "one", 'of "a" & b'))
    visible = [
        (element.get("d") or "").split()
        for element in root.iter("{http://www.w3.org/2000/svg}path")
        if element.get("style") != "fill: none"
    ]
    assert visible == [(element.get("d") or "").split() for element in inlined.iter("path")]
    assert inlined.get("viewBox") == root.get("viewBox")
    assert inlined.get("aria-label") == 'of "a" & b'


def test_nothing_in_it_speaks_for_the_whole_page(svg):
    text = inline_svg(svg, "one", "One")
    assert b"<style" in svg and "<style" not in text
    assert b"<metadata" in svg and "<metadata" not in text and "<!--" not in text
