"""Every causal and masked-LM model type of transformers, tiny, with random weights, built offline."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from support import model_type_shapes as shapes

CAUSAL: tuple[str, ...] = tuple(sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES))
MASKED: tuple[str, ...] = tuple(sorted(MODEL_FOR_MASKED_LM_MAPPING_NAMES))


class NotBuildable(Exception):
    """A model type cannot be built tiny from a configuration here."""


def build(model_type: str, masked: bool = False, layers: int = 4, seed: int = 0) -> PreTrainedModel:
    """Return a random model in float32, weights large enough that every block really turns the stream."""
    if model_type in shapes.UNBUILDABLE:
        raise NotBuildable(f"{model_type}: {shapes.UNBUILDABLE[model_type]}.")
    cls = CONFIG_MAPPING[model_type]
    config = cls(**_shape(cls, layers, masked))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if model_type in shapes.PARTS:
            made = getattr(transformers, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[model_type])
            model = made._from_config(getattr(config, shapes.PARTS[model_type]), dtype=torch.float32)
        else:
            auto = AutoModelForMaskedLM if masked else AutoModelForCausalLM
            model = auto.from_config(config, dtype=torch.float32)
        _redraw(model)
    return model.eval()


@torch.no_grad()
def forward(model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Return the logits of a plain forward pass, batch by position by vocabulary."""
    return logits(model, ids, mask)


def logits(model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Return the same with what a backward pass needs."""
    accepted = inspect.signature(model.forward).parameters
    inputs: dict[str, Any] = {"inputs" if "inputs" in accepted else "input_ids": ids}
    if mask is not None and "attention_mask" in accepted:
        inputs["attention_mask"] = mask
    if "decoder_input_ids" in accepted:  # the decoder reads what the encoder reads
        inputs["decoder_input_ids"] = ids
    if "use_cache" in accepted:
        inputs["use_cache"] = False
    found = model(**inputs).logits
    if found.dim() == 4:  # Musicgen: by code book, of which there is one
        found = found[:, 0]
    return found[:, : ids.shape[1]]  # Perceiver: always as many as it has positions


def _shape(
    cls: type[PreTrainedConfig],
    layers: int,
    masked: bool,
    tower: bool = False,
    own: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what makes a configuration class tiny; ``own`` are fields that its parent sets."""
    fields = {
        field.name: None if field.default is dataclasses.MISSING else field.default
        for field in dataclasses.fields(cls)
    }
    table = (
        shapes.FIELDS | dict.fromkeys(shapes.COUNTS, 1 if tower else layers) | (shapes.TOWER if tower else {})
    )
    values = {
        name: table[name]
        for name, default in fields.items()
        if name in table and (default is not None or name in shapes.EVEN_NONE)
    }
    if "kv_lora_rank" in fields:  # latent attention has a key and a value for every head
        values["num_key_value_heads"] = table["num_attention_heads"]
    if not masked and not tower:
        values |= {name: True for name in ("is_decoder", "causal") if name in fields}
    special = shapes.TYPES.get(cls.model_type, {}) | (own or {})
    for name, value in special.items():
        if name not in cls.sub_configs:
            values[name] = value(layers) if callable(value) else value
    for name, cycle in shapes.CYCLES.get(cls.model_type, {}).items():
        values[name] = [cycle[index % len(cycle)] for index in range(layers)]
    return values | _parts(cls, special, layers, masked, tower)


def _parts(
    cls: type[PreTrainedConfig], special: dict[str, Any], layers: int, masked: bool, tower: bool
) -> dict[str, dict[str, Any]]:
    """Return what makes the sub-configurations of a configuration class tiny."""
    default = cls() if set(cls.sub_configs) - set(special) else None
    parts = {}
    for name, part in cls.sub_configs.items():
        own = special.get(name, {})
        if "model_type" in own:
            part = CONFIG_MAPPING[own["model_type"]]
        elif default is not None and name not in special or part is transformers.AutoConfig:
            part = type(getattr(default or cls(), name))
        if part is not type(None):
            aside = tower or not ("text_config" in name or name == "decoder")
            parts[name] = _shape(part, layers, masked, aside, own) | {"model_type": part.model_type}
    return parts


@torch.no_grad()
def _redraw(model: PreTrainedModel) -> None:
    """Redraw the parameters: matrices widely, vectors around what they were."""
    for name, parameter in model.named_parameters():
        if name.rpartition(".")[2] in shapes.KEPT or not parameter.is_floating_point():
            continue
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.15)
        else:
            parameter += 0.1 * torch.randn_like(parameter)
