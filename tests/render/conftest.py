import numpy as np
import pandas as pd
import pytest

from depthprobe.measurement import Column, Measurement, Table
from depthprobe.results.store import reserve, save

NAMES = ("layer", "n", "distance", "std", "samples")


@pytest.fixture
def make_frame():
    """A table of angular distances of a model of L layers: a walk on a circle, or the given function."""

    def make(layers, distance=None, seed=0):
        steps = np.random.default_rng(seed).uniform(0.01, 0.1, layers)
        distance = distance or (lambda layer, n: min(1.0, float(np.hypot.reduce(steps[layer : layer + n]))))
        rows = [
            (layer, n, distance(layer, n), 0.01, 64)
            for layer in range(layers)
            for n in range(1, layers - layer + 1)
        ]
        return pd.DataFrame(rows, columns=NAMES)

    return make


@pytest.fixture
def make_run(tmp_path, make_frame):
    """A saved run of the angular probe."""

    def make(layers=6, model="owner/name", probe="angular"):
        frame = make_frame(layers)
        table = Table("angular", frame, tuple(Column(name, "", name) for name in NAMES))
        manifest = {
            "model": {"id": model, "layers": layers},
            "data": {"dataset": "builtin", "samples": 64, "tokens": 9000, "seq_len": 256},
        }
        place = reserve(tmp_path / "reports", model, probe, {"model": model, "layers": layers})
        return save(place, Measurement(probe, (table,)), manifest)

    return make
