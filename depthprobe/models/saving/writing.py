"""Writing a loaded model to disk as transformers does; whatever goes wrong becomes a sentence."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import transformers
from safetensors import SafetensorError
from transformers import GenerationConfig

from depthprobe.errors import DepthprobeError, LoadError, MachineError, first_line
from depthprobe.models.loading.checkpoint import LOAD_EXCEPTIONS
from depthprobe.models.loading.loading import LoadedModel
from depthprobe.models.sizing.footprint import gib

SHARD_SIZE = "5GB"


def require_space(name: str, folder: Path, needed: int) -> None:
    """Raise a MachineError if the disk of a directory has no room for ``needed`` bytes of weights."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise MachineError(
            f"{name} takes {gib(needed)} as a directory, but only {gib(free)} are free there.",
            "Free some space, choose a DIR on another disk, or name a --dtype of half the size.",
        )


def save_model(loaded: LoadedModel, origin: Path, folder: Path) -> None:
    """Write model and tokenizer; random weights are left out, so that nobody takes them for trained ones.

    Args:
        loaded: The model; the mark that it was packed is removed from it.
        origin: The directory of its own files.
        folder: An empty directory.

    Raises:
        LoadError: If transformers cannot write such a model.
        MachineError: If the disk is full or not writable.
    """
    with _told(loaded.source.name):
        _write(loaded, origin, folder)


def _write(loaded: LoadedModel, origin: Path, folder: Path) -> None:
    model = loaded.model
    quantizer = getattr(model, "hf_quantizer", None)
    if quantizer is not None:  # unpacked, so the mark that it was packed would only prevent saving
        quantizer.remove_quantization_config(model)
    settings = origin / "generation_config.json"
    if settings.is_file():  # copied unchanged: transformers refuses to write some that it reads
        model.generation_config = GenerationConfig()
    weights = {key: tensor for key, tensor in model.state_dict().items() if key not in loaded.unfilled}
    model.save_pretrained(folder, state_dict=weights, max_shard_size=SHARD_SIZE)
    if settings.is_file():
        shutil.copyfile(settings, folder / settings.name)
    loaded.tokenizer.save_pretrained(folder)
    for path in folder.glob("*.safetensors"):  # only these are written readable by the owner alone
        path.chmod((folder / "config.json").stat().st_mode)


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Turn what is raised while files are written into our errors."""
    try:
        yield
    except DepthprobeError:
        raise
    except Exception as error:
        # The tokenizers library raises bare exceptions; safetensors' have the system's number in their text.
        if not isinstance(error, LOAD_EXCEPTIONS) and type(error) is not Exception:
            raise
        text = str(error)
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        if full or f"os error {errno.ENOSPC}" in text or "No space left" in text:
            hint = "Free some space, or choose a DIR on another disk."
            raise MachineError(f"The disk is full: {name} could not be written.", hint) from error
        if isinstance(error, OSError | SafetensorError):
            raise MachineError(f"{name} could not be written: {first_line(error)}.") from error
        problem = f"{name} loads, but transformers {transformers.__version__} cannot write it"
        raise LoadError(f"{problem}: {first_line(error)}.", "Keep using the model as it is.") from error
