"""A name becomes a loaded model or one sentence that says why not."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub import errors as hub
from huggingface_hub.errors import HTTPError, Response
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, PreTrainedModel

from depthprobe.errors import DepthprobeError, LoadError, MachineError, OptionError
from depthprobe.models.loading import hub as hub_files
from depthprobe.models.loading import placement, sources
from depthprobe.models.loading.checkpoint import choose_class
from depthprobe.models.loading.hub_errors import explain_load_error
from depthprobe.models.loading.loading import context_limit, load_model, resolve_model
from depthprobe.models.loading.missing import lacks_head
from depthprobe.models.loading.weights import stored_names
from support.tiny import build, save, tokenizer


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture
def copy(llama: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(llama, tmp_path / "copy"))


def told(call: Callable[[], Any], kind: type[DepthprobeError] = LoadError) -> str:
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    assert caught.value.hint
    return str(caught.value)


def set_config(folder: Path, **values: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return folder


# --- what is loaded -------------------------------------------------------------------------------------


def test_a_directory_loads_with_the_weights_it_holds(llama: Path) -> None:
    loaded = load_model(str(llama), device="cpu")
    saved = build("llama").state_dict()
    assert all(torch.equal(tensor, saved[name]) for name, tensor in loaded.model.state_dict().items())
    assert not loaded.model.training
    assert loaded.device == torch.device("cpu")
    assert loaded.tokenizer("the stream")["input_ids"][0] == loaded.tokenizer.bos_token_id


def test_a_description_is_what_was_really_loaded(llama: Path) -> None:
    described = load_model(str(llama), device="cpu", dtype="bf16").describe()
    assert json.loads(json.dumps(described, allow_nan=False)) == described
    assert described.pop("fingerprint") == resolve_model(str(llama)).fingerprint
    assert described == {
        "id": str(llama),
        "location": str(llama),
        "commit": None,
        "layout": "transformers",
        "gguf_file": None,
        "architecture": "LlamaForCausalLM",
        "model_type": "llama",
        "parameters": sum(p.numel() for p in build("llama").parameters()),
        "dtype": "bfloat16",
        "quantisation": None,
        "adapter": None,
        "tower": None,
        "initial_seed": None,
        "device": "cpu",
        "device_name": None,
        "device_map": None,
        "attention": "sdpa",
        "context_tokens": 128,
    }


def test_auto_is_float32_on_a_cpu_whatever_the_checkpoint_holds(tmp_path: Path) -> None:
    build("llama").to(torch.bfloat16).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    assert load_model(str(tmp_path), device="cpu").model.dtype == torch.float32
    assert load_model(str(tmp_path), device="cpu", dtype="float16").model.dtype == torch.float16


def test_auto_is_the_checkpoints_own_dtype_on_a_gpu_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda", 0)
    monkeypatch.setattr(placement, "_has_dtype", lambda device, dtype: dtype != torch.bfloat16)
    assert placement.choose_dtype(None, torch.float16, gpu) == (torch.float16, ())
    assert placement.choose_dtype(None, torch.bfloat16, gpu) == (
        torch.float32,
        ("cuda:0 cannot compute in bfloat16: loaded in float32 (--dtype float16 halves it).",),
    )
    assert told(lambda: placement.parse_dtype("bf16", gpu)) == (
        "cuda:0 cannot compute in bfloat16. Use --dtype float32 or float16 or float64."
    )


def test_a_gpu_that_does_not_hold_the_weights_shares_them(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, files = resolve_model(str(llama)), [llama / "model.safetensors"]
    size = files[0].stat().st_size
    gpu = torch.device("cuda", 0)

    def place(free: float, dtype: torch.dtype) -> torch.device | None:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 2 * free))
        return placement.placement(
            source.name, placement.needed_bytes(files, torch.float32, dtype), dtype, gpu
        )

    assert place(1.11 * size, torch.float32) == gpu
    assert place(1.09 * size, torch.float32) is None
    assert place(0.56 * size, torch.bfloat16) == gpu


def test_weights_beyond_the_main_memory_are_refused_before_they_are_read(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement.psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    monkeypatch.setattr(placement.psutil, "swap_memory", lambda: SimpleNamespace(free=0))
    message = told(lambda: load_model(str(llama), device="cpu"), MachineError)
    assert message.startswith(f"{llama} needs 0.0 GiB in float32, but only 0.0 GiB of memory are free.")
    assert "--dtype bfloat16 halves it" in message


@pytest.mark.parametrize("model_type", ["gpt2", "opt", "bloom", "mamba", "olmo2", "modernbert"])
def test_other_families_load_with_all_their_weights(tmp_path: Path, model_type: str) -> None:
    loaded = load_model(str(save(tmp_path, model_type)), device="cpu")
    assert type(loaded.model) is type(build(model_type))
    assert loaded.notes == ()


@pytest.mark.parametrize(
    ("architectures", "is_decoder", "expected"),
    [
        (["BertForMaskedLM"], False, "AutoModelForMaskedLM"),
        (["BertModel"], False, "AutoModelForMaskedLM"),
        (["BertForSequenceClassification"], False, "AutoModelForMaskedLM"),
        (None, False, "AutoModelForMaskedLM"),
        (["BertLMHeadModel"], True, "AutoModelForCausalLM"),
        (None, True, "AutoModelForCausalLM"),
    ],
)
def test_an_encoder_is_never_loaded_as_a_causal_model(
    architectures: list[str] | None, is_decoder: bool, expected: str
) -> None:
    config = AutoConfig.for_model("bert", architectures=architectures, is_decoder=is_decoder)
    assert choose_class(config).__name__ == expected


def test_an_encoder_without_its_head_loads_and_says_that_it_has_no_loss(tmp_path: Path) -> None:
    AutoModel.from_config(build("bert").config).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path), device="cpu")
    assert type(loaded.model).__name__ == "BertForMaskedLM"
    assert loaded.notes == (
        f"{tmp_path} has no weights for its head: its blocks can be measured, but not its loss.",
        f"{tmp_path} holds weights that BertForMaskedLM has no place for: pooler.dense.",
    )


@pytest.mark.parametrize("model_type", ["bert", "roberta", "modernbert"])
def test_of_a_head_that_is_not_stored_the_names_tell_before_the_weights_are_read(
    tmp_path: Path, model_type: str
) -> None:
    whole = build(model_type)
    AutoModel.from_config(whole.config).save_pretrained(tmp_path / "bare")
    save(tmp_path / "whole", model_type)
    assert lacks_head(whole, stored_names(tmp_path / "bare") or ())
    assert not lacks_head(whole, stored_names(tmp_path / "whole") or ())
    assert stored_names(tmp_path) is None
    assert not lacks_head(build("llama"), ())  # a decoder without its head is loaded without one


@pytest.mark.parametrize(
    ("model_type", "key"),
    [
        ("bert", "bert.encoder.layer.2.attention.output.dense.weight"),
        ("bert", "bert.embeddings.word_embeddings.weight"),
        ("llama", "model.layers.2.mlp.up_proj.weight"),
        ("llama", "model.norm.weight"),
    ],
)
def test_a_model_with_a_random_block_is_never_measured(tmp_path: Path, model_type: str, key: str) -> None:
    folder = save(tmp_path, model_type)
    weights = load_file(folder / "model.safetensors")
    del weights[key]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    message = told(lambda: load_model(str(folder), device="cpu"))
    assert "lacks weights that its config.json asks for: " in message and key in message


@pytest.mark.parametrize("kind", [AutoModel, AutoModelForSequenceClassification])
def test_a_decoder_saved_without_its_head_is_loaded_without_one(tmp_path: Path, kind: Any) -> None:
    kind.from_config(build("llama").config).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path), device="cpu")
    assert type(loaded.model).__name__ == "LlamaModel"
    assert loaded.notes[0] == (
        f"{tmp_path} has no language-model head: its blocks can be measured, but not its loss."
    )
    left = f"{tmp_path} holds weights that LlamaModel has no place for: score."
    assert loaded.notes[1:] == (() if kind is AutoModel else (left,))


def test_shards_load_as_one_file_does(tmp_path: Path) -> None:
    build("llama").save_pretrained(tmp_path, max_shard_size="40KB")
    tokenizer().save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    loaded = load_model(str(tmp_path), device="cpu")
    saved = build("llama").state_dict()
    assert all(torch.equal(tensor, saved[name]) for name, tensor in loaded.model.state_dict().items())
    next(iter(sorted(tmp_path.glob("*.safetensors")))).unlink()
    assert "lacks the weight file model-00001-of" in told(lambda: load_model(str(tmp_path), device="cpu"))


# --- how long a sequence may be -------------------------------------------------------------------------


def tiny(model_type: str, **values: Any) -> PreTrainedModel:
    shape = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = AutoConfig.for_model(model_type, **(shape | {"pad_token_id": 1} | values))
    return AutoModel.from_config(config)


@pytest.mark.parametrize(
    ("model", "limit"),
    [
        (lambda: tiny("roberta", intermediate_size=16, max_position_embeddings=514), 512),
        (lambda: tiny("bert", intermediate_size=16, max_position_embeddings=512), 512),
        (lambda: tiny("opt", ffn_dim=16, word_embed_proj_dim=16, max_position_embeddings=64), 64),
        (lambda: tiny("gpt2", n_positions=32), 32),
        (lambda: tiny("bloom"), None),
        (lambda: tiny("mamba"), None),
        (lambda: tiny("falcon", alibi=True, max_position_embeddings=64), None),
    ],
)
def test_the_longest_sequence_follows_from_the_positions(
    model: Callable[[], PreTrainedModel], limit: int | None
) -> None:
    assert context_limit(model()) == limit


def test_the_longest_sequence_runs_and_one_more_token_does_not() -> None:
    roberta = tiny("roberta", intermediate_size=16, max_position_embeddings=20)
    limit = context_limit(roberta)
    assert limit == 18
    roberta(torch.full((1, limit), 5))
    with pytest.raises((IndexError, RuntimeError)):
        roberta(torch.full((1, limit + 1), 5))


# --- directories ----------------------------------------------------------------------------------------


def test_a_fingerprint_is_of_the_contents_and_not_of_the_place(llama: Path, copy: Path) -> None:
    assert resolve_model(str(copy)).fingerprint == resolve_model(str(llama)).fingerprint
    set_config(copy, rope_theta=5.0)
    assert resolve_model(str(copy)).fingerprint != resolve_model(str(llama)).fingerprint


@pytest.mark.parametrize("name", ["/no/such/place", "./nowhere", "a/b/c", "~/nowhere-at-all"])
def test_a_path_that_does_not_exist_is_not_looked_for_on_the_hub(name: str) -> None:
    assert told(lambda: resolve_model(name)) == (
        f"There is no directory {name!r}. Check the path, or give NAMESPACE/NAME for a model on the hub."
    )


def test_a_directory_without_a_model_says_what_would_be_one(tmp_path: Path) -> None:
    assert told(lambda: resolve_model(str(tmp_path))).startswith(f"{tmp_path} has no config.json")
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "is an adapter, not a model. Name the model it was trained on" in told(
        lambda: resolve_model(str(tmp_path))
    )


def test_a_directory_without_weights_says_which_files_are_looked_for(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    assert told(lambda: resolve_model(str(copy))) == (
        f"{copy} has a config.json but no weights. "
        "Put its weights beside it (model.safetensors or pytorch_model.bin, whole or in shards)."
    )


@pytest.mark.parametrize("length", [0, 4, 5000])
def test_a_truncated_weight_file_is_named(copy: Path, length: int) -> None:
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:length])
    expected = f"model.safetensors of {copy} is truncated or damaged. Download the file again."
    assert told(lambda: load_model(str(copy), device="cpu")) == expected


def test_a_truncated_torch_file_is_named_and_a_whole_one_loads(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    path = copy / "pytorch_model.bin"
    torch.save(build("llama").state_dict(), path)
    assert load_model(str(copy), device="cpu").notes == ()
    path.write_bytes(path.read_bytes()[:9000])
    expected = f"pytorch_model.bin of {copy} is truncated or damaged. Download the file again."
    assert told(lambda: load_model(str(copy), device="cpu")) == expected


def test_a_git_lfs_pointer_is_distinguished_from_a_damaged_file(copy: Path) -> None:
    (copy / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    assert told(lambda: resolve_model(str(copy))) == (
        f"model.safetensors of {copy} is a Git LFS pointer, not the file itself. Run `git lfs pull`."
    )


def test_a_damaged_config_is_named(copy: Path) -> None:
    (copy / "config.json").write_text('{"model_type": "llama"')
    message = told(lambda: load_model(str(copy), device="cpu"))
    assert message.startswith(f"config.json of {copy} is not valid JSON (JSONDecodeError: Expecting")


def test_an_unknown_model_type_asks_for_a_newer_transformers(copy: Path) -> None:
    message = told(lambda: load_model(str(set_config(copy, model_type="llama99")), device="cpu"))
    assert message.startswith(
        f"config.json of {copy} has the unknown model type 'llama99'. A transformers newer"
    )


def test_code_that_comes_with_a_model_is_named_and_not_run(copy: Path) -> None:
    code = {
        "AutoConfig": "configuration_odd.OddConfig",
        "AutoModelForCausalLM": "them/repo--modeling_odd.Odd",
    }
    set_config(copy, model_type="odd", auto_map=code)
    assert told(lambda: load_model(str(copy), device="cpu")) == (
        f"{copy} needs code of its own (configuration_odd.py, modeling_odd.py of them/repo), which is not "
        "run unless you say so. Read that code, then add --trust-remote-code."
    )


def test_code_that_could_be_done_without_is_said_to_have_been_left_out(copy: Path) -> None:
    set_config(copy, auto_map={"AutoModelForCausalLM": "modeling_odd.Odd"})
    notes = load_model(str(copy), device="cpu").notes
    assert notes == (f"{copy} brings code of its own (modeling_odd.py), which was not run.",)


def test_a_block_without_weights_is_an_error_that_names_five(copy: Path) -> None:
    message = told(lambda: load_model(str(set_config(copy, num_hidden_layers=5)), device="cpu"))
    assert "lacks weights that its config.json asks for: model.layers.4.input_layernorm.weight" in message
    assert " and 4 more." in message


def test_weights_of_another_shape_are_an_error_that_names_both(copy: Path) -> None:
    message = told(lambda: load_model(str(set_config(copy, intermediate_size=80)), device="cpu"))
    assert "has shape (32, 64) where config.json asks for (32, 80), and 11 more differ." in message


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "bert"])
def test_a_model_without_a_tokenizer_is_an_error_and_not_an_empty_vocabulary(
    tmp_path: Path, model_type: str
) -> None:
    build(model_type).save_pretrained(tmp_path)
    assert told(lambda: load_model(str(tmp_path), device="cpu")) == (
        f"{tmp_path} has no tokenizer. Put tokenizer.json or tokenizer.model beside its config.json."
    )


@pytest.mark.parametrize("contents", ['{"model": ', "{}", '{"added_tokens": [], "model": {"type": "Odd"}}'])
def test_a_damaged_tokenizer_is_one_sentence(copy: Path, contents: str) -> None:
    (copy / "tokenizer.json").write_text(contents)
    assert told(lambda: load_model(str(copy), device="cpu")).startswith(
        f"The tokenizer of {copy} does not load: "
    )


def test_a_missing_package_is_named(copy: Path) -> None:
    set_config(copy, quantization_config={"quant_method": "gptq", "bits": 4})
    message = told(lambda: load_model(str(copy), device="cpu"))
    assert message == (
        f"{copy} is quantised with gptq, but a Python package that it needs is missing. "
        "Install it: pip install optimum gptqmodel."
    )


def test_running_out_of_memory_is_a_failure_of_the_machine() -> None:
    error = explain_load_error(torch.OutOfMemoryError("CUDA out of memory."), "org/model", "model")
    assert isinstance(error, MachineError)
    assert error.problem == "Out of memory while loading org/model."


def test_an_embedded_model_that_does_not_exist_lists_those_there_are(
    monkeypatch: pytest.MonkeyPatch, llama: Path
) -> None:
    monkeypatch.setattr(
        sources, "embedded_models", lambda: {"builtin:pre-ln": llama, "builtin:post-ln": llama}
    )
    assert told(lambda: resolve_model("builtin:pre_ln")) == (
        "There is no embedded model builtin:pre_ln. "
        "Did you mean builtin:pre-ln? There are: builtin:pre-ln, builtin:post-ln."
    )
    described = load_model("builtin:pre-ln", device="cpu").describe()
    assert (described["id"], described["location"]) == ("builtin:pre-ln", "builtin:pre-ln")


# --- options --------------------------------------------------------------------------------------------


def test_unknown_dtypes_and_devices_list_the_choices(llama: Path) -> None:
    assert told(lambda: load_model(str(llama), dtype="int3"), OptionError).startswith(
        "Unknown dtype 'int3'. Choose auto, float32, fp32, "
    )
    assert told(lambda: load_model(str(llama), device="tpu"), OptionError) == (
        "Unknown device 'tpu'. Choose auto, cuda, cuda:N, mps or cpu."
    )
    assert "has no revision 'main'" in told(lambda: load_model(str(llama), revision="main"))


def test_a_gpu_that_is_not_there_is_said(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert told(lambda: load_model(str(llama), device="cuda")).startswith("There is no CUDA GPU here")
    assert told(lambda: load_model(str(llama), device="mps")).startswith("There is no Apple GPU (mps) here.")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert told(lambda: load_model(str(llama), device="cuda:2")) == (
        "There is no cuda:2 here. Choose from cuda:0 to cuda:1, or cpu."
    )


# --- the hub --------------------------------------------------------------------------------------------


@pytest.fixture
def hub_says(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], None]:
    """Make the hub answer every request with one exception, with nothing in the cache."""
    monkeypatch.setattr(hub_files, "try_to_load_from_cache", lambda *args, **kwargs: None)

    def set_answer(error: Exception) -> None:
        def answer(*args: Any, **kwargs: Any) -> None:
            raise error

        monkeypatch.setattr(hub_files, "get_hf_file_metadata", answer)

    return set_answer


def response(status: int) -> Response:
    http = sys.modules[Response.__module__.partition(".")[0]]  # httpx, or httpx2 under huggingface_hub 2
    return Response(status, request=http.Request("HEAD", "https://me:secret@mirror.example/x"))


def test_a_model_the_hub_does_not_have(hub_says: Callable[[Exception], None]) -> None:
    hub_says(hub.RepositoryNotFoundError("secret-address", response=response(401)))
    assert told(lambda: resolve_model("org/typo")) == (
        "The hub has no model org/typo, or it is private. Check the spelling (NAMESPACE/NAME, upper and "
        "lower case count); for a private model log in with `hf auth login` or set HF_TOKEN."
    )


@pytest.mark.parametrize(("token", "whose"), [(None, ""), ("hf_x", " with the account of your token")])
def test_a_gated_model_says_where_its_licence_is_accepted(
    hub_says: Callable[[Exception], None], monkeypatch: pytest.MonkeyPatch, token: str | None, whose: str
) -> None:
    monkeypatch.setattr("depthprobe.models.loading.hub_errors.get_token", lambda: token)
    hub_says(hub.GatedRepoError("secret-address", response=response(403)))
    assert told(lambda: resolve_model("org/gated")) == (
        "org/gated is gated: its licence must be accepted before the hub hands out its files. "
        f"Accept it on the model's page{whose}, then log in with `hf auth login` or set HF_TOKEN."
    )


def test_a_revision_that_does_not_exist_is_named(hub_says: Callable[[Exception], None]) -> None:
    hub_says(hub.RevisionNotFoundError("secret-address", response=response(404)))
    assert told(lambda: resolve_model("org/model", "v9")).startswith(
        "org/model has no revision 'v9'. Name a branch, tag or commit"
    )


@pytest.mark.parametrize("error", [HTTPError("connection refused"), ConnectionError(), TimeoutError()])
def test_a_hub_out_of_reach_is_a_failure_of_the_machine_and_gives_no_address_away(
    hub_says: Callable[[Exception], None], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(
        "depthprobe.machine.connection.constants.ENDPOINT", "https://me:secret@mirror.example/x"
    )
    monkeypatch.setattr("depthprobe.machine.connection.constants.HF_HUB_OFFLINE", False)
    hub_says(error)
    assert told(lambda: resolve_model("org/model"), MachineError) == (
        "The hub at mirror.example cannot be reached to look for org/model. Check the network, set "
        "HF_HUB_OFFLINE=1 to use cached files only, or name a local directory."
    )


def test_a_refused_token_and_a_failing_server_are_distinguished(
    hub_says: Callable[[Exception], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("depthprobe.machine.connection.constants.HF_HUB_OFFLINE", False)
    hub_says(hub.HfHubHTTPError("hf_abcdefghijkl", response=response(401)))
    message = told(lambda: resolve_model("org/model"))
    assert message.startswith("The hub refuses your token for org/model (HTTP 401).")
    assert "abcdef" not in message
    hub_says(hub.HfHubHTTPError("", response=response(503)))
    assert "answered HTTP 503 for org/model." in told(lambda: resolve_model("org/model"), MachineError)


def test_offline_mode_without_the_files_says_so(hub_says: Callable[[Exception], None]) -> None:
    hub_says(hub.OfflineModeIsEnabled())
    assert told(lambda: resolve_model("org/model", "v2"), MachineError) == (
        "org/model at revision v2 is not complete in the local cache, and HF_HUB_OFFLINE forbids asking the "
        "hub. Unset HF_HUB_OFFLINE to download it, or name a local directory."
    )


def test_a_full_disk_is_a_failure_of_the_machine(hub_says: Callable[[Exception], None]) -> None:
    hub_says(OSError(28, "No space left on device"))
    assert told(lambda: resolve_model("org/model"), MachineError).startswith("The disk is full: org/model")


def test_a_name_the_hub_cannot_have(hub_says: Callable[[Exception], None]) -> None:
    hub_says(hub.HFValidationError("Repo id must ..."))
    assert "neither a directory nor a possible model id" in told(lambda: resolve_model("bad id!"))


def fake_hub(monkeypatch: pytest.MonkeyPatch, root: Path, files: dict[str, str | DepthprobeError]) -> None:
    """Answer for 'REPO:FILE' with a local path at a commit, an error, or nothing."""

    def fetch(repo: str, filename: str, revision: str | None) -> Path | None:
        answer = files.get(f"{repo}:{filename}")
        if isinstance(answer, DepthprobeError):
            raise answer
        return None if answer is None else root / answer / filename

    monkeypatch.setattr(hub_files, "fetch_file", fetch)
    monkeypatch.setattr(hub_files, "is_cached", lambda *args: False)
    monkeypatch.setattr(hub_files, "list_files", lambda *args: [])


@pytest.mark.parametrize(
    ("files", "revision", "expected"),
    [
        ({"m/x:config.json": "c1"}, None, ("m/x", "c1", "transformers", ())),
        (
            {"m/x:params.json": "c1", "m/x-hf:config.json": "c2"},
            None,
            ("m/x-hf", "c2", "transformers", ("m/x is in Meta's original layout; loading its twin m/x-hf.",)),
        ),
        (
            {"m/x:params.json": "c1", "m/x-hf:config.json": "c2"},
            "v1",
            ("m/x", "c1", "meta", ("m/x is in Meta's original layout; converting it in memory.",)),
        ),
        (
            {"m/x:params.json": "c1", "m/x-hf:config.json": LoadError("gated")},
            None,
            ("m/x", "c1", "meta", ("m/x is in Meta's original layout; converting it in memory.",)),
        ),
        (
            {"m/x:original/params.json": "c1"},
            None,
            ("m/x", "c1", "meta", ("m/x is in Meta's original layout; converting it in memory.",)),
        ),
    ],
)
def test_an_original_checkpoint_on_the_hub_gives_way_to_its_twin_where_that_can_be_had(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: dict, revision: str | None, expected: tuple
) -> None:
    fake_hub(monkeypatch, tmp_path, files)
    source = resolve_model("m/x", revision)
    assert source.name == "m/x"
    assert (source.location, source.revision, source.layout, source.notes) == expected
