import io

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from depthprobe.errors import RunError
from depthprobe.findings.growth import growth_of
from depthprobe.render.charts import gradnorm as gradnorm_chart
from depthprobe.render.charts import variance as variance_chart
from depthprobe.render.charts.kit.lines import Band, Curve, draw_lines
from depthprobe.render.charts.kit.style import BRANCH_LOOKS, MAIN
from support.legibility import boxes, check_text
from support.profile_frames import falling, gradnorm, rising, robust, variance
from support.readings import gradnorm_findings, variance_findings

# What is measured, as the caption begins.
GRADIENT = "gradient of the mean loss (nats) over all predicted tokens taken as one batch"
VARIANCE = "variance over the hidden dimension, mean over 32,640 tokens, before the final norm"


def draw_gradnorm(frame, **options):
    return gradnorm_chart.draw(gradnorm_findings(frame), **options)


def draw_variance(frame, **options):
    return variance_chart.draw(variance_findings(frame), **options)


LONG = "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B-some-very-long-suffix-for-testing-2026"
SIZES = (1, 2, 3, 12, 32, 80, 126)
ALL_PARTS = ("attention", "feedforward", "norm", "other")


def curves(figure):
    """The drawn lines by what the key says of them."""
    (axes,), (legend,) = figure.axes, figure.legends
    keys = [text.get_text() for text in legend.get_texts()]
    assert len(keys) == len(axes.lines) + len(axes.collections)
    return dict(zip(keys[: len(axes.lines)], axes.lines, strict=True))


def written(figure):
    return [text.get_text() for text in figure.texts]


def grey(colour):
    return float(np.dot(to_rgb(colour), [0.299, 0.587, 0.114]))


DRAWN = {
    "gradient norms": lambda layers: draw_gradnorm(
        falling(layers, parts=ALL_PARTS, std=0.2), title=LONG, caption="C4, " * 40
    ),
    "variances": lambda layers: draw_variance(rising(layers), title=LONG, caption="C4, " * 40),
}
both = pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)


# What stands where.


def test_the_norm_of_every_layer_stands_above_it_and_so_do_its_parts():
    frame = gradnorm([0.9, 0.3, 0.1, 0.2])
    drawn = curves(draw_gradnorm(frame))
    assert list(drawn) == ["whole block", "attention", "feed-forward", "norms"]
    for key, part in zip(drawn, ("all", "attention", "feedforward", "norm"), strict=True):
        assert drawn[key].get_xdata().tolist() == [0, 1, 2, 3]
        assert drawn[key].get_ydata().tolist() == frame.loc[frame["part"] == part, "grad_norm"].tolist()


def test_the_order_of_rows_does_not_matter_and_the_frame_is_left_as_it_was():
    frame = falling(12)
    mixed = frame.sample(frac=1, random_state=3)
    before = mixed.copy()
    figures = [draw_gradnorm(frame), draw_gradnorm(mixed)]
    assert mixed.equals(before)
    plain, other = ([line.get_ydata().tolist() for line in figure.axes[0].lines] for figure in figures)
    assert plain == other


def test_the_whole_block_is_the_main_line():
    drawn = curves(draw_gradnorm(falling(12, parts=ALL_PARTS)))
    main = drawn.pop("whole block")
    assert main.get_marker() == "o"
    assert all(main.get_linewidth() > line.get_linewidth() for line in drawn.values())
    assert all(main.get_zorder() > line.get_zorder() for line in drawn.values())


@pytest.mark.parametrize(
    ("norms", "parts", "scale"),
    [
        ([1.0, 0.5, 0.11], (), "linear"),
        ([1.0, 0.5, 0.09], (), "log"),
        ([1.0, 0.5, 0.4], ("norm",), "log"),  # a part twenty times smaller
        ([0.0, 0.5, 0.4], (), "linear"),
        ([0.0, 0.0], (), "linear"),
        ([3e-8], (), "linear"),
    ],
)
def test_the_axis_is_logarithmic_where_the_norms_span_more_than_a_decade(norms, parts, scale):
    (axes,) = draw_gradnorm(gradnorm(norms, parts)).axes
    assert axes.get_yscale() == scale
    assert scale == "log" or axes.get_ylim()[0] == 0


