"""GGUF files: read with no more work than needed, each stage shown, and a note on how not to wait again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoConfig, AutoTokenizer

from depthprobe.models.loading import gguf_reader
from depthprobe.models.loading.loading import load_model, open_checkpoint, resolve_model
from support.gguf_and_lora import write_gguf
from support.tiny import tokenizer

gguf = pytest.importorskip("gguf")


@pytest.fixture(params=[False, True], ids=["F32", "Q8_0"])
def file(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    write_gguf(tmp_path / "tiny.gguf", request.param)
    return tmp_path / "tiny.gguf"


class Told:
    """Remembers the stages that are reported to it, and how far each one got."""

    def __init__(self) -> None:
        self.stages: list[list[object]] = []

    @contextmanager
    def stage(self, what: str, total: int | None, unit: str) -> Iterator[object]:
        seen = [what, total, unit, 0]
        self.stages.append(seen)

        def advance(count: int) -> None:
            seen[3] += count  # type: ignore[operator]

        yield advance


def test_a_file_read_as_a_plain_array_says_what_the_packages_own_reader_says(file: Path) -> None:
    reader, theirs = gguf_reader.open_reader("tiny", file), gguf.GGUFReader(file)
    assert type(reader.data) is np.ndarray  # the whole point: no Python for every slice
    assert list(reader.fields) == list(theirs.fields)
    for name, field in theirs.fields.items():
        mine = reader.fields[name]
        assert (mine.offset, mine.data, mine.types) == (field.offset, field.data, field.types)
        assert all(map(np.array_equal, mine.parts, field.parts))
    for mine, tensor in zip(reader.tensors, theirs.tensors, strict=True):
        assert (mine.name, mine.tensor_type) == (tensor.name, tensor.tensor_type)
        assert mine.data.dtype == tensor.data.dtype and np.array_equal(mine.data, tensor.data)


def test_a_lent_reader_serves_its_own_file_and_only_while_the_body_runs(file: Path) -> None:
    original, counted = gguf.GGUFReader, []
    other = file.with_name("other.gguf")
    write_gguf(other)
    reader = gguf_reader.open_reader("tiny", file)
    sizes = [int(tensor.n_elements) for tensor in reader.tensors]
    piece = sum(sizes) / 100
    with gguf_reader.lent("tiny", file, reader, counted.append):
        assert gguf.GGUFReader(str(file)) is reader
        assert type(gguf.GGUFReader(other)) is original
        assert all(tensor.data is not None for tensor in reader.tensors)
        assert sum(sizes[:-1]) - piece <= sum(counted) <= sum(sizes[:-1])  # the last one is being unpacked
    assert sum(counted) == sum(sizes)
    # Tiny tensors are not reported one by one: the pace of the first would say nothing about the rest.
    assert min(sizes) < piece < min(counted[:-1])
    with pytest.raises(KeyError), gguf_reader.lent("tiny", file, reader):
        raise KeyError
    assert gguf.GGUFReader is original


def test_a_header_is_read_once_for_the_configuration_and_once_for_the_weights(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    initialise = gguf.GGUFReader.__init__

    def counting(self: object, path: Path, *more: object) -> None:
        read.append(Path(path))
        initialise(self, path, *more)

    monkeypatch.setattr(gguf.GGUFReader, "__init__", counting)
    checkpoint = open_checkpoint(str(file))
    assert read == [file]
    load_model(checkpoint, device="cpu")
    assert read == [file, file]


def test_configuration_and_tokenizer_are_those_that_transformers_reads_by_itself(file: Path) -> None:
    checkpoint = open_checkpoint(str(file))
    config = AutoConfig.from_pretrained(file.parent, gguf_file=file.name)
    theirs = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    assert checkpoint.config is not None and checkpoint.config.to_dict() == config.to_dict()
    assert type(checkpoint.tokenizer) is type(theirs)
    assert checkpoint.tokenizer.backend_tokenizer.to_str() == theirs.backend_tokenizer.to_str()
    assert checkpoint.tokenizer.special_tokens_map == theirs.special_tokens_map


def test_a_tokenizer_beside_the_file_is_still_transformers_choice(file: Path) -> None:
    tokenizer().save_pretrained(file.parent)
    theirs = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    found = open_checkpoint(str(file)).tokenizer
    assert type(found) is type(theirs)
    assert found.backend_tokenizer.to_str() == theirs.backend_tokenizer.to_str()


def test_every_stage_of_loading_is_shown_and_the_weights_are_counted(file: Path) -> None:
    told = Told()
    load_model(str(file), device="cpu", stage=told.stage)
    weights = sum(int(tensor.n_elements) for tensor in gguf.GGUFReader(file).tensors)
    assert told.stages == [
        ["Reading configuration", None, "", 0],
        ["Converting tokenizer", None, "", 0],
        ["Unpacking weights", weights, "weights", weights],
        ["Reading the file's index", None, "", 0],
    ]


def test_one_note_says_how_not_to_wait_again(file: Path) -> None:
    source = resolve_model(str(file))
    assert source.notes == (
        f"Every command unpacks {file} anew: `depthprobe convert {file} DIR` does it once, and DIR then "
        "loads in a moment.",
    )
    assert load_model(source, device="cpu").notes == ()
