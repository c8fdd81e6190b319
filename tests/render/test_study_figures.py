"""The figures of a study: the numbers in their places, no text over other text, at any depth."""

import numpy as np
import pytest
from drawn import check_text
from study_runs import angular_frame, write_angular, write_model

from depthprobe.render.best_blocks import draw_best_blocks
from depthprobe.render.overview import draw_overview
from depthprobe.render.reading import best_blocks
from depthprobe.render.scatter import draw_trust_scatter
from depthprobe.render.study import layer_frame, read_study
from depthprobe.render.trust import trust_frame

LONG = "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B-some-very-long-suffix-for-testing-2026"


@pytest.fixture(scope="module", params=[12, 32, 80, 126])
def study(request, tmp_path_factory):
    return read_study(
        [write_model(tmp_path_factory.mktemp("runs"), request.param, tasks=("mmlu", "arc_easy"))]
    )


def test_no_text_is_clipped_or_overlaps(study):
    trust = trust_frame(study)
    check_text(draw_overview(study, title=LONG, caption="C4, " * 40))
    check_text(draw_trust_scatter(study, trust, "mmlu", title=LONG, caption="C4, " * 40))
    check_text(draw_best_blocks(study.runs["angular"].tables["angular"], title=LONG, caption="C4, " * 40))


def test_the_overview_draws_every_measure_of_every_layer(study):
    figure, frame = draw_overview(study), layer_frame(study)
    turns, *_, accuracy, _, loss = figure.axes
    assert turns.lines[0].get_ydata().tolist() == frame["angular_distance"].tolist()
    assert [bar.get_height() for bar in accuracy.patches if bar.get_width() == pytest.approx(0.7)] == (
        pytest.approx((-frame["drop_mmlu"]).tolist())
    )
    assert [bar.get_height() for bar in loss.patches if bar.get_width() == pytest.approx(0.7)] == (
        pytest.approx(frame["drop_calibration"].tolist())
    )


def test_the_scatter_shows_the_best_and_the_worst_proxy_against_harm(study):
    trust, frame = trust_frame(study), layer_frame(study)
    rows = trust[trust.task == "mmlu"]
    figure = draw_trust_scatter(study, trust, "mmlu")
    for axes, proxy in zip(figure.axes, (rows.proxy.iloc[0], rows.proxy.iloc[-1]), strict=True):
        dots = next(line for line in axes.lines if line.get_marker() == "o")
        assert dots.get_xdata().tolist() == frame[proxy].tolist()
        assert dots.get_ydata().tolist() == (-frame["drop_mmlu"]).tolist()


def test_the_curve_is_that_of_the_best_blocks():
    frame = angular_frame(12)
    best, median, *_ = draw_best_blocks(frame).axes[0].lines
    assert best.get_ydata().tolist() == best_blocks(frame).distance.tolist()
    assert np.all(median.get_ydata() >= best.get_ydata())


def test_a_model_with_angular_distances_alone_has_an_overview(tmp_path):
    figure = draw_overview(read_study([write_angular(tmp_path, 6)]), title="one")
    assert len(figure.axes) == 1
    check_text(figure)
