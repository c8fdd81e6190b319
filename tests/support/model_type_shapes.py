"""What makes each model type of transformers tiny: a table of fields, and what some types need besides."""

from __future__ import annotations

from typing import Any

COUNTS = (  # fields that say how many blocks there are
    "num_hidden_layers n_layer n_layers num_layers decoder_layers encoder_layers num_decoder_layers"
    " num_encoder_layers num_self_attends_per_block depth"
).split()

WIDTHS = {
    **dict.fromkeys("hidden_size d_model n_embd dim emb_dim d_latents decoder_hidden_size".split(), 32),
    **dict.fromkeys("embedding_size input_embedding_size output_embedding_size entity_emb_size".split(), 32),
    **dict.fromkeys("word_embed_proj_dim embedding_dim adapter_out_dim out_hidden_size".split(), 32),
    **dict.fromkeys("intermediate_size ffn_dim hidden_dim dff dim_ff d_inner ffn_hidden_size".split(), 64),
    **dict.fromkeys("encoder_ffn_dim decoder_ffn_dim feed_forward_size n_inner".split(), 64),
    **dict.fromkeys(
        "intermediate_size_mlp dense_intermediate_size prefix_dense_intermediate_size".split(), 64
    ),
    **dict.fromkeys(
        "moe_intermediate_size shared_expert_intermediate_size expert_ffn_hidden_size".split(), 32
    ),
    **dict.fromkeys("moe_shared_expert_intermediate_size shared_intermediate_size".split(), 32),
    **dict.fromkeys("shared_experts_intermediate_size router_hidden_size".split(), 32),
    **dict.fromkeys("vocab_size vocab_size_per_layer_input".split(), 300),
    **dict.fromkeys("max_position_embeddings n_positions n_ctx max_seq_len context_length".split(), 128),
    **dict.fromkeys("model_max_length max_source_positions max_target_positions".split(), 128),
}
HEADS = {
    **dict.fromkeys("num_attention_heads n_head n_heads num_heads attention_heads".split(), 4),
    **dict.fromkeys("encoder_attention_heads decoder_attention_heads num_encoder_attention_heads".split(), 4),
    **dict.fromkeys("num_decoder_attention_heads num_self_attention_heads".split(), 4),
    **dict.fromkeys("num_cross_attention_heads swa_num_attention_heads linear_num_heads".split(), 4),
    **dict.fromkeys("num_key_value_heads num_kv_heads swa_num_key_value_heads kv_n_heads".split(), 2),
    **dict.fromkeys("head_dim swa_head_dim v_head_dim qk_nope_head_dim qk_rope_head_dim d_head".split(), 8),
    **dict.fromkeys("dim_head kv_channels attention_head_size rotary_dim linear_head_dim".split(), 8),
    **dict.fromkeys("q_lora_rank kv_lora_rank gated_norm_rank o_lora_rank laurel_rank".split(), 16),
    **dict.fromkeys("global_head_dim num_global_key_value_heads".split(), 8),
    "query_pre_attn_scalar": 8,
    "o_groups": 2,
}
EXPERTS = {
    **dict.fromkeys("num_experts n_routed_experts num_local_experts moe_num_experts".split(), 4),
    **dict.fromkeys("num_experts_per_tok moe_topk moe_k num_experts_per_token top_k_experts".split(), 2),
    **dict.fromkeys("n_shared_experts num_shared_experts moe_num_shared_experts".split(), 1),
    **dict.fromkeys("first_k_dense_replace num_dense_layers".split(), 1),
    **dict.fromkeys("n_group topk_group num_expert_group".split(), 1),
    **dict.fromkeys("num_nextn_predict_layers num_mtp_layers".split(), 0),
    "zero_expert_num": 2,
}
MIXERS = {
    **dict.fromkeys("sliding_window sliding_window_size window_size local_attention".split(), 8),
    **dict.fromkeys(
        "attention_window_size attention_chunk_size attention_window keep_window_size".split(), 8
    ),
    "local_attention_window_len": 8,
    # Longer than any text: the scores of tiny random indexers tie, and ties are broken by the length.
    "index_topk": 64,
    **dict.fromkeys("index_n_heads linear_num_key_heads".split(), 2),
    **dict.fromkeys("index_head_dim linear_key_head_dim linear_value_head_dim".split(), 8),
    **dict.fromkeys("chunk_size mamba_chunk_size block_size".split(), 8),
    **dict.fromkeys("mamba_n_heads mamba_num_heads linear_num_value_heads n_mamba_heads".split(), 4),
    **dict.fromkeys("mamba_d_head mamba_head_dim".split(), 16),
    **dict.fromkeys("mamba_d_state state_size ssm_state_size hidden_size_per_layer_input d_rel".split(), 8),
    **dict.fromkeys("n_groups mamba_n_groups".split(), 2),
    **dict.fromkeys("mamba_d_ssm".split(), 64),
    **dict.fromkeys("local_attn_chunk_length lsh_attn_chunk_length".split(), 8),
    **dict.fromkeys("segment_means_seq_len num_landmarks".split(), 8),
    "rel_extent": 16,
    "hc_sinkhorn_iters": 3,
    "embedding_rank": 16,
    "original_max_position_embeddings": 128,
}
TOKENS = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1, "cls_token_id": 0, "sep_token_id": 1}
TOKENS |= dict.fromkeys("bos_index decoder_start_token_id forced_eos_token_id".split(), 0)
TOKENS |= {"eos_index": 1, "pad_index": 1, "eod_token_id": 1, "unk_index": 3, "mask_token_id": 4}

