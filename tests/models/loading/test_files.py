"""Files of a model that are no files, are not all there, or carry the marks of their training."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import socket
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from depthprobe.errors import DepthprobeError, LoadError, MachineError, OptionError
from depthprobe.models.loading.finite import check_finite
from depthprobe.models.loading.loading import load_model
from depthprobe.models.loading.options import LoadOptions, split_adapter
from depthprobe.models.loading.sources import ModelSource, fetch_weights, resolve_model
from depthprobe.models.loading.weights import stored_names, wrappers_in
from depthprobe.models.sizing.blueprint import open_without_weights
from depthprobe.pipeline.request import Request
from depthprobe.texts.options import TextOptions
from support import tiny


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("models") / "llama", layers=2)


@pytest.fixture
def copy(llama: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(llama, tmp_path / "copy"))


def make_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket may not be long
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


KINDS = {
    "a named pipe, where a file should be": os.mkfifo,
    "a socket, where a file should be": make_socket,
    "a device, where a file should be": lambda path: path.symlink_to("/dev/zero"),
    "a directory, where a file should be": Path.mkdir,
    "a link to a file that is not there": lambda path: path.symlink_to("/nowhere/at/all"),
    "a Git LFS pointer, not the file itself": lambda path: path.write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\n"
    ),
}


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
@pytest.mark.parametrize("told", KINDS)
def test_what_is_no_file_is_named_and_not_waited_for(copy: Path, file: str, told: str) -> None:
    (copy / file).unlink()
    KINDS[told](copy / file)
    with pytest.raises(LoadError, match=re.escape(f"{file} of {copy} is {told}.")):
        resolve_model(str(copy))
    if file != "model.safetensors":
        with pytest.raises(LoadError, match=re.escape(f"{file} of {copy} is {told}.")):
            open_without_weights(str(copy), LoadOptions(device="cpu"))


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_file_that_may_not_be_read_is_named(copy: Path, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    really = Path.open

    def denied(path: Path, *args: object, **options: object) -> object:  # root may read everything
        if path.name == file:
            raise PermissionError(13, "Permission denied", str(path))
        return really(path, *args, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(
        MachineError, match=f"{file} of {copy} may not be read: permission denied. Ask its own"
    ):
        resolve_model(str(copy))


@pytest.mark.parametrize(
    "name, told",
    [
        ("x" * 300, "cannot be the name of a model: file name too long."),
        ("/tmp/" + "x" * 300, "cannot be the name of a model: file name too long."),
        ("caf\udce9", "cannot be the name of a model: it is not valid UTF-8."),
        ("a\0b", "is neither a directory nor a possible model id on the hub."),
        ("~nobody-of-that-name/model", "Could not determine home directory."),
    ],
)
def test_what_can_be_no_name_is_told(name: str, told: str) -> None:
    for opened in (resolve_model, lambda name: open_without_weights(name, LoadOptions(device="cpu"))):
        with pytest.raises(LoadError) as caught:
            opened(name)
        assert caught.value.problem.endswith(told)


def in_shards(folder: Path, suffix: str = "safetensors") -> list[Path]:
    """Split a model's weights over three files without an index."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    stem, keys = ("model" if suffix == "safetensors" else "pytorch_model"), sorted(weights)
    paths = [folder / f"{stem}-{number:05}-of-00003.{suffix}" for number in (1, 2, 3)]
    for at, path in enumerate(paths):
        part = {key: weights[key] for key in keys[at::3]}
        save_file(part, path, {"format": "pt"}) if suffix == "safetensors" else torch.save(part, path)
    return paths


def assert_same(folder: Path, llama: Path) -> tuple[str, ...]:
    """Hold the loaded weights against those of the whole model; return the notes."""
    loaded = load_model(str(folder), device="cpu")
    weights = load_model(str(llama), device="cpu").model.state_dict()
    found = loaded.model.state_dict()
    assert found.keys() == weights.keys() and all(torch.equal(found[key], weights[key]) for key in weights)
    return loaded.notes


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_shards_without_their_index_are_loaded_if_they_are_complete(
    copy: Path, llama: Path, suffix: str
) -> None:
    paths = in_shards(copy, suffix)
    assert assert_same(copy, llama) == (f"The 3 weight files of {copy} have no index; all of them are read.",)
    assert not list(copy.glob("*.index.json"))
    paths[1].unlink()
    with pytest.raises(LoadError, match="lacks the index of its weights and of the shards 00002-of-00003"):
        resolve_model(str(copy))


