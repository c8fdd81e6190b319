"""What a checkpoint lacks: weights that no file holds, and whether any measurement needs them."""

from __future__ import annotations

from transformers import PreTrainedModel

from depthprobe.errors import LoadError
from depthprobe.models.loading.checkpoint import is_masked
from depthprobe.models.loading.sources import ModelSource


def judge_missing(source: ModelSource, model: PreTrainedModel, missing: list[str]) -> tuple[str, ...]:
    """Return notes on weights the checkpoint lacks but no measurement of the blocks needs.

    Language models do not use poolers, and an encoder's head plays no part in its blocks.

    Raises:
        LoadError: If a block, the embedding, a norm, or the head of a causal model has no weights.
    """
    is_encoder = is_masked(model)
    body = f"{model.base_model_prefix}."
    poolers = [key for key in missing if "pooler" in key]
    heads = [key for key in missing if key not in poolers and is_encoder and not key.startswith(body)]
    fatal = [key for key in missing if key not in poolers and key not in heads]
    if fatal:
        raise LoadError(
            f"The checkpoint of {source.name} lacks weights that its config.json asks for: {some(fatal)}.",
            "Check that config.json and the weights belong together and that the download is complete.",
        )
    if heads:
        return (f"{source.name} has no weights for its head, which stays random: its losses mean nothing.",)
    if model.get_output_embeddings() is None:
        return (f"{source.name} has no language-model head: its blocks can be measured, but not its loss.",)
    return ()


def refuse_unloaded_weights(source: ModelSource, model: PreTrainedModel) -> None:
    """Raise if a weight is on no device; accelerate loads those it offloaded when they are needed."""
    if {"cpu", "disk"} & set(map(str, (getattr(model, "hf_device_map", None) or {}).values())):
        return
    tensors = [*model.named_parameters(), *model.named_buffers()]
    lost = [name for name, tensor in tensors if tensor.device.type == "meta"]
    if lost:
        hint = "Check that the download is complete."
        raise LoadError(f"{source.name} was loaded without {some(lost)}.", hint)


def some(keys: list[str], shown: int = 5) -> str:
    """Return the first of several names, and how many more there are."""
    return ", ".join(keys[:shown]) + (f" and {len(keys) - shown} more" if len(keys) > shown else "")
