"""``pretrain`` as a user runs it, on a small file: files looked at, options tried, failures told."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from support import tiny

SMALL = (
    "--layers",
    2,
    "--hidden",
    32,
    "--vocab",
    300,
    "--seq-len",
    16,
    "--batch",
    4,
    "--precision",
    "float32",
)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("texts") / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in tiny.sentences(150)))
    return path


def run(*arguments):
    from typer.testing import CliRunner

    from depthprobe.commands.app import app

    return CliRunner().invoke(app, list(map(str, arguments)))


def test_a_run_leaves_a_model_its_record_and_a_log_that_plot_draws(tmp_path, text):
    output = tmp_path / "lns"
    asked = ("pretrain", "--norm", "lns", "--dataset", text, *SMALL, "--steps", 6, "-o", output)
    done = run(*asked)
    assert done.exit_code == 0, done.stderr
    assert "held-out loss" in done.stderr and done.stdout.strip()
    assert json.loads((output / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]
    record = json.loads((output / "training.json").read_text())
    assert record["recipe"]["norm"] == "lns" and record["recipe"]["warmup_steps"] == 1
    log = pd.read_csv(output / "training" / "training.csv")
    assert list(log) == ["step", "layer", "variance", "grad_norm"] and set(log.step) == {0, 1, 2, 5, 6}
    drawn = run("plot", output / "training", "--format", "png")
    assert drawn.exit_code == 0 and (output / "training" / "training.png").stat().st_size > 10_000
    again = run(*asked)
    assert again.exit_code == 0 and "Already trained" in again.stderr


def test_another_recipe_does_not_go_into_the_same_directory(tmp_path, text):
    output = tmp_path / "model"
    assert run("pretrain", "--dataset", text, *SMALL, "--steps", 1, "-o", output).exit_code == 0
    before = (output / "model.safetensors").read_bytes()
    failed = run("pretrain", "--dataset", text, *SMALL, "--steps", 2, "-o", output)
    assert failed.exit_code == 2 and "steps 1 instead of 2" in failed.stderr
    assert (output / "model.safetensors").read_bytes() == before


def test_a_text_that_changed_does_not_go_into_the_same_directory(tmp_path, text):
    changing = tmp_path / "rows.jsonl"
    changing.write_bytes(text.read_bytes())
    asked = ("pretrain", "--dataset", changing, *SMALL, "--steps", 1, "-o", tmp_path / "model")
    assert run(*asked).exit_code == 0
    changing.write_text(changing.read_text().replace("a", "e"))
    for rest in ((), (tmp_path / "model" / "training.json",)):  # finished, then unfinished
        for path in rest:
            path.unlink()
        failed = run(*asked)
        assert failed.exit_code == 2 and "holds a run on another text" in failed.stderr


def test_a_damaged_checkpoint_is_not_continued_from(tmp_path):
    from depthprobe.training.checkpoints import last_checkpoint

    for step in (2, 4, 6):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        for name in ("optimizer.pt", "scheduler.pt", "trainer_state.json"):
            (folder / name).write_bytes(b"{}")
        save_file({"weight": torch.zeros(100)}, folder / "model.safetensors")
    weights = tmp_path / "checkpoint-6" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:200])
    (tmp_path / "checkpoint-4" / "optimizer.pt").unlink()
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")


def test_a_diverged_training_is_one_sentence_and_keeps_its_log(tmp_path, text, monkeypatch):
    monkeypatch.setattr("depthprobe.training.pretraining.STEPS_A_LOSS", 1)
    output = tmp_path / "model"
    wild = ("--lr", "1e18", "--warmup", 0, "--steps", 40, "--save-every", 1)
    failed = run("pretrain", "--norm", "post", "--dataset", text, *SMALL, *wild, "-o", output)
    assert failed.exit_code == 2 and "The training diverged." in failed.stderr
    assert "Traceback" not in failed.stderr and not (output / "model.safetensors").exists()
    assert len(pd.read_csv(output / "training" / "training.csv")) >= 2
    assert list((output / "checkpoints").glob("checkpoint-*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--norm", "peri"), "--norm must be one of pre, post, deepnorm, mix, lns, sandwich, got peri."),
        (("--norm", "deepnorm", "--init", "scaled"), "--init scaled cannot be used with --norm deepnorm."),
        (("--preset", "7b"), "--preset must be one of 9m, 35m, 60m, 130m, 250m, got 7b."),
        (("--hidden", 40, "--heads", 3), "--hidden 40 cannot be divided into 3 heads"),
        (("--steps", 10, "--warmup", 11), "--warmup must be at most the 10 steps of the training, got 11."),
        (("--vocab", 300, "--tokenizer", "gpt2"), "--vocab is the size of a tokenizer that is trained, and"),
        (("--dataset", "nowhere.txt"), "There is no file nowhere.txt."),
        (("--report-to", "nowhere"), "--report-to nowhere is not available"),
    ],
)
def test_what_cannot_be_trained_is_told_in_one_line(tmp_path, arguments, message):
    failed = run("pretrain", *arguments, "-o", tmp_path / "model")
    assert failed.exit_code in (1, 2) and message in failed.stderr
    assert len(failed.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "model" / "recipe.json").exists()


def test_presets_and_widths_decide_what_follows_from_them():
    from depthprobe.commands.pretrain import recipe_of
    from depthprobe.training.recipe import PRESETS, Recipe

    wide = recipe_of(Recipe(), {"hidden": 768, "layers": None, "dataset": "allenai/c4", "steps": 20_000})
    assert (wide.heads, wide.feedforward, wide.layers, wide.config) == (12, 2048, 12, "en")
    assert wide.warmup_steps == 4000
    assert recipe_of(PRESETS["130m"], {"steps": 500}).warmup_steps == 50
    assert recipe_of(PRESETS["130m"], {"hidden": 768}) == PRESETS["130m"]
    other = recipe_of(PRESETS["130m"], {"dataset": "org/set", "steps": 500, "warmup_steps": 7})
    assert (other.config, other.warmup_steps, other.hidden) == (None, 7, 768)


def test_two_processes_train_what_one_does(tmp_path, text):
    def train(output, *launcher):
        arguments = [
            *SMALL,
            "--norm",
            "pre",
            "--steps",
            4,
            "--device",
            "cpu",
            "--dataset",
            text,
            "-o",
            output,
        ]
        command = [sys.executable, *launcher, "-m", "depthprobe", "pretrain", *map(str, arguments)]
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return json.loads((output / "training.json").read_text())

    one = train(tmp_path / "one")
    two = train(tmp_path / "two", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    assert two["heldout_loss_nats"] == pytest.approx(one["heldout_loss_nats"], abs=0.02)
    logs = [pd.read_csv(tmp_path / name / "training" / "training.csv") for name in ("one", "two")]
    first = [log[log.step == 0].variance.tolist() for log in logs]
    assert first[0] == first[1]  # the same weights to begin with
