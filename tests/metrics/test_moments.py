import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from depthprobe.metrics.moments import Moments


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1000), st.lists(st.integers(0, 7), min_size=1, max_size=6), st.floats(-6, 6))
def test_any_cut_into_batches_gives_numpys_mean_and_deviation(seed, sizes, log_offset):
    values = np.random.default_rng(seed).normal(size=(sum(sizes) + 2, 3)) + 10**log_offset
    moments = Moments()
    for part in np.split(values, np.cumsum(sizes)):
        moments.add(torch.from_numpy(part))
    assert moments.count == len(values)
    np.testing.assert_allclose(moments.mean, values.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.std, values.std(axis=0, ddof=1), rtol=1e-6)


def test_one_value_has_no_deviation_and_none_has_no_mean():
    moments = Moments()
    with pytest.raises(ValueError, match="no values"):
        _ = moments.mean
    moments.add(torch.ones(1, 2))
    assert moments.std.tolist() == [0.0, 0.0]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1000), st.lists(st.integers(0, 7), min_size=1, max_size=6), st.floats(-6, 6))
def test_moments_of_parts_merge_to_those_of_the_whole_also_where_a_part_is_empty(seed, sizes, log_offset):
    values = np.random.default_rng(seed).normal(size=(sum(sizes) + 2, 3)) + 10**log_offset
    total = Moments()
    for part in np.split(values, np.cumsum(sizes)):
        moments = Moments()
        for row in part:
            moments.add(torch.from_numpy(row)[None])
        before = moments.count
        total.merge(moments)
        assert moments.count == before == len(part)
    assert total.count == len(values)
    np.testing.assert_allclose(total.mean, values.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(total.std, values.std(axis=0, ddof=1), rtol=1e-6)


def test_nothing_merged_with_nothing_has_no_mean():
    moments = Moments()
    moments.merge(Moments())
    with pytest.raises(ValueError, match="no values"):
        _ = moments.mean
    assert moments.count == 0
