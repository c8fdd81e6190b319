import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from depthprobe.metrics.margins import items_needed, joint_interval
from depthprobe.metrics.paired import paired_difference


def joint(found, tests, changed=None):
    flips = found.flips if changed is None else changed
    return joint_interval(
        found.difference, found.ci_low, found.ci_high, changed=flips, docs=found.docs, tests=tests
    )


@given(
    st.integers(1, 60).flatmap(
        lambda docs: st.tuples(*[st.lists(st.sampled_from([0.0, 1.0]), min_size=docs, max_size=docs)] * 2)
    ),
    st.integers(2, 100),
)
def test_of_right_and_wrong_answers_it_is_the_same_interval_at_a_higher_confidence(scores, tests):
    whole, variant = map(np.array, scores)
    found = paired_difference(whole, variant)
    wider = paired_difference(whole, variant, confidence=1 - 0.05 / tests)
    assert joint(found, tests) == pytest.approx((wider.ci_low, wider.ci_high), abs=1e-9)


@given(st.integers(0, 10**6), st.integers(5, 200), st.integers(2, 100))
def test_of_other_scores_it_is_students_t_at_a_higher_confidence(seed, docs, tests):
    whole, variant = np.random.default_rng(seed).normal(size=(2, docs))
    found = paired_difference(whole, variant)
    change = variant - whole
    margin = stats.t.ppf(1 - 0.025 / tests, docs - 1) * change.std(ddof=1) / math.sqrt(docs)
    assert joint(found, tests, docs) == pytest.approx(
        (change.mean() - margin, change.mean() + margin), rel=1e-9, abs=1e-12
    )


def test_where_nothing_varied_it_covers_what_may_not_have_been_seen():
    found = paired_difference(np.ones(50) * 2.0 + np.arange(50), np.ones(50) * 2.0 + np.arange(50))
    wider = paired_difference(
        np.ones(50) * 2.0 + np.arange(50), np.ones(50) * 2.0 + np.arange(50), confidence=1 - 0.05 / 12
    )
    assert joint(found, 12, 0) == pytest.approx((wider.ci_low, wider.ci_high), rel=0.1)


def test_of_one_test_it_is_the_interval_itself():
    assert joint_interval(0.1, 0.0, 0.3, changed=math.nan, docs=9, tests=1) == (0.0, 0.3)


def test_joint_intervals_hold_together_in_about_95_of_100_sweeps():
    generator = np.random.default_rng(5)
    docs, layers, held = 120, 8, 0
    for _ in range(150):
        whole = generator.random(docs) < 0.6
        found = [paired_difference(whole, whole ^ (generator.random(docs) < 0.1)) for _ in range(layers)]
        # Of flips at random, right answers become wrong more often: 0.1 * (0.4 - 0.6).
        held += all(low <= -0.02 <= high for low, high in (joint(one, layers) for one in found))
    assert held / 150 >= 0.9


@pytest.mark.parametrize(("size", "rate", "tests"), [(0.05, 0.1, 12), (0.02, 0.05, 32), (0.1, 0.1, 1)])
def test_the_items_that_are_needed_find_the_drop_four_times_in_five(size, rate, tests):
    docs = items_needed(size, missed=0.3, docs=25, flip_rate=rate, tests=tests)
    generator = np.random.default_rng(7)
    flips = generator.binomial(docs, rate, 4000)
    losses = generator.binomial(flips, (rate + size) / (2 * rate))
    p = np.minimum(1, 2 * special.bdtr(np.minimum(losses, flips - losses), flips, 0.5))
    assert np.mean(p < 0.05 / tests) == pytest.approx(0.8, abs=0.09)


def test_the_error_of_other_scores_goes_with_the_root_of_the_items():
    assert items_needed(0.05, missed=0.5, docs=16) == 1600
