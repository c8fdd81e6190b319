"""``compare`` of models as a user runs it: one text, single runs where they always are, used again."""

import json

import pandas as pd
import pytest

from support import tiny


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    tiny.save(root / "four")
    tiny.save(root / "other", seed=1)
    tiny.save(root / "six", layers=6, seed=2)
    return root


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("texts") / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in tiny.sentences(12)))
    return path


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments):
    from typer.testing import CliRunner

    from depthprobe.commands.app import app

    return CliRunner().invoke(app, list(map(str, arguments)))


def test_models_are_measured_on_one_text_and_set_side_by_side(place, models, text):
    done = run("compare", models / "four", models / "other", "--dataset", text, "--format", "png")
    assert done.exit_code == 0, done.stderr
    reports = place / "reports"
    names = sorted(path.name for path in (reports / "compare-four-other").iterdir())
    assert names == [
        "compare_angular.csv", "compare_angular.png", "compare_influence.csv", "compare_variance.csv",
        "compare_variance.png", "manifest.json",
    ]  # fmt: skip
    frame = pd.read_csv(reports / "compare-four-other" / "compare_angular.csv")
    single = pd.read_csv(reports / "other" / "angular" / "angular.csv")
    assert frame[frame.model == "other"].distance.tolist() == single.distance.tolist()
    # The single command finds the run, and so does a comparison with a third model.
    assert "Already measured" in run("angular", models / "other", "--dataset", text).stderr
    again = run("compare", models / "four", models / "six", "--dataset", text, "--probe", "angular")
    assert again.stderr.count("Already measured") == 1 and "4, six 6 layers" in again.stdout
    assert "difference" not in pd.read_csv(reports / "compare-four-six" / "compare_angular.csv")
    # Of finished runs, nothing is measured.
    finished = run("compare", reports / "four", reports / "other", "--name", "finished")
    assert finished.exit_code == 0, finished.stderr
    assert frame.equals(pd.read_csv(reports / "finished" / "compare_angular.csv"))


def test_each_model_is_loaded_once_whatever_is_compared(place, models, text, monkeypatch):
    from depthprobe.pipeline import session

    loaded, load = [], session.load_model
    monkeypatch.setattr(session, "load_model", lambda *a, **o: loaded.append(1) or load(*a, **o))
    probes = "angular,variance,gradnorm"
    done = run("compare", models / "four", models / "six", "--dataset", text, "--probe", probes)
    assert done.exit_code == 0, done.stderr
    assert len(loaded) == 2


def test_a_model_joins_a_finished_run_on_the_same_text_only(place, models, text):
    assert run("angular", models / "four", "--dataset", text).exit_code == 0
    wrong = run("compare", "reports/four/angular", models / "six", "--dataset", text, "--samples", "5")
    assert wrong.exit_code == 2 and "samples 1000 and 5" in wrong.stderr
    assert not (place / "reports" / "six").exists()
    unnamed = run("compare", "reports/four/angular", models / "six")
    assert unnamed.exit_code == 2 and "Name that text with --dataset" in unnamed.stderr
    done = run("compare", "reports/four/angular", models / "six", "--dataset", text)
    assert done.exit_code == 0, done.stderr
    assert (place / "reports" / "compare-four-six" / "compare_angular.png").is_file()


def test_a_wrong_model_is_told_before_the_first_is_measured(place, models, text):
    done = run("compare", models / "four", "./nosuch", "--dataset", text)
    assert done.exit_code == 2 and "There is no directory './nosuch'" in done.stderr
    assert not (place / "reports").exists()


def test_the_builtin_text_is_chosen_for_all_where_one_model_is_embedded():
    from depthprobe.comparing.subjects import Subject
    from depthprobe.pipeline.many_models import shared_text

    given = {"dataset": None, "samples": None, "seq_len": None, "seed": 0}
    mixed = [Subject("org/model"), Subject("builtin:pre-ln")]
    assert shared_text(mixed, "angular", given).dataset == "builtin"
    assert shared_text(mixed[:1], "angular", given).dataset == "allenai/c4"


def test_options_of_tasks_without_a_sweep_are_refused(models):
    done = run("compare", models / "four", models / "six", "--task", "mmlu")
    assert done.exit_code == 2 and "prune-sweep is not compared" in done.stderr
