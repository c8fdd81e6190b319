"""What the embedded models are: one frozen record of shape, data and optimisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import LlamaConfig


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run, in the order in which it is used.

    ``norm`` and ``initialisation`` are keys of :data:`depthprobe.lab.norms.NORMS` and ``INITIALISATIONS``.
    Sizes are counts; ``learning_rate`` is the peak, reached after ``warmup_steps`` and decayed by a
    cosine to ``final_learning_rate_share`` of it; one step sees ``batch_samples * context_tokens``
    tokens. The defaults are the recipe of ``builtin:pre-ln``.
    """

    norm: str = "pre"
    initialisation: str = "normal"
    vocab_size: int = 4096
    hidden: int = 128
    layers: int = 12
    heads: int = 4
    feedforward: int = 344
    context_tokens: int = 256
    steps: int = 3000
    batch_samples: int = 16
    learning_rate: float = 2e-3
    final_learning_rate_share: float = 0.1
    warmup_steps: int = 200
    adam_beta2: float = 0.95
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    seed: int = 0

    def model_config(self) -> LlamaConfig:
        """Return the sizes: LLaMA (RMSNorm, SwiGLU, rotary positions), tied head."""
        from transformers import LlamaConfig

        return LlamaConfig(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden,
            intermediate_size=self.feedforward,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.heads,
            # Twice the training length: rotary positions extrapolate poorly, so no more is promised.
            max_position_embeddings=2 * self.context_tokens,
            rms_norm_eps=1e-6,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
