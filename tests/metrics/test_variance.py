import math
import statistics

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from depthprobe.metrics.variance import (
    block_influence,
    contribution_ratio,
    hidden_variance,
    root_mean_square,
)


def drawn(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cosine(u, v):
    dot = math.fsum(a * b for a, b in zip(u, v, strict=True))
    return dot / math.sqrt(math.fsum(a * a for a in u) * math.fsum(b * b for b in v))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 40), st.floats(-3, 3))
def test_every_formula_equals_plain_loops_over_every_token(seed, hidden, log_step):
    x = drawn(seed, 2, 3, hidden) + 0.5
    y = x + 10**log_step * drawn(seed + 1, 2, 3, hidden)
    found = [hidden_variance(x), root_mean_square(x), block_influence(x, y), contribution_ratio(x, y)]
    for sample in range(2):
        for token in range(3):
            u, v = x[sample, token].tolist(), y[sample, token].tolist()
            step = [b - a for a, b in zip(u, v, strict=True)]
            wanted = [
                statistics.variance(u),
                math.sqrt(math.fsum(a * a for a in u) / hidden),
                1 - cosine(u, v),
                math.hypot(*step) / math.hypot(*u),
            ]
            assert [f[sample, token].item() for f in found] == pytest.approx(wanted, rel=1e-9, abs=1e-13)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
def test_size_follows_scale_and_variance_is_blind_to_a_shift(seed, scale, shift):
    x = drawn(seed, 5, 16)
    assert torch.allclose(hidden_variance(scale * x), scale**2 * hidden_variance(x), rtol=1e-12)
    assert torch.allclose(root_mean_square(scale * x), scale * root_mean_square(x), rtol=1e-12)
    assert torch.allclose(hidden_variance(x + shift), hidden_variance(x), rtol=1e-8)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_influence_is_blind_to_length_and_within_its_bounds(seed, before, after):
    x, y = drawn(seed, 2, 5, 8)
    influence = block_influence(x, y)
    assert torch.allclose(block_influence(before * x, after * y), influence, rtol=1e-12, atol=1e-15)
    assert ((influence >= 0) & (influence <= 2)).all()
    assert torch.allclose(block_influence(y, x), influence)
    assert torch.allclose(block_influence(x, -x), torch.full((5,), 2.0, dtype=torch.float64))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(1e-3, 1e3))
def test_ratio_is_blind_to_a_common_scale_and_counts_what_a_block_multiplies_with(seed, scale):
    x, y = drawn(seed, 2, 5, 8)
    assert torch.allclose(contribution_ratio(scale * x, scale * y), contribution_ratio(x, y), rtol=1e-12)
    expected = torch.full((5,), abs(scale - 1), dtype=torch.float64)
    assert torch.allclose(contribution_ratio(x, scale * x), expected, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_block_that_does_nothing_has_no_influence_in_any_precision(dtype):
    x = drawn(0, 200, 64).to(dtype)
    assert block_influence(x, x).abs().max() == 0 and contribution_ratio(x, x).abs().max() == 0
    assert hidden_variance(x).dtype == root_mean_square(x).dtype == torch.float64


def test_a_block_that_barely_turns_the_stream_keeps_its_digits():
    angle = 1e-7  # 1 - cos is 5e-15: the difference of numbers near 1 would keep two digits
    x = torch.tensor([1.0, 0.0], dtype=torch.float64)
    y = torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
    assert block_influence(x, y).item() == pytest.approx(angle**2 / 2, rel=1e-8)


def test_half_precision_does_not_overflow_on_the_way():
    x = torch.full((1, 4), 60_000.0, dtype=torch.float16)
    assert root_mean_square(x).item() == pytest.approx(60_000, rel=1e-3)
    assert hidden_variance(torch.cat([x, -x], dim=1)).item() == pytest.approx(60_000**2 * 8 / 7, rel=1e-3)


def test_a_zero_vector_has_no_direction():
    x, y = torch.zeros(3), torch.ones(3)
    assert block_influence(x, y).isnan() and block_influence(y, x).isnan()
    assert not contribution_ratio(x, y).isfinite()
