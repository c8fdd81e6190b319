"""Freshly initialised weights: transformers' own, repeatable, and the caller's random state kept."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from depthprobe.errors import MachineError, OptionError
from depthprobe.models.loading.loading import load_model
from support import tiny


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tiny.save(tmp_path_factory.mktemp("models") / "tiny-llama")


def weights(loaded):
    return dict(loaded.model.named_parameters())


def test_a_seed_gives_what_transformers_initialises(directory):
    found = load_model(str(directory), initial_seed=5)
    torch.manual_seed(5)
    wanted = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(directory), dtype=torch.float32)
    for name, parameter in wanted.named_parameters():
        assert torch.equal(weights(found)[name], parameter), name
    assert found.initial_seed == 5 and found.describe()["initial_seed"] == 5
    assert not found.model.training


def test_another_seed_gives_another_model_and_neither_the_trained_one(directory):
    name = "model.layers.2.mlp.up_proj.weight"
    five, six = (weights(load_model(str(directory), initial_seed=seed))[name] for seed in (5, 6))
    assert not torch.equal(five, six)
    assert not torch.equal(five, weights(load_model(str(directory)))[name])


def test_the_callers_random_state_is_kept(directory):
    torch.manual_seed(0)
    wanted = torch.rand(3)
    torch.manual_seed(0)
    load_model(str(directory), initial_seed=1)
    assert torch.equal(torch.rand(3), wanted)


def test_dtype_is_as_asked_for(directory):
    found = load_model(str(directory), initial_seed=1, dtype="bfloat16")
    assert {parameter.dtype for parameter in weights(found).values()} == {torch.bfloat16}


def test_a_masked_model_is_initialised_with_its_head(tmp_path):
    tiny.build("bert").save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    assert type(load_model(str(tmp_path), initial_seed=0).model).__name__ == "BertForMaskedLM"


def test_a_quantised_checkpoints_configuration_is_built_unquantised(directory, tmp_path):
    import json
    import shutil

    shutil.copytree(directory, tmp_path / "packed")
    path = tmp_path / "packed" / "config.json"
    config = json.loads(path.read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4, "group_size": 128}
    path.write_text(json.dumps(config))
    found = load_model(str(tmp_path / "packed"), initial_seed=0)
    assert found.quantisation is None
    assert all(parameter.is_floating_point() for parameter in weights(found).values())


def test_a_model_larger_than_the_memory_is_refused_before_it_is_built(directory, monkeypatch):
    from depthprobe.models.loading import placement

    class Little:
        available = 1000
        free = 0

    monkeypatch.setattr(placement.psutil, "virtual_memory", lambda: Little)
    monkeypatch.setattr(placement.psutil, "swap_memory", lambda: Little)
    with pytest.raises(MachineError, match="tiny-llama needs .* GiB in float32"):
        load_model(str(directory), initial_seed=0)


def test_splitting_and_adapters_belong_to_trained_weights(directory):
    with pytest.raises(OptionError, match="--device-map auto and --initial contradict"):
        load_model(str(directory), initial_seed=0, device_map="auto")
    with pytest.raises(OptionError, match="--adapter my-lora and --initial contradict"):
        load_model(str(directory), initial_seed=0, adapter="my-lora")
