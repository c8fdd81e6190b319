"""Tiny models in files that transformers does not write: GGUF as llama.cpp does, adapters as peft does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from support.tiny import build, tokenizer


def write_gguf(path: Path, quantised: bool = False, architecture: str = "llama") -> dict[str, torch.Tensor]:
    """Write the tiny Llama as GGUF, as llama.cpp's converter does; return the weights that it holds."""
    gguf = pytest.importorskip("gguf")
    model = build("llama")
    config, state = model.config, model.state_dict()
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_name("tiny")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0 if quantised else gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(128)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    core = json.loads(tokenizer().backend_tokenizer.to_str())["model"]
    words = sorted(core["vocab"], key=core["vocab"].__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words)
    writer.add_token_merges([" ".join(pair) for pair in core["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    names = {
        "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
        "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
        "model.layers": "blk",
    }  # fmt: skip
    held = dict(state)
    for key, tensor in state.items():
        name, array = key, tensor.numpy()
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        heads = {"q": config.num_attention_heads, "k": config.num_key_value_heads}.get(name[-8:-7])
        if "attn_q." in name or "attn_k." in name:  # llama.cpp turns pairs of rotary halves into neighbours
            array = array.reshape(heads, 2, -1, array.shape[1]).swapaxes(1, 2).reshape(array.shape)
        if quantised and array.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            packed = gguf.quants.quantize(np.ascontiguousarray(array), kind)
            back = gguf.quants.dequantize(packed, kind)
            if "attn_q." in name or "attn_k." in name:
                back = back.reshape(heads, -1, 2, array.shape[1]).swapaxes(1, 2).reshape(array.shape)
            held[key] = torch.from_numpy(np.ascontiguousarray(back))
            writer.add_tensor(name, packed, raw_dtype=kind)
        else:
            writer.add_tensor(name, np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return held


def save_lora(folder: Path, layers: int = 4, targets: tuple[str, ...] = ("q_proj", "down_proj")) -> Path:
    """Save a random LoRA of the tiny Llama, trained as it says on org/base; return the directory."""
    peft = pytest.importorskip("peft")
    torch.manual_seed(3)
    config = peft.LoraConfig(r=3, lora_alpha=7, target_modules=list(targets))
    adapted = peft.get_peft_model(build("llama", layers=layers), config)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    adapted.save_pretrained(folder)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": "org/base"}))
    return folder