@pytest.mark.parametrize("unit", [1e-9, 1e-4, 1.0, 3e5, 1e12])
@pytest.mark.parametrize("parts", [(), ("norm",)])
def test_ticks_are_readable_at_every_scale(unit, parts):
    frame = gradnorm(unit * np.linspace(1, 3, 12), parts)
    figure = draw_gradnorm(frame)
    check_text(figure)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(labels) == len(set(labels)) >= 3


@pytest.mark.parametrize("reach", [1.0, 1.001, 1.3, 4, 30, 1e3, 1e5, 1e12, 1e40])
def test_logarithmic_axes_have_few_readable_labels_however_much_they_span(reach):
    figure = draw_variance(variance(np.geomspace(0.7, 0.7 * reach, 13), branches=()))
    check_text(figure)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert 2 <= len(labels) == len(set(labels)) <= 9
    assert figure.axes[0].get_yscale() == "log"


def test_the_deviation_over_batches_is_a_band_around_the_whole_block():
    frame = gradnorm([0.9, 0.5, 0.7], (), std=0.1)
    figure = draw_gradnorm(frame)
    (band,) = figure.axes[0].collections
    corners = {tuple(corner) for corner in np.round(band.get_paths()[0].vertices, 12)}
    assert {(0, 0.99), (0, 0.81), (1, 0.55), (1, 0.45)} <= corners
    assert "± 1 std over batches" in [text.get_text() for text in figure.legends[0].get_texts()]
    low, high = figure.axes[0].get_ylim()
    assert low < 0.45 and high > 0.99
    assert not draw_gradnorm(gradnorm([0.9, 0.5, 0.7], ())).axes[0].collections


@pytest.mark.parametrize("parts", [(), ("norm",)])
def test_a_deviation_larger_than_the_norm_ends_at_the_axis(parts):
    figure = draw_gradnorm(falling(12, parts=parts, std=3.0))
    check_text(figure)
    (axes,) = figure.axes
    (band,) = axes.collections
    assert band.get_paths()[0].vertices[:, 1].min() >= axes.get_ylim()[0]


def test_a_norm_of_0_leaves_a_gap_on_a_logarithmic_axis_and_the_caption_says_where():
    frame = gradnorm([1.0, 0.0, 0.5, 0.3, 0.2])
    frame.loc[(frame["part"] == "norm") & frame["layer"].isin([3, 4]), "grad_norm"] = 0
    figure = draw_gradnorm(frame, caption="data")
    assert np.isnan(curves(figure)["whole block"].get_ydata()).tolist() == [False, True, False, False, False]
    assert np.isnan(curves(figure)["norms"].get_ydata()).tolist() == [False, True, False, True, True]
    # What is said of the whole block need not be said of its parts.
    assert " ".join(written(figure)) == (
        f"{GRADIENT}; data; 0 and so not drawn: whole block in layer 1, norms in layers 3-4"
    )


def test_a_norm_of_0_is_drawn_where_the_axis_begins_at_0():
    figure = draw_gradnorm(gradnorm([0.5, 0.0, 0.4], ()))
    assert curves(figure)["whole block"].get_ydata().tolist() == [0.5, 0.0, 0.4]
    assert " ".join(written(figure)) == GRADIENT


def test_a_part_that_few_layers_have_is_seen_there():
    frame = falling(80)
    frame = frame[(frame["part"] != "attention") | frame["layer"].isin([7, 15, 40, 41])]
    line = curves(draw_gradnorm(frame))["attention"]
    assert np.flatnonzero(np.isfinite(line.get_ydata())).tolist() == [7, 15, 40, 41]
    assert {7, 15} <= set(line.get_markevery())  # no line reaches them


