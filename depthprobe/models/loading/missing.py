"""What a checkpoint lacks: weights that no file holds, and whether any measurement needs them."""

from __future__ import annotations

from collections.abc import Iterable

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
    heads = of_head(model, missing)
    fatal = [key for key in missing if not _is_pooler(key) and key not in heads]
    if fatal:
        raise LoadError(
            f"The checkpoint of {source.name} lacks weights that its config.json asks for: {some(fatal)}.",
            "Check that config.json and the weights belong together and that the download is complete.",
        )
    if heads:
        return (f"{source.name} has no weights for its head: its blocks can be measured, but not its loss.",)
    if model.get_output_embeddings() is None:
        return (f"{source.name} has no language-model head: its blocks can be measured, but not its loss.",)
    return ()


def of_head(model: PreTrainedModel, missing: Iterable[str]) -> list[str]:
    """Return those of the missing weights that belong to an encoder's head, beside its blocks."""
    if not is_masked(model):
        return []
    body = f"{model.base_model_prefix}."
    return [key for key in missing if not key.startswith(body) and not _is_pooler(key)]


def lacks_head(model: PreTrainedModel, stored: Iterable[str]) -> bool:
    """Return whether a checkpoint has no weight at all for an encoder's head, by the names that it stores.

    Args:
        model: The model, which may be on the meta device.
        stored: The names of the checkpoint's weights.
    """
    heads = {key.partition(".")[0] for key in of_head(model, model.state_dict())}
    return bool(heads) and heads.isdisjoint(name.partition(".")[0] for name in stored)


def refuse_random_head(name: str, model: PreTrainedModel, missing: Iterable[str]) -> None:
    """Raise if the head was drawn at random, because the checkpoint has no weights for it.

    Such a head gives a loss and gradients that look like any others and mean nothing.

    Args:
        name: What the user calls the model.
        model: The model.
        missing: The weights that its checkpoint lacks.

    Raises:
        LoadError: saying so.
    """
    lacking = of_head(model, missing)
    if lacking:
        raise LoadError(
            f"{name} has no weights for its language-model head ({some(lacking, 2)}), so there is no loss to "
            "take a gradient of.",
            "Name a checkpoint that has its head.",
        )


def _is_pooler(key: str) -> bool:
    return "pooler" in key


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
