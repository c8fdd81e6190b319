"""What holds for all tests: a core each, a cache of their own, and failures of helpers told in full."""

import atexit
import os
import shutil
import tempfile

import pytest
from hypothesis import settings

# How long an example takes depends on what else runs, and on what it is the first to import.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

pytest.register_assert_rewrite("support")  # what fails there is told as in a test

# Two workers share the cores (``-n 2`` in pyproject.toml).
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What runs find out about a model is kept in the user's cache; tests have one of their own.
os.environ["DEPTHPROBE_CACHE"] = tempfile.mkdtemp(prefix="depthprobe-tests-")
atexit.register(shutil.rmtree, os.environ["DEPTHPROBE_CACHE"], ignore_errors=True)


@pytest.fixture
def make_frame():
    """A table of angular distances of a model of L layers: a walk on a circle, or the given function."""
    import numpy as np  # not before the number of threads is set
    import pandas as pd

    def make(layers, distance=None, seed=0):
        steps = np.random.default_rng(seed).uniform(0.01, 0.1, layers)
        distance = distance or (lambda layer, n: min(1.0, float(np.hypot.reduce(steps[layer : layer + n]))))
        rows = [
            (layer, n, distance(layer, n), 0.01, 64)
            for layer in range(layers)
            for n in range(1, layers - layer + 1)
        ]
        return pd.DataFrame(rows, columns=["layer", "n", "distance", "std", "samples"])

    return make
