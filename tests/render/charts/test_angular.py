import io

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.collections import PolyCollection
from PIL import Image

from depthprobe.errors import OptionError
from depthprobe.render.charts import angular as angular_chart
from depthprobe.render.charts.angular import distance_matrix, rescale_rows
from depthprobe.render.charts.figures import figure_of
from depthprobe.render.charts.kit.style import fit, fit_title, printable, width_in
from depthprobe.render.charts.kit.ticks import ticks
from support.readings import angular_findings


def draw_angular(frame, **options):
    return angular_chart.draw(angular_findings(frame), **options)


LONG = "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B-some-very-long-suffix-for-testing-2026"
SIZES = (1, 2, 3, 6, 12, 24, 32, 40, 80, 126)


def parts(figure):
    """The map's axes, the colour bar's axes and the mesh of cells."""
    axes, bar = figure.axes
    (mesh,) = (artist for artist in axes.collections if isinstance(artist, PolyCollection))
    return axes, bar, mesh


def boxes(figure):
    """The drawn boxes of all visible text, in pixels."""
    figure.canvas.draw()
    found = []
    for axes in figure.axes:
        found += [axes.xaxis.label, axes.yaxis.label]
        for axis in (axes.xaxis, axes.yaxis):
            low, high = axis.get_view_interval()
            # Ticks beyond the ends exist but are not drawn.
            found += [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
            found += [tick.label2 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
        found += axes.get_legend().get_texts() if axes.get_legend() else []
    found += figure.texts
    return [
        (text.get_text(), text.get_window_extent())
        for text in found
        if text.get_text() and text.get_visible()
    ]


def test_a_cell_lies_at_its_layer_and_size_and_shows_its_distance(make_frame):
    frame = make_frame(5)
    axes, _, mesh = parts(draw_angular(frame))
    cells = {
        tuple(path.vertices.min(axis=0)): path.vertices.max(axis=0).tolist() for path in mesh.get_paths()
    }
    values = dict(zip(cells, mesh.get_array(), strict=True))
    assert len(cells) == len(frame)
    for row in frame.itertuples():
        corner = row.layer - 0.5, row.n - 0.5
        assert values[corner] == row.distance
        assert cells[corner] == [row.layer + 0.5, row.n + 0.5]
    low, high = axes.get_ylim()
    assert low < high  # n grows upward


def test_the_triangle_outside_has_neither_colour_nor_edge(make_frame):
    figure = draw_angular(make_frame(6))
    _, _, mesh = parts(figure)
    figure.canvas.draw()
    corners = [path.vertices.min(axis=0) + 0.5 for path in mesh.get_paths()]
    assert len(corners) == 21 and all(layer + n <= 6 for layer, n in corners)
    assert (mesh.get_edgecolor() == 1).all()


def test_near_is_yellow_and_far_is_purple(make_frame):
    frame = make_frame(6)
    _, _, mesh = parts(draw_angular(frame))
    assert mesh.get_cmap().name == "viridis_r"
    assert mesh.get_clim() == (frame["distance"].min(), frame["distance"].max())
    red, green, blue, _ = mesh.cmap(mesh.norm(frame["distance"].min()))
    assert red > 0.9 and green > 0.8 and blue < 0.3


def test_cells_are_square_and_there_are_no_spines(make_frame):
    figure = draw_angular(make_frame(7), title="a title")
    axes, _, _ = parts(figure)
    box = axes.get_window_extent()
    assert box.width == pytest.approx(box.height)
    assert not any(spine.get_visible() for spine in axes.spines.values())


@pytest.mark.parametrize("normalize", ["none", "row"])
def test_the_marks_are_the_best_blocks_of_the_measured_distances(make_frame, normalize):
    frame = make_frame(9)
    axes, _, _ = parts(draw_angular(frame, normalize=normalize))
    best = angular_findings(frame).best
    (marks,) = axes.lines
    assert marks.get_xdata().tolist() == best["layer"].tolist()
    assert marks.get_ydata().tolist() == best["n"].tolist()
    assert "smallest distance" in axes.get_legend().get_texts()[0].get_text()


@pytest.mark.parametrize("normalize", ["none", "row"])
def test_axes_and_colour_bar_say_what_they_show(make_frame, normalize):
    axes, bar, _ = parts(draw_angular(make_frame(4), normalize=normalize))
    assert axes.get_xlabel() == "Layer index $l$"
    assert axes.get_ylabel() == "Subsequent $n$-th layer"
    rescaled = "rescaled per row (0–1)" in bar.get_ylabel()
    assert bar.get_ylabel().startswith("Angular distance")
    assert rescaled == (normalize == "row")


def test_an_unknown_scaling_is_refused(make_run):
    with pytest.raises(OptionError, match="--normalize must be none or row, got 'column'"):
        figure_of(make_run(), normalize="column")


@given(st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=12), min_size=1, max_size=5))
def test_rescaled_rows_lie_between_0_and_1_and_keep_their_order(rows):
    width = max(map(len, rows))
    padded = np.array([row + [np.nan] * (width - len(row)) for row in rows])
    matrix = np.ma.array(padded, mask=np.isnan(padded))
    scaled = rescale_rows(matrix)
    assert (np.ma.getmaskarray(scaled) == np.isnan(padded)).all()
    for before, after in zip(rows, scaled, strict=True):
        after = after.compressed()
        assert after.min() == 0 and after.max() in (0, pytest.approx(1))
        low, high = np.percentile(before, [1, 99])
        if high - low <= 1e-12:
            assert (after == 0).all()
        else:
            plain = [(min(max(value, low), high) - low) / (high - low) for value in before]
            np.testing.assert_allclose(after, plain, atol=1e-12)


