"""Meta's original Llama checkpoints, converted in memory to transformers' LlamaForCausalLM.

A directory in this layout holds ``params.json``, ``consolidated.NN.pth`` (one for each rank of the
model-parallel group that the model was trained with) and ``tokenizer.model``. Only one tensor at a time is
held twice: the files are memory-mapped, and every merged tensor goes to its device before the next is read.

Source: the reference implementations meta-llama/llama (Llama 1, 2) and meta-llama/llama-models (Llama 3.x).
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import dispatch_model, infer_auto_device_map, init_empty_weights
from accelerate.utils import set_module_tensor_to_device
from tokenizers import AddedToken
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from depthprobe.errors import LoadError
from depthprobe.models.loading.hub_errors import explain_load_error

# Meta's name -> transformers' name and the axis along which ranks split the tensor (Megatron: projections
# into heads and feed-forward units by output rows, those back into the stream by input columns).
# None: every rank holds the whole tensor. The embedding's axis differs between generations: by shape.
BLOCK_TENSORS: dict[str, tuple[str, int | None]] = {
    "attention.wq.weight": ("self_attn.q_proj.weight", 0),
    "attention.wk.weight": ("self_attn.k_proj.weight", 0),
    "attention.wv.weight": ("self_attn.v_proj.weight", 0),
    "attention.wo.weight": ("self_attn.o_proj.weight", 1),
    "feed_forward.w1.weight": ("mlp.gate_proj.weight", 0),
    "feed_forward.w2.weight": ("mlp.down_proj.weight", 1),
    "feed_forward.w3.weight": ("mlp.up_proj.weight", 0),
    "attention_norm.weight": ("input_layernorm.weight", None),
    "ffn_norm.weight": ("post_attention_layernorm.weight", None),
}

LLAMA_3_SPECIAL_TOKENS = 256  # the reference tokenizer appends this many names to the tiktoken ranks


def is_original_layout(folder: Path) -> bool:
    """Return whether a directory holds a checkpoint as Meta released it."""
    return (folder / "params.json").is_file() and any(folder.glob("consolidated.*.pth"))


def weight_files(folder: Path) -> list[Path]:
    """Return the shards in the order of their ranks."""
    return sorted(folder.glob("consolidated.*.pth"))


def stored_dtype(folder: Path) -> torch.dtype:
    """Return the dtype of the weights on disk.

    Raises:
        LoadError: If the first shard cannot be read.
    """
    return next(iter(_open_shard(weight_files(folder)[0]).values())).dtype


def load_model(folder: Path, dtype: torch.dtype, device: torch.device | None) -> LlamaForCausalLM:
    """Return the model of an original checkpoint, in ``dtype``, on ``device``.

    Args:
        folder: Directory with params.json and the shards.
        dtype: Of the weights in memory.
        device: Where they go; None splits them over every device that accelerate finds.

    Raises:
        LoadError: If a file is damaged or missing, or the shapes contradict params.json.
    """
    shards = open_shards(folder)
    config = read_config(folder, shards)
    config.dtype = dtype
    with init_empty_weights():  # no memory for parameters yet; buffers (the rotary table) are computed
        model = LlamaForCausalLM(config)
    model.tie_weights()
    expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
    device_map: dict[str, Any] = {"": device}
    if device is None:
        device_map = infer_auto_device_map(model, no_split_module_classes=["LlamaDecoderLayer"], dtype=dtype)
        if "disk" in device_map.values():
            hint = "Use a smaller --dtype or a smaller model."
            raise LoadError(f"{folder.name} fits neither the GPUs nor the main memory.", hint)
    for name, tensor in _merged_tensors(shards, config, folder):
        if expected.get(name) != tensor.shape:
            raise LoadError(
                f"{folder.name}: {name} has shape {tuple(tensor.shape)} where params.json asks for "
                f"{tuple(expected.get(name, ()))}.",
                "Check that params.json and all consolidated.*.pth come from one download.",
            )
        set_module_tensor_to_device(model, name, _place(name, device_map), value=tensor, dtype=dtype)
    model.tie_weights()
    return model.to(device).eval() if device is not None else dispatch_model(model, device_map).eval()


def open_shards(folder: Path) -> list[dict[str, torch.Tensor]]:
    """Return the tensors of every shard of an original checkpoint, by name."""
    return [_open_shard(path) for path in weight_files(folder)]


def read_config(folder: Path, shards: list[dict[str, torch.Tensor]]) -> LlamaConfig:
    """Return transformers' configuration from params.json and, where that is silent, from the shapes.

    ``vocab_size`` is -1 in Llama 2 (left to the tokenizer) and the feed-forward width is not stated: both
    are read off the tensors, which also covers ``multiple_of`` and ``ffn_dim_multiplier``.

    Raises:
        LoadError: If params.json is not JSON or lacks a field.
    """
    try:
        params = json.loads((folder / "params.json").read_text(encoding="utf-8"))
        width, heads, layers = int(params["dim"]), int(params["n_heads"]), int(params["n_layers"])
        kv_heads = int(params.get("n_kv_heads") or heads)  # absent without grouped queries
        rope_theta = float(params.get("rope_theta", 10000.0))
        norm_eps = float(params.get("norm_eps", 1e-5))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LoadError(
            f"params.json in {folder.name} is damaged or lacks a field ({error}).", "Download the file again."
        ) from error
    if "moe" in params or "moe_args" in params:
        problem = f"{folder.name} is a mixture of experts in Meta's layout, which is not supported."
        raise LoadError(problem, "Use its repository in transformers' layout.")
    tied = "output.weight" not in shards[0]
    embeddings = [_shard_tensor(shard, "tok_embeddings.weight", folder) for shard in shards]
    by_vocab = _embedding_axis(embeddings, width) == 0
    vocab = sum(part.shape[0] for part in embeddings) if by_vocab else embeddings[0].shape[0]
    feed_forward = sum(_shard_tensor(s, "layers.0.feed_forward.w1.weight", folder).shape[0] for s in shards)
    context, rope = _positions(params, rope_theta, width)
    llama_3 = vocab > 100_000  # 32,000 pieces before, 128,256 since
    return LlamaConfig(
        vocab_size=vocab,
        hidden_size=width,
        intermediate_size=feed_forward,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=context,
        rms_norm_eps=norm_eps,
        rope_parameters=rope,
        tie_word_embeddings=tied,
        bos_token_id=128000 if llama_3 else 1,
        eos_token_id=128001 if llama_3 else 2,
        architectures=["LlamaForCausalLM"],
    )


def _positions(params: dict[str, Any], rope_theta: float, width: int) -> tuple[int, dict[str, Any]]:
    """Return the context length and the rotary settings, neither of which params.json states in full.

    Source: the model cards (Llama 1: 2048, Llama 2: 4096, Code Llama with theta 1e6: 16384, Llama 3:
    8192, 3.1 and later: 131072) and the frequency scaling of Llama 3.1, whose factor is 8, for the small
    models of 3.2 (1B and 3B, width up to 3072) 32.
    """
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": rope_theta}
    if params.get("use_scaled_rope"):
        rope |= {
            "rope_type": "llama3",
            "factor": float(params.get("rope_scaling_factor") or (32.0 if width <= 3072 else 8.0)),
            "low_freq_factor": 1.0,
            "high_freq_factor": float(params.get("rope_high_freq_factor") or 4.0),
            "original_max_position_embeddings": 8192,
        }
        return 131072, rope
    if rope_theta >= 1_000_000:
        return 16384, rope
    if rope_theta >= 500_000:
        return 8192, rope
    # Nothing in params.json says Llama 1, but its 7B to 30B have eps 1e-6 (Llama 2: 1e-5), and beyond a width
    # of 5120 Llama 2 always groups its queries.
    llama_1 = float(params.get("norm_eps", 1e-5)) < 5e-6 or (width > 5120 and not params.get("n_kv_heads"))
    return (2048 if llama_1 else 4096), rope


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Return the tokenizer of an original checkpoint; it puts the beginning-of-sequence token first.

    Meta's downloads keep one ``tokenizer.model`` beside the directories of all sizes, so the parent
    directory is searched too.

    Raises:
        LoadError: If the file is missing, damaged, or needs a package that is not installed.
    """
    places = (folder / "tokenizer.model", folder.parent / "tokenizer.model")
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        hint = "Put the tokenizer.model that came with the weights beside them."
        raise LoadError(f"{folder.name} has no tokenizer.model.", hint)
    try:
        with path.open("rb") as file:
            is_tiktoken = re.match(rb"[A-Za-z0-9+/=]+ \d+\r?\n", file.readline()) is not None
        if is_tiktoken:
            return _tiktoken_tokenizer(path)
        _check_sentencepiece(path)
        # Without add_bos_token transformers' class omits BOS when it is built from tokenizer.model.
        return LlamaTokenizer.from_pretrained(path.parent, add_bos_token=True)
    except (OSError, ValueError, ImportError, RuntimeError, KeyError) as error:
        raise explain_load_error(error, folder.name, "tokenizer") from error


