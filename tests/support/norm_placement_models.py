"""Tiny models of every norm placement, all with the weights of :mod:`norm_placement_reference`."""

from __future__ import annotations

import torch
from transformers import AutoModelForCausalLM

from depthprobe.models.own.configuration import DepthprobeConfig
from depthprobe.models.own.decoder import DepthprobeForCausalLM
from support import norm_placement_reference as reference

IDS = torch.arange(5, 35).view(2, 15)


def build(norm: str, attention: str = "sdpa", dtype: torch.dtype = torch.float32) -> DepthprobeForCausalLM:
    """Return a model of 8 blocks in evaluation mode."""
    config = DepthprobeConfig(norm=norm, **reference.SIZES)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention)
    missing = model.load_state_dict(reference.weights(), strict=False).missing_keys
    assert not missing
    return model.eval()


@torch.no_grad()
def logits_of(model: torch.nn.Module) -> torch.Tensor:
    """Return the logits of a plain forward pass."""
    return model(input_ids=IDS, use_cache=False).logits
