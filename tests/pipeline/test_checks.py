"""One bad option at a time: told before anything expensive is touched, and nothing is left behind."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from depthprobe.commands.app import app
from support import tiny
from support.sweep_tasks import write_tasks

EXPENSIVE = {
    "tasks": "depthprobe.probes.prune_sweep.find_tasks",
    "tokenizer": "depthprobe.pipeline.session.open_checkpoint",
    "text": "depthprobe.pipeline.session.read_samples",
    "weights": "depthprobe.pipeline.session.load_model",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("checks")
    tiny.save(place / "model")
    tiny.save(place / "other", seed=1)
    write_tasks(place / "mine")
    (place / "text.jsonl").write_text(
        "".join(json.dumps({"text": t, "n": 1}) + "\n" for t in tiny.sentences(9))
    )
    (place / "bodies.csv").write_text("body,title\na b c,d e f\n")
    (place / "empty.txt").write_text("")
    (place / "latin.txt").write_bytes(b"\xe9t\xe9 " * 9)
    (place / "broken.jsonl").write_text('{"text": "a b')
    return place


@pytest.fixture
def touched(folder, monkeypatch):
    """What of the expensive was touched; the hub is out of reach."""
    names = []

    def touching(name):
        def touch(*_, **__):
            names.append(name)
            raise AssertionError(f"{name} touched")

        return touch

    def refused(*_, **__):
        raise ConnectionError("refused")

    for name, where in EXPENSIVE.items():
        monkeypatch.setattr(where, touching(name))
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", refused)
    monkeypatch.chdir(folder)
    return names


def told(arguments):
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code in (1, 2), done.stderr or done.exception
    return " ".join(re.sub("[│╭╰─╮╯]", " ", done.stderr).split())


OF_ALL = [
    (["--dtype", "float31"], "Unknown dtype 'float31'"),
    (["--device", "tpu"], "Unknown device 'tpu'"),
    (["--device-map", "all"], "--device-map must be auto, got all"),
    (["--tower", "middle"], "--tower must be decoder or encoder, got middle"),
    (["--revision", "v1"], "is a directory and has no revision 'v1'"),
    (["--adapter", "./none"], "There is no directory './none'"),
    (["--format", "gif"], "--format must be one or more of png, pdf, svg, got gif"),
    (["--name", "a/b"], "--name must be a plain directory name, got 'a/b'"),
    (["--output", "text.jsonl"], "text.jsonl is not a directory"),
    (["--batch-size", "0"], "--batch-size must be auto or at least 1, got 0"),
    (["--seed", "-1"], "--seed must be"),
    (["--seq-len", "1"], "--seq-len must be at least 2, got 1"),
    (["--dataset", "none.jsonl"], "There is no file none.jsonl"),
    (["--dataset", "none.txt"], "There is no file none.txt"),
    (["--dataset", "./none"], "There is no file ./none"),
    (["--dataset", "empty.txt"], "empty.txt is empty"),
    (["--dataset", "latin.txt"], "latin.txt is not UTF-8 text"),
    (["--dataset", "broken.jsonl"], "broken.jsonl cannot be read"),
    (
        ["--dataset", "bodies.csv"],
        "bodies.csv has no column named text, but several of strings. Its columns: body (text), title "
        "(text). Name one with --column.",
    ),
    (["--column", "page"], "text.jsonl has no column 'page'. Its columns: text (text), n (numbers)."),
    (["--column", "n"], "The column 'n' of text.jsonl holds numbers, not text."),
    (["--split", "test"], "--split does not apply to text.jsonl"),
    (["--dataset-config", "en"], "--dataset-config does not apply to text.jsonl"),
    (["--dataset", "builtin", "--split", "dev"], "The built-in text has no split 'dev'"),
    (["--dataset", "org/none"], "cannot be reached to look for org/none"),
]
OF_SWEEPS = [
    (["--task", "mine_nc"], "has no task mine_nc. The nearest names: mine_mc"),
    (["--task", "none.yaml"], "There is no task file none.yaml"),
    (["--include-path", "nowhere"], "There is no directory nowhere"),
    (
        ["--gen-kwargs", "temperature"],
        "--gen-kwargs must be NAME=VALUE, separated by commas, or JSON; got temperature.",
    ),
    (["--gen-kwargs", "{1"], "--gen-kwargs is not valid JSON ("),
    (
        ["--limit", "2.5"],
        "--limit must be a whole number of documents, or a share of them below 1, got 2.5. Give 2, or a "
        "share such as 0.1.",
    ),
    (["--limit", "0"], "--limit must be more than 0, got 0"),
    (["--samples", "{"], "--documents must be JSON or a JSON file, got {"),
    (["--num-fewshot", "-1"], "--num-fewshot must be at least 0, got -1"),
    (["--max-length", "0"], "--max-length must be at least 1, got 0"),
    (["--fewshot-as-multiturn"], "Add --apply-chat-template"),
    (["--layers", "3-1"], "--layers must be a list such as 0,5,20-31 (0-based), got 3-1"),
    (["--layers", "2-9"], "--layers names 4, 5, 6, 7, 8, 9, beyond the model's 4 layers"),
    (["--block", "4"], "--block must be 1 to 3 for a model of 4 layers, got 4."),
    (["--calibration-samples", "-1"], "--calibration-samples must be at least 0, got -1"),
    (["--no-calibration"], "--dataset text.jsonl describes the calibration text, which --no-calibration"),
]


@pytest.mark.parametrize(("arguments", "message"), OF_ALL + OF_SWEEPS, ids=str)
def test_a_sweep_tells_it_before_tasks_tokenizer_text_and_weights(touched, arguments, message):
    given = ["prune-sweep", "model", "--task", "mine_mc", "--include-path", "mine", "--dataset", "text.jsonl"]
    replaced = [option for option in arguments if option.startswith("--") and option in given]
    for option in replaced:
        at = given.index(option)
        del given[at : at + 2]
    said = told([*given, *arguments])
    assert message in said and touched == []
    assert not Path("reports").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [*OF_ALL, (["--samples", "0"], "--samples must be at least 1, got 0")],
    ids=str,
)
def test_a_measurement_tells_it_before_tokenizer_text_and_weights(touched, arguments, message):
    given = [
        "angular",
        "model",
        *([] if "--dataset" in arguments else ["--dataset", "text.jsonl"]),
        *arguments,
    ]
    said = told(given)
    assert message in said and touched == []
    assert not Path("reports").exists()


def test_a_model_that_is_not_there_is_told_before_the_tasks_are_read(touched):
    said = told(["prune-sweep", "./none", "--task", "stdlib_mc", "--dataset", "builtin"])
    assert "There is no directory './none'" in said
    assert touched == []


def test_the_calibration_text_that_nobody_named_is_told_for_what_it_is(touched):
    said = told(["prune-sweep", "model", "--task", "mine_mc", "--include-path", "mine"])
    assert (
        "cannot be reached to look for allenai/c4. You did not name that text: it is the calibration text"
        in said
    )
    assert "that prune-sweep measures in addition to the tasks" in said
    assert all(way in said for way in ("--dataset: builtin", "a file", "--no-calibration"))
    assert touched == []


@pytest.mark.parametrize("probe", ["angular", "gradnorm", "variance"])
def test_the_text_of_a_measurement_that_nobody_named_is_told_for_what_it_is(touched, probe):
    said = told([probe, "model"])
    assert f"You did not name that text: it is the text that {probe} is measured on by default" in said
    assert "--dataset: builtin" in said and "calibration" not in said
    assert touched == []


def test_a_text_that_was_named_is_not_explained(touched):
    said = told(["angular", "model", "--dataset", "allenai/c4"])
    assert "cannot be reached to look for allenai/c4" in said and "You did not name" not in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dtype", "float31"], "Unknown dtype 'float31'"),
        (["--output", "text.jsonl"], "text.jsonl is not a directory"),
        (["--column", "page"], "has no column 'page'"),
        (["--task", "stdlib_mx"], "has no task stdlib_mx"),
        (["--limit", "0"], "--limit must be more than 0, got 0"),
    ],
    ids=str,
)
@pytest.mark.parametrize("command", ["compare model other --probe prune-sweep", "report model"])
def test_comparisons_and_reports_tell_it_as_early(touched, monkeypatch, command, arguments, message):
    for where in ("pipeline.many_models.open_checkpoint", "probes.prune_sweep.find_tasks"):
        monkeypatch.setattr(f"depthprobe.{where}", lambda *_, where=where, **__: touched.append(where))
    said = told([*command.split(), "--dataset", "text.jsonl", *arguments])
    assert message in said and touched == []
    assert not Path("reports").exists()
