"""The command as a user runs it: a process of its own, a local model, files and streams looked at."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from support import tiny

FILES = ["angular.csv", "angular.pdf", "angular.png", "manifest.json"]


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


def depthprobe(*arguments, **environment):
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "DEPTHPROBE"))}
    clean |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, "-m", "depthprobe", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=clean)


def in_process(*arguments):
    """The same without the seconds that a new process takes to import torch."""
    from typer.testing import CliRunner

    from depthprobe.commands.app import app

    return CliRunner().invoke(app, list(map(str, arguments)))


def test_one_command_gives_picture_table_and_csv(place, model, text):
    done = depthprobe("angular", model, "--dataset", text)
    assert done.returncode == 0, done.stderr
    run = place / "reports" / "tiny-llama" / "angular"
    assert sorted(path.name for path in run.iterdir()) == [".again.json", *FILES]
    frame = pd.read_csv(run / "angular.csv")
    assert list(frame) == ["layer", "n", "distance", "std", "samples"] and len(frame) == 10
    best = frame[frame.n == 1].nsmallest(1, "distance")
    assert re.search(rf"\b1 +{best.layer.item()} +{best.distance.item():.3f}", done.stdout)
    assert "Quiet stretch" in done.stdout and "reports/tiny-llama/angular/angular.csv" in done.stdout
    # On a busy machine stages take long enough for a line of their own.
    news = [line for line in done.stderr.splitlines() if " so far" not in line]
    assert news == [
        f"Model: {model} (as named).",
        f"The text of {text} is its column 'text'.",
        f"{text} holds only 12 of the 1000 samples asked for.",
    ]
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["model"]["layers"] == 4 and manifest["model"]["dtype"] == "float32"
    assert manifest["data"]["samples"] == 12 and len(manifest["data"]["tokens_sha256"]) == 64
    assert manifest["versions"]["torch"] and manifest["options"]["tokens"] == "last"
    assert (run / "angular.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_again_is_complete_and_other_settings_get_a_run_of_their_own(place, model, text):
    common = ("angular", model, "--dataset", text, "--samples", 6, "--format", "svg")
    first = depthprobe(*common)
    again = depthprobe(*common)
    other = depthprobe(*common, "--seed", 1)
    assert (first.returncode, again.returncode, other.returncode) == (0, 0, 0), other.stderr
    assert "Already measured" in again.stderr and again.stdout == first.stdout
    runs = sorted(path.name for path in (place / "reports" / "tiny-llama").iterdir())
    assert runs == ["angular", "angular-seed-1"]
    tables = [(place / "reports" / "tiny-llama" / run / "angular.csv").read_bytes() for run in runs]
    assert tables[0] != tables[1]


def test_two_runs_of_the_same_command_give_the_same_bytes(place, model, text):
    for output in ("a", "b"):
        assert depthprobe("angular", model, "--dataset", text, "-o", output).returncode == 0
    for name in FILES[:3]:
        a, b = (place / output / "tiny-llama" / "angular" / name for output in "ab")
        assert a.read_bytes() == b.read_bytes(), name


def test_plot_draws_a_saved_run_again_without_the_model(place, model, text):
    copy = shutil.copytree(model, place / "gone")
    assert depthprobe("angular", copy, "--dataset", text).returncode == 0
    shutil.rmtree(copy)
    run = place / "reports" / "gone" / "angular"
    (run / "angular.png").unlink()
    done = depthprobe("plot", run, "--normalize", "row", "--format", "png,svg", "--title", "Mine <&>")
    assert done.returncode == 0, done.stderr
    assert [line.rpartition("/")[2] for line in done.stdout.split()] == ["angular-row.png", "angular-row.svg"]
    assert depthprobe("plot", run, "--format", "png").returncode == 0 and (run / "angular.png").exists()


def test_the_model_is_found_where_the_issue_says_and_the_reason_is_told(place, model, text):
    (place / "depthprobe.toml").write_text(f'model = "{model}"\n')
    options = ("angular", "--dataset", text, "--samples", 3, "--format", "png")
    assert f"Model: {model} (from depthprobe.toml)." in depthprobe(*options).stderr
    other = depthprobe(*options, DEPTHPROBE_MODEL="/nowhere/model")
    assert "Model: /nowhere/model (from DEPTHPROBE_MODEL)." in other.stderr and other.returncode == 2
    named = depthprobe(*options, "--model", model, DEPTHPROBE_MODEL="/nowhere/model")
    assert f"Model: {model} (from --model)." in named.stderr and named.returncode == 0


def broken(directory, model):
    copy = shutil.copytree(model, directory / "broken")
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    return copy


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["/no/such/model"], 2, "There is no directory"),
        (["builtin:nosuch"], 2, "There is no embedded model builtin:nosuch"),
        (["MODEL", "--dataset", "no.jsonl"], 2, "There is no file no.jsonl"),
        (["MODEL", "--dataset", "TEXT", "--column", "page"], 2, "has no column 'page'"),
        (["MODEL", "--dataset", "TEXT", "--seq-len", "999"], 2, "--seq-len must be at most the model's 128"),
        (["MODEL", "--dataset", "TEXT", "--dtype", "float3"], 2, "Unknown dtype"),
        (["MODEL", "--dataset", "TEXT", "--device", "cuda:7"], 2, "CUDA"),
        (["MODEL", "--dataset", "TEXT", "--batch-size", "0"], 2, "--batch-size must be auto or at least 1"),
        (["MODEL", "--dataset", "TEXT", "--format", "gif"], 2, "--format must be one or more of .*, got gif"),
        (["MODEL", "--dataset", "TEXT", "--samples", "0"], 2, "--samples must be at least 1, got 0"),
        (["MODEL", "--dataset", "TEXT", "--revision", "main"], 2, "has no revision"),
        (["MODEL", "--model", "OTHER"], 2, "Two models are given"),
        (["MODEL", "--dataset", "TEXT", "-o", "TEXT"], 2, "rows.jsonl"),
        (["BROKEN", "--dataset", "TEXT"], 2, "model.safetensors of .* is truncated or damaged"),
    ],
)
def test_bad_input_is_one_line_with_its_exit_status_and_leaves_nothing(
    place, model, text, arguments, status, message
):
    names = {"MODEL": str(model), "TEXT": str(text)}
    if "BROKEN" in arguments:
        names["BROKEN"] = str(broken(place, model))
    done = in_process("angular", *(names.get(argument, argument) for argument in arguments))
    *news, last = done.stderr.splitlines()
    assert done.exit_code == status, done.stderr
    assert re.match(f"Error: .*{message}", last) and last.endswith((".", "`"))
    assert len(news) <= 1 and "Traceback" not in done.stderr and done.stdout == ""
    assert not (place / "reports").exists()


def test_a_hub_model_without_network_is_the_machines_failure(place):
    done = depthprobe("angular", "org/name")
    assert done.returncode == 1 and re.search("Error: org/name .*HF_HUB_OFFLINE", done.stderr), done.stderr
    assert not (place / "reports").exists()


def test_nan_in_the_weights_is_told_and_nothing_is_written(place, text):
    spoilt = tiny.build("llama")
    spoilt.model.layers[1].mlp.up_proj.weight.data[0] = float("nan")
    spoilt.save_pretrained(place / "nan")
    tiny.tokenizer().save_pretrained(place / "nan")
    done = in_process("angular", place / "nan", "--dataset", text)
    assert done.exit_code == 2 and not (place / "reports").exists()
    assert "model.layers.1.mlp.up_proj.weight" in done.stderr and "NaN" in done.stderr


def test_verbose_shows_the_traceback_and_no_secret(place):
    secret = "hf_" + "a1B2" * 8
    done = depthprobe("angular", "/no/such/" + secret, "--verbose", HF_TOKEN=secret)
    assert done.returncode == 2 and "Traceback" in done.stderr and secret not in done.stderr


def test_quiet_says_nothing_but_the_result(place, model, text):
    done = depthprobe("angular", model, "--dataset", text, "--quiet")
    assert done.returncode == 0 and done.stderr == "" and "Quiet stretch" in done.stdout


@pytest.mark.parametrize("after_s", [1.0, 6.0])
def test_ctrl_c_leaves_no_broken_files(place, model, after_s):
    (place / "long.txt").write_text(" ".join(tiny.sentences(4000)))
    command = [sys.executable, "-m", "depthprobe", "angular", str(model), "--dataset", "long.txt"]
    process = subprocess.Popen(
        [*command, "--samples", "100000", "--batch-size", "1", "--tokens", "all"],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(after_s)
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 130, told
    assert not list((place / "reports").rglob("*")) if (place / "reports").exists() else True


def test_ctrl_c_in_the_middle_of_an_import_ends_with_130(place, model, text):
    (place / "torch.py").write_text(
        'exec("import os, signal; os.kill(os.getpid(), signal.SIGINT)\\nfor i in range(9): pass")'
    )
    command = [sys.executable, "-m", "depthprobe", "angular", str(model), "--dataset", str(text)]
    environment = os.environ | {"PYTHONPATH": str(place)}
    done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 130 and "Interrupted" in done.stderr


def test_another_tokenizer_is_another_model(place, model, text):
    copy = shutil.copytree(model, place / "other")
    assert depthprobe("angular", copy, "--dataset", text, "--format", "png").returncode == 0
    settings = json.loads((copy / "tokenizer.json").read_text())
    settings["post_processor"] = None
    (copy / "tokenizer.json").write_text(json.dumps(settings))
    done = depthprobe("angular", copy, "--dataset", text, "--format", "png")
    assert done.returncode == 0 and "Already measured" not in done.stderr
    assert len(list((place / "reports" / "other").iterdir())) == 2


def test_a_password_in_an_address_is_not_repeated(place, model):
    done = in_process("angular", model, "--dataset", "http://user:geheimnis@127.0.0.1/x.jsonl")
    assert done.exit_code == 2 and "geheimnis" not in done.stderr


def test_a_closed_pipe_ends_quietly(place, model, text):
    line = f"{sys.executable} -m depthprobe angular {model} --dataset {text} --format png | head -1"
    done = subprocess.run(
        line, shell=True, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert "Traceback" not in done.stderr and "Error" not in done.stderr
