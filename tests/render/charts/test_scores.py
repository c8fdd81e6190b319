"""What is measured of a layer, as an axis shows it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from depthprobe.findings.scores import proxies
from depthprobe.render.charts.kit.ticks import sparser
from depthprobe.render.charts.scores import GROWTH, shown_score

numbers = st.lists(
    st.floats(-1e6, 1e6, allow_subnormal=False).filter(lambda value: value == 0 or abs(value) > 1e-9),
    min_size=1,
    max_size=30,
)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("from_zero", [True, False])
@given(values=numbers)
def test_an_axis_holds_every_value_that_is_drawn(from_zero, values):
    found = shown_score("grad_norm", values, from_zero=from_zero)
    if all(value <= 0 for value in values) and found.scale.logarithmic:
        return
    known = found.values[np.isfinite(found.values)]
    assert ((known >= found.scale.low) & (known <= found.scale.high)).all()
    assert np.isfinite([found.scale.low, found.scale.high]).all() and found.scale.low < found.scale.high
    assert set(found.absent) == {
        n for n, value in enumerate(values) if found.scale.logarithmic and value <= 0
    }
    if from_zero and not found.scale.logarithmic:
        assert found.scale.low <= 0 <= found.scale.high


def test_what_spans_a_decade_is_logarithmic_and_what_does_not_is_even():
    assert shown_score("block_influence", [0.01, 0.2]).scale.logarithmic
    assert not shown_score("block_influence", [0.1, 0.2]).scale.logarithmic


def test_growth_is_shown_as_a_factor_and_a_first_layer_far_off_is_cut():
    found = shown_score(GROWTH, [4.3, 0.1, 0.2, -0.1, 0.15, 0.1, 0.05, 0.1])
    assert found.scale.logarithmic and found.values[0] == pytest.approx(np.exp(4.3))
    assert found.cut == (0,) and found.scale.high < 2
    assert found.scale.low <= found.at(0) <= found.scale.high and found.at(1) == found.values[1]
    assert shown_score(GROWTH, [0.3, 0.1, 0.2, -0.1, 0.15, 0.1, 0.05, 0.1]).cut == ()


def test_a_score_that_is_known_of_no_layer_is_not_shown():
    assert shown_score("grad_norm", [np.nan, np.nan]) is None


def test_every_proxy_has_words_that_begin_with_a_capital():
    for proxy in proxies():
        found = shown_score(proxy, [0.1, 0.2])
        assert found.words[0].isupper() and found.label[0].isupper()


def test_labels_that_have_no_room_leave_their_tick():
    found = shown_score("grad_norm", [0.0, 0.97])
    fewer = found.with_labels(2)
    assert len(fewer.scale.places) <= 2 < len(found.scale.places)
    assert sorted([*fewer.scale.places, *fewer.scale.small]) == sorted(
        [*found.scale.places, *found.scale.small]
    )
    assert fewer.scale.places[0] == 0 and len(fewer.scale.labels) == len(fewer.scale.places)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 11))
def test_ticks_that_keep_their_labels_are_equally_far_apart_and_hold_0(count, most, zero):
    places = [float(place - zero) for place in range(count)]
    kept = sparser(places, most)
    assert 1 <= len(kept) <= most
    assert len(set(np.diff(kept))) <= 1
    if zero < count:
        assert zero in kept


def test_on_a_logarithmic_axis_the_powers_of_ten_keep_their_labels():
    assert sparser([0.03, 0.1, 0.3, 1.0, 3.0], 3, logarithmic=True) == [1, 3]
    assert len(sparser([1e-3, 1e-2, 1e-1, 1.0, 10.0], 2, logarithmic=True)) <= 2
