"""Weight files in transformers' layout: which ones there are, whether they are whole, what they contain."""

from __future__ import annotations

import hashlib
import json
import pickle
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


# Of every tensor: a changed model rarely leaves all of them alone.
VALUES_GLANCED_AT = 64


def shard_names(name: str, index: Path) -> list[str]:
    """Return the weight files that an index of shards names.

    Raises:
        LoadError: If the index is damaged.
        MachineError: If it may not be read.
    """
    places = read_json(name, index).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(p, str) for p in places.values()):
        problem = f"{index.name} of {name} does not say which file holds which weight (weight_map)."
        raise LoadError(problem, "Download the file again.")
    return sorted(set(places.values()))


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
        MachineError: If one may not be read.
    """
    for file in named_weights(folder):
        if not is_inside(file):
            # transformers follows the shards of an index anywhere, but not this.
            problem = f"config.json of {name} names weights outside the model's directory: {file!r}."
            raise LoadError(problem, "Put them into it (transformers_weights).")
        if not _is_there(folder / file):
            raise LoadError(
                f"{name} lacks the weight file {file!r} that its config.json names (transformers_weights).",
                "Complete the download.",
            )
    for single, index in weight_names(folder):
        if single and _is_there(folder / single):
            files = [single]
            break
        if index and _is_there(folder / index):
            files = shard_names(name, folder / index)
            break
    else:
        files = unlisted_shards(name, names_in(name, folder))
    if not files:
        wanted = "model.safetensors or pytorch_model.bin, whole or in shards"
        raise LoadError(f"{name} has a config.json but no weights.", f"Put its weights beside it ({wanted}).")
    for file in files:
        if not _is_there(folder / file):
            where = file if Path(file).name == file else repr(file)
            problem = f"{name} lacks the weight file {where} that its index names."
            raise LoadError(problem, "Complete the download.")
        check_whole(name, folder / file)
    return [folder / file for file in files]


def is_inside(file: str) -> bool:
    """Return whether a file that a configuration names lies in the directory of the configuration."""
    return not Path(file).is_absolute() and ".." not in Path(file).parts


def _is_there(path: Path) -> bool:
    """Return whether something has this name, be it a link that leads nowhere.

    Raises:
        PermissionError: If that may not be known.
    """
    try:
        path.lstat()
    except PermissionError:
        raise
    except (OSError, ValueError):  # ValueError: no file can have that name
        return False
    return True


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


def stored_names(folder: Path) -> set[str] | None:
    """Return the names of the weights in a folder's safetensors files, without what training wrapped them in.

    Returns:
        The names; None where that takes reading more.
    """
    single, index = (folder / name for name in weight_names(folder)[0])
    try:
        if single.is_file():
            names: Iterable[str] = names_of_weights(single)
        elif index.is_file():
            names = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        else:
            return None
        return {_WRAPPER.sub("", key) for key in names}
    except (SafetensorError, OSError, RuntimeError, ValueError, KeyError, TypeError, pickle.UnpicklingError):
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
