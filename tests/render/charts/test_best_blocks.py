"""The best block of every size, as a figure."""

import pandas as pd
import pytest

from depthprobe.errors import RunError
from depthprobe.render.charts.best_blocks import draw_best_blocks
from depthprobe.render.charts.kit.page_sizes import drawn_for
from support.legibility import check_print
from support.made_up_runs import angular_frame
from support.readings import angular_findings

DATA = "allenai/c4, 64 samples of up to 256 tokens, " * 4
LONG = "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B-some-very-long-suffix-for-testing-2026"


@pytest.mark.parametrize("style", ["auto", "paper-double", "slides"])
@pytest.mark.parametrize("layers", [1, 2, 5, 6, 12, 126])
def test_no_text_is_clipped_or_overlaps(layers, style):
    with drawn_for(style):
        figure = draw_best_blocks(angular_findings(angular_frame(layers)), title=LONG, caption=DATA)
        check_print(figure)
        if style == "slides" and layers > 3:
            assert figure.get_figheight() * 2.25 <= 7.51


def test_the_curves_and_the_bars_are_those_of_a_search_block_by_block():
    frame = angular_frame(
        14, turns=[0.3, 0.1, 0.05, 0.2, 0.04, 0.03, 0.02, 0.2, 0.1, 0.01, 0.02, 0.3, 0.2, 0.4]
    )
    upper, lower = draw_best_blocks(angular_findings(frame.sample(frac=1, random_state=0))).axes
    best, median = upper.lines
    (bars,) = lower.containers
    assert len(bars) == 13  # the whole model is not a block to remove
    for number, bar in enumerate(bars):
        distances = {row.layer: row.distance for row in frame.itertuples() if row.n == number + 1}
        start = min(distances, key=lambda layer: (distances[layer], layer))
        assert best.get_ydata()[number] == distances[start]
        assert median.get_ydata()[number] == pytest.approx(pd.Series(distances).median())
        assert (bar.get_y() + 0.5, bar.get_height()) == (start, number + 1)
        assert bar.get_center()[0] == pytest.approx(number + 1)


def test_the_share_of_the_model_stands_above():
    figure = draw_best_blocks(angular_findings(angular_frame(40)))
    (above,) = figure.axes[0].child_axes
    shown = {
        label.get_text(): place
        for label, place in zip(above.get_xticklabels(), above.get_xticks(), strict=True)
    }
    assert shown == {"25%": 10, "50%": 20, "75%": 30}


def test_a_model_of_one_layer_has_its_one_block():
    best, _ = draw_best_blocks(angular_findings(angular_frame(1))).axes[0].lines
    assert best.get_xdata().tolist() == [1]


def test_a_table_that_is_not_of_distances_is_refused():
    with pytest.raises(RunError, match="lacks"):
        angular_findings(angular_frame(4).drop(columns="distance"))
