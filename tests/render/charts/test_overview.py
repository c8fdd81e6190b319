"""The page with every quantity of the layers: the numbers in their places, and text that has room."""

import io

import numpy as np
import pytest
from PIL import Image

from depthprobe.errors import RunError
from depthprobe.render.charts.kit.encoding import render_bytes
from depthprobe.render.charts.kit.page_sizes import PAGE_SIZES, drawn_for
from depthprobe.render.charts.overview import MOST_TASKS, draw_overview
from depthprobe.render.report.figures import overview_figures
from support.legibility import check_print
from support.made_up_runs import (
    angular_frame,
    sweep_frame,
    sweep_rows,
    write_angular,
    write_model,
    write_run,
    write_sweep,
)
from support.profile_frames import rising, robust
from support.readings import findings_in

DATA = "allenai/c4, 64 samples of up to 256 tokens, " * 4
LONG = "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B-some-very-long-suffix-for-testing-2026"
CURVES = ("angular_distance", "block_influence", "contribution_ratio", "grad_norm")


@pytest.fixture(scope="module", params=[1, 12, 32, 126])
def findings(request, tmp_path_factory):
    return findings_in(write_model(tmp_path_factory.mktemp("runs"), request.param, ("mmlu", "wikitext")))


@pytest.mark.parametrize("style", PAGE_SIZES)
def test_no_text_is_clipped_or_overlaps(findings, style):
    with drawn_for(style):
        check_print(draw_overview(findings, title=LONG, caption=DATA))


def test_every_panel_holds_the_numbers_of_the_layer_table(findings):
    frame, figure = findings.by_layer, draw_overview(findings)
    assert len(figure.axes) == len(CURVES) + 1 + 3
    for axes, column in zip(figure.axes[: len(CURVES)], CURVES, strict=True):
        assert axes.lines[0].get_ydata().tolist() == frame[column].tolist()
        assert axes.lines[0].get_xdata().tolist() == list(range(findings.layers))
    growth = figure.axes[len(CURVES)].lines[0].get_ydata()
    assert np.log(growth) == pytest.approx(frame["variance_growth"].to_numpy())
    for axes, task in zip(figure.axes[len(CURVES) + 1 :], ("mmlu", "wikitext", "calibration"), strict=True):
        (bars,) = axes.containers
        assert [bar.get_height() for bar in bars] == pytest.approx(frame[f"drop_{task}"].tolist())


def test_all_panels_share_one_axis_of_layers_and_only_the_lowest_of_a_column_names_it(findings):
    figure = draw_overview(findings)
    assert len({axes.get_xlim() for axes in figure.axes}) == 1
    named = [axes for axes in figure.axes if axes.get_xlabel()]
    lefts = {round(axes.get_position().x0, 6) for axes in figure.axes}
    assert {round(axes.get_position().x0, 6) for axes in named} == lefts and len(named) == len(lefts)
    for axes in named:
        column = [other for other in figure.axes if other.get_position().x0 == axes.get_position().x0]
        assert axes.get_position().y0 == min(other.get_position().y0 for other in column)


def shade_of(axes, layers):
    """The first and last layer that is shaded, as far as it is."""
    return [
        (patch.get_x() + 0.5, patch.get_x() + patch.get_width() - 0.5)
        for patch in axes.patches
        if patch.get_zorder() == 0
    ]


def test_the_quiet_stretch_is_shaded_in_every_panel(tmp_path):
    findings = findings_in(write_model(tmp_path, 24))
    stretch = findings.study.found["angular"].quiet
    figure = draw_overview(findings)
    for axes in figure.axes:
        assert shade_of(axes, 24) == [(stretch.first, stretch.last)]
    keys = [text.get_text() for text in figure.legends[0].get_texts()]
    assert keys[0] == f"quiet stretch (layers {stretch.first}-{stretch.last})"


@pytest.mark.parametrize("layers", [12, 126])
def test_the_shade_stands_out_from_white_and_from_bars_in_grey(tmp_path, layers):
    findings = findings_in(write_angular(tmp_path, layers).parent)
    image = np.asarray(Image.open(io.BytesIO(render_bytes(draw_overview(findings), "png"))).convert("L"))
    values, counts = np.unique(image, return_counts=True)
    shades = values[(counts > 0.05 * image.size) & (values < 250)]
    assert shades.size and 200 < shades.min() and shades.max() < 240


def test_a_model_with_one_run_has_the_panels_of_that_run(tmp_path):
    figure = draw_overview(findings_in(write_angular(tmp_path / "a", 12)), title="one")
    assert len(figure.axes) == 1
    check_print(figure)
    figure = draw_overview(findings_in(write_sweep(tmp_path / "b", 12, ("mmlu",))))
    assert len(figure.axes) == 2
    assert not any("quiet" in text.get_text() for text in figure.legends[0].get_texts())


