"""Tiny models for the scoring engine: :mod:`tiny`'s, and some with windows, caps and mixed blocks."""

import types

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from support import tiny

LAYERS = 4

SLIDING = ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"]
FAMILIES = {
    "gemma3_text": {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 12, "layer_types": SLIDING},
    "gemma2": {
        "num_key_value_heads": 2,
        "head_dim": 8,
        "sliding_window": 12,
        "layer_types": SLIDING,
        "final_logit_softcapping": 3.0,
        "attn_logit_softcapping": 5.0,
        "query_pre_attn_scalar": 8,
        "attn_implementation": "eager",
    },
    "mistral": {"num_key_value_heads": 2, "sliding_window": 12},
    "granite": {
        "num_key_value_heads": 2,
        "logits_scaling": 4.0,
        "residual_multiplier": 0.5,
        "embedding_multiplier": 3.0,
    },
    "jamba": {
        "num_key_value_heads": 2,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "expert_layer_offset": 0,
        "num_experts": 2,
        "mamba_d_state": 4,
        "mamba_dt_rank": 4,
        "use_mamba_kernels": False,
    },
}


def build(kind, layers=LAYERS):
    if kind not in FAMILIES:
        return tiny.build(kind, layers=layers)
    config = AutoConfig.for_model(kind, **tiny.SHAPE | FAMILIES[kind])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config).eval()
        tiny.enlarge(model)
    return model


def loaded(model):
    """Return what the engine reads of a loaded model."""
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    return types.SimpleNamespace(model=model, device=torch.device("cpu"), weight_bytes=size, pad_token_id=1)
