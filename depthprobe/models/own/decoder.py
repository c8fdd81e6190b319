"""The package's own decoder: Llama's attention, feed-forward part, head and generation, wired by the papers.

Norms are called as in Gemma 2, in all variants alike: ``input_layernorm`` and ``pre_feedforward_layernorm``
read the stream, ``post_attention_layernorm`` and ``post_feedforward_layernorm`` a branch or the sum.
"""

from __future__ import annotations

import math
from typing import Any

import torch

# On its own line first: this waits until another thread has finished importing transformers and its lazy
# module is in place. Without it, the names below would be looked up in an unfinished module.
import transformers  # noqa: F401
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.models.llama.modeling_llama import (
    LlamaAttention,
    LlamaForCausalLM,
    LlamaMLP,
    LlamaModel,
    LlamaRMSNorm,
    LlamaRotaryEmbedding,
)

from depthprobe.models.own.configuration import DepthprobeConfig
from depthprobe.models.own.placements import deepnorm_beta


class FactoredRMSNorm(nn.Module):
    """Llama's RMSNorm times a fixed factor: factor * weight * x / sqrt(mean(x^2) + eps).

    The factor multiplies the weight first, so that ``building.fold_lns`` changes no bit. Not a
    subclass of Llama's: a fused kernel that transformers puts in its place would ignore the factor.
    """

    def __init__(self, hidden: int, eps: float, factor: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden))
        self.eps = eps
        self.factor = factor

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Return the normed stream, ``[batch, token, hidden]``, in its own dtype, computed in float32."""
        normed = hidden_states.float()
        normed = normed * torch.rsqrt(normed.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.gain() * normed.to(hidden_states.dtype)

    def gain(self) -> torch.Tensor:
        """Return weight times factor, ``[hidden]``."""
        return self.factor * self.weight


class Block(GradientCheckpointingLayer):
    """Attention and feed-forward part of a block; the subclasses wire them to the stream."""

    def __init__(self, config: DepthprobeConfig, layer: int) -> None:
        super().__init__()
        self.self_attn = LlamaAttention(config=config, layer_idx=layer)
        self.mlp = LlamaMLP(config)
        for linear, std in _own_deviations(self, config):
            linear.initial_std = std  # type: ignore[assignment]  # torch types tensors and modules only

    def attend(self, hidden_states: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """Return what attention gives, without its weights."""
        return self.self_attn(hidden_states=hidden_states, **kwargs)[0]


class PreBlock(Block):
    """x + F(norm(x)) for attention, then for the feed-forward part; LNS has a factor after both norms.

    Source: Pre-LN (2002.04745); LNS: CoD (2502.05795).
    """

    def __init__(self, config: DepthprobeConfig, layer: int) -> None:
        super().__init__(config, layer)
        factor = config.norm_factors[layer]
        self.input_layernorm = FactoredRMSNorm(config.hidden_size, config.rms_norm_eps, factor)
        self.pre_feedforward_layernorm = FactoredRMSNorm(config.hidden_size, config.rms_norm_eps, factor)

    def forward(self, hidden_states: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """Return the stream after the block."""
        hidden_states = hidden_states + self.attend(self.input_layernorm(hidden_states), **kwargs)
        return hidden_states + self.mlp(self.pre_feedforward_layernorm(hidden_states))


class PostBlock(Block):
    """norm(alpha x + F(x)) for attention, then for the feed-forward part; alpha is 1 except in DeepNorm.

    Source: Post-LN (1706.03762); DeepNorm (2203.00555), figure 2.
    """

    def __init__(self, config: DepthprobeConfig, layer: int) -> None:
        super().__init__(config, layer)
        self.alpha = config.residual_alpha
        self.post_attention_layernorm = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_feedforward_layernorm = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, hidden_states: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """Return the stream after the block."""
        total = torch.add(self.attend(hidden_states, **kwargs), hidden_states, alpha=self.alpha)
        hidden_states = self.post_attention_layernorm(total)
        total = torch.add(self.mlp(hidden_states), hidden_states, alpha=self.alpha)
        return self.post_feedforward_layernorm(total)


class SandwichBlock(Block):
    """x + norm(F(norm(x))) for attention, then for the feed-forward part.

    Source: Sandwich-LN (CogView, 2105.13290), Peri-LN (2502.02732).
    """

    def __init__(self, config: DepthprobeConfig, layer: int) -> None:
        super().__init__(config, layer)
        self.input_layernorm = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.pre_feedforward_layernorm = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_feedforward_layernorm = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, hidden_states: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """Return the stream after the block."""
        branch = self.attend(self.input_layernorm(hidden_states), **kwargs)
        hidden_states = hidden_states + self.post_attention_layernorm(branch)
        branch = self.mlp(self.pre_feedforward_layernorm(hidden_states))
        return hidden_states + self.post_feedforward_layernorm(branch)


BLOCKS: dict[str, type[Block]] = {"pre": PreBlock, "post": PostBlock, "sandwich": SandwichBlock}


def _own_deviations(block: Block, config: DepthprobeConfig) -> list[tuple[nn.Linear, float]]:
    """Return the matrices of a block that are not drawn with ``initializer_range``, and their deviation.

    Scaled: the output projections with initializer_range / sqrt(2L), as L blocks add two branches each.
    DeepNorm: Xavier's deviation instead of initializer_range, times beta, except for queries and keys, which
    do not set the size of a branch. Embedding and head keep initializer_range. The paper's feed-forward part
    has two matrices; a gated one has three, which all get beta, as in the trainer released with CoD.

    Source: scaled: GPT-2's, as CoD (2502.05795) compares it; DeepNet (2203.00555), figure 2. In Mix-LN we
    scale all blocks; the trainer released with CoD scales those with Pre-LN.
    """
    attention, mlp = block.self_attn, block.mlp
    layers = config.num_hidden_layers
    if config.norm == "deepnorm":
        scaled = [attention.v_proj, attention.o_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj]
        gains = [(attention.q_proj, 1.0), (attention.k_proj, 1.0)]
        gains += [(linear, deepnorm_beta(layers)) for linear in scaled]
        return [(linear, gain * math.sqrt(2 / sum(linear.weight.shape))) for linear, gain in gains]
    if config.initialisation == "scaled":
        std = config.initializer_range / math.sqrt(2 * layers)
        return [(attention.o_proj, std), (mlp.down_proj, std)]
    return []


class _Lab:
    """What the package's own models have instead of Llama's."""

    config_class = DepthprobeConfig
    _no_split_modules = [block.__name__ for block in BLOCKS.values()]
    _can_record_outputs = {"hidden_states": Block, "attentions": LlamaAttention}

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # One draw for each matrix, in Llama's order: with one seed all start from the same random numbers.
        std = getattr(module, "initial_std", None)
        if std is None:
            super()._init_weights(module)  # type: ignore[misc]
            return
        init.normal_(module.weight, mean=0.0, std=std)
        if module.bias is not None:
            init.zeros_(module.bias)


class DepthprobeModel(_Lab, LlamaModel):
    """Llama's decoder without its head, around blocks of our own."""

    def __init__(self, config: DepthprobeConfig) -> None:
        # Skips LlamaModel's own, which would build Llama's blocks and draw their weights.
        super(LlamaModel, self).__init__(config)
        self.padding_idx = config.pad_token_id
        self.vocab_size = config.vocab_size
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, self.padding_idx)
        placed = enumerate(config.block_norms[: config.num_hidden_layers])
        self.layers = nn.ModuleList(BLOCKS[placement](config, layer) for layer, placement in placed)
        final = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps) if config.final_norm else nn.Identity()
        self.norm = final
        self.rotary_emb = LlamaRotaryEmbedding(config=config)
        self.gradient_checkpointing = False
        self.post_init()


class DepthprobeForCausalLM(_Lab, LlamaForCausalLM):
    """The package's own language model; everything not defined here is Llama's."""

    def __init__(self, config: DepthprobeConfig) -> None:
        super(LlamaForCausalLM, self).__init__(config)
        self.model = DepthprobeModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()


AutoConfig.register(DepthprobeConfig.model_type, DepthprobeConfig, exist_ok=True)
AutoModel.register(DepthprobeConfig, DepthprobeModel, exist_ok=True)
AutoModelForCausalLM.register(DepthprobeConfig, DepthprobeForCausalLM, exist_ok=True)