FIELDS: dict[str, Any] = WIDTHS | HEADS | EXPERTS | MIXERS | TOKENS

# fields that are set even if their default is None
EVEN_NONE = set(TOKENS) | set(
    "num_key_value_heads num_kv_heads intermediate_size head_dim vocab_size".split()
)

# sub-configurations other than the language model's: one layer, small pictures
TOWER: dict[str, Any] = {
    "image_size": 32,
    "patch_size": 16,
    "num_mel_bins": 16,
    "num_global_layers": 1,
}

S, F, L, X = "sliding_attention", "full_attention", "linear_attention", "indexed_attention"
SLIDING = {"layer_types": (S, F)}
SPARSE = {"mlp_layer_types": ("dense", "sparse")}
LINEAR = {"layer_types": (L, F)}

# model type -> fields that cycle through kinds of blocks, so that every kind comes up
CYCLES: dict[str, dict[str, tuple[str, ...]]] = {
    **dict.fromkeys("dots1 gemma3_text gemma4_text gemma4_unified_text kolibri1 neomme".split(), SLIDING),
    **dict.fromkeys("gemma3n_text laguna mellum cohere_compass_text".split(), SLIDING),
    **dict.fromkeys("bailing_hybrid granitemoehybrid kimi_linear olmo_hybrid".split(), LINEAR),
    **dict.fromkeys("lfm2 lfm2_moe".split(), {"layer_types": ("conv", F)}),
    # Zamba ties the transformer of its hybrid blocks in a way that wants two of them: three layers at least.
    **dict.fromkeys("zamba zamba2".split(), {"layers_block_type": ("hybrid", L)}),
    **dict.fromkeys("inkling2_text zaya".split(), {"layer_types": ("hybrid_sliding", "hybrid")}),
    "beam": SLIDING | SPARSE,
    "deepseek_v4": {
        "layer_types": (S, "heavily_compressed_attention", "compressed_sparse_attention"),
        "mlp_layer_types": ("hash_moe", "moe"),
    },
    "dots3_note_text": {"layer_types": (S, X)} | SPARSE,
    "glm_moe_dsa": {"indexer_types": ("full", "shared")},
    "inkling_text": {"layer_types": ("hybrid_sliding", "hybrid")} | SPARSE,
    "lfm3": {"layer_types": ("conv", S, F)},
    "minimax_m3_vl_text": {"layer_types": (F, "minimax_m3_sparse")} | SPARSE,
    "nemotron_h": {"layers_block_type": (L, "moe", F, "mlp")},
    "qwen4_exp_text": {"layer_types": (L, X)},
    "recurrent_gemma": {"block_types": ("recurrent", "attention")},
    "reformer": {"attn_layers": ("local", "lsh")},
}


def half(layers: int) -> int:
    """Return the number of layers in the upper half that share what lower ones made, none where too few."""
    return layers // 2 if layers > 3 else 0


MUSICGEN = {
    "text_encoder": {
        "model_type": "t5",
        "num_layers": 1,
        "d_model": 32,
        "d_ff": 32,
        "d_kv": 8,
        "num_heads": 4,
    },
    "audio_encoder": {"model_type": "encodec", "num_filters": 4, "hidden_size": 8, "codebook_dim": 8},
    "decoder": {"num_codebooks": 1},
}

