"""Weight files in transformers' layout: which ones there are, whether they are whole, what they contain."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from depthprobe.errors import LoadError

# (single file, index of shards) in the order transformers prefers them
WEIGHT_NAMES = [
    ("model.safetensors", "model.safetensors.index.json"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json"),
]


# Of every tensor: a changed model rarely leaves all of them alone.
VALUES_GLANCED_AT = 64


def shard_names(name: str, index: Path) -> list[str]:
    """Return the weight files that an index of shards names.

    Raises:
        LoadError: If the index is damaged.
    """
    try:
        return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise LoadError(f"{index.name} of {name} is damaged.", "Download the file again.") from error


def named_weights(folder: Path) -> list[str]:
    """Return the file or index of weights that config.json names under transformers_weights, if any."""
    try:
        named = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("transformers_weights")
    except (ValueError, AttributeError, OSError, RecursionError):
        return []  # reading the configuration says what is wrong
    return [named] if isinstance(named, str) and named else []


def weight_names(folder: Path) -> list[tuple[str, str]]:
    """Return the names as in :data:`WEIGHT_NAMES`, after what config.json names itself."""
    named = [("", file) if file.endswith(".index.json") else (file, "") for file in named_weights(folder)]
    return named + WEIGHT_NAMES


def weight_files(name: str, folder: Path) -> list[Path]:
    """Return the weight files transformers will read, each checked to be there and whole.

    Raises:
        LoadError: If there are none, a shard is missing, or a safetensors file is truncated or damaged.
    """
    for missing in (file for file in named_weights(folder) if not (folder / file).is_file()):
        problem = f"{name} lacks the weight file {missing} that its config.json names (transformers_weights)."
        raise LoadError(problem, "Complete the download.")
    for single, index in weight_names(folder):
        if (folder / single).is_file():
            files = [folder / single]
            break
        if (folder / index).is_file():
            files = [folder / shard for shard in shard_names(name, folder / index)]
            break
    else:
        wanted = "model.safetensors or pytorch_model.bin, whole or in shards"
        raise LoadError(f"{name} has a config.json but no weights.", f"Put its weights beside it ({wanted}).")
    for path in files:
        if not path.is_file():
            problem = f"{name} lacks the weight file {path.name} that its index names."
            raise LoadError(problem, "Complete the download.")
        check_whole(name, path)
    return files


def check_whole(name: str, path: Path) -> None:
    """Raise if a weight file is a stand-in, truncated, or damaged; cheap, as only its ends are read."""
    try:
        with path.open("rb") as file:
            start = file.read(64)
        if start.startswith(b"version https://git-lfs"):
            raise LoadError(
                f"{path.name} of {name} is a Git LFS pointer, not the weights.", "Run `git lfs pull`."
            )
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt"):  # checks the header against the file's length
                return
        # torch.save; before torch 1.6 a bare pickle
        if zipfile.is_zipfile(path) or start.startswith(b"\x80"):
            return
        cause = None
    except (SafetensorError, OSError) as error:
        cause = error
    raise LoadError(f"{path.name} of {name} is truncated or damaged.", "Download the file again.") from cause


def stored_names(folder: Path) -> set[str] | None:
    """Return the names of the weights in a folder's safetensors files; None where that takes reading more."""
    single, index = (folder / name for name in WEIGHT_NAMES[0])
    try:
        if single.is_file():
            with safe_open(single, framework="pt") as file:
                return set(file.keys())
        return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"]) if index.is_file() else None
    except (SafetensorError, OSError, ValueError, KeyError, TypeError):
        return None  # reported when the weights are read


def fingerprint_of(files: list[Path], folder: Path | None = None) -> str:
    """Return the SHA-256 over names and whole contents of files, whatever their order.

    Args:
        files: The files.
        folder: Where they lie; those in subdirectories of it count with their path from there.
    """
    digest = hashlib.sha256()
    names = {path: path.name for path in files}
    if folder is not None:
        names |= {path: path.relative_to(folder).as_posix() for path in files if folder in path.parents}
    for path, name in sorted(names.items(), key=lambda each: each[1]):
        contents = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(1 << 22):
                contents.update(chunk)
        digest.update(f"{name}\0{contents.hexdigest()}\n".encode())
    return digest.hexdigest()


def glance_at(model: nn.Module) -> str:
    """Return a hash over names, shapes and a few values of a model's weights: cheap, to see a change."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        if tensor.device.type != "meta" and tensor.numel():
            flat = tensor.detach().flatten()
            few = flat[:: max(1, len(flat) // VALUES_GLANCED_AT)].cpu().contiguous()
            digest.update(few.view(torch.uint8).numpy())
    return digest.hexdigest()


def hash_of(model: nn.Module) -> str:
    """Return the SHA-256 over names and contents of a model's weights as they are in memory."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        # As bytes, since numpy does not know every dtype.
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
