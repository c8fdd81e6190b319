"""``gradnorm`` and ``variance`` as a user runs them: files and streams looked at."""

import copy
import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from support import profile_frames, tiny

PROBES = ("gradnorm", "variance")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.save(tmp_path_factory.mktemp("models") / "tiny-llama")


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


def table(run_directory, stem):
    return pd.read_csv(run_directory / f"{stem}.csv")


def test_gradnorm_gives_picture_table_and_csv(place, model, text):
    done = run("gradnorm", model, "--dataset", text)
    assert done.exit_code == 0, done.stderr
    directory = place / "reports" / "tiny-llama" / "gradnorm"
    files = [".again.json", "gradnorm.csv", "gradnorm.pdf", "gradnorm.png", "manifest.json"]
    assert sorted(path.name for path in directory.iterdir()) == files
    frame = table(directory, "gradnorm")
    assert list(frame) == ["layer", "part", "grad_norm", "parameters", "grad_rms", "std"]
    assert set(frame.part) == {
        "all", "attention", "feedforward", "norm", "embedding", "final_norm", "head"
    }  # fmt: skip
    manifest = json.loads((directory / "manifest.json").read_text())
    results = manifest["results"]
    assert results["objective"] == "next token" and results["passes"] == 1
    assert results["predicted_tokens"] == manifest["data"]["tokens"] - manifest["data"]["samples"]
    assert manifest["model"]["initial_seed"] is None
    units = {column["name"]: column["unit"] for column in manifest["columns"]["gradnorm"]}
    assert units["grad_norm"] == "nats"
    assert f"{results['predicted_tokens']:,} predicted tokens taken as one batch" in " ".join(
        done.stdout.split()
    )


def test_variance_gives_both_tables(place, model, text):
    done = run("variance", model, "--dataset", text)
    assert done.exit_code == 0, done.stderr
    directory = place / "reports" / "tiny-llama" / "variance"
    files = [".again.json", "influence.csv", "manifest.json", "variance.csv", "variance.pdf", "variance.png"]
    assert sorted(path.name for path in directory.iterdir()) == files
    frame, influence = table(directory, "variance"), table(directory, "influence")
    assert list(frame) == list(profile_frames.ROBUST)
    assert list(influence) == ["layer", "block_influence", "contribution_ratio"]
    assert frame.point.value_counts().to_dict() == {"stream": 5, "attention": 4, "feedforward": 4}
    manifest = json.loads((directory / "manifest.json").read_text())
    assert (frame.tokens == manifest["data"]["tokens"]).all()
    assert "linear" in done.stdout and "exponential" in done.stdout


@pytest.mark.parametrize("probe", PROBES)
def test_how_it_is_cut_makes_no_difference_and_is_the_same_run(place, model, text, probe):
    options = (probe, model, "--dataset", text, "--format", "png")
    assert run(*options, "--batch-size", 1, "-o", "a").exit_code == 0
    means = ("--memory", 1) if probe == "gradnorm" else ()
    assert run(*options, *means, "-o", "b").exit_code == 0
    a, b = (table(place / output / "tiny-llama" / probe, probe) for output in "ab")
    numbers = a.select_dtypes("float")
    np.testing.assert_allclose(numbers, b[numbers.columns], rtol=1e-4)
    again = run(*options, *means, "-o", "a")
    assert "Already measured" in again.stderr and again.exit_code == 0


NO_HEAD = "has no weights for its language-model head"


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """An encoder as sentence-transformers stores it: blocks and pooler, no head."""
    directory = tmp_path_factory.mktemp("models") / "bare-bert"
    tiny.build("bert").bert.save_pretrained(directory)
    tokenizer = copy.deepcopy(tiny.tokenizer())
    tokenizer.mask_token = "</s>"
    tokenizer.save_pretrained(directory)
    return directory


def test_gradnorm_refuses_a_model_whose_head_would_be_random_and_the_others_measure_it(place, bare, text):
    done = run("gradnorm", bare, "--dataset", text)
    assert done.exit_code == 2 and done.stdout == ""
    last = done.stderr.splitlines()[-1]
    assert last.startswith("Error: ") and f"bare-bert {NO_HEAD} (cls.predictions.bias, " in last
    assert not (place / "reports" / "bare-bert" / "gradnorm").exists()
    measured = [run("variance", bare, "--dataset", text, "--format", "png", "-o", out) for out in "ab"]
    assert [done.exit_code for done in measured] == [0, 0]
    a, b = (table(place / out / "bare-bert" / "variance", "variance") for out in "ab")
    pd.testing.assert_frame_equal(a, b)
    told = run("inspect", bare)
    assert told.exit_code == 0 and f"gradnorm will not run: {bare} {NO_HEAD}" in " ".join(told.stdout.split())


def test_fresh_weights_of_such_a_model_are_measured_by_choice(place, bare, text):
    first, second = (
        run("gradnorm", bare, "--dataset", text, "--initial", "--format", "png", "-o", out) for out in "ab"
    )
    assert first.exit_code == second.exit_code == 0, first.stderr
    a, b = (next((place / out / "bare-bert").glob("gradnorm*")) for out in "ab")
    assert json.loads((a / "manifest.json").read_text())["model"]["initial_seed"] == 0
    pd.testing.assert_frame_equal(table(a, "gradnorm"), table(b, "gradnorm"))


