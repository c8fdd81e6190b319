"""What the words behind a command are taken for: a model, or directories of finished runs."""

import pandas as pd
import pytest
from typer.testing import CliRunner

from depthprobe.commands.app import app
from depthprobe.commands.targets import runs_named
from depthprobe.errors import RunError
from support.made_up_runs import write_model, write_run


@pytest.fixture
def trained(tmp_path):
    """A directory as ``pretrain`` leaves it: a model, and in it the log of its training."""
    log = pd.DataFrame({"step": [0], "layer": [0], "variance": [1.0], "grad_norm": [1.0]})
    model = write_run(tmp_path, "training", {"training": log}, 1).parent
    (model / "config.json").write_text("{}")
    return model


def test_a_model_with_the_log_of_its_training_is_a_model(trained):
    assert runs_named([str(trained)]) is None
    with pytest.raises(RunError, match="holds no run"):
        runs_named([str(trained), str(trained / "training")])


def test_runs_of_probes_in_the_directory_of_a_model_are_runs(tmp_path):
    model = write_model(tmp_path, 4)
    (model / "config.json").write_text("{}")
    assert runs_named([str(model)]) == [model]


def test_the_log_of_a_training_without_its_model_is_a_run(trained):
    (trained / "config.json").unlink()
    assert runs_named([str(trained)]) == [trained]


@pytest.mark.parametrize("manifest", ["{", '{"probe": []}'])
def test_a_damaged_run_in_the_directory_of_a_model_is_not_passed_over(trained, manifest):
    (trained / "training" / "manifest.json").write_text(manifest)
    assert runs_named([str(trained)]) == [trained]


def test_a_misspelt_directory_of_runs_is_no_model_of_the_hub(tmp_path):
    model = write_model(tmp_path, 4)
    for missing in (model / "angularr", model.parent / "typo"):
        with pytest.raises(RunError, match=f"{missing} does not exist, but {missing.parent} holds runs"):
            runs_named([str(missing)])
    assert runs_named(["owner/model"]) is None
    assert runs_named([str(tmp_path / "empty" / "typo")]) is None


@pytest.mark.parametrize(("command", "sides"), [("report", 1), ("compare", 2)], ids=["report", "compare"])
@pytest.mark.parametrize("option", [["--limit", "5"], ["--samples", "3"], ["--trust-remote-code"]])
def test_finished_runs_refuse_an_option_of_measuring(tmp_path, command, sides, option):
    runs = [str(write_model(tmp_path / str(side), 4)) for side in range(sides)]
    written = sorted(tmp_path.rglob("*"))
    done = CliRunner().invoke(app, [command, *runs, *option, "-o", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert f"Error: {option[0]} " in done.stderr and "Traceback" not in done.stderr
    assert sorted(tmp_path.rglob("*")) == written
