"""Proxies against drops, a dot a layer: dots in their places, every name legible."""

import numpy as np
import pytest
from matplotlib.collections import PathCollection

from depthprobe.errors import RunError
from depthprobe.render.charts.kit.page_sizes import drawn_for
from depthprobe.render.charts.trust import draw_trust_scatter
from depthprobe.render.report.figures import trust_figures
from support.legibility import check_print
from support.made_up_runs import sweep_rows, write_angular, write_model, write_sweep
from support.readings import findings_in

DATA = "allenai/c4, 64 samples of up to 256 tokens, " * 4
LONG = "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B-some-very-long-suffix-for-testing-2026"


@pytest.fixture(scope="module", params=[6, 12, 32, 126])
def findings(request, tmp_path_factory):
    return findings_in(write_model(tmp_path_factory.mktemp("runs"), request.param, ("mmlu", "wikitext")))


def dots_of(axes):
    """What marks are drawn, in the order of the layers: what kind, its place in data, its face."""
    to_data = axes.transData.inverted().transform
    (dots,) = (artist for artist in axes.collections if isinstance(artist, PathCollection))
    places = to_data(axes.transAxes.transform(dots.get_offsets()))
    # A circle has many corners; a triangle that points somewhere is named by where its tip lies.
    marks = ["o" if len(path) > 10 else pointing(path.vertices[:3]) for path in dots.get_paths()]
    return list(zip(marks, places, dots.get_facecolors(), strict=True))


def pointing(corners):
    (across, up) = corners[0] - corners[1:].mean(axis=0)
    return ("<" if across < 0 else ">") if abs(across) > abs(up) else ("v" if up < 0 else "^")


@pytest.mark.parametrize("style", ["auto", "slides"])
@pytest.mark.parametrize("task", ["mmlu", "calibration"])
def test_no_text_is_clipped_or_overlaps(findings, task, style):
    with drawn_for(style):
        figure = draw_trust_scatter(findings, task, title=LONG, caption=DATA)
        check_print(figure)


@pytest.mark.parametrize("task", ["mmlu", "wikitext", "calibration"])
def test_dots_stand_at_the_proxy_and_the_drop_of_their_layer(findings, task):
    trust, frame = findings.trust.correlations, findings.by_layer
    rows = trust[trust["task"] == task]
    figure = draw_trust_scatter(findings, task)
    for axes, proxy in zip(figure.axes[:2], (rows["proxy"].iloc[0], rows["proxy"].iloc[-1]), strict=True):
        dots = dots_of(axes)
        values = frame[proxy] if proxy != "variance_growth" else np.exp(frame[proxy])
        assert len(dots) == findings.layers
        for layer, (mark, place, _) in enumerate(dots):
            if mark == "o":
                assert place.tolist() == pytest.approx(
                    [values[layer], frame[f"drop_{task}"][layer]], rel=1e-6
                )


def test_downward_is_harm_for_accuracy_and_for_loss(findings):
    for task, sign in (("mmlu", 1), ("calibration", -1)):
        low, high = draw_trust_scatter(findings, task).axes[0].get_ylim()
        assert np.sign(high - low) == sign


def test_small_models_have_all_layers_named_and_large_ones_say_that_they_do_not(findings):
    figure = draw_trust_scatter(findings, "mmlu")
    said = " ".join(text.get_text() for text in figure.texts)
    for axes in figure.axes[:2]:
        named = [int(text.get_text()) for text in axes.texts]
        assert len(set(named)) == len(named) and set(named) <= set(range(findings.layers))
        if findings.layers <= 12:
            assert sorted(named) == list(range(findings.layers))
        elif findings.layers > 48:
            assert 20 <= len(named) <= 30 and "most wrongly" in said


def test_names_cover_no_dot(findings):
    figure = draw_trust_scatter(findings, "mmlu")
    figure.canvas.draw()
    for axes in figure.axes[:2]:
        middles = axes.transData.transform([place for _, place, _ in dots_of(axes)])
        for text in axes.texts:
            box = text.get_window_extent().padded(-0.5)
            assert not (((box.min < middles) & (middles < box.max)).all(axis=1)).any(), text.get_text()


def test_hollow_dots_are_drops_that_are_not_detectable(tmp_path):
    turns = np.linspace(0.3, 0.1, 8)
    drops = np.array([-0.2, -0.1, -0.08, -0.05, -0.001, -0.002, -0.003, -0.004])
    write_angular(tmp_path, 8, turns=turns)
    directory = write_sweep(tmp_path, 8, frame=sweep_rows("mmlu", drops))
    findings = findings_in(directory.parent)
    figure = draw_trust_scatter(findings, "mmlu")
    assert len(figure.axes) == 2  # one proxy, and what its colours mean
    hollow = [bool((face == 1).all()) for _, _, face in dots_of(figure.axes[0])]
    assert hollow == [False] * 4 + [True] * 4
    check_print(figure)


def test_a_drop_that_would_flatten_all_others_is_a_triangle_with_its_value_in_words(tmp_path):
    drops = -np.array([0.5, 0.004, 0.003, 0.005, 0.002, 0.004, 0.003, 0.006])
    write_angular(tmp_path, 8)
    directory = write_sweep(tmp_path, 8, frame=sweep_rows("mmlu", drops, half=0.002))
    findings = findings_in(directory.parent)
    figure = draw_trust_scatter(findings, "mmlu")
    assert [mark for mark, _, _ in dots_of(figure.axes[0])] == ["v"] + 7 * ["o"]
    assert "0" in [text.get_text() for text in figure.axes[0].texts]
    said = " ".join(text.get_text() for text in figure.texts)
    assert "axis cut: layer 0 at \N{MINUS SIGN}0.50" in said
    check_print(figure)


@pytest.mark.parametrize(
    ("highest", "heads"),
    [
        (0.2, ["Highest correlation: ", "Lowest: "]),
        (0.0, ["Highest correlation: ", "Lowest: "]),
        (-0.17, ["Highest correlation: ", "Lowest: "]),
    ],
)
def test_the_highest_and_the_lowest_correlation_are_called_so_and_none_best(tmp_path, highest, heads):
    findings = findings_in(write_model(tmp_path, 8))
    trust = findings.trust.correlations
    trust["spearman"] = np.where(trust.index == trust.index[0], highest, -0.5)
    said = [text.get_text() for text in draw_trust_scatter(findings, "mmlu").texts]
    words = ("Best: ", "Worst: ", "Highest correlation: ", "Lowest: ")
    assert [word for text in said for word in words if word in text] == heads
    figure = next(figure for figure in trust_figures(findings) if figure.name == "trust-mmlu")
    assert "best" not in (figure.heading + figure.caption).lower()
    assert ("none above 0" in figure.caption) == (highest <= 0)


def test_a_sweep_of_some_layers_shows_those(tmp_path):
    layers = list(range(0, 20, 2))
    directory = write_angular(tmp_path, 20)
    write_sweep(tmp_path, 20, frame=sweep_rows("mmlu", -np.linspace(0.2, 0.01, 10), layers=layers))
    findings = findings_in(directory.parent)
    figure = draw_trust_scatter(findings, "mmlu")
    assert sorted(int(text.get_text()) for text in figure.axes[0].texts) == layers


def test_a_task_that_nothing_was_compared_with_is_refused(tmp_path):
    findings = findings_in(write_angular(tmp_path, 12))
    with pytest.raises(RunError, match="compared with the drops of 'mmlu'"):
        draw_trust_scatter(findings, "mmlu")
