"""Weight files in transformers' layout: which ones there are, whether they are whole, what they contain."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from depthprobe.errors import LoadError
from depthprobe.models.loading.local_files import check_readable, names_in, read_json

# (single file, index of shards) in the order transformers prefers them
WEIGHT_NAMES = [
    ("model.safetensors", "model.safetensors.index.json"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json"),
]

# Put before a part's name by torch.compile, DistributedDataParallel, FSDP and activation checkpointing.
_WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
_WRAPPER = re.compile(r"(?:^|(?<=_orig_mod\.))module\.|" + "|".join(map(re.escape, _WRAPPERS)))
_SHARD = re.compile(
    r"(?P<stem>model|pytorch_model)-(?P<number>\d{5})-of-(?P<count>\d{5})\.(?:safetensors|bin)"
)


def shard_names(name: str, index: Path) -> list[str]:
    """Return the weight files that an index of shards names.

    Raises:
        LoadError: If the index is damaged, or names a file elsewhere.
        MachineError: If it may not be read.
    """
    places = read_json(name, index).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(p, str) for p in places.values()):
        problem = f"{index.name} of {name} does not say which file holds which weight (weight_map)."
        raise LoadError(problem, "Download the file again.")
    names = sorted(set(places.values()))
    elsewhere = next((each for each in names if not each or Path(each).name != each), None)
    if elsewhere is not None:
        problem = f"{index.name} of {name} names a file outside the model's directory: {elsewhere!r}."
        raise LoadError(problem, "Download the file again.")
    return names


def unlisted_shards(name: str, names: Iterable[str]) -> list[str]:
    """Return the shards of a model among names of files, in order; empty if there are none.

    Raises:
        LoadError: If one of them is missing too.
    """
    found: dict[tuple[str, int], dict[int, str]] = {}
    for each in names:
        match = _SHARD.fullmatch(each)
        if match:
            found.setdefault((match["stem"], int(match["count"])), {})[int(match["number"])] = each
    for stem in (Path(single).stem for single, _ in WEIGHT_NAMES):
        for (of, count), shards in sorted(found.items()):
            if of != stem:
                continue
            lacking = [number for number in range(1, count + 1) if number not in shards][:5]
            if lacking or len(shards) > count:
                missing = ", ".join(f"{number:05}-of-{count:05}" for number in lacking)
                raise LoadError(
                    f"{name} lacks the index of its weights and of the shards {missing}.",
                    "Complete the download.",
                )
            return [shards[number] for number in sorted(shards)]
    return []


def names_of_weights(path: Path) -> list[str]:
    """Return the names of the weights in a file, without their values.

    Raises:
        OSError, SafetensorError, RuntimeError, pickle.UnpicklingError: If the file cannot be read.
    """
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            return list(file.keys())
    held = torch.load(path, map_location="meta", weights_only=True, mmap=zipfile.is_zipfile(path))
    return [str(key) for key in held] if isinstance(held, dict) else []


def wrappers_in(names: Iterable[str]) -> list[str]:
    """Return what wrapping a model for training put into the names of its weights, such as ``_orig_mod.``."""
    return sorted({match for name in names for match in _WRAPPER.findall(name)})


def write_index(shards: Sequence[Path], folder: Path) -> None:
    """Write the index that goes with some shards into a directory.

    Raises:
        OSError, SafetensorError, RuntimeError, pickle.UnpicklingError: If a shard cannot be read.
    """
    places: dict[str, str] = {}
    for path in shards:
        places |= dict.fromkeys(names_of_weights(path), path.name)
    index = next(index for single, index in WEIGHT_NAMES if Path(single).suffix == shards[0].suffix)
    (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": places}), encoding="utf-8")


def weight_files(name: str, folder: Path) -> list[Path]:
    """Return the weight files transformers will read, each checked to be there and whole.

    Raises:
        LoadError: If there are none, a shard is missing, or a safetensors file is truncated or damaged.
        MachineError: If one may not be read.
    """
    for single, index in WEIGHT_NAMES:
        if _is_there(folder / single):
            files = [folder / single]
            break
        if _is_there(folder / index):
            files = [folder / shard for shard in shard_names(name, folder / index)]
            break
    else:
        files = [folder / shard for shard in unlisted_shards(name, names_in(name, folder))]
    if not files:
        wanted = "model.safetensors or pytorch_model.bin, whole or in shards"
        raise LoadError(f"{name} has a config.json but no weights.", f"Put its weights beside it ({wanted}).")
    for path in files:
        if not _is_there(path):
            problem = f"{name} lacks the weight file {path.name} that its index names."
            raise LoadError(problem, "Complete the download.")
        check_whole(name, path)
    return files


def _is_there(path: Path) -> bool:
    """Return whether something has this name, be it a link that leads nowhere."""
    return path.exists() or path.is_symlink()


def check_whole(name: str, path: Path) -> None:
    """Raise if a weight file is a stand-in, truncated, or damaged; cheap, as only its ends are read."""
    check_readable(name, path)
    try:
        with path.open("rb") as file:
            start = file.read(64)
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


def fingerprint_of(files: list[Path]) -> str:
    """Return the SHA-256 over names and whole contents of files, whatever their order."""
    digest = hashlib.sha256()
    for path in sorted(files, key=lambda path: path.name):
        contents = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(1 << 22):
                contents.update(chunk)
        digest.update(f"{path.name}\0{contents.hexdigest()}\n".encode())
    return digest.hexdigest()


def hash_of(model: nn.Module) -> str:
    """Return the SHA-256 over names and contents of a model's weights as they are in memory."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        # As bytes, since numpy does not know every dtype.
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
