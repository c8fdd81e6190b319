"""What a training run is: one frozen record of shape, data and optimisation, and the published ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from depthprobe.texts.options import BUILTIN

if TYPE_CHECKING:
    from transformers import LlamaConfig


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run, in the order in which it is used.

    ``norm`` and ``initialisation`` are keys of ``placements.NORMS`` and ``INITIALISATIONS``. ``dataset``,
    ``config``, ``split`` and ``column`` are those of ``TextOptions``; ``tokenizer`` is a hub id or directory,
    and None trains one of ``vocab_size`` entries on the data. Sizes are counts; ``learning_rate`` is the
    peak, reached after ``warmup_steps`` and decayed along a cosine to ``final_learning_rate_share`` of it;
    one step sees ``batch_samples * context_tokens`` tokens. ``clip_norm`` 0 means no clipping. ``precision``
    is that of the forward and backward passes (autocast); weights and optimiser are float32. The defaults
    are the recipe of the embedded models.
    """

    norm: str = "pre"
    initialisation: str = "normal"
    dataset: str = BUILTIN
    config: str | None = None
    split: str | None = None
    column: str | None = None
    tokenizer: str | None = None
    vocab_size: int = 4096
    hidden: int = 128
    layers: int = 12
    heads: int = 4
    feedforward: int = 344
    tie_embeddings: bool = True
    context_tokens: int = 256
    steps: int = 2000
    batch_samples: int = 16
    learning_rate: float = 2e-3
    final_learning_rate_share: float = 0.1
    warmup_steps: int = 400
    adam_beta2: float = 0.95
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    precision: str = "bfloat16"
    seed: int = 0

    def model_config(self, vocab_size: int, bos: int | None = 0, eos: int | None = 1) -> LlamaConfig:
        """Return the sizes of a LLaMA (RMSNorm, SwiGLU, rotary positions) for a tokenizer's size and ids."""
        from transformers import LlamaConfig

        return LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=self.hidden,
            intermediate_size=self.feedforward,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.heads,
            # Twice the training length: rotary positions extrapolate poorly, so no more is promised.
            max_position_embeddings=2 * self.context_tokens,
            rms_norm_eps=1e-6,
            tie_word_embeddings=self.tie_embeddings,
            bos_token_id=bos,
            eos_token_id=eos,
            # EOS pads batches, but as the model's padding token its embedding would stay zero for ever.
            pad_token_id=None,
        )


# The setting of the papers' small models: 512 sequences of 256 tokens in a step, Adam at 1e-3, a tenth of the
# steps to warm up, cosine to a tenth, no weight decay, no clipping, bf16; head and embedding not tied.
# Source: The Curse of Depth (2502.05795) and its released run_130m.sh.
_PUBLISHED = Recipe(
    dataset="allenai/c4",
    config="en",
    vocab_size=32_000,
    tie_embeddings=False,
    batch_samples=512,
    learning_rate=1e-3,
    adam_beta2=0.999,
    weight_decay=0.0,
    clip_norm=0.0,
    precision="bfloat16",
)


def _published(hidden: int, feedforward: int, layers: int, heads: int, steps: int) -> Recipe:
    return replace(
        _PUBLISHED,
        hidden=hidden,
        feedforward=feedforward,
        layers=layers,
        heads=heads,
        steps=steps,
        warmup_steps=steps // 10,
    )


# What --preset takes. Shapes: the configurations released with GaLore (2403.03507), which the papers on norm
# placement use. Steps: 60m and 130m as released there and with CoD; 250m from CoD's 3.9B tokens, with as many
# tokens in a step as its 2.2B for 130m give; none are published for 9m and 35m, which take those of 60m.
PRESETS: dict[str, Recipe] = {
    "9m": _published(hidden=128, feedforward=352, layers=4, heads=4, steps=10_000),
    "35m": _published(hidden=384, feedforward=1024, layers=6, heads=8, steps=10_000),
    "60m": _published(hidden=512, feedforward=1376, layers=8, heads=8, steps=10_000),
    "130m": _published(hidden=768, feedforward=2048, layers=12, heads=12, steps=20_000),
    "250m": _published(hidden=768, feedforward=2560, layers=24, heads=16, steps=35_000),
}
