import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from depthprobe.metrics.angular import angular_distance, pairwise_angular_distance


def reference(u, v):
    """arccos in 50 digits is not needed: numpy float64 arctan2 of the explicit vectors."""
    u = np.asarray(u, dtype=np.float64) / np.linalg.norm(np.asarray(u, dtype=np.float64))
    v = np.asarray(v, dtype=np.float64) / np.linalg.norm(np.asarray(v, dtype=np.float64))
    return 2 * np.arctan2(np.linalg.norm(u - v), np.linalg.norm(u + v)) / np.pi


@pytest.mark.parametrize("degrees", [0, 1e-5, 0.1, 30, 45, 90, 135, 179.9, 180])
def test_known_angles_come_out(degrees):
    angle = math.radians(degrees)
    u, v = torch.tensor([[1.0, 0.0], [math.cos(angle), math.sin(angle)]], dtype=torch.float64)
    assert angular_distance(u, v).item() == pytest.approx(degrees / 180, abs=1e-14)
    points = torch.stack([u, v])[None]
    assert pairwise_angular_distance(points)[0, 0, 1].item() == pytest.approx(degrees / 180, abs=2e-8)


def test_a_vector_has_no_distance_to_itself_in_any_precision():
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        vectors = (
            torch.randn(200, 1, 64, generator=torch.Generator().manual_seed(0)).to(dtype).expand(-1, 3, -1)
        )
        assert pairwise_angular_distance(vectors).abs().max() == 0
        assert angular_distance(vectors[:, 0], vectors[:, 1]).abs().max() == 0


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 40), st.floats(-9, 2))
def test_pairs_equal_the_plain_formula_down_to_nearly_parallel_vectors(seed, hidden, log_noise):
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(1, 1, hidden, generator=generator, dtype=torch.float64)
    points = base + 10**log_noise * torch.randn(2, 4, hidden, generator=generator, dtype=torch.float64)
    distances = pairwise_angular_distance(points)
    for s in range(2):
        for i in range(4):
            for j in range(4):
                assert distances[s, i, j].item() == pytest.approx(
                    reference(points[s, i], points[s, j]), abs=3e-8
                )


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.floats(1e-3, 1e3))
def test_distance_is_a_metric_blind_to_length(seed, scale):
    points = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(seed))
    distances = pairwise_angular_distance(points)
    assert torch.allclose(distances, distances.transpose(1, 2), rtol=0, atol=1e-14)
    assert ((distances >= 0) & (distances <= 1)).all()
    assert torch.allclose(pairwise_angular_distance(points.double() * scale), distances, atol=1e-7)
    through = distances[:, :, :, None] + distances[:, None, :, :]  # i -> k -> j, over the middle axis
    assert (through.amin(dim=2) >= distances - 1e-7).all()


def test_a_zero_vector_has_no_direction():
    points = torch.randn(1, 3, 4)
    points[0, 1] = 0
    assert pairwise_angular_distance(points)[0, 1].isnan().all()
    assert angular_distance(points[0, 1], points[0, 0]).isnan()
