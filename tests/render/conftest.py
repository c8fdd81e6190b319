import pytest

from depthprobe.measurement import Column, Measurement, Table
from depthprobe.results.store import reserve, save

NAMES = ("layer", "n", "distance", "std", "samples")


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
