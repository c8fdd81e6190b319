"""A model written as a directory is the one that was loaded: weights, tokenizer and configuration."""

from __future__ import annotations

import collections
import errno
import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForSeq2SeqLM, PreTrainedModel

from depthprobe.errors import LoadError, MachineError
from depthprobe.models.loading.loading import load_model, open_checkpoint, resolve_model
from depthprobe.models.loading.quantisation import Quantisation
from depthprobe.models.saving import converting
from depthprobe.models.saving.converting import Written, write_model
from support import tiny
from support.gguf_and_lora import save_lora, write_gguf


def convert(
    name: object, out: Path, wanted: torch.dtype | None = None, adapter: str | None = None
) -> Written:
    out.mkdir()
    return write_model(open_checkpoint(resolve_model(str(name), adapter=adapter)), wanted, out)


def weights(name: object, **wanted: object) -> dict[str, torch.Tensor]:
    return load_model(str(name), device="cpu", **wanted).model.state_dict()


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return tiny.save(tmp_path / "llama")


@pytest.mark.parametrize("quantised", [False, True])
def test_a_gguf_file_is_written_bit_for_bit_as_it_is_unpacked(tmp_path: Path, quantised: bool) -> None:
    write_gguf(tmp_path / "tiny.gguf", quantised)
    written = convert(tmp_path / "tiny.gguf", tmp_path / "out")
    direct = load_model(str(tmp_path / "tiny.gguf"), device="cpu")
    again = load_model(str(tmp_path / "out"), device="cpu")
    assert same(direct.model.state_dict(), again.model.state_dict())
    assert again.model.dtype == written.dtype == torch.float32
    assert (again.quantisation, again.source.layout, again.source.notes) == (None, "transformers", ())
    assert again.tokenizer("the stream")["input_ids"] == direct.tokenizer("the stream")["input_ids"]
    assert written.parameters == direct.model.num_parameters()
    assert written.size == sum(path.stat().st_size for path in (tmp_path / "out").iterdir())


def test_rounding_is_only_done_on_purpose_and_once(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", quantised=True)
    convert(tmp_path / "tiny.gguf", tmp_path / "out", torch.bfloat16)
    direct = weights(tmp_path / "tiny.gguf", dtype="bfloat16")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"
    assert same(direct, weights(tmp_path / "out", dtype="bfloat16"))


def test_weights_that_their_own_dtype_holds_take_no_more_room(tmp_path: Path, llama: Path) -> None:
    model = tiny.build("llama").to(torch.bfloat16)
    model.save_pretrained(tmp_path / "half")
    tiny.tokenizer().save_pretrained(tmp_path / "half")
    assert convert(tmp_path / "half", tmp_path / "out").dtype == torch.bfloat16
    assert same(weights(tmp_path / "half"), weights(tmp_path / "out"))
    # An adapter's changes are between those numbers.
    adapter = str(save_lora(tmp_path / "lora"))
    assert convert(tmp_path / "half", tmp_path / "merged", adapter=adapter).dtype == torch.float32
    assert same(weights(tmp_path / "half", adapter=adapter), weights(tmp_path / "merged"))


def test_an_encoder_decoder_is_written_with_both_towers(tmp_path: Path) -> None:
    shape = {"num_layers": 2, "num_heads": 4, "d_kv": 8, "d_ff": 64, "d_model": 32, "vocab_size": 300}
    config = AutoConfig.for_model("t5", **shape, decoder_start_token_id=0, pad_token_id=1)
    AutoModelForSeq2SeqLM.from_config(config).save_pretrained(tmp_path / "t5")
    tiny.tokenizer().save_pretrained(tmp_path / "t5")
    convert(tmp_path / "t5", tmp_path / "out")
    assert same(weights(tmp_path / "t5"), weights(tmp_path / "out"))
    assert load_model(str(tmp_path / "out"), device="cpu", tower="encoder").tower == "encoder"


def test_a_head_that_is_random_is_not_written_as_if_it_were_trained(tmp_path: Path) -> None:
    tiny.build("bert").bert.save_pretrained(tmp_path / "bare")
    tiny.tokenizer().save_pretrained(tmp_path / "bare")
    told = convert(tmp_path / "bare", tmp_path / "out").notes
    assert "has no weights for its head" in told[0]
    assert load_model(str(tmp_path / "out"), device="cpu").notes == (
        told[0].replace(str(tmp_path / "bare"), str(tmp_path / "out")),
    )


def test_settings_of_generation_are_kept_even_where_transformers_would_refuse_to_write_them(
    tmp_path: Path, llama: Path
) -> None:
    settings = {"do_sample": False, "temperature": 0.6}
    (llama / "generation_config.json").write_text(json.dumps(settings))
    convert(llama, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "generation_config.json").read_text()) == settings


