import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from depthprobe.errors import RunError
from depthprobe.findings.angular import QuietStretch
from support.readings import angular_findings


def best_blocks(frame):
    return angular_findings(frame).best


def quiet_stretch(frame):
    return angular_findings(frame).quiet


def reading(frame):
    (sentence,) = angular_findings(frame).sentences
    return sentence


def turning(*distances):
    """A frame whose single layers turn the stream by these distances."""
    layers = len(distances)
    rows = [
        (layer, n, distances[layer] if n == 1 else 0.9, 0.0, 1)
        for layer in range(layers)
        for n in range(1, layers - layer + 1)
    ]
    return pd.DataFrame(rows, columns=["layer", "n", "distance", "std", "samples"])


@st.composite
def frames(draw):
    """Tables of any small model in any order of rows; few distinct distances, so that there are ties."""
    layers = draw(st.integers(1, 7))
    rows = [
        (layer, n, draw(st.sampled_from([0.1, 0.2, 0.3])), draw(st.floats(0, 1)), 3)
        for layer in range(layers)
        for n in range(1, layers - layer + 1)
    ]
    return pd.DataFrame(draw(st.permutations(rows)), columns=["layer", "n", "distance", "std", "samples"])


@given(frames())
def test_the_best_blocks_are_those_of_a_plain_loop(frame):
    cells = {(row.n, row.layer): row.distance for row in frame.itertuples()}
    layers = max(n for n, _ in cells)
    expected = []
    for n in range(1, layers + 1):
        best = 0
        for layer in range(1, layers - n + 1):
            if cells[n, layer] < cells[n, best]:
                best = layer
        expected.append((n, best, best + n - 1, cells[n, best]))
    found = best_blocks(frame)
    assert (
        list(found[["n", "layer", "last_layer", "distance"]].itertuples(index=False, name=None)) == expected
    )


def test_best_blocks_name_the_removed_layers(make_frame):
    best = best_blocks(make_frame(4, lambda layer, n: 0.1 if layer + n == 4 else 0.2))
    assert list(best.columns) == ["n", "layer", "last_layer", "distance", "std", "samples", "removed"]
    assert best["removed"].tolist() == ["3", "2-3", "1-3", "0-3"]


def test_published_llama_3_8b_rows_are_read_as_published():
    # short-transformers' README: n=1 layer 25, n=3 layers 25-27.
    rows = [(25, 1, 0.123), (24, 1, 0.13), (25, 3, 0.181), (24, 3, 0.19)]
    frame = pd.DataFrame(rows, columns=["layer", "n", "distance"]).assign(std=0.0, samples=1)
    assert best_blocks(frame)["removed"].tolist() == ["25", "25-27"]


def test_the_frame_is_left_as_it_was(make_frame):
    frame = make_frame(5)
    before = frame.copy()
    best_blocks(frame), quiet_stretch(frame), reading(frame)
    pd.testing.assert_frame_equal(frame, before)


def test_the_quiet_stretch_is_the_longest_run_below_the_median():
    frame = turning(0.5, 0.1, 0.4, 0.2, 0.2, 0.15, 0.6, 0.7)
    assert quiet_stretch(frame) == QuietStretch(3, 5, 0.15, 0.2)


def test_of_equally_long_stretches_the_quieter_counts_and_then_the_earlier():
    assert quiet_stretch(turning(0.2, 0.9, 0.1, 0.9)).first == 2
    assert quiet_stretch(turning(0.1, 0.9, 0.1, 0.9)).first == 0


@given(frames())
def test_every_layer_of_the_quiet_stretch_is_below_the_median(frame):
    single = frame[frame["n"] == 1].set_index("layer")["distance"].sort_index()
    stretch = quiet_stretch(frame)
    if stretch is None:
        assert not (single < single.median()).any()
    else:
        inside = single.loc[stretch.first : stretch.last]
        assert (inside < single.median()).all()
        assert (stretch.lowest, stretch.highest) == (inside.min(), inside.max())


@pytest.mark.parametrize(
    ("distances", "sentence"),
    [
        ([0.412], "The only layer, 0, turns the stream by 0.412."),
        (
            [0.413, 0.031],
            "Quiet stretch: layer 1 (1 of 2, 0-based) turns the stream by 0.031; "
            "the median over all layers is 0.222, the largest is layer 0 with 0.413.",
        ),
        (
            [0.412, 0.071, 0.052, 0.031, 0.071, 0.2],
            "Quiet stretch: layers 2-3 (2 of 6, 0-based) turn the stream by 0.031-0.052 each; "
            "the median over all layers is 0.071, the largest is layer 0 with 0.412.",
        ),
        (
            [0.4, 0.1, 0.1, 0.3],
            "Quiet stretch: layers 1-2 (2 of 4, 0-based) turn the stream by 0.100 each; "
            "the median over all layers is 0.200, the largest is layer 0 with 0.400.",
        ),
        ([0.1, 0.1, 0.1], "No quiet stretch: each of the 3 layers turns the stream by 0.100."),
        ([0.0, 0.0], "No quiet stretch: each of the 2 layers turns the stream by 0.000."),
        ([0.1, 0.1, 0.3], "No quiet stretch: no layer is below the median over all 3 layers, 0.100."),
        (
            [0.0005, 0.0004],
            "Quiet stretch: layer 1 (1 of 2, 0-based) turns the stream by 0.00040; "
            "the median over all layers is 0.00045, the largest is layer 0 with 0.00050.",
        ),
    ],
)
def test_the_reading_is_one_true_sentence(distances, sentence):
    assert reading(turning(*distances)) == sentence


@given(frames())
def test_every_table_has_a_reading(frame):
    sentence = reading(frame)
    assert sentence.endswith(".")
    assert "nan" not in sentence


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda frame: frame.drop(columns=["std"]), "lacks: std"),
        (lambda frame: frame.iloc[:0], "has no rows"),
        (lambda frame: frame.assign(distance=np.nan), "holds NaN"),
        (lambda frame: frame.assign(layer=frame["layer"] - 1), "a layer below 0"),
    ],
)
def test_what_is_no_table_of_distances_is_refused(make_frame, change, sentence):
    with pytest.raises(RunError, match=sentence):
        best_blocks(change(make_frame(3)))
