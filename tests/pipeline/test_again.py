"""A run that is already there: printed again at once, or found the heavy way where anything is in doubt."""

import importlib.metadata
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from depthprobe.commands.app import app
from depthprobe.evaluation.harness.options import SweepOptions
from depthprobe.models.loading.options import LoadOptions
from depthprobe.pipeline.again import FILE, mark_of
from depthprobe.pipeline.request import Request
from depthprobe.texts.options import TextOptions
from support import tiny

HEAVY = ("torch", "transformers", "lm_eval", "datasets", "pandas", "matplotlib", "huggingface_hub")


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.save(tmp_path / "model")
    rows = [json.dumps({"text": text}) for text in tiny.sentences(8)]
    (tmp_path / "text.jsonl").write_text("\n".join(rows))
    return tmp_path


@pytest.fixture
def heavy(monkeypatch):
    """How often the heavy way was gone."""
    import depthprobe.pipeline.run as pipeline

    gone, run = [], pipeline.run
    monkeypatch.setattr(pipeline, "run", lambda *a: gone.append(1) or run(*a))
    return gone


def angular(*more):
    done = CliRunner().invoke(
        app, ["angular", "model", "--dataset", "text.jsonl", "--format", "svg", *map(str, more)]
    )
    assert done.exit_code == 0, done.stderr
    return done


def test_the_same_again_prints_the_same_without_what_takes_seconds(place, heavy):
    first, again = angular(), angular()
    assert len(heavy) == 1 and again.stdout == first.stdout
    assert "Already measured: reports/model/angular (--name measures again)." in again.stderr
    assert len(again.stdout.splitlines()) > 5


@pytest.mark.parametrize("command", ["angular", "prune-sweep"])
def test_nothing_heavy_is_imported_for_it(place, command):
    arguments = [command, "model", "--dataset", "text.jsonl", "--format", "svg"]
    if command == "prune-sweep":
        arguments += ["--limit", "3", "--layers", "1", "--calibration-samples", "2"]
    environment = dict(os.environ)  # importing lm-eval changes it
    assert CliRunner().invoke(app, arguments).exit_code == 0
    code = (
        "import sys; from depthprobe.__main__ import main\n"
        f"sys.argv = ['depthprobe', *{arguments}]\n"
        "try:\n    main()\n"
        f"finally:\n    print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert "Already measured" in done.stderr, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def rewrite(path):
    """Write a file anew with its own content: it looks changed, and is not."""
    Path(path).write_bytes(Path(path).read_bytes())


@pytest.mark.parametrize(
    "change",
    [
        lambda: rewrite("model/model.safetensors"),
        lambda: rewrite("model/tokenizer.json"),
        lambda: rewrite("text.jsonl"),
        lambda: Path("model/new.json").write_text("{}"),
        lambda: Path("reports/model/angular/angular.svg").unlink(),
        lambda: Path("reports/model/angular/angular.svg").write_text("<svg/>"),
        lambda: Path(f"reports/model/angular/{FILE}").unlink(),
        lambda: Path(f"reports/model/angular/{FILE}").write_text("{"),
        lambda: Path("reports/model/angular/manifest.json").open("a").write("\n"),
    ],
)
def test_what_may_have_changed_goes_the_heavy_way_which_decides_and_remembers(place, heavy, change):
    first = angular()
    change()
    again = angular()
    assert len(heavy) == 2
    assert again.stdout.splitlines()[:-4] == first.stdout.splitlines()[:-4]
    angular()
    assert len(heavy) == 2


def test_a_table_that_was_changed_is_not_printed_again(place, heavy):
    angular()
    Path("reports/model/angular/angular.csv").open("a").write("0,1,0.5,0.1,3\n")
    angular()
    assert len(heavy) == 2


def test_other_weights_are_measured(place, heavy):
    first = angular()
    tiny.save(place / "model", seed=1)
    other = angular()
    assert "Already measured" not in other.stderr and other.stdout != first.stdout


def test_other_options_go_the_heavy_way_and_those_of_the_work_do_not(place, heavy):
    angular()
    angular("--batch-size", "2")
    assert len(heavy) == 1
    for more in (
        ("--seed", "1"),
        ("--normalize", "row"),
        ("--format", "png"),
        ("-o", "other"),
        ("--name", "mine"),
    ):
        angular(*more)
    assert len(heavy) == 6


def test_what_changes_while_it_is_measured_is_not_remembered(place, heavy, monkeypatch):
    import depthprobe.pipeline.run as pipeline

    run = pipeline.run

    def changing(*given):
        found = run(*given)
        rewrite("text.jsonl")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "run", changing)
        angular()
    assert not Path(f"reports/model/angular/{FILE}").exists()


def test_what_libraries_set_in_the_environment_while_it_is_measured_does_not_count(place, heavy, monkeypatch):
    import depthprobe.pipeline.run as pipeline

    run = pipeline.run

    def setting(*given):
        monkeypatch.setenv("TORCH_SET_BY_A_LIBRARY", "/tmp/anywhere")
        return run(*given)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "run", setting)
        angular()
    monkeypatch.delenv("TORCH_SET_BY_A_LIBRARY")
    angular()
    assert len(heavy) == 1
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    angular()
    assert len(heavy) == 2


@pytest.fixture
def sweep(place):
    (place / "mine").mkdir()
    (place / "mine" / "task.yaml").write_text("task: mine\n")
    options = SweepOptions(("mine",), include_path=(place / "mine",))
    return Request("prune-sweep", "model", TextOptions(samples=2), options, output=place)


def test_a_mark_tells_tasks_libraries_and_machines_apart(sweep, monkeypatch):
    marks = [mark_of(sweep), mark_of(replace(sweep, options=replace(sweep.options, block=2)))]
    rewrite("mine/task.yaml")
    marks.append(mark_of(sweep))
    assert mark_of(sweep) == marks[-1]
    assert mark_of(replace(sweep, output=Path("x"), batch_size=3)) == marks[-1]
    version = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: version(name) + (".1" * (name == "lm-eval"))
    )
    marks.append(mark_of(sweep))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    marks.append(mark_of(sweep))
    assert None not in marks and len(set(marks)) == 5
    for name, value in {"RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "1234"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert mark_of(sweep) is None


def test_a_model_of_the_hub_is_known_where_it_cannot_have_moved(place, monkeypatch):
    refs = place / "hub" / "models--org--name" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text("a" * 40)
    monkeypatch.setenv("HF_HUB_CACHE", str(place / "hub"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    request = Request("angular", "org/name", TextOptions())
    assert mark_of(request) is None
    assert mark_of(replace(request, load=LoadOptions(revision="b" * 40))) is not None
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    before = mark_of(request)
    (refs / "main").write_text("c" * 40)
    assert before is not None and mark_of(request) not in (None, before)
    assert mark_of(replace(request, model="org/other")) is None
    assert mark_of(replace(request, load=LoadOptions(adapter="org/other"))) is None


def test_a_run_that_may_not_be_written_stays_as_it_is(place, heavy):
    angular()
    run = Path("reports/model/angular")
    (run / FILE).unlink()
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    run.chmod(0o500)
    try:
        angular("--quiet")
    finally:
        run.chmod(0o700)
    assert not (run / FILE).exists()
