import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from depthprobe.findings.growth import EXPONENTIAL, LINEAR, OPEN, UNSTEADY, growth_of

LAYERS = st.integers(4, 126)


def layers_of(count):
    return np.arange(1, count + 1, dtype="float64")


@given(LAYERS, st.floats(1e-6, 1e6), st.floats(0.05, 0.5), st.sampled_from([-1, 1]))
def test_an_exact_exponential_is_recovered_and_judged_so(count, start, rate, sign):
    rate = sign * rate * 12 / count  # at least a factor of 1.5 in all
    values = start * np.exp(rate * layers_of(count))
    growth = growth_of(values)
    assert growth.verdict == EXPONENTIAL
    assert growth.rate == pytest.approx(rate, rel=1e-6)
    assert growth.exponential.start == pytest.approx(start, rel=1e-6)
    assert growth.low <= growth.rate <= growth.high
    assert growth.exponential.r_squared == pytest.approx(1)
    assert growth.exponential.error == pytest.approx(0, abs=1e-6)
    assert growth.linear.error > growth.exponential.error
    np.testing.assert_allclose(growth.exponential.values, values, rtol=1e-6)


@given(LAYERS, st.floats(1e-6, 1e6), st.floats(0.1, 100), st.booleans())
def test_an_exact_line_is_recovered_and_judged_so(count, scale, rise, falls):
    values = scale * (1 + rise * (layers_of(count) - 1))
    assume(values[-1] > 1.5 * values[0])
    values = values[::-1] if falls else values
    growth = growth_of(values)
    assert growth.verdict == LINEAR
    assert growth.linear.r_squared == pytest.approx(1)
    assert growth.linear.error == pytest.approx(0, abs=1e-6)
    slope = (values[-1] - values[0]) / (count - 1)
    assert growth.linear.rate == pytest.approx(slope, rel=1e-6)
    assert growth.linear.start == pytest.approx(values[0] - slope, rel=1e-6, abs=1e-6 * values.max())
    np.testing.assert_allclose(growth.linear.values, values, rtol=1e-6)


PROFILES = st.lists(st.floats(-3, 3), min_size=3, max_size=30).filter(lambda logs: np.ptp(logs) > 1e-3)


@example([-0.8025325877220006, 2.25, -0.8025325877220006], 115335.0)  # rises as it falls
@given(PROFILES, st.floats(1e-12, 1e12))
def test_the_judgement_is_the_same_in_every_unit(logs, scale):
    values = np.exp(logs)
    growth, scaled = growth_of(values), growth_of(scale * values)
    assert scaled.verdict == growth.verdict
    assert (scaled.rate, scaled.low, scaled.high) == pytest.approx((growth.rate, growth.low, growth.high))
    for before, after in ((growth.exponential, scaled.exponential), (growth.linear, scaled.linear)):
        assert after.r_squared == pytest.approx(before.r_squared, abs=1e-6)
        assert after.error == pytest.approx(before.error, rel=1e-5, abs=1e-6)
        np.testing.assert_allclose(after.values, scale * before.values, rtol=1e-4)


@given(PROFILES)
def test_fits_are_positive_and_no_worse_than_a_level_line_or_a_rough_search(logs):
    values = np.exp(logs)
    growth = growth_of(values)
    logs = np.log(values)
    for fit in (growth.exponential, growth.linear):
        assert (fit.values > 0).all()
        assert -1e-9 <= fit.r_squared <= 1
        assert np.log1p(fit.error) ** 2 == pytest.approx(np.mean((logs - np.log(fit.values)) ** 2))
    # Both are least squares of log v: no pair of ends of a line, nor of a curve, does better.
    share = np.linspace(0, 1, len(logs))
    ends = np.linspace(logs.min() - 1, logs.max() + 1, 23)
    first, last = (grid[..., None] for grid in np.meshgrid(ends, ends))
    lines = np.log((1 - share) * np.exp(first) + share * np.exp(last))
    curves = (1 - share) * first + share * last
    for fit, tried in ((growth.linear, lines), (growth.exponential, curves)):
        squares = np.sum((logs - np.log(fit.values)) ** 2)
        assert squares <= ((logs - tried) ** 2).sum(axis=-1).min() * (1 + 1e-9) + 1e-12


def test_the_interval_is_that_of_an_ordinary_regression():
    values = np.array([1.0, 1.9, 2.1, 4.2, 5.0, 9.1])
    x, y = layers_of(6), np.log(values)
    slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
    left = y - y.mean() - slope * (x - x.mean())
    error = np.sqrt((left**2).sum() / 4 / ((x - x.mean()) ** 2).sum())
    growth = growth_of(values)
    assert growth.rate == pytest.approx(slope)
    assert growth.high - growth.rate == pytest.approx(2.7764451051977987 * error)  # t, 4 degrees, 97.5%
    assert growth.rate - growth.low == pytest.approx(2.7764451051977987 * error)


@pytest.mark.parametrize("seed", range(5))
def test_noise_without_a_trend_is_no_steady_growth(seed):
    noise = np.random.default_rng(seed).normal(0, 0.1, 32)
    x = layers_of(32)
    noise -= np.polynomial.Polynomial.fit(x, noise, 1)(x)
    growth = growth_of(np.exp(noise))
    assert growth.verdict == UNSTEADY
    assert growth.low < 0 < growth.high


def test_little_growth_in_noise_cannot_be_told_apart():
    x = layers_of(12)
    noise = np.random.default_rng(3).normal(0, 0.1, 12)
    assert growth_of(np.exp(0.09 * x + noise)).verdict == OPEN


def test_growth_between_the_two_forms_cannot_be_told_apart():
    assert growth_of(layers_of(32) ** 2).verdict == OPEN


def test_a_line_from_nearly_nothing_is_a_line_though_no_exponential_grows_steadily_there():
    growth = growth_of(0.001 + 5 * (layers_of(3) - 1))
    assert growth.low < 0 < growth.high
    assert growth.verdict == LINEAR


@pytest.mark.parametrize(
    "values", [[], [1.0], [1.0, 2.0], [1.0, 0.0, 2.0], [3.0] * 12, [1.0, 1.0 + 1e-12, 1.0 - 1e-12]]
)
def test_there_is_nothing_to_fit_in_few_layers_zeros_and_a_constant(values):
    assert growth_of(values) is None


@given(st.lists(st.floats(1e-30, 1e30), min_size=3, max_size=40))
def test_every_profile_has_a_verdict_or_nothing_to_fit(values):
    growth = growth_of(values)
    assert growth is None or growth.verdict in (EXPONENTIAL, LINEAR, UNSTEADY, OPEN)
