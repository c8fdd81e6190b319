import pandas as pd
import pytest

from depthprobe.measurement import Column, Table
from depthprobe.results.growing import known_model, known_rows, write_run

LAYERS = (Column("step", "", "a"), Column("variance", "", "b"))
LOSSES = (Column("step", "", "a"), Column("data", "", "b"), Column("loss_nats", "nats", "c"))
TABLES = {"training": LAYERS, "loss": LOSSES}


def written(directory, steps):
    layers = [(step, step / 3) for step in range(steps)]
    losses = [(step, "heldout", 1 / (step + 7)) for step in range(steps)]
    tables = (
        Table("training", pd.DataFrame(layers, columns=["step", "variance"]), LAYERS),
        Table("loss", pd.DataFrame(losses, columns=["step", "data", "loss_nats"]), LOSSES),
    )
    write_run(directory, "training", tables, {"model": {"id": "m"}})
    return {"training": layers, "loss": losses}


def test_rows_come_back_bit_for_bit(tmp_path):
    rows = written(tmp_path, 5)
    assert known_rows(tmp_path, TABLES) == rows and known_model(tmp_path) == {"id": "m"}


@pytest.mark.parametrize("old", [("manifest.json",), ("manifest.json", "loss.csv")])
def test_a_kill_between_the_files_of_a_step_loses_no_earlier_row(tmp_path, old):
    before = written(tmp_path, 5)
    stale = {name: (tmp_path / name).read_bytes() for name in old}
    written(tmp_path, 6)
    for name, content in stale.items():
        (tmp_path / name).write_bytes(content)
    found = known_rows(tmp_path, TABLES)
    assert {stem: [row for row in rows if row[0] < 5] for stem, rows in found.items()} == before


def test_what_cannot_be_read_has_no_rows(tmp_path):
    assert known_rows(tmp_path, TABLES) == {"training": [], "loss": []} and known_model(tmp_path) == {}
    written(tmp_path, 2)
    (tmp_path / "loss.csv").write_text("step,other\n1,2\n")
    (tmp_path / "training.csv").write_bytes(b"")
    assert known_rows(tmp_path, TABLES) == {"training": [], "loss": []}
