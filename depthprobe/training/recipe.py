"""What a training run is: one frozen record of shape, data and optimisation, and the published ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

from depthprobe.declaring import MOST_SEED, Option
from depthprobe.models.own.placements import NORMS
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

    norm: Annotated[str, Option(f"Where the norms are: {', '.join(NORMS)}.", panel="Model")] = "pre"
    initialisation: Annotated[
        str,
        Option(
            "normal, or scaled: output projections smaller by a factor of sqrt(2 x layers).",
            flags=("--init",),
            panel="Model",
        ),
    ] = "normal"
    dataset: Annotated[
        str,
        Option(
            "Hub data set id (streamed), local file, or builtin (this Python's standard library).",
            default="builtin",
            panel="Training text",
        ),
    ] = BUILTIN
    config: Annotated[
        str | None,
        Option(
            "Configuration of a hub data set.",
            flags=("--dataset-config",),
            default="en for allenai/c4",
            panel="Training text",
        ),
    ] = None
    split: Annotated[str | None, Option("Split to train on.", default="train", panel="Training text")] = None
    column: Annotated[
        str | None,
        Option(
            "Column that holds the text.",
            default="text, or the only one that is plainly text",
            panel="Training text",
        ),
    ] = None
    tokenizer: Annotated[
        str | None,
        Option(
            "Model whose tokenizer to use, hub id or directory.",
            default="one trained on the text",
            panel="Training text",
        ),
    ] = None
    vocab_size: Annotated[
        int,
        Option(
            "Vocabulary size of the tokenizer that is trained.",
            flags=("--vocab",),
            at_least=258,
            default="4096",
            panel="Training text",
        ),
    ] = 4096
    hidden: Annotated[
        int,
        Option(
            "Width of the residual stream, a multiple of 8; that of the feed-forward part is 8/3 of it.",
            at_least=8,
            default="128",
            panel="Model",
        ),
    ] = 128
    layers: Annotated[int, Option("Number of blocks.", at_least=1, default="12", panel="Model")] = 12
    heads: Annotated[
        int,
        Option(
            "Attention heads.", at_least=1, default="4; from a width of 512, one for each 64", panel="Model"
        ),
    ] = 4
    feedforward: int = 344
    tie_embeddings: bool = True
    context_tokens: Annotated[
        int,
        Option(
            "Tokens in a sequence.",
            flags=("--seq-len",),
            at_least=2,
            at_most=2**20,
            default="256",
            panel="Training text",
        ),
    ] = 256
    steps: Annotated[int, Option("Optimiser steps.", at_least=1, default="2000", panel="Training")] = 2000
    batch_samples: Annotated[
        int,
        Option(
            "Sequences in a step, over all processes.",
            flags=("--batch",),
            at_least=1,
            default="16",
            panel="Training",
        ),
    ] = 16
    learning_rate: Annotated[
        float, Option("Peak learning rate.", flags=("--lr",), at_least=0, default="0.002", panel="Training")
    ] = 2e-3
    final_learning_rate_share: float = 0.1
    warmup_steps: Annotated[
        int,
        Option(
            "Steps until the peak learning rate is reached.",
            flags=("--warmup",),
            at_least=0,
            default="a fifth of the steps; presets a tenth",
            panel="Training",
        ),
    ] = 400
    adam_beta2: float = 0.95
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    precision: Annotated[
        Literal["bfloat16", "float32"],
        Option(
            "Precision of the forward and backward passes; the weights are trained in float32.",
            default="bfloat16",
            panel="Training",
        ),
    ] = "bfloat16"
    seed: Annotated[
        int,
        Option(
            "Seed of the initial weights and of the data's order.",
            at_least=0,
            at_most=MOST_SEED,
            panel="Training",
        ),
    ] = 0

    def parameters(self) -> int:
        """Return how many parameters the model has; without its vocabulary if a tokenizer brings that."""
        block = 4 * self.hidden**2 + 3 * self.hidden * self.feedforward + 2 * self.hidden
        tables = 0 if self.tokenizer else self.vocab_size * self.hidden * (1 if self.tie_embeddings else 2)
        return self.layers * block + tables + self.hidden

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
