"""The norm of gradients: against exact arithmetic on plain numbers."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from depthprobe.metrics import gradients
from depthprobe.metrics.gradients import squared_norm

numbers = st.lists(st.floats(-1e6, 1e6, width=32), max_size=40)


@given(numbers, numbers)
def test_it_is_the_sum_of_squares_over_all_tensors(a, b):
    exact = float(sum(Fraction(x) ** 2 for x in a + b))
    assert squared_norm([torch.tensor(a), torch.tensor(b)]) == pytest.approx(exact, rel=1e-12)


@given(numbers, st.floats(0.01, 100))
def test_scaling_the_gradient_scales_it_by_the_square(values, scale):
    tensor = torch.tensor(values, dtype=torch.float64)
    assert squared_norm([scale * tensor]) == pytest.approx(scale**2 * squared_norm([tensor]), rel=1e-9)


def test_cutting_a_large_tensor_into_pieces_changes_nothing(monkeypatch):
    tensor = torch.randn(37, 11, generator=torch.Generator().manual_seed(0))
    whole = squared_norm([tensor])
    monkeypatch.setattr(gradients, "_AT_ONCE", 10)
    assert squared_norm([tensor.T]) == pytest.approx(whole, rel=1e-14)


def test_half_precision_is_squared_in_float64():
    tensor = torch.full((70_000,), 3e4, dtype=torch.float16)  # its square is beyond float16
    assert squared_norm([tensor]) == pytest.approx(70_000 * float(tensor[0]) ** 2, rel=1e-12)


def test_nothing_has_no_norm_and_nan_stays_nan():
    assert squared_norm([]) == 0.0 and squared_norm([torch.zeros(0)]) == 0.0
    assert math.isnan(squared_norm([torch.tensor([1.0, float("nan")])]))
