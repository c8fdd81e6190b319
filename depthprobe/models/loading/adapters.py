"""PEFT adapters: small trained changes of a model, found, checked and merged into its weights in memory."""

from __future__ import annotations

import importlib.util
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from depthprobe.errors import LoadError, first_line
from depthprobe.models.loading import hub
from depthprobe.models.loading.checkpoint import LOAD_EXCEPTIONS, errors_told
from depthprobe.models.loading.sources import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    AdapterSource,
    check_adapter_weights,
)


@dataclass(frozen=True)
class Adapter:
    """An adapter that was read before its model is: its files, their configuration, and its weights."""

    source: AdapterSource
    folder: str
    config: Any
    weights: dict[str, torch.Tensor]


def read_adapter(source: AdapterSource) -> Adapter:
    """Return an adapter, fetched and read before its much larger base model.

    Raises:
        LoadError: If peft is missing, the files are damaged, or adapters of this type cannot be merged.
        MachineError: If the connection breaks, or the disk is full.
    """
    if importlib.util.find_spec("peft") is None:
        problem = f"{source.name} is an adapter, but the Python package peft, which merges them, is missing."
        raise LoadError(problem, "Install it: pip install peft.")
    from peft import PeftConfig
    from peft.utils import load_peft_weights

    folder = source.location
    if source.commit is not None:
        wanted = [ADAPTER_CONFIG, *ADAPTER_WEIGHTS]
        folder = str(hub.download(source.location, source.commit, wanted))
        check_adapter_weights(source.name, Path(folder))
    with errors_told(source.name, "adapter"):
        config = PeftConfig.from_pretrained(folder)
        weights = load_peft_weights(folder, device="cpu")
    if config.is_prompt_learning:
        raise LoadError(
            f"{source.name} is an adapter of type {_kind(config)}, which adds tokens to the input and "
            "cannot be merged into weights.",
            "Choose an adapter that changes weights, such as LoRA.",
        )
    return Adapter(source, folder, config, weights)


def merge_adapter(adapter: Adapter, model: PreTrainedModel, name: str) -> PreTrainedModel:
    """Return the model with an adapter merged into its weights; the model passed in is used up.

    The changes are computed in float32 at least and rounded once, to the dtype of the weights.

    Args:
        adapter: What to merge.
        model: The adapter's base model, its weights on devices (none left on disk).
        name: The base model's name, for messages.

    Raises:
        LoadError: If the adapter cannot be merged at all, or does not belong to this model.
    """
    from peft import PeftModel, get_peft_model_state_dict

    source, config, stored = adapter.source, adapter.config, adapter.weights
    _refuse_offloaded(source, model)
    _fit_vocabulary(adapter, model, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what they warn about is checked below
            device = str(next(model.parameters()).device)
            adapted = PeftModel.from_pretrained(model, adapter.folder, config=config, torch_device=device)
    except LOAD_EXCEPTIONS as error:
        raise _unfit(source, name, _short(error)) from error
    known = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    own = adapted.state_dict()
    # An embedding trained whole is saved twice, once as peft calls it inside.
    names = {key: key.replace(".modules_to_save.", ".modules_to_save.default.") for key in stored}
    left = sorted(key for key in stored if key not in known and key not in own and names[key] not in own)
    lacking = sorted(key for key in known if key not in stored)
    if left or lacking:
        which = f"{left[0]} has no place in it" if left else f"{lacking[0]} is missing"
        raise _unfit(source, name, which)
    if not hasattr(adapted, "merge_and_unload") or not hasattr(adapted.base_model, "merge_and_unload"):
        problem = f"{source.name} is an adapter of type {_kind(config)}, which peft cannot merge."
        raise LoadError(problem, "Choose an adapter that changes weights, such as LoRA.")
    _untie(model)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            merged = adapted.merge_and_unload(safe_merge=True)  # safe: NaN in the result is an error
    except (*LOAD_EXCEPTIONS, NotImplementedError) as error:
        raise _unfit(source, name, _short(error)) from error
    return merged


def _fit_vocabulary(adapter: Adapter, model: PreTrainedModel, name: str) -> None:
    """Give a model as many rows of its embedding as an adapter was trained with, if it brings them all.

    Whoever adds tokens before training gets a larger embedding; peft saves it whole beside the adapter. The
    new rows' own values are those of the adapter, whatever they are until it is merged.

    Raises:
        LoadError: If it was trained with another vocabulary but does not bring its rows.
    """
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    here = int(embedding.weight.shape[0])
    paths = {id(module): path for path, module in model.named_modules()}
    whole: set[int] = set()
    low_rank: set[int] = set()
    for module in (embedding, head):
        path = paths.get(id(module))
        if path is None:
            continue
        for key, tensor in adapter.weights.items():
            _, found, rest = key.partition(f".{path}.")
            if not found or tensor.dim() != 2:
                continue
            if rest.endswith("weight") and "lora_" not in rest:
                whole.add(int(tensor.shape[0]))
            elif module is embedding and rest.startswith("lora_embedding_A"):
                low_rank.add(int(tensor.shape[1]))
            elif module is head and rest.startswith("lora_B"):
                low_rank.add(int(tensor.shape[0]))
    if not (whole | low_rank) - {here}:
        return
    if len(whole) != 1 or low_rank - whole:
        trained = ", ".join(f"{rows:,}" for rows in sorted(whole | low_rank))
        raise LoadError(
            f"The adapter {adapter.source.name} was trained with a vocabulary of {trained} tokens, but {name}"
            f" has {here:,}, and the adapter does not bring the embedding of the others.",
            "Save it again with save_embedding_layers=True, or merge it where it was trained.",
        )
    model.resize_token_embeddings(whole.pop(), mean_resizing=False)


def _untie(model: PreTrainedModel) -> None:
    """Give the head weights of its own if it shares the embedding's and the adapter changes either.

    Merged into a shared tensor, a change of one of the two would change both.
    """
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    inner = getattr(head, "base_layer", head)
    shared = inner is not None and inner.weight is getattr(embedding, "base_layer", embedding).weight
    if shared and (hasattr(embedding, "base_layer") or hasattr(head, "base_layer")):
        inner.weight = torch.nn.Parameter(inner.weight.detach().clone(), requires_grad=False)
        model.config.tie_word_embeddings = False


def _refuse_offloaded(adapter: AdapterSource, model: PreTrainedModel) -> None:
    places = set(map(str, (getattr(model, "hf_device_map", None) or {}).values()))
    if "disk" in places or (len(places) > 1 and "cpu" in places):
        raise LoadError(
            f"{adapter.name} cannot be merged: part of the model's weights is not on the GPUs.",
            "Use --device cpu, a smaller --dtype, or more GPUs.",
        )


def _kind(config: Any) -> str:
    return str(getattr(config.peft_type, "value", config.peft_type))


def _unfit(adapter: AdapterSource, name: str, why: str) -> LoadError:
    base = f" It was trained on {adapter.base}." if adapter.base else ""
    return LoadError(
        f"The adapter {adapter.name} does not fit {name}: {why}.{base}", "Use it with its own base model."
    )


def _short(error: BaseException) -> str:
    """Return the informative line of what peft and torch raise: of several wrong shapes, the first."""
    lines = [line.strip() for line in str(error).splitlines()]
    sized = next((line for line in lines if line.startswith("size mismatch for ")), None)
    return first_line(error) if sized is None else sized.rstrip(".").replace(" torch.Size(", " (")
