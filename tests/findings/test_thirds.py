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


def test_thirds_are_the_means_over_both_ends():
    found = thirds([1, 2, 3, 4, *[9] * 4, 5, 6, 7, 8])
    assert (found.shallow, found.deep, found.difference) == (2.5, 6.5, 4.0)
    assert (found.shallow_layers, found.deep_layers) == (range(4), range(8, 12))


@pytest.mark.parametrize("ends", [True, False])
def test_what_has_thirds_without_an_interval_has_them_with_one_and_the_reverse(ends):
    for layers in range(30):
        for gap in (None, 0, 1, layers // 2, layers - 2, layers - 1):
            values = np.arange(float(layers))
            if layers > 1 and gap is not None:
                values[gap] = np.nan
            assert (thirds(values, ends=ends) is None) == (compared_thirds(values, ends=ends) is None)
    assert thirds(np.arange(FEWEST_LAYERS - 1.0)) is None and thirds(np.arange(float(FEWEST_LAYERS)))


def test_a_third_with_a_gap_is_not_that_of_the_layers_that_are_known():
    values = np.arange(12.0)
    values[2] = np.nan
    assert thirds(values) is None
    values[2], values[5] = 2, np.nan
    assert thirds(values).deep == 9.5


def test_a_trend_has_a_sign_and_noise_has_none():
    falling = np.linspace(1, 0, 30)
    assert compared_thirds(falling).sign == -1 and compared_thirds(-falling).sign == 1
    assert compared_thirds(np.tile([0.0, 1.0], 15)).sign == 0