def _check_sentencepiece(path: Path) -> None:
    """Raise if a file is not a sentencepiece model: transformers would guess another format and go on."""
    from sentencepiece import SentencePieceProcessor

    SentencePieceProcessor(model_file=str(path))


def _tiktoken_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """Return Llama 3's tokenizer from its tiktoken ranks.

    Source: meta-llama/llama-models, models/llama3/tokenizer.py: the names below take the ids after the
    ranks, in this order, padded with reserved names to 256.
    """
    from transformers.convert_slow_tokenizer import TikTokenConverter

    names = (
        "begin_of_text end_of_text reserved_special_token_0 reserved_special_token_1 finetune_right_pad_id"
    )
    names += " step_id start_header_id end_header_id eom_id eot_id python_tag image"
    special = [f"<|{name}|>" for name in names.split()]
    special += [f"<|reserved_special_token_{2 + i}|>" for i in range(LLAMA_3_SPECIAL_TOKENS - len(special))]
    converted = TikTokenConverter(vocab_file=str(path), extra_special_tokens=special).converted()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=converted,
        bos_token=AddedToken("<|begin_of_text|>", special=True),
        eos_token=AddedToken("<|end_of_text|>", special=True),
        model_input_names=["input_ids", "attention_mask"],
        add_bos_token=True,
    )
    tokenizer.update_post_processor()
    return tokenizer


