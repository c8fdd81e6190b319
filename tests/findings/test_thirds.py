import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from depthprobe.findings.thirds import FEWEST_LAYERS, compared_thirds, thirds


@given(st.lists(st.floats(-5, 5), min_size=FEWEST_LAYERS, max_size=80))
def test_means_are_those_of_the_two_ends_and_the_interval_holds_the_difference(values):
    values = np.array(values)
    size = len(values) // 3
    found = compared_thirds(values)
    assert found.shallow == pytest.approx(values[:size].mean(), abs=1e-12)
    assert found.deep == pytest.approx(values[-size:].mean(), abs=1e-12)
    assert found.shallow_layers == range(size)
    assert found.deep_layers == range(len(values) - size, len(values))
    assert found.low - 1e-9 <= found.difference <= found.high + 1e-9
    assert compared_thirds(values[::-1].copy()).difference == pytest.approx(-found.difference, abs=1e-12)


def test_without_the_ends_the_first_and_the_last_layer_do_not_count():
    values = np.arange(12.0)
    spoilt = values.copy()
    spoilt[[0, -1]] = 1e6
    assert compared_thirds(spoilt, ends=False) == compared_thirds(values, ends=False)
    assert compared_thirds(values, ends=False).shallow_layers == range(1, 4)
    assert compared_thirds(values, ends=False).deep_layers == range(8, 11)


def test_the_interval_is_about_that_of_the_normal_approximation():
    generator = np.random.default_rng(1)
    values = generator.normal(size=120)
    size = 40
    found = compared_thirds(values)
    spread = np.sqrt(values[:size].var() / size + values[-size:].var() / size)
    assert (found.high - found.low) / (2 * 1.96 * spread) == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize(("layers", "ends", "least"), [(12, False, 0.88), (12, True, 0.93), (30, True, 0.93)])
def test_about_95_of_100_intervals_hold_the_true_difference_also_of_few_layers(layers, ends, least):
    # Plain percentiles hold 0.81, 0.86 and 0.89 here.
    generator = np.random.default_rng(11)
    found = [compared_thirds(generator.normal(size=layers), ends=ends) for _ in range(300)]
    held = np.mean([one.low <= 0 <= one.high for one in found])
    assert least <= held <= 0.99


def test_few_layers_or_gaps_have_no_interval():
    assert compared_thirds(np.arange(FEWEST_LAYERS - 1.0)) is None
    assert compared_thirds(np.array([0.0] * 11 + [np.nan])) is None


def test_thirds_are_the_means_of_the_layers_with_a_value_at_both_ends():
    found = thirds([1, 2, 5, 5, 5, 3, 7])
    assert (found.shallow, found.deep, found.difference) == (1.5, 5.0, 3.5)
    assert (found.shallow_layers, found.deep_layers) == (range(2), range(5, 7))
    with_a_gap = thirds([1, 2, 5, 5, 5, 3, float("nan")])
    assert (with_a_gap.shallow, with_a_gap.deep) == (1.5, 3.0)
    assert thirds([1, 2]) is None and thirds([1, 2, float("nan")]) is None
    assert thirds([1, 2, 3, 4], ends=False) is None


def test_a_trend_has_a_sign_and_noise_has_none():
    falling = np.linspace(1, 0, 30)
    assert compared_thirds(falling).sign == -1 and compared_thirds(-falling).sign == 1
    assert compared_thirds(np.tile([0.0, 1.0], 15)).sign == 0
