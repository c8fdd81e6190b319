"""Any model that loads, written once as an ordinary transformers directory, and read back from it.

For models that take long to load or need more than one directory: GGUF files, Meta's original layout,
adapters to be merged.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from depthprobe.errors import LoadError
from depthprobe.models.loading import gguf, original_llama
from depthprobe.models.loading.checkpoint import Checkpoint
from depthprobe.models.loading.initial import build_on_meta
from depthprobe.models.loading.loading import LoadedModel, load_model
from depthprobe.models.loading.missing import some
from depthprobe.models.loading.quantisation import check_quantisation
from depthprobe.models.loading.sources import ModelSource, original_folder
from depthprobe.models.loading.stages import Stage, unseen
from depthprobe.models.saving.writing import require_space, save_model
from depthprobe.models.sizing.footprint import declared_dtype

CPU = torch.device("cpu")

# Texts that a tokenizer must encode the same way once read back: words, spaces, marks and other scripts.
SAMPLES = ("The stream turns less.", "  two spaces,\n\ta line; x_l+1 = 3.14!", "Größe, 深さ, глубина", "")

# What a configuration holds besides its model's settings: how and by what it was stored.
NO_SETTINGS = {
    "_name_or_path", "architectures", "auto_map", "dtype", "quantization_config", "transformers_version",
}  # fmt: skip


@dataclass(frozen=True)
class Written:
    """What was written: number of weights, their dtype, the bytes of all files; and notes from loading."""

    parameters: int
    dtype: torch.dtype
    size: int
    notes: tuple[str, ...] = ()


def write_model(
    checkpoint: Checkpoint, wanted: torch.dtype | None, folder: Path, stage: Stage = unseen
) -> Written:
    """Write a model, as it loads on a CPU, into an empty directory, and check it; return what was written.

    Args:
        checkpoint: The opened checkpoint.
        wanted: What the weights are rounded to. None keeps every number of the float32 weights that a CPU
            computes with: in the checkpoint's own dtype where that holds them all, else in float32.
        folder: The directory; after an error it holds whatever was written until then.
        stage: Shows what takes a while.

    Raises:
        LoadError: If the model does not load, stays packed, or is not the same when it is read back.
        MachineError: If the disk is full or not writable, or memory runs out.
    """
    name = checkpoint.source.name
    _refuse_packed(checkpoint)
    require_space(name, folder, _least_bytes(checkpoint, wanted))
    loaded = load_model(checkpoint, dtype=wanted or "auto", device="cpu", stage=stage)
    stored = _own_dtype(checkpoint)
    if wanted is None and stored is not None and stored.itemsize < 4 and _holds_all(loaded.model, stored):
        loaded.model.to(stored)
    kept, parameters, notes = loaded.model.dtype, int(loaded.model.num_parameters()), loaded.notes
    require_space(name, folder, loaded.weight_bytes)
    with stage("Writing the directory", None, ""):
        marks, settings = _fingerprints(loaded), _settings(loaded.model.config.to_dict())
        save_model(loaded, checkpoint.folder, folder)
    del loaded  # its memory is needed to read it back
    with stage("Reading it back", None, ""):
        again = _read_back(checkpoint, folder, kept)
        if _settings(again.model.config.to_dict()) != settings:
            raise _unlike(name, "its configuration differs")
        if differing := _differing(marks, _fingerprints(again)):
            raise _unlike(name, f"the weights {some(differing)} differ")
        if not _same_tokens(checkpoint.tokenizer, again.tokenizer):
            raise _unlike(name, "its tokenizer gives different tokens")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Written(parameters, kept, size, notes)


def _refuse_packed(checkpoint: Checkpoint) -> None:
    if checkpoint.config is None or checkpoint.gguf is not None:
        return
    name = checkpoint.source.name
    packed = check_quantisation(name, copy.deepcopy(checkpoint.config), CPU)
    if packed is not None and not packed.unpacked:
        raise LoadError(
            f"{name} is quantised ({packed}) and its weights stay packed: they cannot be written as floats.",
            "Convert the model it was made from.",
        )


def _least_bytes(checkpoint: Checkpoint, wanted: torch.dtype | None) -> int:
    """Return the least bytes that the weights take on disk; 0 where nothing else says how many they are."""
    if checkpoint.config is None:
        return 0
    config = copy.deepcopy(checkpoint.config)
    model = build_on_meta(checkpoint.source.name, config, checkpoint.trust_remote_code)
    own = _own_dtype(checkpoint) or torch.float32
    itemsize = min(own.itemsize, 4) if wanted is None else wanted.itemsize
    return sum(parameter.numel() for parameter in model.parameters()) * itemsize


def _own_dtype(checkpoint: Checkpoint) -> torch.dtype | None:
    """Return the float type of a checkpoint's files; None for GGUF blocks and where nothing says it."""
    if checkpoint.gguf is not None:
        return gguf.FLOATS.get(checkpoint.gguf.file_type)
    if checkpoint.config is None:
        return original_llama.stored_dtype(original_folder(checkpoint.source))
    return declared_dtype(checkpoint.config)


def _holds_all(model: PreTrainedModel, dtype: torch.dtype) -> bool:
    """Return whether a dtype holds every weight exactly as it is."""
    tensors = (tensor for tensor in model.state_dict().values() if tensor.is_floating_point())
    return all(torch.equal(tensor.to(dtype).to(tensor.dtype), tensor) for tensor in tensors)


def _fingerprints(loaded: LoadedModel) -> dict[str, str]:
    """Return the SHA-256 of every weight that came from the checkpoint, by its name in the model."""
    marks = {}
    for key, tensor in loaded.model.state_dict().items():
        if key not in loaded.unfilled:
            # By value, whatever the dtype: transformers itself keeps parts of some models in float32.
            values = tensor.float() if tensor.is_floating_point() and tensor.itemsize < 4 else tensor
            raw = values.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
            marks[key] = f"{hashlib.sha256(raw.data).hexdigest()} {tuple(tensor.shape)}"
    return marks


def _settings(config: Any) -> Any:
    """Return the part of a configuration that decides a model's numbers, in JSON's types."""
    if isinstance(config, Mapping):
        return {str(key): _settings(value) for key, value in config.items() if key not in NO_SETTINGS}
    return [_settings(value) for value in config] if isinstance(config, list | tuple) else config


def _differing(marks: dict[str, str], found: dict[str, str]) -> list[str]:
    return sorted(key for key in marks.keys() | found.keys() if marks.get(key) != found.get(key))


def _read_back(checkpoint: Checkpoint, folder: Path, dtype: torch.dtype) -> LoadedModel:
    """Return the model as every later command will load it.

    Raises:
        LoadError: If it no longer loads.
    """
    source = ModelSource(str(folder), str(folder), revision=None, fingerprint=None, layout="transformers")
    trust = checkpoint.trust_remote_code
    try:
        return load_model(source, dtype=dtype, device="cpu", trust_remote_code=trust)
    except LoadError as error:
        problem = error.problem.replace(str(folder), "it").rstrip(".")
        raise _unlike(checkpoint.source.name, problem) from error


def _same_tokens(one: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase) -> bool:
    same = ("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id", "chat_template")
    return (
        all(getattr(one, key, None) == getattr(other, key, None) for key in same)
        and all(one(text)["input_ids"] == other(text)["input_ids"] for text in SAMPLES)
        and one.get_vocab() == other.get_vocab()
    )


def _unlike(name: str, why: str) -> LoadError:
    return LoadError(
        f"{name} is a different model when transformers {transformers.__version__} reads it back: {why}.",
        "Nothing was kept; keep using the model as it is.",
    )