def _open_shard(path: Path) -> dict[str, torch.Tensor]:
    """Return one shard's tensors, memory-mapped: nothing is read before it is used.

    Raises:
        LoadError: If the file is truncated or not a torch file.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise LoadError(
            f"{path.name} in {path.parent.name} is truncated or damaged.", "Download the file again."
        ) from error


def _shard_tensor(shard: dict[str, torch.Tensor], name: str, folder: Path) -> torch.Tensor:
    """Return a tensor of a shard by Meta's name; LoadError if it is not there."""
    try:
        return shard[name]
    except KeyError as error:
        hint = "Check that all its files come from one download."
        raise LoadError(f"The checkpoint in {folder.name} has no tensor {name}.", hint) from error


def _embedding_axis(parts: list[torch.Tensor], width: int) -> int:
    """Return the axis along which ranks split the embedding: hidden in Llama 1 and 2, vocab since Llama 3."""
    return 0 if parts[0].shape[1] == width else 1


def _merge(parts: list[torch.Tensor], axis: int | None) -> torch.Tensor:
    """Return the whole tensor from the ranks' parts."""
    return parts[0] if axis is None or len(parts) == 1 else torch.cat(parts, dim=axis)


def _merged_tensors(
    shards: list[dict[str, torch.Tensor]], config: LlamaConfig, folder: Path
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield transformers' names with whole tensors, one at a time."""

    def whole(name: str, axis: int | None) -> torch.Tensor:
        return _merge([_shard_tensor(shard, name, folder) for shard in shards], axis)

    embeddings = [_shard_tensor(shard, "tok_embeddings.weight", folder) for shard in shards]
    yield "model.embed_tokens.weight", _merge(embeddings, _embedding_axis(embeddings, config.hidden_size))
    for layer in range(config.num_hidden_layers):
        for original, (name, axis) in BLOCK_TENSORS.items():
            tensor = whole(f"layers.{layer}.{original}", axis)
            if original == "attention.wq.weight":
                tensor = halve_rotary_pairs(tensor, config.num_attention_heads)
            elif original == "attention.wk.weight":
                tensor = halve_rotary_pairs(tensor, config.num_key_value_heads)
            yield f"model.layers.{layer}.{name}", tensor
    yield "model.norm.weight", whole("norm.weight", None)
    if not config.tie_word_embeddings:
        yield "lm_head.weight", whole("output.weight", 0)


def halve_rotary_pairs(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Return a query or key projection whose rotary pairs are half a head apart.

    Meta rotates neighbouring rows (2i, 2i+1) of a head as one complex number, transformers rows i and
    i + head_dim/2: within each head the even rows come first, then the odd ones.

    Args:
        weight: [heads * head_dim, hidden], any dtype.
        heads: Attention heads the rows belong to (key-value heads for a key projection).
    """
    rows, hidden = weight.shape
    return weight.view(heads, rows // heads // 2, 2, hidden).transpose(1, 2).reshape(rows, hidden)


def _place(name: str, device_map: dict[str, Any]) -> Any:
    """Return the device of a parameter: that of the longest module path in the map that holds it."""
    prefix = max((path for path in device_map if not path or f"{name}.".startswith(f"{path}.")), key=len)
    return device_map[prefix]
