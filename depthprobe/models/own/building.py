"""Models from sizes, a norm placement and an initialisation; and their conversion to a plain Llama."""

from __future__ import annotations

import copy

import torch
from transformers import AutoModelForCausalLM, LlamaConfig
from transformers.models.llama.modeling_llama import LlamaForCausalLM

from depthprobe.models.own.configuration import LLAMA_FIELDS, DepthprobeConfig
from depthprobe.models.own.decoder import DepthprobeForCausalLM, PreBlock
from depthprobe.private_names import attention_kernel

# Norm of a Pre-LN block -> its name in Llama, which names the second after what comes before it.
LLAMA_NAMES = {
    "input_layernorm": "input_layernorm",
    "pre_feedforward_layernorm": "post_attention_layernorm",
}


def build_model(sizes: LlamaConfig, norm: str = "pre", initialisation: str = "normal") -> LlamaForCausalLM:
    """Return a model with random weights, to be trained; Pre-LN is a plain Llama, the rest are ours.

    From one state of the random generator all norms but DeepNorm start with the same weights, and scaled
    ones with the same numbers made smaller: only the placement differs in training.

    Args:
        sizes: Widths, counts and special tokens.
        norm: A key of :data:`depthprobe.models.own.placements.NORMS`.
        initialisation: A key of :data:`depthprobe.models.own.placements.INITIALISATIONS`.

    Raises:
        ValueError: If a name is unknown, or DeepNorm is to be scaled twice.
    """
    fields = {name: copy.deepcopy(getattr(sizes, name)) for name in LLAMA_FIELDS}
    model = DepthprobeForCausalLM(DepthprobeConfig(norm=norm, initialisation=initialisation, **fields))
    return fold_lns(model) if norm == "pre" else model


@torch.no_grad()
def fold_lns(model: DepthprobeForCausalLM) -> LlamaForCausalLM:
    """Return a plain Llama with the same logits, bit for bit: each norm's factor goes into its weights.

    Fold after training: Adam and weight decay treat a weight of 1/sqrt(l) differently from a weight of
    1 with a factor. The model passed in keeps its weights; none are shared.

    Args:
        model: One with Pre-LN blocks only (``pre`` or ``lns``), even after blocks were taken out of it.

    Raises:
        ValueError: If it has other blocks: no Llama computes what they do.
    """
    other = next((block for block in model.model.layers if not isinstance(block, PreBlock)), None)
    if other is not None:
        raise ValueError(f"A model with a {type(other).__name__} cannot become a Llama; save it as it is.")
    fields = {name: copy.deepcopy(getattr(model.config, name)) for name in LLAMA_FIELDS}
    # What is drawn here is overwritten: on the CPU, so that no generator moves.
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        kinds = {"dtype": model.dtype, "attn_implementation": attention_kernel(model.config)}
        llama: LlamaForCausalLM = AutoModelForCausalLM.from_config(LlamaConfig(**fields), **kinds)
    weights = model.state_dict()
    for number, block in enumerate(model.model.layers):
        for ours, theirs in LLAMA_NAMES.items():
            del weights[f"model.layers.{number}.{ours}.weight"]
            weights[f"model.layers.{number}.{theirs}.weight"] = getattr(block, ours).gain()
    llama.to(model.device).load_state_dict(weights)
    llama.generation_config = copy.deepcopy(model.generation_config)
    return llama.train(model.training)