@pytest.mark.parametrize(
    "index, told",
    [
        ("{}", "does not say which file holds which weight"),
        ('{"weight_map": {"a": 5}}', "does not say which file holds which weight"),
        (
            '{"weight_map": {"a": "../b.safetensors"}}',
            "lacks the weight file '../b.safetensors' that its index names",
        ),
        ('{"weight_map": {"a": "/no/b"}}', "lacks the weight file '/no/b' that its index names"),
        ('{"weight_map": {"a": "/etc/passwd"}}', "passwd of MODEL is truncated or damaged"),
        ('{"weight_map": {"a": "/dev/null"}}', "null of MODEL is a device, where a file should be"),
        ('{"weight_map": {"a": "../"}}', "is a directory, where a file should be"),
        ('{"weight_map": {"a": "b\\u0000"}}', r"lacks the weight file b\x00 that its index names"),
        (f'{{"weight_map": {{"a": "{"b" * 300}"}}}}', "bbb that its index names"),
        ('{"a":' * 10_000, "is nested more than 100 levels deep"),
        (
            '{"weight_map": {"a": "b.safetensors"}}',
            "lacks the weight file b.safetensors that its index names",
        ),
    ],
)
def test_a_damaged_index_is_told(copy: Path, index: str, told: str) -> None:
    in_shards(copy)
    (copy / "model.safetensors.index.json").write_text(index)
    with pytest.raises(LoadError, match=re.escape(told.replace("MODEL", str(copy)))):
        resolve_model(str(copy))


def test_shards_in_other_directories_are_loaded_and_count(copy: Path, llama: Path) -> None:
    paths = in_shards(copy)
    (copy / "parts").mkdir()
    names = ["parts/a.safetensors", "../beside.safetensors", str(copy.parent / "far.safetensors")]
    elsewhere = [copy / name for name in names]
    places: dict[str, str] = {}
    for path, place, name in zip(paths, elsewhere, names, strict=True):
        places |= dict.fromkeys(load_file(path), name)
        path.rename(place)
    index = {"metadata": {}, "weight_map": places}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    assert assert_same(copy, llama) == ()
    before = resolve_model(str(copy)).fingerprint
    changed = {key: each + 1 for key, each in load_file(elsewhere[2]).items()}
    save_file(changed, elsewhere[2], {"format": "pt"})
    assert resolve_model(str(copy)).fingerprint != before


def test_weights_are_loaded_from_where_the_configuration_says(copy: Path, llama: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "model.safetensors").rename(copy / "mine.safetensors")
    (copy / "config.json").write_text(json.dumps(config | {"transformers_weights": "mine.safetensors"}))
    assert assert_same(copy, llama) == ()
    for named, told in {
        "not.safetensors": "lacks the weight file 'not.safetensors' that its config.json names",
        "../a.safetensors": "names weights outside the model's directory: '../a.safetensors'",
        "/a.safetensors": "names weights outside the model's directory: '/a.safetensors'",
    }.items():
        (copy / "config.json").write_text(json.dumps(config | {"transformers_weights": named}))
        with pytest.raises(LoadError, match=re.escape(told)):
            resolve_model(str(copy))


@pytest.mark.parametrize("shard", ["../b.safetensors", "/etc/passwd"])
def test_an_index_of_the_hub_names_no_file_of_this_machine(
    copy: Path, monkeypatch: pytest.MonkeyPatch, shard: str
) -> None:
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
    monkeypatch.setattr("depthprobe.models.loading.hub.fetch_file", lambda *_: None)
    source = ModelSource("a/b", "a/b", "0" * 40, None, "transformers")
    with pytest.raises(LoadError, match=f"of a/b names a file outside the repository: '{shard}'"):
        fetch_weights(source, copy)


def test_directories_may_have_the_names_of_tokenizer_files_and_pipes_may_not(copy: Path) -> None:
    fingerprint = resolve_model(str(copy)).fingerprint
    for name in ("vocabulary", "merges", "additional_chat_templates"):
        (copy / name).mkdir()
    assert resolve_model(str(copy)).fingerprint == fingerprint
    os.mkfifo(copy / "additional_chat_templates" / "one.jinja")
    with pytest.raises(LoadError, match="one.jinja of .* is a named pipe, where a file should be"):
        resolve_model(str(copy))