def test_layers_without_anything_that_could_have_a_gradient_are_left_empty():
    frame = falling(8)
    frame = frame[~frame["layer"].isin([2, 7])]  # 7 is the last one: the final norm tells of it
    figure = draw_gradnorm(frame)
    assert np.flatnonzero(np.isnan(curves(figure)["whole block"].get_ydata())).tolist() == [2, 7]
    check_text(figure)


def test_the_stream_stands_at_its_boundaries_and_branches_between_them():
    frame = variance([0.1, 1.0, 2.0, 8.0])
    drawn = curves(draw_variance(frame))
    assert list(drawn) == ["stream $x^l$", "added by attention", "added by feed-forward"]
    assert drawn["stream $x^l$"].get_xdata().tolist() == [0, 1, 2, 3]
    assert drawn["stream $x^l$"].get_ydata().tolist() == [0.1, 1.0, 2.0, 8.0]
    assert drawn["added by attention"].get_xdata().tolist() == [0.5, 1.5, 2.5]
    assert drawn["added by attention"].get_ydata().tolist() == pytest.approx([0.01, 0.1, 0.2])


@pytest.mark.parametrize(
    "stream",
    [[0.1, 1.0, 2.0, 8.0], [0.1, 1.0, 2.0, 1.0, 3.0, 1.1, 1.2], [0.1, 1.0, 2.0], [0.1, *range(1, 9)]],
)
def test_fits_are_drawn_exactly_where_the_text_has_a_growth_to_tell(stream):
    found = variance_findings(variance(stream))
    told = "steady growth" not in found.sentences[0] and "too few" not in found.sentences[0]
    drawn = curves(draw_variance(variance(stream)))
    assert {"exponential fit", "linear fit"} <= drawn.keys() if told else "linear fit" not in drawn


def test_both_fits_run_from_the_first_block_to_the_last_behind_the_rest():
    frame = rising(12)
    growth = growth_of(frame.loc[frame["point"] == "stream", "variance"].iloc[1:])
    drawn = curves(draw_variance(frame))
    for key, fit in (("exponential fit", growth.exponential), ("linear fit", growth.linear)):
        assert drawn[key].get_xdata().tolist() == list(range(1, 13))
        np.testing.assert_allclose(drawn[key].get_ydata(), fit.values)
        assert drawn[key].get_zorder() < min(
            line.get_zorder() for name, line in drawn.items() if "fit" not in name
        )


def test_the_median_and_the_mean_without_first_tokens_stand_beside_the_mean_and_fits_are_of_the_median():
    frame = robust(variance([0.1, 1.0, 3.0, 9.0, 27.0]), 0.75, [1.0, *[0.5] * 4, *[1.0] * 8])
    figure = draw_variance(frame)
    drawn = curves(figure)
    assert list(drawn) == [
        *("stream $x^l$, mean", "without first tokens", "median token"),
        *("added by attention", "added by feed-forward"),
        *("exponential fit of the median", "linear fit of the median"),
    ]
    assert drawn["stream $x^l$, mean"].get_ydata().tolist() == [0.1, 1.0, 3.0, 9.0, 27.0]
    assert drawn["without first tokens"].get_ydata().tolist() == pytest.approx(
        [0.075, 0.75, 2.25, 6.75, 20.25]
    )
    assert drawn["median token"].get_ydata().tolist() == pytest.approx([0.1, 0.5, 1.5, 4.5, 13.5])
    growth = growth_of([0.5, 1.5, 4.5, 13.5])
    np.testing.assert_allclose(drawn["exponential fit of the median"].get_ydata(), growth.exponential.values)
    assert "mean without the first token of each sample, median" in " ".join(written(figure))
    check_text(figure)