@pytest.mark.parametrize("probe", PROBES)
def test_initial_weights_are_another_run_that_says_so(place, model, text, probe):
    options = (probe, model, "--dataset", text, "--format", "png")
    assert run(*options).exit_code == 0
    done = run(*options, "--initial")
    assert done.exit_code == 0 and "tiny-llama, freshly initialised" in " ".join(done.stdout.split())
    again = run(*options, "--initial", "-o", "again")
    directories = place / "reports" / "tiny-llama", place / "again" / "tiny-llama"
    fresh = table(directories[0] / f"{probe}-initial-seed-0", probe)
    assert again.exit_code == 0 and table(directories[1] / probe, probe).equals(fresh)
    assert not fresh.equals(table(directories[0] / probe, probe))
    manifest = json.loads((directories[0] / f"{probe}-initial-seed-0" / "manifest.json").read_text())
    assert manifest["model"]["initial_seed"] == 0


def test_per_batch_is_another_run_with_deviations(place, model, text):
    assert run("gradnorm", model, "--dataset", text, "--per-batch", 4).exit_code == 0
    frame = table(place / "reports" / "tiny-llama" / "gradnorm", "gradnorm")
    assert (frame["std"] > 0).all()


@pytest.mark.parametrize("probe", PROBES)
def test_bert_is_measured_too(place, text, probe):
    tiny.build("bert").save_pretrained(place / "bert")
    tokenizer = tiny.tokenizer()
    tokenizer.add_special_tokens({"mask_token": "."})
    tokenizer.save_pretrained(place / "bert")
    done = run(probe, place / "bert", "--dataset", text, "--format", "png")
    assert done.exit_code == 0, done.stderr
    frame = table(place / "reports" / "bert" / probe, probe)
    if probe == "gradnorm":
        assert "masked-token loss" in " ".join(done.stdout.split())
    else:
        assert set(frame.point) == {"stream"} and "Post-LN" in done.stdout


@pytest.mark.parametrize("probe", PROBES)
def test_two_processes_give_the_run_of_one(place, model, text, probe):
    options = [probe, str(model), "--dataset", str(text), "--batch-size", "2", "--format", "png"]
    assert run(*options, "-o", "one").exit_code == 0
    launch = [
        "-m",
        "torch.distributed.run",
        "--nproc_per_node",
        "2",
        "--master_port",
        "29517",
        "-m",
        "depthprobe",
    ]
    done = subprocess.run(
        [sys.executable, *launch, *options, "-o", "two"],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    one, two = (place / output / "tiny-llama" / probe for output in ("one", "two"))
    assert sorted(path.name for path in two.parent.iterdir()) == [probe]
    for stem in ("gradnorm",) if probe == "gradnorm" else ("variance", "influence"):
        a, b = table(one, stem), table(two, stem)
        numbers = a.select_dtypes("float").columns
        np.testing.assert_allclose(a[numbers], b[numbers], rtol=1e-5)
        assert a.drop(columns=numbers).equals(b.drop(columns=numbers))
    assert json.loads((two / "manifest.json").read_text())["options"]["processes"] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["gradnorm", "MODEL", "--memory", "some"],
            "--memory must be auto, whole or a number of blocks of at least 1, got some",
        ),
        (
            ["gradnorm", "MODEL", "--memory", "0"],
            "--memory must be auto, whole or a number of blocks of at least 1, got 0",
        ),
        (["gradnorm", "MODEL", "--per-batch", "0"], "--per-batch must be at least 1, got 0"),
        (["gradnorm", "MODEL", "--initial", "--device-map", "auto"], "--device-map auto and --initial"),
        (["gradnorm", "HEADLESS"], "has no language-model head"),
        (["variance", "NAN"], "model.layers.1.mlp.up_proj.weight holds 32 NaN"),
        (["gradnorm", "NAN"], "model.layers.1.mlp.up_proj.weight holds 32 NaN"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(place, model, text, arguments, message):
    names = {"MODEL": model, "HEADLESS": place / "headless", "NAN": place / "nan"}
    if "HEADLESS" in arguments:
        tiny.build("llama").model.save_pretrained(place / "headless")
    if "NAN" in arguments:
        spoilt = tiny.build("llama")
        spoilt.model.layers[1].mlp.up_proj.weight.data[0] = float("nan")
        spoilt.save_pretrained(place / "nan")
    for name in ("headless", "nan"):
        if (place / name).exists():
            tiny.tokenizer().save_pretrained(place / name)
    done = run(*(names.get(argument, argument) for argument in arguments), "--dataset", text)
    assert done.exit_code == 2 and f"Error: {message}" in done.stderr or message in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and done.stdout == "" and not (place / "reports").exists()


def test_a_saved_profile_is_drawn_again_and_not_rescaled(place, model, text):
    assert run("variance", model, "--dataset", text, "--format", "png").exit_code == 0
    directory = place / "reports" / "tiny-llama" / "variance"
    done = run("plot", directory, "--format", "svg", "--title", "Mine")
    assert done.exit_code == 0 and (directory / "variance.svg").exists()
    refused = run("plot", directory, "--normalize", "row")
    assert refused.exit_code == 2 and "--normalize" in refused.stderr


def test_an_interrupted_gradnorm_continues_and_leaves_nothing_behind(place, model, text, monkeypatch):
    from depthprobe.probes import gradnorm

    options = ("gradnorm", model, "--dataset", text, "--format", "png", "--memory", 1)
    assert run(*options, "-o", "whole").exit_code == 0
    take, calls = gradnorm._take, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return take(*arguments)

    monkeypatch.setattr(gradnorm, "_take", interrupted)
    assert run(*options, "-o", "killed").exit_code == 130
    left = place / "killed" / "tiny-llama"
    assert [path.name for path in left.iterdir()] == [".gradnorm.unfinished"]
    done = run(*options, "-o", "killed")
    assert done.exit_code == 0 and "Continuing an interrupted run" in done.stderr
    assert [path.name for path in left.iterdir()] == ["gradnorm"]
    a, b = (place / output / "tiny-llama" / "gradnorm" / "gradnorm.csv" for output in ("whole", "killed"))
    assert a.read_bytes() == b.read_bytes()