@pytest.mark.parametrize("before", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_names_of_weights_lose_what_training_put_before_them(copy: Path, llama: Path, before: str) -> None:
    weights = {f"{before}{key}": each for key, each in load_file(copy / "model.safetensors").items()}
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    assert stored_names(copy) == stored_names(llama)
    (note,) = assert_same(copy, llama)
    assert "from the training, which is taken out of them" in note


def test_only_wrappers_are_taken_out_of_names() -> None:
    assert wrappers_in(["model.module.x", "a.submodule.y", "layers.0.mlp.w"]) == []
    assert wrappers_in(["layers.0._orig_mod.x", "module.a"]) == ["_orig_mod.", "module."]


class RunsCode:
    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("depthprobe-ran-a-pickle"),)


@pytest.mark.parametrize("bare", [False, True])
def test_code_in_a_pickle_is_never_run(copy: Path, bare: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copy)
    (copy / "model.safetensors").unlink()
    path = copy / "pytorch_model.bin"
    path.write_bytes(pickle.dumps({"a": RunsCode()}, protocol=2)) if bare else torch.save(
        {"a": RunsCode()}, path
    )
    with pytest.raises(
        LoadError, match="are a pickle with more than tensors in it: reading it would run code"
    ):
        load_model(str(copy), device="cpu")
    assert not Path("depthprobe-ran-a-pickle").exists()


def test_a_trainers_directory_names_its_checkpoints(tmp_path: Path) -> None:
    for step in (500, 1000, 1500):
        (tmp_path / f"checkpoint-{step}").mkdir()
    with pytest.raises(LoadError) as caught:
        resolve_model(str(tmp_path))
    assert str(caught.value) == (
        f"{tmp_path} holds no model itself, but checkpoints of one: checkpoint-500, checkpoint-1000, "
        f"checkpoint-1500. Name one of them, such as {tmp_path / 'checkpoint-1500'}."
    )


def test_a_tokenizer_or_an_adapter_alone_is_no_model(tmp_path: Path) -> None:
    tiny.tokenizer().save_pretrained(tmp_path)
    with pytest.raises(LoadError, match="holds a tokenizer but no model: it has no config.json"):
        resolve_model(str(tmp_path))
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "org/base"}))
    with pytest.raises(LoadError, match="is an adapter of org/base, not a model. Type org/base --adapter"):
        resolve_model(str(tmp_path))


@pytest.mark.parametrize("value, told", [(float("nan"), "3 NaN"), (float("-inf"), "3 infinite")])
def test_weights_that_are_no_numbers_are_blamed_before_anything_is_measured(
    copy: Path, value: float, told: str
) -> None:
    weights = load_file(copy / "model.safetensors")
    weights["model.layers.1.mlp.down_proj.weight"][0, :3] = value
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(LoadError) as caught:
        load_model(str(copy), device="cpu")
    assert caught.value.problem == (
        f"The weights of {copy} are damaged: model.layers.1.mlp.down_proj.weight holds {told} among 2,048 "
        "values."
    )


def test_weights_too_large_for_float16_are_told_so_and_large_ones_are_no_fault() -> None:
    layer = torch.nn.Linear(2, 2)
    layer.weight.data.fill_(3e38)
    check_finite("org/model", layer)
    with pytest.raises(LoadError, match="They may be too large for float16: use --dtype bfloat16 or float32"):
        check_finite("org/model", layer.half())


def test_a_request_for_a_model_with_its_adapter_is_the_same_however_it_is_written() -> None:
    written = Request("angular", "builtin:pre-ln+me/lora", TextOptions())
    assert written == Request("angular", "builtin:pre-ln", TextOptions(), load=LoadOptions(adapter="me/lora"))


def test_a_model_and_its_adapter_are_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("c++", "base"):
        Path(name).mkdir()
    assert split_adapter("org/base+me/lora@v2", None) == ("org/base", "me/lora@v2")
    assert split_adapter("base+lora+x", None) == ("base", "lora+x")
    assert split_adapter("c++", None) == ("c++", None)
    assert split_adapter("c+++lora", None) == ("c++", "lora")
    assert split_adapter("base", "lora") == ("base", "lora")
    for name, told in (("+lora", "'+lora' names no model"), ("a+", "'a+' names no adapter")):
        with pytest.raises(OptionError, match=re.escape(told)):
            split_adapter(name, None)
    with pytest.raises(DepthprobeError, match="Two adapters of base are named, a and b. Name one."):
        split_adapter("base+a", "b")