# model type -> fields of its configuration; a function is given the number of layers
TYPES: dict[str, dict[str, Any]] = {
    "axk1": {"n_group": 2, "topk_group": 1},
    "bamba": {"attn_layer_indices": lambda layers: list(range(1, layers, 2))},
    "blt": {
        "encoder_hash_byte_group_vocab": 64,
        "global_config": {"num_hidden_layers": lambda layers: layers},
    },
    **dict.fromkeys("blt_local_encoder blt_local_decoder".split(), {"hidden_size_global": 64}),
    "blt_global_transformer": {"hidden_size": 64, "intermediate_size": 64},
    "cohere_compass_text": {
        "rope_parameters": {
            F: {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]},
            S: {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]},
        }
    },
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 1e4},
        "ffn_config": {"ffn_hidden_size": 32, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "deepseek_v2": {"num_experts_per_tok": 2},
    "deepseek_v4": {"compress_rates": {"compressed_sparse_attention": 2, "heavily_compressed_attention": 4}},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "dots3_note_text": {
        **{f"swa_{name}": 4 for name in ("num_attention_heads", "num_key_value_heads")},
        **{f"swa_{name}": 16 for name in ("q_lora_rank", "kv_lora_rank", "head_dim")},
        **{f"swa_{name}": 8 for name in ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")},
    },
    "dots3_note_audio_encoder": {"adapter_input_size": 32, "downsample_hidden_size": 8, "feature_size": 16},
    "dots3_note_vision_encoder": {"adapter_in_dim": 32, "mlp_layer_types": ["dense"]},
    "esm": {"mask_token_id": 4},
    "esmc": {"num_key_value_heads": 4},
    "funnel": {
        "block_sizes": lambda layers: [1, max(1, layers - 3)],
        "num_decoder_layers": 2,
    },
    "gemma3n_text": {
        "num_kv_shared_layers": half,
        "activation_sparsity_pattern": lambda layers: [0.95] + [0.0] * (layers - 1),
    },
    "gemma4_audio": {"output_proj_dims": 32, "subsampling_conv_channels": [8, 8]},
    "gemma4_text": {"num_kv_shared_layers": half, "global_head_dim": 16},
    "gemma4_unified_text": {"num_kv_shared_layers": half, "global_head_dim": 16},
    "gemma4_vision": {"position_embedding_size": 64},
    "gemma4_unified_vision": {"mm_embed_dim": 32, "mm_posemb_size": 16, "output_proj_dims": 32},
    "got_ocr2": {"vision_config": {"mlp_dim": 32, "output_channels": 16}},
    "gpt_neo": {
        "attention_types": lambda layers: [[["global", "local"], layers // 2], [["global"], layers % 2]],
    },
    "hrm_text": {"num_hidden_layers": lambda layers: max(1, layers // 2), "embedding_scale": 1.0},
    "inkling2_text": {"unpadded_vocab_size": 300, "n_layers_per_attn_res_block": 2},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "lfm2": {"block_multiple_of": 8},
    "luke": {"entity_vocab_size": 20},
    "mamba2": {"head_dim": 16},
    "minimax_m3_vl_text": {"index_block_size": 4, "index_topk_blocks": 2},
    "musicgen": MUSICGEN,
    "musicgen_melody": MUSICGEN,
    "mllama_text_model": {"cross_attention_layers": [1]},
    "mobilebert": {"embedding_size": 16, "intra_bottleneck_size": 16},
    "neomme": {"head_dim": 16},
    "perceiver": {"num_latents": 16},
    "phi4_multimodal_audio": dict.fromkeys(
        "nemo_conv_channels input_size ext_pw_out_channel depthwise_separable_out_channel".split(), 32
    )
    | {"num_blocks": 1},
    "phi4_multimodal_vision": {"crop_size": 32},
    "qwen2": {"use_sliding_window": True, "max_window_layers": half},
    "qwen2_moe": {"use_sliding_window": True},
    "qwen4_exp_text": {
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 8,
        "indexer_budget": 4,
        "indexer_compress_ratio": 2,
        "ple_layer_ids": [1],
        "heads_per_ngram": 2,
        "ngram_vocab_size_base": 64,
        "make_ngram_vocab_size_divisible_by": 8,
        "split_ngram_parts": 2,
        "hc_lowrank": 16,
    },
    "reformer": {
        "axial_pos_shape": (8, 16),
        "axial_pos_embds_dim": (16, 16),
        "num_buckets": 4,
        "hash_seed": 0,
    },
    "roc_bert": dict.fromkeys("pronunciation_vocab_size shape_vocab_size".split(), 50)
    | dict.fromkeys("pronunciation_embed_dim shape_embed_dim".split(), 32),
    "xmod": {"default_language": "en_XX"},
    "zamba2": {"num_mem_blocks": 1, "adapter_rank": 8},
    "zaya": {"num_experts_per_tok": 1, "sliding_window": 8},
}

# model type -> the part of its configuration that its language model is built from
PARTS: dict[str, str] = {"musicgen": "decoder", "musicgen_melody": "decoder"}

# parameters whose sign or order means something: they stay as the family initialises them
KEPT = tuple("A_log dt_bias time_decay time_first time_mix_key time_mix_value time_mix_receptance".split())
KEPT += ("recurrent_param",)

# model type -> why no language model of it is built here
UNBUILDABLE: dict[str, str] = {
    "gemma3n": "its vision tower is a timm model, and timm is not installed",
    **dict.fromkeys(
        ("gemma4_assistant", "gemma4_unified_assistant"),
        "it drafts for another Gemma 4 and reads that model's keys and values, not tokens",
    ),
}
