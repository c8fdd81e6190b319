"""A config.json that cannot be meant is refused in one sentence, and what plays no part is put right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from depthprobe.errors import LoadError
from depthprobe.models.loading.checkpoint import LOAD_EXCEPTIONS, open_checkpoint
from depthprobe.models.loading.loading import load_model
from depthprobe.models.loading.local_files import is_deeper, read_json
from depthprobe.models.loading.sanity import checked_settings
from depthprobe.models.loading.sources import ModelSource
from support import tiny

WHOLE = "it must be a whole number of at least 1"
OBJECT = "it must be an object of settings"
POSITIVE = "it must be a number above 0"

WRONG = [
    *[({key: 0}, f"says {key} 0, but {WHOLE}") for key in ("num_attention_heads", "num_key_value_heads")],
    *[({key: 0}, f"says {key} 0, but {WHOLE}") for key in ("hidden_size", "vocab_size")],
    ({"num_hidden_layers": -1}, f"says num_hidden_layers -1, but {WHOLE}"),
    ({"n_layer": 0}, f"says n_layer 0, but {WHOLE}"),
    ({"hidden_size": 4.0}, f"says hidden_size 4.0, but {WHOLE}"),
    ({"hidden_size": "4"}, f"says hidden_size '4', but {WHOLE}"),
    ({"hidden_size": True}, f"says hidden_size True, but {WHOLE}"),
    ({"intermediate_size": [4, 0]}, f"says intermediate_size [4, 0], but {WHOLE}"),
    ({"text_config": {"vocab_size": -3}}, f"says vocab_size -3, but {WHOLE}"),
    ({"num_hidden_layers": 10**9}, "says num_hidden_layers 1000000000, but it must be at most 10,000"),
    ({"num_experts": 10**9}, "says num_experts 1000000000, but it must be at most 100,000"),
    ({"vocab_size": 10**15}, "says vocab_size 1000000000000000, but it must be at most 2,147,483,647"),
    ({"max_position_embeddings": 10**30}, "it must be at most 9,223,372,036,854,775,807"),
    (
        {"num_attention_heads": 4, "num_key_value_heads": 3},
        "says num_key_value_heads 3, but it must be a divisor of num_attention_heads (4)",
    ),
    ({"rms_norm_eps": -1.5}, "says rms_norm_eps -1.5, but it must be a number of at least 0"),
    ({"rms_norm_eps": float("nan")}, "says rms_norm_eps nan, but it must be a number of at least 0"),
    ({"model_type": ["llama"]}, "says model_type ['llama'], but it must be a word such as 'llama'"),
    ({"architectures": [None]}, "says architectures [None], but it must be a list of names of classes"),
    ({"architectures": 5}, "says architectures 5, but it must be a list of names of classes"),
    ({"auto_map": "x"}, "says auto_map 'x', but it must be an object of names of classes"),
    ({"auto_map": {"AutoConfig": {}}}, "but it must be an object of names of classes"),
    ({"quantization_config": 5}, f"says quantization_config 5, but {OBJECT}"),
    ({"text_config": {"quantization_config": "x"}}, f"says quantization_config 'x', but {OBJECT}"),
    ({"text_config": [1]}, f"says text_config [1], but {OBJECT}"),
    ({"rope_scaling": "x"}, f"says rope_scaling 'x', but {OBJECT}"),
    ({"rope_parameters": [1]}, f"says rope_parameters [1], but {OBJECT}"),
    ({"rope_scaling": {"type": "nope"}}, "says rope_type 'nope', but it must be one of default, "),
    ({"rope_scaling": {"rope_type": 5}}, "says rope_type 5, but it must be one of default, "),
    ({"rope_scaling": {"factor": "x"}}, f"says factor 'x', but {POSITIVE}"),
    ({"rope_scaling": {"factor": 0}}, f"says factor 0, but {POSITIVE}"),
    ({"rope_parameters": {"full_attention": {"rope_theta": -1}}}, f"says rope_theta -1, but {POSITIVE}"),
    ({"rope_scaling": {"factor": [2]}}, f"says factor [2], but {POSITIVE}"),
    ({"sliding_window": "x"}, "says sliding_window 'x', but it must be a whole number"),
    ({"rope_theta": "x"}, f"says rope_theta 'x', but {POSITIVE}"),
    ({"rope_scaling": {"long_factor": [0, 1]}}, "it must be a list of numbers above 0"),
]


@pytest.mark.parametrize("changed, sentence", WRONG, ids=[f"{each[0]}"[:60] for each in WRONG])
def test_a_value_that_cannot_be_meant_is_named(changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(LoadError) as caught:
        checked_settings("org/model", changed)
    assert caught.value.problem.startswith("config.json of org/model says ")
    assert sentence in caught.value.problem
    assert caught.value.hint == "Correct it, or download the file again."


def test_what_real_configurations_say_is_left_alone() -> None:
    real = {
        "model_type": "x",
        "num_key_value_heads": None,
        "num_attention_heads": [4, 8],
        "intermediate_size": [64, 128],
        "time_step_limit": [0.0, float("inf")],
        "pad_token_id": -1,
        "num_local_experts": 0,
        "rope_scaling": None,
        "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e6}},
        "dtype": "bfloat16",
    }
    assert checked_settings("org/model", real) == (real, ())


def test_no_model_type_of_transformers_is_refused_as_it_declares_itself() -> None:
    tried = 0
    for model_type in CONFIG_MAPPING:
        try:
            raw = json.loads(CONFIG_MAPPING[model_type]().to_json_string(use_diff=False))
        except LOAD_EXCEPTIONS:
            continue  # its defaults are no model
        checked_settings(model_type, raw)
        tried += 1
    assert tried > 400


@pytest.mark.parametrize(
    "said, meant",
    [
        *[("bf16", "bfloat16"), ("float", "float32"), ("torch.bfloat16", "bfloat16"), ("half", "float16")],
        *[("unknown", None), ("int8", None), (16, None), ({}, None), ("", None), (True, None)],
    ],
)
@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
def test_other_spellings_of_a_dtype_are_understood(key: str, said: Any, meant: str | None) -> None:
    settings, notes = checked_settings("org/model", {key: said, "text_config": {key: said}})
    assert settings.get(key) == settings["text_config"].get(key) == meant
    told = f"config.json of org/model names the {key} {str(said)!r}, in which no weights can be"
    assert not notes if meant else notes[0].startswith(told)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("models") / "llama", layers=2)


def changed(llama: Path, folder: Path, **values: Any) -> Path:
    """Return a copy of a model that shares its files but has another config.json."""
    folder.mkdir()
    for path in llama.iterdir():
        (folder / path.name).symlink_to(path)
    raw = json.loads((llama / "config.json").read_text())
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(json.dumps(raw | values))
    return folder


def test_what_plays_no_part_in_a_measurement_is_put_right(llama: Path, tmp_path: Path) -> None:
    values = {
        "pad_token_id": 5000,
        "return_dict": False,
        "output_hidden_states": True,
        "output_attentions": True,
        "use_cache": "x",
        "dtype": "bf16",
        "architectures": "LlamaForCausalLM",
    }
    loaded = load_model(str(changed(llama, tmp_path / "odd", **values)), device="cpu")
    assert loaded.notes == (
        f"config.json of {tmp_path / 'odd'} names the padding token 5000, which is outside its vocabulary of "
        "300: it is ignored.",
    )
    config = loaded.model.config
    assert config.return_dict is True and config.pad_token_id is None
    assert not config.output_hidden_states and not config.output_attentions
    # As output_attentions would have it, eager.
    assert loaded.describe()["attention"] == "sdpa"
    ids = torch.tensor([[0, 5, 7]])
    plain = load_model(str(llama), device="cpu").model
    assert torch.equal(loaded.model(ids).logits, plain(ids).logits)


def test_a_wrong_type_that_transformers_finds_is_told_without_its_frame(llama: Path, tmp_path: Path) -> None:
    folder = changed(llama, tmp_path / "odd", hidden_act=5)
    with pytest.raises(LoadError) as caught:
        open_checkpoint(ModelSource("odd", str(folder), None, None, "transformers"))
    assert caught.value.problem == (
        "The configuration of odd does not load: Field 'hidden_act' expected str, got int (value: 5)."
    )


@pytest.mark.parametrize(
    "contents, sentence",
    [
        ("", "is not valid JSON (JSONDecodeError: "),
        ("null", "holds no JSON object ({...})."),
        ("[]", "holds no JSON object ({...})."),
        ('{"x": ' + "[" * 10_000 + "]" * 10_000 + "}", "is nested more than 100 levels deep"),
        ('{"x": ' + "[" * 200 + "]" * 200 + "}", "is nested more than 100 levels deep"),
        ('{"x": ' + "9" * 5000 + "}", "is not valid JSON (ValueError: Exceeds the limit"),
    ],
)
def test_json_that_is_none_is_refused(tmp_path: Path, contents: str, sentence: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(contents)
    with pytest.raises(LoadError) as caught:
        read_json("org/model", path)
    assert caught.value.problem.startswith(f"config.json of org/model {sentence}")


def test_levels_are_counted_as_they_are_nested() -> None:
    assert is_deeper({"a": [{"b": 1}]}, 2) and not is_deeper({"a": [{"b": 1}]}, 3)
    assert not is_deeper({"a": 1, "b": [2], "c": {}}, 2)
