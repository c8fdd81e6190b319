"""The decoder of every norm placement once more: float64, plain tensor operations, one formula a variant.

Written from the papers and from nothing of depthprobe or transformers but the names of the weights.
"""

from __future__ import annotations

import math

import torch

SIZES = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}
EPS, BASE = 1e-6, 10000.0
LAYERS, HEADS, GROUPS, WIDTH = 8, 4, 2, 8
NORMS = ("input", "post_attention", "pre_feedforward", "post_feedforward")


def weights(seed: int = 0) -> dict[str, torch.Tensor]:
    """Return float32 weights for any variant, four norms a block; large, so that every block matters."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        if len(shape) == 1:  # a gain
            return 1 + 0.3 * torch.randn(shape, generator=generator)
        return 0.2 * torch.randn(shape, generator=generator)

    pool = {"lm_head.weight": draw(300, 32), "model.embed_tokens.weight": draw(300, 32)}
    pool["model.norm.weight"] = draw(32)
    for layer in range(LAYERS):
        block = f"model.layers.{layer}."
        for name, rows in (("q", 32), ("k", 16), ("v", 16), ("o", 32)):
            pool[f"{block}self_attn.{name}_proj.weight"] = draw(rows, 32)
        for name, shape in (("gate", (64, 32)), ("up", (64, 32)), ("down", (32, 64))):
            pool[f"{block}mlp.{name}_proj.weight"] = draw(*shape)
        for name in NORMS:
            pool[f"{block}{name}_layernorm.weight"] = draw(32)
    return pool


def logits(pool: dict[str, torch.Tensor], ids: torch.Tensor, norm: str) -> torch.Tensor:
    """Return the logits ``[batch, token, vocab]``, float64."""
    pool = {name: tensor.double() for name, tensor in pool.items()}
    x = pool["model.embed_tokens.weight"][ids]
    for layer in range(LAYERS):
        block = {
            name.removeprefix(f"model.layers.{layer}."): tensor
            for name, tensor in pool.items()
            if name.startswith(f"model.layers.{layer}.")
        }
        x = _step(x, norm, layer, lambda y, w=block: _attention(y, w), block, "input", "post_attention")
        x = _step(
            x, norm, layer, lambda y, w=block: _swiglu(y, w), block, "pre_feedforward", "post_feedforward"
        )
    if norm not in ("post", "deepnorm"):
        x = _rms(x, pool["model.norm.weight"])
    return x @ pool["lm_head.weight"].T


def _step(x, norm, layer, branch, block, before, behind):
    before, behind = block[f"{before}_layernorm.weight"], block[f"{behind}_layernorm.weight"]
    if norm == "pre" or (norm == "mix" and layer >= LAYERS / 4):
        return x + branch(_rms(x, before))
    if norm in ("post", "mix"):
        return _rms(x + branch(x), behind)
    if norm == "deepnorm":
        return _rms((2 * LAYERS) ** (1 / 4) * x + branch(x), behind)
    if norm == "lns":
        return x + branch(_rms(x, before) / math.sqrt(layer + 1))
    assert norm == "sandwich"
    return x + _rms(branch(_rms(x, before)), behind)


def _rms(x: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
    return gain * x / (x.square().mean(-1, keepdim=True) + EPS).sqrt()


def _attention(x: torch.Tensor, block: dict[str, torch.Tensor]) -> torch.Tensor:
    def heads(name: str) -> list[torch.Tensor]:
        return list((x @ block[f"self_attn.{name}_proj.weight"].T).split(WIDTH, dim=-1))

    queries, keys, values = heads("q"), heads("k"), heads("v")
    later = torch.ones(x.shape[1], x.shape[1]).triu(1).bool()
    found = []
    for head, query in enumerate(queries):
        group = head * GROUPS // HEADS
        scores = _rotate(query) @ _rotate(keys[group]).transpose(1, 2) / math.sqrt(WIDTH)
        found.append(scores.masked_fill(later, -math.inf).softmax(-1) @ values[group])
    return torch.cat(found, dim=-1) @ block["self_attn.o_proj.weight"].T


def _rotate(x: torch.Tensor) -> torch.Tensor:
    """Return each token's vector turned by its position; element i turns together with i + WIDTH / 2."""
    pairs = torch.complex(x[..., : WIDTH // 2], x[..., WIDTH // 2 :])
    speed = BASE ** (-torch.arange(0, WIDTH, 2, dtype=torch.float64) / WIDTH)
    angle = torch.arange(x.shape[1], dtype=torch.float64)[:, None] * speed
    turned = pairs * torch.polar(torch.ones_like(angle), angle)
    return torch.cat([turned.real, turned.imag], dim=-1)


def _swiglu(x: torch.Tensor, block: dict[str, torch.Tensor]) -> torch.Tensor:
    gate = x @ block["mlp.gate_proj.weight"].T
    up = x @ block["mlp.up_proj.weight"].T
    return (gate / (1 + (-gate).exp()) * up) @ block["mlp.down_proj.weight"].T
