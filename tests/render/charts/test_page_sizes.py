"""Figures made for a column, for a page and for a slide: their size, their type, and nothing left behind."""

import io
import re
import xml.etree.ElementTree

import matplotlib
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from depthprobe.commands import options
from depthprobe.commands.app import app
from depthprobe.errors import OptionError
from depthprobe.render.charts import angular as angular_chart
from depthprobe.render.charts import gradnorm as gradnorm_chart
from depthprobe.render.charts import training as training_chart
from depthprobe.render.charts import variance as variance_chart
from depthprobe.render.charts.kit.encoding import render_bytes
from depthprobe.render.charts.kit.page_sizes import PAGE_SIZES, current_size, drawn_for
from support import profile_frames as frames
from support.gallery_runs import GALLERY
from support.legibility import check_text
from support.readings import angular_findings, gradnorm_findings, variance_findings


def draw_angular(frame, **options):
    return angular_chart.draw(angular_findings(frame), **options)


def draw_gradnorm(frame, **options):
    return gradnorm_chart.draw(gradnorm_findings(frame), **options)


def draw_variance(frame, **options):
    return variance_chart.draw(variance_findings(frame), **options)


def draw_training(layers, losses, **options):
    return training_chart.draw({"training": layers, "loss": losses}, **options)


WIDTHS_IN = {"paper-single": 3.25, "paper-double": 6.75, "slides": 13.33}
NAME = "an-organisation-with-a-long-name/a-model-with-an-even-longer-name-7b-instruct-v0.3"


def angular(layers):
    rows = [
        (layer, n, 0.05 * n**0.5 + 0.01 * layer / layers, 0.01, 9)
        for n in range(1, layers + 1)
        for layer in range(layers - n + 1)
    ]
    return pd.DataFrame(rows, columns=["layer", "n", "distance", "std", "samples"])


DRAWINGS = {
    "angular": lambda layers: draw_angular(angular(layers), title=NAME, caption="data, 12 samples"),
    "gradnorm": lambda layers: draw_gradnorm(frames.falling(layers), title=NAME, caption="data, 12 samples"),
    "variance": lambda layers: draw_variance(frames.rising(layers), title=NAME, caption="data, 12 samples"),
}


def pdf_size_in(content):
    left, bottom, right, top = map(float, re.search(rb"/MediaBox \[ ([\d. ]+) \]", content)[1].split())
    return (right - left) / 72, (top - bottom) / 72


def svg_size_in(content):
    root = xml.etree.ElementTree.fromstring(content)
    return tuple(float(root.get(name).removesuffix("pt")) / 72 for name in ("width", "height"))


def png_size_in(content):
    image = Image.open(io.BytesIO(content))
    assert np.allclose(image.info["dpi"], 300, atol=0.01)
    return tuple(pixels / 300 for pixels in image.size)


@pytest.mark.parametrize("layers", [12, 126])
@pytest.mark.parametrize("name", DRAWINGS)
@pytest.mark.parametrize("style", WIDTHS_IN)
def test_a_figure_has_the_width_of_its_page_in_every_format_and_its_text_has_room(style, name, layers):
    with drawn_for(style):
        figure = DRAWINGS[name](layers)
        sizes = [
            read(render_bytes(figure, kind))
            for kind, read in (("pdf", pdf_size_in), ("svg", svg_size_in), ("png", png_size_in))
            if layers == 12 or kind == "pdf"
        ]
    check_text(figure)
    width, height = sizes[0]
    assert np.allclose(sizes, (width, height), atol=0.01)
    if style == "slides":
        assert width <= 13.34 and height <= 7.51
        # Either side of the page is used up.
        assert width == pytest.approx(13.33, abs=0.01) or height == pytest.approx(7.5, abs=0.05)
    else:
        assert width == pytest.approx(WIDTHS_IN[style], abs=0.01)


def test_on_a_slide_everything_grows_by_one_factor_so_that_labels_have_18_points():
    frame = frames.falling(32)
    with drawn_for("slides"):
        figure = draw_gradnorm(frame)
        width, _ = pdf_size_in(render_bytes(figure, "pdf"))
    factor = width / figure.get_size_inches()[0]
    assert factor * figure.axes[0].xaxis.label.get_size() == pytest.approx(18, abs=0.1)


@pytest.mark.parametrize("style", PAGE_SIZES)
def test_a_pdf_embeds_its_fonts_as_type_42_and_has_the_same_bytes_again(style):
    with drawn_for(style):
        figure = DRAWINGS["gradnorm"](12)
        first, again = render_bytes(figure, "pdf"), render_bytes(figure, "pdf")
    assert first == again
    assert b"/FontFile2" in first and b"/Type3" not in first


def test_a_magnified_png_shows_the_same_drawing_with_more_dots():
    with drawn_for("slides"):
        figure = DRAWINGS["gradnorm"](12)
        large = Image.open(io.BytesIO(render_bytes(figure, "png"))).convert("L")
    small = Image.open(io.BytesIO(render_bytes(figure, "png"))).convert("L")
    assert large.width > 2 * small.width
    difference = np.asarray(large.resize(small.size), dtype=float) - np.asarray(small, dtype=float)
    assert np.abs(difference).mean() < 6


def test_no_preset_outlives_its_body_and_none_changes_the_users_matplotlib():
    before = dict(matplotlib.rcParams)
    with pytest.raises(RuntimeError), drawn_for("slides"):
        render_bytes(DRAWINGS["gradnorm"](12), "pdf")
        raise RuntimeError
    assert current_size() is PAGE_SIZES["auto"]
    assert dict(matplotlib.rcParams) == before


def test_the_command_line_knows_the_page_sizes_without_importing_them():
    assert options.STYLES == tuple(PAGE_SIZES)


def test_plot_draws_in_a_style_and_refuses_an_unknown_one(tmp_path):
    run = str(GALLERY / "gradnorm")
    for style, status in (("paper-double", 0), ("poster", 2)):
        done = CliRunner().invoke(
            app, ["plot", run, "-o", str(tmp_path), "--format", "pdf", "--style", style]
        )
        assert done.exit_code == status
    assert "--style must be one of" in done.stderr and len(done.stderr.splitlines()) == 1
    assert pdf_size_in((tmp_path / "gradnorm.pdf").read_bytes())[0] == pytest.approx(6.75)


def test_an_unknown_style_is_one_line_with_the_known_ones():
    with pytest.raises(OptionError) as caught, drawn_for("poster"):
        pass
    assert str(caught.value) == (
        "--style must be one of auto, paper-single, paper-double, appendix, slides, got poster."
    )


@pytest.mark.parametrize("style", ["paper-single", "slides"])
def test_three_panels_that_need_two_columns_get_them_and_stay_on_the_page(style):
    steps, layers = range(0, 301, 100), range(12)
    log = pd.DataFrame(
        [(step, layer, 1.0 + step + layer, 1.0 / (1 + layer + step)) for step in steps for layer in layers],
        columns=["step", "layer", "variance", "grad_norm"],
    )
    losses = pd.DataFrame([(step, "heldout", 8 - step / 100) for step in steps])
    losses.columns = ["step", "data", "loss_nats"]
    with drawn_for(style):
        figure = draw_training(log, losses, title=NAME)
        width, height = pdf_size_in(render_bytes(figure, "pdf"))
    keys = figure.axes[2].get_legend().get_window_extent()
    assert keys.x1 <= figure.canvas.get_width_height()[0]
    assert width == pytest.approx(13.33 if style == "slides" else 6.75, abs=0.01) and height < 7.5
