"""A real model: Gemma 3 270M, with a vocabulary of 262,144, sliding windows and norms behind its branches.

    DEPTHPROBE_REAL_MODEL=path/to/gemma3-270m.gguf pytest -m real

The model is not ours to commit; a GGUF file of it, or the directory that ``depthprobe convert`` makes of
that, will do. Takes some minutes on two cores.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

import depthprobe

MODEL = os.environ.get("DEPTHPROBE_REAL_MODEL")
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not MODEL, reason="DEPTHPROBE_REAL_MODEL names no model"),
]
TEXT = {"dataset": "builtin", "samples": 6, "seq_len": 96}


@pytest.fixture(scope="module")
def model():
    return depthprobe.load_model(Path(MODEL), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def streams(model):
    """The stream at every boundary, text by text, as transformers itself gives it: [token, L + 1, hidden]."""
    from depthprobe.texts.options import TextOptions
    from depthprobe.texts.samples import read_samples

    samples = read_samples(TextOptions(**TEXT), model.tokenizer)
    kept = []
    hooks = []
    layers = model.model.model.layers

    def keep(stream):
        kept[-1].append(stream[0].double())

    hooks.append(layers[0].register_forward_pre_hook(lambda _, inputs: keep(inputs[0])))
    for layer in layers:
        hooks.append(
            layer.register_forward_hook(
                lambda _, inputs, out: keep(out[0] if isinstance(out, tuple) else out)
            )
        )
    with torch.no_grad():
        for tokens in samples.tokens:
            kept.append([])
            model.model.model(torch.from_numpy(tokens)[None])
    for hook in hooks:
        hook.remove()
    return [torch.stack(boundaries, dim=1) for boundaries in kept]


def test_distances_are_those_of_the_streams_themselves(model, streams):
    found = depthprobe.angular(model, **TEXT).frame
    for row in found.sample(12, random_state=0).itertuples():
        pairs = [(stream[-1, row.layer], stream[-1, row.layer + row.n]) for stream in streams]
        cosines = [float(x @ y / (x.norm() * y.norm())) for x, y in pairs]
        assert row.distance == pytest.approx(np.mean(np.arccos(cosines) / np.pi), abs=1e-4)
    assert found["layer"].max() == 17


def test_one_token_carries_the_mean_of_the_variance_and_not_the_median(model, streams):
    found = depthprobe.variance(model, **TEXT).frame
    rows = found[found["point"] == "stream"].set_index("layer")
    for boundary in (1, 7, 18):
        variances = [stream[:, boundary].var(dim=-1) for stream in streams]
        everything = torch.cat(variances)
        assert rows.loc[boundary, "variance"] == pytest.approx(float(everything.mean()), rel=1e-3)
        rest = torch.cat([each[1:] for each in variances])
        assert rows.loc[boundary, "variance_without_first"] == pytest.approx(float(rest.mean()), rel=1e-3)
        assert rows.loc[boundary, "variance_median"] == pytest.approx(
            float(np.median(everything.numpy())), rel=1e-3
        )
    growth = rows[["variance", "variance_median"]].loc[18] / rows[["variance", "variance_median"]].loc[1]
    assert growth["variance_median"] > 5 * growth["variance"]  # the first token's own variance hides it


def test_the_loss_that_is_differentiated_is_the_models_own(model):
    found = depthprobe.gradnorm(model, dataset="builtin", samples=2, seq_len=64)
    from depthprobe.texts.options import TextOptions
    from depthprobe.texts.samples import read_samples

    samples = read_samples(TextOptions("builtin", samples=2, seq_len=64), model.tokenizer)
    with torch.no_grad():
        losses = [
            float(model.model(ids, labels=ids).loss)
            for ids in (torch.from_numpy(tokens)[None] for tokens in samples.tokens)
        ]
    assert found.facts["loss_nats"] == pytest.approx(np.mean(losses), rel=1e-4)
    assert (found.frame["grad_norm"] > 0).all()


def test_a_sweep_says_what_lm_eval_says_of_the_model_without_the_layer(model, tmp_path):
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    questions = [
        ("The capital of France is", ["Paris", "Rome", "Oslo"]),
        ("Two and two make", ["four", "five", "nine"]),
        ("The sun rises in the", ["east", "west", "north"]),
        ("Water freezes to", ["ice", "steam", "sand"]),
    ]
    rows = [{"question": q, "choices": c, "label": 0} for q, c in questions]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "real_mc.yaml").write_text(
        "task: real_mc\ndataset_path: json\noutput_type: multiple_choice\n"
        f"dataset_kwargs:\n  data_files:\n    test: {tmp_path / 'rows.jsonl'}\ntest_split: test\n"
        "doc_to_text: '{{question}}'\ndoc_to_choice: '{{choices}}'\ndoc_to_target: label\n"
        "metric_list:\n- metric: acc\n- metric: acc_norm\nmetadata:\n  version: 1.0\n"
    )
    found = depthprobe.prune_sweep(
        model, tasks=("real_mc",), include_path=(tmp_path,), layers=(9,), no_calibration=True, per_sample=True
    )
    network = model.model
    blocks = network.model.layers
    types = list(network.config.layer_types)

    def evaluated():
        lm = HFLM(pretrained=network, tokenizer=model.tokenizer, batch_size=1)
        manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
        results = lm_eval.simple_evaluate(lm, tasks=["real_mc"], task_manager=manager, bootstrap_iters=0)
        return results["results"]["real_mc"]

    def number(layers):
        for place, block in enumerate(layers):
            block.self_attn.layer_idx = place

    whole = evaluated()
    try:
        network.model.layers = torch.nn.ModuleList(b for number, b in enumerate(blocks) if number != 9)
        network.config.layer_types = [kind for number, kind in enumerate(types) if number != 9]
        network.config.num_hidden_layers = len(blocks) - 1
        number(network.model.layers)
        without = evaluated()
    finally:
        network.model.layers = blocks
        number(blocks)
        network.config.layer_types, network.config.num_hidden_layers = types, len(blocks)
    for row in found.frame.itertuples():
        assert row.baseline == pytest.approx(whole[f"{row.metric},none"])
        assert row.pruned == pytest.approx(without[f"{row.metric},none"])