def test_of_many_tasks_the_first_and_the_calibration_loss_are_drawn_and_the_caption_counts_the_rest(tmp_path):
    tasks = [f"task_{letter}" for letter in "abcdef"]
    figure = draw_overview(findings_in(write_sweep(tmp_path, 12, tasks)), caption="data")
    said = [text.get_text() for text in figure.texts]
    assert len(figure.axes) == MOST_TASKS and "data; 3 more tasks not drawn" in said
    shown = [text for text in said if text.endswith((" drop", " increase (nats/token)"))]
    assert shown == [
        "task_a: accuracy drop",
        "task_b: accuracy drop",
        "task_c: accuracy drop",
        "calibration: loss increase (nats/token)",
    ]


def test_what_would_not_fit_on_a_page_stands_in_columns(tmp_path):
    tasks = ("mmlu", "arc_easy", "wikitext")
    findings = findings_in(write_model(tmp_path, 12, tasks))
    for style, columns, highest in (("auto", 2, 9.0), ("slides", 3, 7.5 / 2.25)):
        with drawn_for(style):
            figure = draw_overview(findings)
        lefts = {round(axes.get_position().x0, 6) for axes in figure.axes}
        assert len(lefts) == columns
        # A slide may be fuller than its page: then all of it is magnified less.
        assert figure.get_figheight() <= highest * (1.6 if style == "slides" else 1)


def test_a_first_layer_that_would_flatten_the_growth_of_all_others_lies_beyond_the_axis(tmp_path):
    findings = findings_in(write_model(tmp_path, 32))
    frame, figure = findings.by_layer, draw_overview(findings)
    growth = next(axes for axes in figure.axes if axes.get_ylim()[0] > 0.5 and len(axes.lines) > 1)
    factors = np.exp(frame["variance_growth"])
    low, high = growth.get_ylim()
    assert not low <= factors[0] <= high and factors[1:].between(low, high).all()
    said = " ".join(text.get_text() for text in figure.texts)
    assert f"axis cut: layer 0 at {factors[0]:.1f}" in said


def test_a_gradient_of_zero_is_stated_where_a_logarithmic_axis_cannot_show_it(tmp_path):
    norms = np.geomspace(1, 0.001, 12)
    norms[3] = 0
    rows = {"layer": range(12), "part": "all", "grad_norm": norms, "parameters": 1, "grad_rms": norms}
    frame = angular_frame(2)[:0].reindex(range(12)).assign(**rows, std=0.0)
    columns = ["layer", "part", "grad_norm", "parameters", "grad_rms", "std"]
    findings = findings_in(write_run(tmp_path, "gradnorm", {"gradnorm": frame[columns]}, 12))
    figure = draw_overview(findings)
    assert np.isnan(figure.axes[0].lines[0].get_ydata()[3])
    assert "0 or less and so not drawn: layer 3" in [text.get_text() for text in figure.texts]


def test_layers_that_a_sweep_left_out_keep_their_place(tmp_path):
    rows = sweep_rows("mmlu", [-0.1, -0.2, -0.1], layers=[2, 5, 9])
    figure = draw_overview(findings_in(write_sweep(tmp_path, 12, frame=rows)))
    (bars,) = figure.axes[0].containers
    assert [bar.get_center()[0] for bar in bars] == pytest.approx([2, 5, 9])
    assert figure.axes[0].get_xlim()[1] > 11


def test_a_panel_names_the_layers_of_a_sweep_of_some_and_a_median_is_called_so(tmp_path):
    frame = sweep_frame(12)
    write_sweep(tmp_path, 12, frame=frame[frame["layer"].isin([3, 5, 7])])
    directory = write_run(tmp_path, "variance", {"variance": robust(rising(12))}, 12)
    figure = draw_overview(findings_in(directory.parent))
    said = " ".join(text.get_text() for text in [*figure.texts, *(t for a in figure.axes for t in a.texts)])
    said = " ".join(said.split())
    assert "only layers 3, 5, 7 of 12 removed" in said
    assert "median token's variance after a layer" in said


def test_where_nothing_was_measured_of_single_layers_there_is_no_overview(tmp_path):
    rows = sweep_rows("mmlu", [-0.1, -0.2, -0.1])
    findings = findings_in(write_sweep(tmp_path, 6, block=4, frame=rows))
    with pytest.raises(RunError, match="Nothing was measured of single layers"):
        draw_overview(findings)
    assert overview_figures(findings) == []
