"""The configuration of the package's own models: Llama's fields, and where each block's norms are.

It does not inherit from ``LlamaConfig``, so that nothing takes one of these models for a Llama: its blocks
compute something else. :mod:`depthprobe.models.own.decoder` registers it with its models.
"""

from __future__ import annotations

from typing import Any

from transformers.configuration_utils import PreTrainedConfig

from depthprobe.models.own.placements import (
    INITIALISATIONS,
    NORMS,
    block_norms,
    ends_in_a_norm,
    norm_factors,
    residual_alpha,
)

# The fields of a LlamaConfig, with its defaults; a test compares them.
LLAMA_FIELDS: dict[str, Any] = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": None,
    "hidden_act": "silu",
    "max_position_embeddings": 2048,
    "initializer_range": 0.02,
    "rms_norm_eps": 1e-6,
    "use_cache": True,
    "pad_token_id": None,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pretraining_tp": 1,
    "tie_word_embeddings": False,
    "rope_parameters": None,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "mlp_bias": False,
    "head_dim": None,
}


class DepthprobeConfig(PreTrainedConfig):
    """A LLaMA-like decoder with one of the norm placements of the papers.

    ``norm`` and ``initialisation`` say what is wanted; what follows from them for each block is computed here
    and written to config.json. So the numbers belong to a block, not to its position: a model without one of
    its blocks is saved and read back with the factors that its other blocks were trained with.

    Args:
        norm: A key of :data:`depthprobe.models.own.placements.NORMS`.
        initialisation: A key of :data:`depthprobe.models.own.placements.INITIALISATIONS`.
        block_norms: ``pre``, ``post`` or ``sandwich`` for each block; by default as ``norm`` says.
        norm_factors: What each block multiplies the output of its norms by, in Pre-LN blocks.
        residual_alpha: What Post-LN blocks multiply the stream by before they add to it.
        final_norm: Whether there is a norm before the head; by default if the last block does not end in one.
        kwargs: The fields of a LlamaConfig, and those that all configurations have.

    Raises:
        ValueError: If a name is unknown, a list has not one entry for each block, or DeepNorm is to be scaled
            twice.
    """

    model_type = "depthprobe"
    keys_to_ignore_at_inference = ["past_key_values"]

    def __init__(
        self,
        norm: str = "pre",
        initialisation: str = "normal",
        block_norms: list[str] | None = None,
        norm_factors: list[float] | None = None,
        residual_alpha: float | None = None,
        final_norm: bool | None = None,
        **kwargs: Any,
    ) -> None:
        for name, default in LLAMA_FIELDS.items():
            setattr(self, name, kwargs.pop(name, default))
        if self.num_key_value_heads is None:  # type: ignore[has-type]  # set by name above
            self.num_key_value_heads = self.num_attention_heads
        if self.head_dim is None:  # type: ignore[has-type]
            self.head_dim = self.hidden_size // self.num_attention_heads
        self._settle(norm, initialisation, block_norms, norm_factors, residual_alpha, final_norm)
        super().__init__(**kwargs)

    def _settle(
        self,
        norm: str,
        initialisation: str,
        placements: list[str] | None,
        factors: list[float] | None,
        alpha: float | None,
        final: bool | None,
    ) -> None:
        layers = self.num_hidden_layers
        if norm not in NORMS:
            raise ValueError(f"norm must be one of {', '.join(NORMS)}; got {norm!r}.")
        if initialisation not in INITIALISATIONS:
            known = ", ".join(INITIALISATIONS)
            raise ValueError(f"initialisation must be one of {known}; got {initialisation!r}.")
        if norm == "deepnorm" and initialisation == "scaled":
            raise ValueError(
                "DeepNorm already scales its initial weights by depth: leave out the scaled initialisation."
            )
        self.norm = norm
        self.initialisation = initialisation
        self.block_norms = block_norms(norm, layers) if placements is None else placements
        self.norm_factors = norm_factors(norm, layers) if factors is None else factors
        self.residual_alpha = residual_alpha(norm, layers) if alpha is None else alpha
        self.final_norm = not ends_in_a_norm(self.block_norms) if final is None else final
        for name in ("block_norms", "norm_factors"):
            if len(getattr(self, name)) != layers:
                raise ValueError(f"{name} has {len(getattr(self, name))} entries for {layers} blocks.")
        unknown = sorted(set(self.block_norms) - {"pre", "post", "sandwich"})
        if unknown:
            raise ValueError(f"block_norms may hold pre, post and sandwich, got {unknown[0]!r}.")