@pytest.mark.parametrize("values", [[1.0, 2.0], [1.0, 2.0, 3.0], [1.0, 2.0, 2.0, 2.0], [1.0, 0.0, 2.0, 3.0]])
def test_without_growth_to_fit_there_are_no_fits(values):
    assert not any("fit" in key for key in curves(draw_variance(variance(values))))


def test_missing_and_empty_branches_are_left_out():
    frame = variance([0.1, 1.0, 2.0, 4.0, 8.0])
    frame = frame[(frame["point"] != "feedforward") | frame["layer"].isin([0, 3])]
    frame.loc[(frame["point"] == "attention") & (frame["layer"] < 2), "variance"] = 0.0
    figure = draw_variance(frame, caption="data")
    drawn = curves(figure)
    assert np.isnan(drawn["added by feed-forward"].get_ydata()).tolist() == [False, True, True, False]
    assert np.isnan(drawn["added by attention"].get_ydata()).tolist() == [True, True, False, False]
    assert " ".join(written(figure)) == f"{VARIANCE}; data; 0 and so not drawn: attention in layers 0-1"
    assert "added by attention" not in curves(draw_variance(variance([1.0, 2.0], branches=())))


def test_axes_say_what_they_show():
    (axes,) = draw_gradnorm(falling(4)).axes
    assert axes.get_xlabel() == "Layer index $l$"
    assert axes.get_ylabel().startswith("Gradient norm $")
    (axes,) = draw_variance(rising(4)).axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Boundary $l$ of the residual stream", "Variance")


# How it looks.


@both
@pytest.mark.parametrize("layers", SIZES)
def test_no_text_is_clipped_or_overlaps_and_the_figure_fits_a_column_or_two(draw, layers):
    figure = draw(layers)
    check_text(figure)
    width, height = figure.get_size_inches()
    assert 3.3 <= width <= 6.9
    assert layers > 50 or width == pytest.approx(3.3)
    assert height < 4.5


@both
@pytest.mark.parametrize("layers", SIZES)
def test_the_key_stands_above_the_data_and_the_data_inside_the_axes(draw, layers):
    figure = draw(layers)
    figure.canvas.draw()
    (axes,), (legend,) = figure.axes, figure.legends
    frame = axes.get_window_extent()
    assert legend.get_window_extent().y0 >= frame.y1
    # Signs and words, not the words alone.
    assert legend.get_window_extent().x1 <= figure.canvas.get_width_height()[0]
    for line in axes.lines:
        points = line.get_transform().transform(np.column_stack(line.get_data()))
        points = points[np.isfinite(points).all(axis=1)]
        assert (points >= [frame.x0, frame.y0]).all() and (points <= [frame.x1, frame.y1]).all()


@both
def test_title_and_caption_stand_above_the_key(draw):
    figure = draw(12)
    figure.canvas.draw()
    lowest = min(text.get_window_extent().y0 for text in figure.texts)
    assert lowest >= figure.legends[0].get_window_extent().y1 - 1


@both
def test_lines_can_be_told_apart_in_grey_and_from_the_paper(draw):
    (axes,) = draw(12).axes
    looks = [(line.get_marker(), line._unscaled_dash_pattern) for line in axes.lines]
    assert len(set(map(str, looks))) == len(looks)
    for line in axes.lines:
        assert grey("white") - grey(line.get_color()) > 0.35
    tones = sorted(
        grey(look.color) for look in (MAIN, BRANCH_LOOKS["feedforward"], BRANCH_LOOKS["attention"])
    )
    assert min(np.diff(tones)) > 0.1
    assert 0.1 < grey("white") - grey(Band.color) < 0.3


def test_thin_lines_of_many_layers_still_carry_marks_that_do_not_touch():
    line = curves(draw_variance(rising(126)))["added by attention"]
    marked = line.get_markevery()
    assert len(marked) >= 10 and min(np.diff(marked)) >= 5


