import json
import math
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from depthprobe.builtin import corpus
from depthprobe.errors import OptionError
from depthprobe.training import pretraining
from depthprobe.training.bigram import bigram_loss
from depthprobe.training.recipe import Recipe
from support import crashing, tiny

SMALL = replace(
    Recipe(),
    vocab_size=300,
    hidden=32,
    layers=2,
    feedforward=64,
    context_tokens=16,
    steps=6,
    warmup_steps=2,
    precision="float32",
)


@pytest.fixture
def small_corpus(monkeypatch):
    texts = {"train": tiny.sentences(120), "heldout": tiny.sentences(20, seed=1)}
    monkeypatch.setattr(
        corpus, "documents", lambda part: [corpus.Document(str(i), t) for i, t in enumerate(texts[part])]
    )


def test_the_bigram_baseline_is_the_best_mixture_of_counts():
    generator = np.random.default_rng(0)
    train, heldout = generator.integers(0, 7, 400), generator.integers(0, 7, 60)
    pairs, singles = Counter(zip(train[:-1], train[1:], strict=True)), Counter(train)

    def loss(w2, w0):
        total = 0.0
        for a, b in zip(heldout[:-1], heldout[1:], strict=True):
            p = w2 * pairs[a, b] / singles[a] + (1 - w2 - w0) * singles[b] / len(train) + w0 / 7
            total -= math.log(p)
        return total / (len(heldout) - 1)

    best = min(loss(w2, w0) for w2 in np.linspace(0.3, 0.95, 27) for w0 in (0.001, 0.003, 0.01, 0.03))
    assert bigram_loss(train, heldout, 7) == pytest.approx(best, abs=1e-12)


def test_mean_loss_is_transformers_own_whatever_the_batch():
    model = tiny.build("llama")
    ids = np.random.default_rng(0).integers(5, 290, size=(7, 12))
    wanted = model(torch.from_numpy(ids), labels=torch.from_numpy(ids)).loss.item()
    assert pretraining.mean_loss(model, ids, batch_samples=3) == pytest.approx(wanted, abs=1e-5)


def test_a_run_gives_a_plain_llama_and_says_what_it_reached(small_corpus, tmp_path):
    from depthprobe.models.loading.loading import load_model

    said = []
    record = pretraining.pretrain(SMALL, tmp_path / "a", checkpoint_steps=3, say=said.append)
    loaded = load_model(str(tmp_path / "a"))
    assert type(loaded.model).__name__ == "LlamaForCausalLM" and loaded.model.config.num_hidden_layers == 2
    assert {tensor.dtype for tensor in load_file(tmp_path / "a" / "model.safetensors").values()} == {
        torch.bfloat16
    }
    assert loaded.tokenizer("the")["input_ids"][0] == loaded.model.config.bos_token_id == 0
    assert json.loads((tmp_path / "a" / "training.json").read_text()) == record
    assert record["heldout_loss_nats"] > 0 and "bigram baseline" in said[-1]
    assert pretraining.sample(tmp_path / "a", "the", tokens=5).startswith("the")


def test_a_killed_run_continues_to_the_same_weights(small_corpus, tmp_path):
    pretraining.pretrain(SMALL, tmp_path / "whole", checkpoint_steps=2)

    def die(line):
        if line.startswith("step 5/"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretraining.pretrain(SMALL, tmp_path / "killed", checkpoint_steps=2, say=die)
    assert not (tmp_path / "killed" / "model.safetensors").exists()
    pretraining.pretrain(SMALL, tmp_path / "killed", checkpoint_steps=2)
    whole, killed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(whole[name], killed[name]) for name in whole)


def test_a_run_killed_after_its_last_step_takes_none_more(small_corpus, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    pretraining.pretrain(SMALL, tmp_path / "whole" / "model", checkpoint_steps=2)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pretraining, "_finish", killed)
        pretraining.pretrain(SMALL, tmp_path / "killed" / "model", checkpoint_steps=2)
    said = []
    pretraining.pretrain(SMALL, tmp_path / "killed" / "model", checkpoint_steps=2, say=said.append)
    assert "All 6 steps are done: saving the model." in said
    assert not any(line.startswith(("step ", "Continuing")) for line in said)
    whole, killed = (crashing.files_in(tmp_path / name, {}) for name in ("whole", "killed"))
    assert whole == killed


@pytest.mark.parametrize("variables", [{"LOCAL_RANK": "q"}])
def test_an_environment_that_only_half_tells_of_processes_is_one_sentence(tmp_path, variables):
    code = (
        "from pathlib import Path\n"
        "from depthprobe.errors import OptionError\n"
        "from depthprobe.training import pretraining\n"
        "from depthprobe.training.recipe import Recipe\n"
        f"try: pretraining.pretrain(Recipe(), Path({str(tmp_path)!r}))\n"
        "except OptionError as error: print(error)"
    )
    # The Trainer's view of the processes cannot be undone in this one.
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **variables},
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith("The environment tells of several processes, but not well: "), done.stderr
    assert done.stdout.strip().endswith("or unset WORLD_SIZE, RANK and LOCAL_RANK.")


def test_a_model_that_cannot_fit_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(OptionError, match="--hidden 1000000000, .* has .* parameters: training takes"):
        pretraining.pretrain(replace(SMALL, hidden=10**9), tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("norm", ["post", "deepnorm", "mix", "lns", "sandwich"])
def test_every_norm_placement_is_trained_and_saved_as_itself(small_corpus, tmp_path, norm):
    from depthprobe.models.anatomy.anatomy import describe_anatomy
    from depthprobe.models.loading.loading import load_model

    record = pretraining.pretrain(replace(SMALL, norm=norm, layers=4), tmp_path)
    assert record["recipe"]["norm"] == norm and math.isfinite(record["heldout_loss_nats"])
    loaded = load_model(str(tmp_path), device="cpu")
    assert type(loaded.model).__name__ == ("LlamaForCausalLM" if norm == "lns" else "DepthprobeForCausalLM")
    placement = {"deepnorm": "post", "mix": "mixed", "lns": "pre"}.get(norm, norm)
    assert describe_anatomy(loaded.model).norm_placement == placement
    if norm == "lns":  # the factors went into the weights
        gains = [block.input_layernorm.weight.mean().item() for block in loaded.model.model.layers]
        assert gains == pytest.approx([1 / math.sqrt(layer) for layer in (1, 2, 3, 4)], rel=0.05)


@pytest.mark.parametrize(
    ("steps", "between", "wanted"), [(2000, 250, 50), (2000, 20, 20), (6, 250, 1), (40, 1, 1)]
)
def test_checkpoints_fall_on_steps_whose_loss_is_logged(steps, between, wanted):
    assert pretraining._steps_a_loss(steps, between) == wanted
    assert between % wanted == 0
