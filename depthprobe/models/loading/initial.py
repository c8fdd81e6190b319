"""A model with freshly initialised weights: the same configuration, before any training."""

from __future__ import annotations

import copy

import torch
from transformers import PretrainedConfig, PreTrainedModel

from depthprobe.errors import LoadError
from depthprobe.models.loading import original_llama
from depthprobe.models.loading.checkpoint import LOAD_EXCEPTIONS, Checkpoint, choose_class, errors_told
from depthprobe.models.loading.placement import choose_dtype, placement
from depthprobe.models.loading.sources import original_folder


def build_on_meta(name: str, config: PretrainedConfig, trust_remote_code: bool = False) -> PreTrainedModel:
    """Return the model that a configuration describes, on the meta device: no weights, no memory.

    Raises:
        LoadError: If transformers cannot build it.
    """
    kinds = {"trust_remote_code": True} if trust_remote_code else {}
    with errors_told(name, "model", LOAD_EXCEPTIONS), torch.device("meta"):
        return choose_class(config).from_config(config, **kinds).eval()


def build_initial(
    checkpoint: Checkpoint, seed: int, wanted: torch.dtype | None, device: torch.device
) -> tuple[PreTrainedModel, tuple[str, ...]]:
    """Return a model as its own class initialises it, before training, and notes about its dtype.

    No weights are read, except in Meta's layout, which has sizes nowhere else. The numbers are drawn on the
    device, so that a seed gives the same model on every machine with the same kind of device.

    Args:
        checkpoint: The checkpoint; the model is built from its configuration.
        seed: Of the random weights; the caller's random state is kept.
        wanted: The dtype asked for, None for the one that suits the device.
        device: Where the model goes, whole.

    Raises:
        LoadError: If transformers cannot build it, or it does not fit on the device.
    """
    source = checkpoint.source
    config = _config_of(checkpoint)
    stored = getattr(config, "dtype", None) or getattr(config.get_text_config(), "dtype", None)
    dtype, notes = choose_dtype(wanted, stored if isinstance(stored, torch.dtype) else torch.float32, device)
    numbers = sum(
        p.numel() for p in build_on_meta(source.name, config, checkpoint.trust_remote_code).parameters()
    )
    if placement(source.name, float(numbers * dtype.itemsize), dtype, device) is None:
        raise LoadError(
            f"{source.name} does not fit on {device} as a whole, as freshly initialised weights must.",
            "Use a smaller --dtype or --device cpu.",
        )
    kinds = {"trust_remote_code": True} if checkpoint.trust_remote_code else {}
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        with errors_told(source.name, "model", LOAD_EXCEPTIONS), device:
            model = choose_class(config).from_config(config, dtype=dtype, **kinds)
    return model, notes


def _config_of(checkpoint: Checkpoint) -> PretrainedConfig:
    """Return the configuration without what concerns only stored weights."""
    if checkpoint.config is None:
        folder = original_folder(checkpoint.source)
        return original_llama.read_config(folder, original_llama.open_shards(folder))
    config = copy.deepcopy(checkpoint.config)
    for holder in (config, config.get_text_config(decoder=True)):
        if getattr(holder, "quantization_config", None) is not None:
            del holder.quantization_config
    return config