def test_the_matrix_is_masked_exactly_outside_the_triangle(make_frame):
    mask = distance_matrix(make_frame(4)).mask
    assert [row.tolist().count(False) for row in mask] == [4, 3, 2, 1]
    assert distance_matrix(make_frame(1)).mask.tolist() == [[False]]


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (0, 0, [0]),
        (1, 2, [1, 2]),
        (0, 5, [0, 1, 2, 3, 4, 5]),
        (0, 11, [0, 2, 4, 6, 8, 10]),
        (1, 12, [2, 4, 6, 8, 10, 12]),
        (0, 31, [0, 4, 8, 12, 16, 20, 24, 28]),
        (1, 32, [1, 4, 8, 12, 16, 20, 24, 28, 32]),
        (0, 79, [0, 10, 20, 30, 40, 50, 60, 70]),
        (1, 126, [1, 20, 40, 60, 80, 100, 120]),
    ],
)
def test_ticks_are_round_whole_numbers(first, last, expected):
    assert ticks(first, last) == expected


@pytest.mark.parametrize("normalize", ["none", "row"])
@pytest.mark.parametrize("layers", SIZES)
def test_no_text_is_clipped_or_overlaps_another(make_frame, layers, normalize):
    figure = draw_angular(make_frame(layers), normalize=normalize, title=LONG, caption="C4, " * 25)
    found = boxes(figure)
    width, height = figure.canvas.get_width_height()
    for index, (text, box) in enumerate(found):
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height, text
        for other, behind in found[index + 1 :]:
            overlap = (
                min(box.x1, behind.x1) - max(box.x0, behind.x0),
                min(box.y1, behind.y1) - max(box.y0, behind.y0),
            )
            # Line boxes include the room for letters that reach below the line.
            assert min(overlap) < 0.02 * figure.dpi, (text, other)


@pytest.mark.parametrize("layers", SIZES[1:])
def test_the_legend_stands_clear_of_the_cells(make_frame, layers):
    figure = draw_angular(make_frame(layers))
    figure.canvas.draw()
    axes, _, _ = parts(figure)
    box = axes.get_legend().get_window_extent().transformed(axes.transData.inverted())
    # The lowest row it reaches down to ends left of it.
    lowest = round(box.y0)
    assert (layers - lowest) + 0.5 < box.x0


@pytest.mark.parametrize("layers", SIZES)
def test_figures_fit_a_column_or_two(make_frame, layers):
    width, height = draw_angular(make_frame(layers), title=LONG).get_size_inches()
    assert 3.3 <= width <= 6.9
    assert height < 7.5


def test_outside_text_is_never_read_as_mathematics(make_frame):
    figure = draw_angular(make_frame(3), title="cost $5 and $6 \\frac", caption="$x^2$ _y_")
    figure.canvas.draw()
    assert [text.get_text() for text in figure.texts] == ["cost $5 and $6 \\frac", "$x^2$ _y_"]
    assert not any(text.get_parse_math() for text in figure.texts)


def test_letters_the_font_lacks_become_question_marks():
    assert printable("模型/llama\n\t7b\x07") == "??/llama 7b?"


@given(st.text(alphabet="ab-/_ .W=", max_size=120), st.floats(0.5, 4))
def test_fitted_lines_fit_and_lose_nothing(text, room):
    lines = fit(text, 7, room)
    assert all(width_in(line, 7) <= room for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


def test_an_equation_stays_on_one_line():
    assert fit("Angular distance (n = 1)", 7, 1.2, "bold") == ["Angular distance", "(n = 1)"]


def test_a_title_shrinks_before_it_takes_another_line():
    size, lines = fit_title("x" * 30, width_in("x" * 30, 7.6, "bold"))
    assert (size, len(lines)) == (7.5, 1)


def test_equal_distances_are_drawn_with_a_scale(make_frame):
    _, bar, mesh = parts(draw_angular(make_frame(4, lambda layer, n: 0.3)))
    low, high = mesh.get_clim()
    assert low < 0.3 < high
    assert len(bar.get_yticks()) >= 2


@pytest.mark.parametrize("layers", [2, 32, 126])
def test_marks_can_be_told_from_their_cell_in_grey_too(make_frame, layers):
    axes, _, mesh = parts(draw_angular(make_frame(layers)))
    (marks,) = axes.lines

    def grey(colour):
        return float(np.dot(matplotlib.colors.to_rgb(colour), [0.299, 0.587, 0.114]))

    for value in mesh.get_array():
        cell = grey(mesh.cmap(mesh.norm(value)))
        inside, outside = grey(marks.get_markerfacecolor()), grey(marks.get_markeredgecolor())
        assert max(abs(cell - inside), abs(cell - outside)) > 0.4


def test_drawing_leaves_the_users_style_alone_and_ignores_it(make_frame):
    def drawn():
        figure = draw_angular(make_frame(4), title="t")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=100)
        return np.asarray(Image.open(buffer).convert("L"))

    plain = drawn()
    with matplotlib.rc_context({"axes.labelsize": 30, "axes.spines.left": True, "image.cmap": "jet"}):
        before = dict(matplotlib.rcParams)
        assert (drawn() == plain).all()
        assert dict(matplotlib.rcParams) == before