def test_outside_text_is_never_read_as_mathematics():
    for draw, frame, what in ((draw_gradnorm, falling(3), GRADIENT), (draw_variance, rising(3), VARIANCE)):
        figure = draw(frame, title="$5 \\frac", caption="_y_ $x^")
        figure.canvas.draw()
        assert " ".join(written(figure)) == f"$5 \\frac {what}; _y_ $x^"
        assert not any(text.get_parse_math() for text in figure.texts)


def test_without_title_and_caption_the_key_is_at_the_top():
    curve = Curve("a key", np.arange(12.0), np.arange(12.0), MAIN)
    labels = {"x_label": "x", "y_label": "y", "title": "", "caption": ""}
    figure = draw_lines([curve], logarithmic=False, last=11, **labels)
    assert not figure.texts
    assert max(box.y1 for _, box in boxes(figure)) > 0.95 * figure.canvas.get_width_height()[1]


def test_numbers_in_a_caption_are_not_broken():
    figure = draw_gradnorm(
        falling(6), caption="over all the many 32,640 predicted tokens, taken as 1.25 batches, " * 3
    )
    assert not any(text.endswith(("32,", "1.")) for text in written(figure))


@both
def test_drawing_leaves_the_users_style_alone_and_ignores_it(draw):
    def drawn():
        buffer = io.BytesIO()
        draw(5).savefig(buffer, format="png", dpi=100)
        return np.asarray(Image.open(buffer).convert("L"))

    plain = drawn()
    with matplotlib.rc_context({"axes.labelsize": 30, "lines.linewidth": 9, "axes.spines.top": True}):
        before = dict(matplotlib.rcParams)
        assert (drawn() == plain).all()
        assert dict(matplotlib.rcParams) == before


# Tables that cannot be used.


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda frame: frame.drop(columns=["std", "part"]), "A table of gradient norms lacks: part, std"),
        (lambda frame: frame.iloc[:0], "has no rows"),
        (lambda frame: frame.assign(grad_norm=np.nan), "holds NaN or infinite values"),
        (lambda frame: frame.assign(std=np.inf), "holds NaN or infinite values"),
        (lambda frame: frame.assign(grad_norm=-frame["grad_norm"]), "holds negative values"),
        (lambda frame: frame.assign(layer=0), "has all, layer 0 twice"),
        (lambda frame: frame.assign(part=frame["part"] + "s"), "has the part 'embeddings'"),
        (lambda frame: frame[frame["part"] != "all"], r"has no row for a whole block \(part all\)"),
        (lambda frame: frame.assign(layer=frame["layer"] - 1), "has a layer below 0"),
        (
            lambda frame: frame[(frame["part"] != "all") | (frame["layer"] != 1)],
            r"has parts and no whole block \(part all\) of layer 1",
        ),
    ],
)
def test_a_table_that_is_not_of_gradient_norms_is_refused(change, sentence):
    with pytest.raises(RunError, match=sentence):
        draw_gradnorm(change(falling(3)))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda frame: frame.drop(columns=["rms"]), "A table of variances lacks: rms"),
        (lambda frame: frame.iloc[:0], "has no rows"),
        (lambda frame: frame.assign(variance=np.nan), "holds NaN or infinite values"),
        (lambda frame: frame.assign(rms=-1.0), "holds negative values"),
        (lambda frame: frame.assign(layer=0), "has stream, layer 0 twice"),
        (lambda frame: frame.assign(point="x" + frame["point"]), "has the point 'xstream'"),
        (lambda frame: frame[frame["point"] != "stream"], "lacks the stream at boundary 0"),
        (lambda frame: frame[frame["layer"] != 1], "lacks the stream at boundary 1"),
        (lambda frame: frame[frame["layer"] == 0], "lacks the stream at boundary 1"),
        (
            lambda frame: frame[(frame["layer"] < 3) | (frame["point"] != "stream")],
            "has a branch of a layer that is not there",
        ),
    ],
)
def test_a_table_that_is_not_of_variances_is_refused(change, sentence):
    with pytest.raises(RunError, match=sentence):
        draw_variance(change(rising(3)))
