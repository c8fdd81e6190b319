"""Tiny random models of several families and tokenizers for them, built offline in a moment."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, PreTrainedTokenizerFast

WORDS = "the stream of a deep model turns less and less while layer after layer adds its part to it".split()

SHAPE = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}

# model_type -> what its configuration calls differently
CAUSAL = {
    "llama": {"num_key_value_heads": 2},
    "qwen3": {"num_key_value_heads": 2, "head_dim": 8},
    "gpt2": {"n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 128},
    "gpt_neox": {},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "bloom": {"n_layer": 4, "n_head": 4},
    "gemma2": {"num_key_value_heads": 2, "head_dim": 8},
    "olmo2": {"num_key_value_heads": 2},
    "granite": {"num_key_value_heads": 2},
    "mixtral": {"num_key_value_heads": 2, "num_local_experts": 2},
    "mamba": {"state_size": 4},
}
MASKED = {"bert": {}, "roberta": {}, "modernbert": {"cls_token_id": 0, "sep_token_id": 1}}


def build(model_type: str, seed: int = 0, layers: int = 4) -> torch.nn.Module:
    """Return a random model in float32, weights large enough that every block really turns the stream."""
    masked = model_type in MASKED
    shape = SHAPE | (MASKED | CAUSAL)[model_type]
    for name in ("num_hidden_layers", "n_layer"):
        if name in shape:
            shape[name] = layers
    config = AutoConfig.for_model(model_type, **shape)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = (AutoModelForMaskedLM if masked else AutoModelForCausalLM).from_config(config).eval()
        enlarge(model)
    return model


def enlarge(model: torch.nn.Module) -> None:
    """Give a model random weights with which every block really turns the stream, from torch's own state."""
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.15)
        else:
            parameter.data += 0.1 * torch.randn_like(parameter)


def sentences(count: int, seed: int = 0, words: tuple[int, int] = (3, 40)) -> list[str]:
    """Return sentences of random words and lengths."""
    generator = random.Random(seed)
    return [" ".join(generator.choices(WORDS, k=generator.randint(*words))) for _ in range(count)]


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer that puts ``<s>`` first."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.train_from_iterator(
        sentences(50),
        trainers.BpeTrainer(
            vocab_size=SHAPE["vocab_size"],
            special_tokens=["<s>", "</s>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="</s>")


def save(directory: Path, model_type: str = "llama", seed: int = 0, layers: int = 4) -> Path:
    """Save a model and its tokenizer as anybody's checkpoint; return the directory."""
    build(model_type, seed, layers).save_pretrained(directory)
    tokenizer().save_pretrained(directory)
    return directory
