"""What a launcher sets, and what else may stand there."""

import pytest

from depthprobe.errors import OptionError
from depthprobe.machine.launcher import Launched, launched

ADDRESS = {"MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


@pytest.fixture
def environment(monkeypatch):
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", *ADDRESS):
        monkeypatch.delenv(name, raising=False)

    def put(values):
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return put


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({}, Launched()),
        ({"WORLD_SIZE": ""}, Launched()),
        ({"WORLD_SIZE": "1", "RANK": "0"}, Launched()),
        ({"WORLD_SIZE": "8"}, Launched()),  # set for a whole job by some clusters; nobody launched processes
        ({"WORLD_SIZE": "8", "RANK": "5", "LOCAL_RANK": "1", **ADDRESS}, Launched(5, 8, 1)),
    ],
)
def test_a_process_knows_its_rank(environment, values, found):
    environment(values)
    assert launched() == found


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"WORLD_SIZE": "x"}, "WORLD_SIZE must be a whole number of at least 1, got 'x'. Start several"),
        ({"WORLD_SIZE": "-1"}, "WORLD_SIZE must be a whole number of at least 1, got '-1'."),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "WORLD_SIZE is 2, but MASTER_ADDR is not set."),
        ({"WORLD_SIZE": "2", "RANK": "x", **ADDRESS}, "RANK must be a whole number of at least 0, got 'x'."),
        ({"WORLD_SIZE": "2", "RANK": "2", **ADDRESS}, "RANK must be less than WORLD_SIZE 2, got 2."),
        ({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "q", **ADDRESS}, "LOCAL_RANK must be a whole number"),
        (
            {"WORLD_SIZE": "2", "RANK": "0", **ADDRESS, "MASTER_PORT": "70000"},
            "WORLD_SIZE is 2, but MASTER_PORT is 70000.",
        ),
        (
            {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "a"},
            "WORLD_SIZE is 2, but MASTER_PORT is not set.",
        ),
    ],
)
def test_what_no_launcher_sets_is_one_sentence(environment, values, sentence):
    environment(values)
    with pytest.raises(OptionError) as caught:
        launched()
    assert str(caught.value).startswith(sentence)


def test_a_command_says_so_before_anything_else(environment):
    from typer.testing import CliRunner

    from depthprobe.commands.app import app

    environment({"WORLD_SIZE": "x"})
    done = CliRunner().invoke(app, ["variance", "builtin:pre-ln"])
    assert done.exit_code == 2 and done.stderr.startswith("Error: WORLD_SIZE must be a whole number")
