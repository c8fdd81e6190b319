import pandas as pd
import pytest

from depthprobe.measurement import Column, Measurement, Table

COLUMNS = (
    Column("layer", "", "layer the block starts at, 0-based"),
    Column("n", "layers", "size of the block"),
    Column("distance", "fraction of pi", "angular distance"),
    Column("std", "fraction of pi", "standard deviation over samples"),
    Column("samples", "samples", "samples averaged over"),
)


@pytest.fixture
def frame():
    # 0.1 + 0.2 and friends need all 17 digits to come back.
    distances = [0.1 + 0.2, 1 / 3, 5e-324, 1.0, 1e-17, 0.1]
    pairs = [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (2, 1)]
    rows = [(layer, n, d, d / 7, 64) for (layer, n), d in zip(pairs, distances, strict=True)]
    return pd.DataFrame(rows, columns=[column.name for column in COLUMNS])


@pytest.fixture
def measurement(frame):
    return Measurement("angular", (Table("angular", frame, COLUMNS),))


@pytest.fixture
def settings():
    data = {"dataset": "builtin", "samples": 128}
    return {"model": "tiny", "data": data, "seed": 0, "tokens": "last", "probe_version": 1}
