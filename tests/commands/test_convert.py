"""The command: a directory appears whole under its name or not at all, and says where it is."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from support import tiny
from support.gguf_and_lora import write_gguf


def convert(*arguments: object) -> Any:
    from typer.testing import CliRunner

    from depthprobe.commands.app import app

    return CliRunner().invoke(app, ["convert", *map(str, arguments)])


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return tiny.save(tmp_path / "llama")


def entries(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_gguf_file_becomes_a_directory_that_the_other_commands_take(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", quantised=True)
    out = tmp_path / "new" / "out"
    done = convert(tmp_path / "tiny.gguf", out)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == "56,352 parameters in float32, <0.01 GiB: read back, and all are equal."
    assert lines[1:] == [str(path) for path in sorted(out.iterdir())]
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(entries(out))
    assert "unpacks" not in done.stderr  # that is what is being done
    assert entries(tmp_path / "new") == ["out", *(f"out/{name}" for name in entries(out))]

    from depthprobe.models.loading.loading import load_model

    assert load_model(str(out), device="cpu").quantisation is None


def test_an_empty_directory_is_filled_even_where_one_stands(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    done = convert(llama, ".")
    assert done.exit_code == 0, done.output
    assert {"config.json", "model.safetensors"} <= set(entries(Path.cwd()))
    assert not [name for name in entries(Path.cwd()) if name.startswith(".")]


@pytest.mark.parametrize(
    ("place", "status", "message"),
    [
        ("llama", 2, "Error: {}/llama is not empty. Name a new directory."),
        ("llama/config.json", 2, "Error: {}/llama/config.json is a file. Name a new directory."),
        (
            "llama/config.json/out",
            1,
            "Error: Cannot write {}/llama/config.json/out: not a directory. Choose another DIR.",
        ),
    ],
)
def test_what_lies_there_is_left_alone(
    llama: Path, tmp_path: Path, place: str, status: int, message: str
) -> None:
    before = entries(tmp_path)
    done = convert(llama, tmp_path / place)
    assert (done.exit_code, done.stderr.strip()) == (status, message.format(tmp_path))
    assert entries(tmp_path) == before


def test_an_unknown_dtype_and_model_are_told_and_leave_nothing(llama: Path, tmp_path: Path) -> None:
    before = entries(tmp_path)
    done = convert(llama, tmp_path / "a" / "out", "--dtype", "int8")
    assert done.exit_code == 2 and "Unknown dtype 'int8'." in done.stderr
    done = convert(tmp_path / "nothing", tmp_path / "a" / "out")
    assert done.exit_code == 2 and "There is no directory" in done.stderr
    assert entries(tmp_path) == before


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("raised", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_nothing_half_written_stays(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: BaseException, there: bool
) -> None:
    from transformers import PreTrainedTokenizerBase

    def fail(*_: object, **__: object) -> None:
        raise raised

    if there:
        (tmp_path / "a" / "out").mkdir(parents=True)
    before = entries(tmp_path)
    monkeypatch.setattr(PreTrainedTokenizerBase, "save_pretrained", fail)
    done = convert(llama, tmp_path / "a" / "out")
    interrupted = isinstance(raised, KeyboardInterrupt)
    assert done.exit_code == (130 if interrupted else 1)
    told = "Interrupted: nothing was written." if interrupted else "Error: The disk is full: "
    assert done.stderr.splitlines()[-1].startswith(told)
    assert entries(tmp_path) == before


def test_files_that_were_moved_already_go_again_where_the_last_one_cannot(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    rename = Path.rename

    def fail_at_last(path: Path, target: Path) -> Path:
        if path.name == "config.json":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail_at_last)
    done = convert(llama, tmp_path / "out")
    expected = f"Error: Cannot write {tmp_path}/out: input/output error. Choose another DIR."
    assert (done.exit_code, done.stderr.splitlines()[-1]) == (1, expected)
    assert entries(tmp_path / "out") == []