def test_a_chat_template_comes_along(tmp_path: Path, llama: Path) -> None:
    (llama / "chat_template.jinja").write_text("{{ messages[0].content }}")
    convert(llama, tmp_path / "out")
    assert (
        load_model(str(tmp_path / "out"), device="cpu").tokenizer.chat_template == "{{ messages[0].content }}"
    )


def test_weights_may_be_read_by_whoever_may_read_the_configuration(tmp_path: Path, llama: Path) -> None:
    convert(llama, tmp_path / "out")
    assert len({path.stat().st_mode for path in (tmp_path / "out").iterdir()}) == 1


def never(*_: object, **__: object) -> None:
    raise AssertionError("the weights must not be touched")


def test_packed_weights_are_refused_before_they_are_read(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(converting, "check_quantisation", lambda *_: Quantisation("gptq", 4))
    monkeypatch.setattr(converting, "load_model", never)
    with pytest.raises(LoadError) as caught:
        convert(llama, tmp_path / "out")
    assert str(caught.value) == (
        f"{llama} is quantised (gptq 4 bit) and its weights stay packed: they cannot be written as floats. "
        "Convert the model it was made from."
    )


def test_a_disk_without_room_is_reported_before_the_weights_are_read(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(2**30, 2**30 - 1000, 1000))
    monkeypatch.setattr(converting, "load_model", never)
    with pytest.raises(MachineError) as caught:
        convert(llama, tmp_path / "out")
    assert str(caught.value) == (
        f"{llama} takes <0.01 GiB as a directory, but only <0.01 GiB are free there. Free some space, "
        "choose a DIR on another disk, or name a --dtype of half the size."
    )


@pytest.mark.parametrize(
    ("raised", "kind", "message"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device"),
            MachineError,
            "The disk is full: {} could not be written. Free some space, or choose a DIR on another disk.",
        ),
        (  # as the tokenizers library raises it
            Exception("No space left on device (os error 28)"),
            MachineError,
            "The disk is full: {} could not be written. Free some space, or choose a DIR on another disk.",
        ),
        (
            OSError(errno.EIO, "Input/output error"),
            MachineError,
            "{} could not be written: OSError: [Errno 5] Input/output error.",
        ),
        (
            ValueError("this model has parts that share memory"),
            LoadError,
            "{} loads, but transformers VERSION cannot write it: ValueError: this model has parts that share "
            "memory. Keep using the model as it is.",
        ),
    ],
)
def test_what_goes_wrong_while_writing_is_one_sentence(
    llama: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    raised: Exception,
    kind: type[Exception],
    message: str,
) -> None:
    import transformers

    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", fail)
    with pytest.raises(kind) as caught:
        convert(llama, tmp_path / "out")
    assert str(caught.value) == message.format(llama).replace("VERSION", transformers.__version__)


def spoilt_weights(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    stored = load_file(folder / "model.safetensors")
    stored["model.norm.weight"][3] += 1e-6
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})


def spoilt_settings(folder: Path) -> None:
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"rms_norm_eps": 1e-3}))


def spoilt_tokenizer(folder: Path) -> None:
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace('"<s>"', '"<t>"'))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (spoilt_weights, "the weights model.norm.weight differ"),
        (spoilt_settings, "its configuration differs"),
        (spoilt_tokenizer, "its tokenizer gives different tokens"),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(b""),
            "model.safetensors of it is truncated or damaged",
        ),
    ],
)
def test_what_is_read_back_as_another_model_is_refused(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: object, why: str
) -> None:
    save = converting.save_model

    def save_and_spoil(loaded: object, origin: Path, folder: Path) -> None:
        save(loaded, origin, folder)
        spoil(folder)

    monkeypatch.setattr(converting, "save_model", save_and_spoil)
    with pytest.raises(LoadError) as caught:
        convert(llama, tmp_path / "out")
    assert f"reads it back: {why}. Nothing was kept; keep using the model as it is." in str(caught.value)
