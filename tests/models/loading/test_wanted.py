"""Every way a model may be wanted: revision in the name, GGUF, adapters, quantised, towers, split."""

from __future__ import annotations

import copy
import importlib.util
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForSeq2SeqLM, BertForPreTraining, T5Config, T5EncoderModel

from depthprobe.errors import LoadError, OptionError
from depthprobe.models.loading.checkpoint import declared_positions, open_checkpoint
from depthprobe.models.loading.loading import LoadOptions, _build_model, load_model, resolve_model
from depthprobe.models.loading.options import split_name
from depthprobe.models.loading.sources import resolve_adapter
from depthprobe.models.saving.converting import write_model
from support.gguf_and_lora import save_lora, write_gguf
from support.tiny import build, save, tokenizer

IDS = torch.tensor([[0, 5, 9, 200, 33, 7, 7, 120]])


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("models") / "llama")


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits


def set_config(folder: Path, **values: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return folder


@pytest.mark.parametrize(
    ("name", "revision", "expected"),
    [
        ("gpt2", None, ("gpt2", None, None)),
        ("gpt2@main", None, ("gpt2", None, "main")),
        ("org/x@v1.0", "v1.0", ("org/x", None, "v1.0")),
        ("org/x:a-Q4_0.gguf", "v1", ("org/x", "a-Q4_0.gguf", "v1")),
        ("org/x:q/a.gguf@v2", None, ("org/x", "q/a.gguf", "v2")),
        ("org/x@v2:a.gguf", None, ("org/x", "a.gguf", "v2")),
    ],
)
def test_a_name_may_say_revision_and_file(name: str, revision: str | None, expected: tuple) -> None:
    assert split_name(name, revision) == expected


def test_two_revisions_contradict_each_other_and_a_directory_with_an_at_is_a_directory(
    tmp_path: Path,
) -> None:
    with pytest.raises(OptionError, match="Two revisions of org/x are named, v1 and v2. Name one."):
        split_name("org/x@v1", "v2")
    folder = save(tmp_path / "model@v1")
    assert resolve_model(str(folder)).location == str(folder)


def test_options_that_contradict_each_other_are_refused(llama: Path) -> None:
    with pytest.raises(OptionError, match="--device-map must be auto, got balanced"):
        LoadOptions(device_map="balanced")
    with pytest.raises(OptionError, match="--device cpu and --device-map auto contradict"):
        LoadOptions(device="cpu", device_map="auto")
    with pytest.raises(OptionError, match="--tower must be decoder or encoder, got left"):
        LoadOptions(tower="left")
    with pytest.raises(OptionError, match="--tower encoder is for encoder-decoder models, but .*"):
        load_model(str(llama), tower="encoder")


# --- GGUF -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("quantised", "kind"), [(False, "gguf F32"), (True, "gguf Q8_0")])
def test_a_gguf_file_is_the_model_whose_weights_it_holds(tmp_path: Path, quantised: bool, kind: str) -> None:
    held = write_gguf(tmp_path / "tiny.gguf", quantised)
    reference = build("llama")
    reference.load_state_dict(held)
    for name in (str(tmp_path / "tiny.gguf"), str(tmp_path), f"{tmp_path}:tiny.gguf"):
        loaded = load_model(name, device="cpu")
        assert torch.allclose(logits(loaded.model), logits(reference), atol=1e-5)
    described = loaded.describe()
    assert (described["quantisation"], described["dtype"], described["layout"]) == (kind, "float32", "gguf")
    assert loaded.tokenizer("the stream")["input_ids"][-1] == tokenizer()("the stream")["input_ids"][-1]


def test_gguf_files_that_cannot_be_loaded_say_why(tmp_path: Path) -> None:
    write_gguf(tmp_path / "a.gguf", architecture="odd")
    with pytest.raises(LoadError, match="of architecture 'odd', which transformers .* does not read"):
        load_model(str(tmp_path), device="cpu")
    (tmp_path / "b.gguf").write_bytes(b"GGUF")
    with pytest.raises(LoadError, match=r"several GGUF files: a.gguf, b.gguf. Name one of them: .*:a.gguf"):
        resolve_model(str(tmp_path))
    with pytest.raises(LoadError, match="has no file c.gguf. There are: a.gguf, b.gguf"):
        resolve_model(f"{tmp_path}:c.gguf")
    with pytest.raises(LoadError, match="b.gguf of .* is truncated, damaged or not a GGUF file"):
        load_model(f"{tmp_path}:b.gguf", device="cpu")
    (tmp_path / "x-00001-of-00002.gguf").write_bytes(b"GGUF")
    with pytest.raises(LoadError, match="one part of a GGUF model"):
        resolve_model(f"{tmp_path}:x-00001-of-00002.gguf")


# --- adapters -------------------------------------------------------------------------------------------


def test_an_adapter_is_merged_as_by_hand(llama: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    folder = save_lora(tmp_path / "lora")
    reference = build("llama")
    stored = load_file(folder / "adapter_model.safetensors")
    for key in [key for key in stored if "lora_A" in key]:
        a, b = stored[key].double(), stored[key.replace("lora_A", "lora_B")].double()
        path = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        weight = reference.get_submodule(path).weight
        weight.data = (weight.data.double() + 7 / 3 * b @ a).float()
    loaded = load_model(str(llama), device="cpu", adapter=str(folder))
    assert type(loaded.model).__name__ == "LlamaForCausalLM"
    assert torch.allclose(logits(loaded.model), logits(reference), atol=1e-5)
    assert not torch.allclose(logits(loaded.model), logits(build("llama")), atol=1e-2)
    told = loaded.describe()["adapter"]
    assert (told["id"], told["base"], len(told["fingerprint"])) == (str(folder), "org/base", 64)


def test_an_adapter_that_does_not_fit_is_one_sentence(llama: Path, tmp_path: Path) -> None:
    folder = save_lora(tmp_path / "deep", layers=5)
    with pytest.raises(LoadError, match="deep does not fit .*llama: .* It was trained on org/base"):
        load_model(str(llama), device="cpu", adapter=str(folder))
    with pytest.raises(LoadError, match="is an adapter of org/base, not a model. Type org/base --adapter"):
        resolve_model(str(folder))
    with pytest.raises(LoadError, match="has no adapter_config.json, so it is not an adapter"):
        resolve_adapter(str(llama))
    other = save(tmp_path / "gpt2", "gpt2")
    with pytest.raises(LoadError, match="does not fit"):
        load_model(str(other), device="cpu", adapter=str(folder))


def without(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Make Python find everything but one package."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == package else find(name, *more)
    )


def test_a_missing_package_is_named_before_anything_is_read(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_gguf(tmp_path / "tiny.gguf")
    folder = save_lora(tmp_path / "lora")
    without(monkeypatch, "gguf")
    with pytest.raises(LoadError, match=r"is a GGUF model, but .* missing. Install it: pip install gguf\."):
        load_model(str(tmp_path / "tiny.gguf"), device="cpu")
    without(monkeypatch, "peft")
    with pytest.raises(LoadError, match=r"is an adapter, but .* missing. Install it: pip install peft\."):
        load_model(str(llama), device="cpu", adapter=str(folder))


@pytest.mark.parametrize("how", ["saved beside", "trained whole", "low rank"])
def test_an_adapter_trained_after_tokens_were_added_brings_them(tmp_path: Path, how: str) -> None:
    peft = pytest.importorskip("peft")
    base, folder = save(tmp_path / "base", layers=2), tmp_path / "lora"
    model, words = build("llama", layers=2), copy.deepcopy(tokenizer())
    words.add_tokens(["<new>", "<newer>"])
    torch.manual_seed(0)
    model.resize_token_embeddings(302, mean_resizing=False)
    ends = ["embed_tokens", "lm_head"]
    config = peft.LoraConfig(
        r=3,
        target_modules=["q_proj", *(ends if how == "low rank" else ())],
        modules_to_save=ends if how == "trained whole" else None,
    )
    adapted = peft.get_peft_model(model, config).eval()
    for name, parameter in adapted.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    adapted.save_pretrained(folder, save_embedding_layers=True)
    ids = torch.tensor([[0, 300, 7, 301]])
    loaded = load_model(str(base), device="cpu", adapter=str(folder))
    assert loaded.vocabulary == 302 and len(loaded.tokenizer) == 300
    assert torch.allclose(loaded.model(ids).logits, adapted(ids).logits, atol=1e-4)
    # With the tokenizer that it was trained with, the new tokens are read as such, and decide which it is.
    fingerprint = resolve_adapter(str(folder)).fingerprint
    words.save_pretrained(folder)
    loaded = load_model(f"{base}+{folder}", device="cpu")
    assert loaded.tokenizer("a<new>")["input_ids"][-1] == 300
    told = f"The tokenizer of {folder} is used: it has 302 tokens, that of {base} 300."
    assert told in loaded.notes
    assert resolve_adapter(str(folder)).fingerprint != fingerprint


@pytest.mark.filterwarnings("ignore:Setting .save_embedding_layers")
def test_an_adapter_that_does_not_bring_its_tokens_is_told_with_both_sizes(tmp_path: Path) -> None:
    base, folder = save(tmp_path / "base", layers=2), save_lora(tmp_path / "lora", 2, ("embed_tokens",))
    path = folder / "adapter_model.safetensors"
    weights = {
        key: torch.nn.functional.pad(each, (0, 5)) if "lora_embedding_A" in key else each
        for key, each in load_file(path).items()
        if not key.endswith("base_layer.weight")
    }
    save_file(weights, path, {"format": "pt"})
    with pytest.raises(LoadError) as caught:
        load_model(str(base), device="cpu", adapter=str(folder))
    assert caught.value.problem == (
        f"The adapter {folder} was trained with a vocabulary of 305 tokens, but {base} has 300, and the "
        "adapter does not bring the embedding of the others."
    )


@pytest.mark.parametrize(
    "contents, why",
    [
        ("", "is not valid JSON"),
        ('{"peft_type": "LORA"', "is not valid JSON"),
        ("[]", "holds no JSON object"),
        ('{"a": ' * 10_000, "is nested more than 100 levels deep"),
    ],
)
def test_a_damaged_adapter_configuration_is_named(tmp_path: Path, contents: str, why: str) -> None:
    folder = save_lora(tmp_path / "lora")
    (folder / "adapter_config.json").write_text(contents)
    with pytest.raises(LoadError, match=f"adapter_config.json of .*lora {why}.*Download the file again."):
        resolve_adapter(str(folder))


def test_an_adapter_without_whole_weights_says_so(tmp_path: Path) -> None:
    weights = save_lora(tmp_path / "lora") / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(LoadError, match="adapter_model.safetensors of .*lora is truncated or damaged"):
        resolve_adapter(str(tmp_path / "lora"))
    weights.unlink()
    with pytest.raises(LoadError, match="lora has an adapter_config.json but no weights. Put adapter_model"):
        resolve_adapter(str(tmp_path / "lora"))
    with pytest.raises(LoadError, match="There is no directory './nowhere'. Check the path of --adapter"):
        resolve_adapter("./nowhere")


def test_prompt_tuning_cannot_be_merged(llama: Path, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    peft.get_peft_model(build("llama"), config).save_pretrained(tmp_path)
    message = "is an adapter of type PROMPT_TUNING, which adds tokens to the input and cannot be merged"
    with pytest.raises(LoadError, match=message):
        load_model(str(llama), device="cpu", adapter=str(tmp_path))


# --- what the weights are -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "pip install bitsandbytes"),
        ({"quant_method": "awq", "bits": 4}, "pip install gptqmodel"),
        ({"quant_method": "compressed-tensors", "config_groups": {}}, "pip install compressed-tensors"),
        ({"quant_method": "aqlm"}, "pip install aqlm"),
        ({"quant_method": "spqr"}, "spqr"),
        ({"quant_method": "exl9"}, "quantised with 'exl9', a method that transformers"),
    ],
)
def test_a_quantised_checkpoint_says_what_it_needs(tmp_path: Path, settings: dict, message: str) -> None:
    folder = set_config(save(tmp_path), quantization_config=settings)
    with pytest.raises(LoadError, match=message):
        load_model(str(folder), device="cpu")


def test_an_ordinary_bert_gives_one_short_note(tmp_path: Path) -> None:
    BertForPreTraining(build("bert").config).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    loaded = load_model(str(set_config(tmp_path, architectures=["BertForMaskedLM"])), device="cpu")
    assert loaded.notes == (
        f"{tmp_path} holds weights that BertForMaskedLM has no place for: "
        "bert.pooler.dense, cls.seq_relationship.",
    )


def test_a_pickle_with_code_is_not_run(tmp_path: Path) -> None:
    class Code:
        def __reduce__(self) -> tuple:
            return print, ("run",)

    folder = save(tmp_path)
    (folder / "model.safetensors").unlink()
    torch.save({"model.norm.weight": Code()}, folder / "pytorch_model.bin", pickle_module=pickle)
    with pytest.raises(LoadError, match="a pickle with more than tensors in it"):
        load_model(str(folder), device="cpu")


def test_fp8_is_unpacked_where_no_gpu_computes_with_it_and_written_so(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    folder = save(tmp_path)
    reference, stored = build("llama"), {}
    for key, tensor in reference.state_dict().items():
        if tensor.dim() == 2 and "layers" in key:
            scale = (tensor.abs().max() / 448).reshape(1, 1)
            packed = (tensor / scale).to(torch.float8_e4m3fn)
            tensor.copy_(packed.float() * scale)
            stored |= {key: packed, f"{key}_scale_inv": scale}
        else:
            stored[key] = tensor.clone()
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    set_config(folder, quantization_config={"quant_method": "fp8", "weight_block_size": [64, 64]})
    loaded = load_model(str(folder), device="cpu")
    assert loaded.describe()["quantisation"] == "fp8 8 bit, unpacked"
    assert loaded.model.dtype == torch.float32 and loaded.notes == ()
    assert torch.allclose(logits(loaded.model), logits(reference), atol=1e-5)
    (tmp_path / "out").mkdir()
    write_model(open_checkpoint(str(folder)), None, tmp_path / "out")
    again = load_model(str(tmp_path / "out"), device="cpu")
    assert again.quantisation is None and torch.equal(logits(again.model), logits(loaded.model))


def test_code_of_a_model_runs_only_when_asked_for(tmp_path: Path) -> None:
    folder = save(tmp_path / "odd")
    (folder / "modeling_odd.py").write_text(
        "from transformers import LlamaConfig, LlamaForCausalLM\n\n\n"
        "class OddConfig(LlamaConfig):\n    model_type = 'odd_llama'\n\n\n"
        "class OddForCausalLM(LlamaForCausalLM):\n    config_class = OddConfig\n"
    )
    code = {"AutoConfig": "modeling_odd.OddConfig", "AutoModelForCausalLM": "modeling_odd.OddForCausalLM"}
    set_config(folder, model_type="odd_llama", architectures=["OddForCausalLM"], auto_map=code)
    with pytest.raises(LoadError, match=r"needs code of its own \(modeling_odd.py\)"):
        load_model(str(folder), device="cpu")
    loaded = load_model(str(folder), device="cpu", trust_remote_code=True)
    assert type(loaded.model).__name__ == "OddForCausalLM"
    assert torch.equal(logits(loaded.model), logits(build("llama")))


# --- where they go --------------------------------------------------------------------------------------


def test_auto_is_the_processor_where_there_is_nothing_else(llama: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is something else")
    loaded = load_model(str(llama), device_map="auto")
    assert loaded.device.type == "cpu" and loaded.describe()["device_map"] is None


def test_weights_on_the_disk_give_the_same_logits(llama: Path) -> None:
    places = {"model.embed_tokens": "cpu", "model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu"}
    places |= {f"model.layers.{layer}": "cpu" if layer < 2 else "disk" for layer in range(4)}
    built = _build_model(open_checkpoint(str(llama)), None, torch.device("cpu"), places)
    model = built.model
    assert built.notes == () and next(model.model.layers[3].parameters()).device.type == "meta"
    assert torch.allclose(logits(model), logits(build("llama")), atol=1e-6)


# --- two towers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("model_type", ["t5", "bart"])
def test_an_encoder_decoder_loads_with_a_tower(tmp_path: Path, model_type: str) -> None:
    shape = {"vocab_size": 300, "d_model": 32, "decoder_start_token_id": 0, "pad_token_id": 1}
    more = {
        "t5": {"num_layers": 2, "num_heads": 4, "d_kv": 8, "d_ff": 64},
        "bart": {"encoder_layers": 2, "decoder_layers": 3, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
                 "encoder_attention_heads": 4, "decoder_attention_heads": 4, "max_position_embeddings": 64},
    }  # fmt: skip
    config = AutoConfig.for_model(model_type, **shape, **more[model_type])
    AutoModelForSeq2SeqLM.from_config(config).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path), device="cpu")
    assert type(loaded.model).__name__.endswith("ForConditionalGeneration")
    assert (loaded.tower, loaded.notes) == ("decoder", ())
    assert load_model(str(tmp_path), device="cpu", tower="encoder").describe()["tower"] == "encoder"
    if model_type == "bart":
        assert loaded.context_tokens == 64


def test_an_encoder_saved_alone_has_one_tower(tmp_path: Path) -> None:
    shape = {"vocab_size": 300, "d_model": 32, "num_layers": 2, "num_heads": 4, "d_kv": 8, "d_ff": 64}
    T5EncoderModel(T5Config(**shape, pad_token_id=1)).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path), device="cpu")
    assert type(loaded.model).__name__ == "T5EncoderModel"
    assert (loaded.tower, loaded.context_tokens) == (None, None)
    assert loaded.notes == (
        f"{tmp_path} has no language-model head: its blocks can be measured, but not its loss.",
    )
    with pytest.raises(OptionError, match="--tower decoder is for encoder-decoder models, but .*"):
        load_model(str(tmp_path), device="cpu", tower="decoder")


@pytest.mark.parametrize(
    ("model_type", "values", "limit"),
    [
        ("t5", {}, None),
        ("led", {"max_encoder_position_embeddings": 96, "max_decoder_position_embeddings": 48}, 48),
        (
            "t5gemma",
            {"encoder": {"max_position_embeddings": 80}, "decoder": {"max_position_embeddings": 64}},
            64,
        ),
    ],
)
def test_the_smaller_tower_limits_the_text(model_type: str, values: dict, limit: int | None) -> None:
    assert declared_positions(AutoConfig.for_model(model_type, **values)) == limit
