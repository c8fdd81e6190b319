import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from depthprobe.errors import AnatomyError
from depthprobe.models.anatomy.anatomy import describe_anatomy
from support import tiny

EXPECTED = {
    "llama": ("model.layers", "model.embed_tokens", "model.norm", "lm_head", "pre"),
    "qwen3": ("model.layers", "model.embed_tokens", "model.norm", "lm_head", "pre"),
    "gpt2": ("transformer.h", "transformer.wte", "transformer.ln_f", "lm_head", "pre"),
    "gpt_neox": ("gpt_neox.layers", "gpt_neox.embed_in", "gpt_neox.final_layer_norm", "lm_head", "pre"),
    "opt": (
        "model.decoder.layers",
        "model.decoder.embed_tokens",
        "model.decoder.final_layer_norm",
        "lm_head",
        "pre",
    ),
    "bloom": ("transformer.h", "transformer.word_embeddings", "transformer.ln_f", "lm_head", "pre"),
    "gemma2": ("model.layers", "model.embed_tokens", "model.norm", "lm_head", "sandwich"),
    "olmo2": ("model.layers", "model.embed_tokens", "model.norm", "lm_head", "branch-post"),
    "granite": ("model.layers", "model.embed_tokens", "model.norm", "lm_head", "pre"),
    "mixtral": ("model.layers", "model.embed_tokens", "model.norm", "lm_head", "pre"),
    "mamba": ("backbone.layers", "backbone.embeddings", "backbone.norm_f", "lm_head", "pre"),
    "bert": (
        "bert.encoder.layer",
        "bert.embeddings.word_embeddings",
        None,
        "cls.predictions.decoder",
        "post",
    ),
    "roberta": (
        "roberta.encoder.layer",
        "roberta.embeddings.word_embeddings",
        None,
        "lm_head.decoder",
        "post",
    ),
    "modernbert": ("model.layers", "model.embeddings.tok_embeddings", "model.final_norm", "decoder", "pre"),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("family", [*tiny.CAUSAL, *tiny.MASKED])
def test_blocks_norms_and_ends_are_found_by_structure(family, dtype):
    anatomy = describe_anatomy(tiny.build(family).to(dtype))
    found = (anatomy.path, anatomy.embedding_path, anatomy.final_norm_path, anatomy.head_path)
    assert (*found, anatomy.norm_placement) == EXPECTED[family]
    assert anatomy.layers == 4 and anatomy.hidden == 32


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert"])
def test_the_backbone_runs_every_block_but_never_the_head(family):
    model = tiny.build(family)
    anatomy = describe_anatomy(model)
    ran = []
    anatomy.head.register_forward_hook(lambda *_: ran.append("head"))
    anatomy.blocks[-1].register_forward_hook(lambda *_: ran.append("last block"))
    anatomy.backbone(input_ids=torch.arange(6)[None])
    assert ran == ["last block"]


def test_looking_at_a_model_leaves_it_as_it_was():
    model = tiny.build("gpt2")
    ids = torch.arange(12).view(2, 6)
    before, hooks = model(ids).logits, count_hooks(model)
    describe_anatomy(model)
    assert torch.equal(model(ids).logits, before) and count_hooks(model) == hooks


def count_hooks(model):
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def test_a_decoy_list_of_the_same_length_is_not_taken():
    model = tiny.build("llama")
    model.vision_tower = nn.ModuleList(nn.Linear(200, 200) for _ in range(4))
    assert describe_anatomy(model).path == "model.layers"


def test_layers_that_differ_in_norm_placement_are_mixed():
    model = tiny.build("llama")

    class PostNorm(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.norm = nn.Linear(32, 32), nn.LayerNorm(32)

        def forward(self, hidden_states, **kwargs):
            return self.norm(hidden_states + self.linear(hidden_states))

    model.model.layers[2] = PostNorm()
    anatomy = describe_anatomy(model)
    assert anatomy.norm_placements == ("pre", "pre", "post", "pre")
    assert anatomy.norm_placement == "mixed"


def returning(block, change):
    forward = block.forward
    block.forward = lambda *args, **kwargs: change(forward(*args, **kwargs))


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (
            lambda m: m.model.layers[2].register_forward_pre_hook(lambda mod, a: (a[0] + 1, *a[1:])),
            "block 2 does not receive what block 1 returned",
        ),
        (lambda m: returning(m.model.layers[3], lambda out: out[:, :3]), r"not \[batch, token"),
        (
            lambda m: returning(m.model.embed_tokens, lambda out: out + out.mean(1, True)),
            "something ran before",
        ),
        (lambda m: setattr(m.config, "hidden_size", 16), "2 residual streams side by side"),
    ],
)
def test_a_stream_that_is_not_a_plain_chain_is_refused_with_the_reason(break_it, reason):
    model = tiny.build("llama")
    break_it(model)
    with pytest.raises(AnatomyError, match=reason):
        describe_anatomy(model)


def test_a_block_that_is_called_several_times_is_as_many_layers():
    model = tiny.build("llama")
    model.model.layers = nn.ModuleList([*model.model.layers, model.model.layers[1]])
    model.config.num_hidden_layers = 5
    anatomy = describe_anatomy(model)
    assert [site.call for site in anatomy.sites] == [0, 0, 0, 0, 1]
    assert anatomy.blocks[4] is anatomy.blocks[1]


@pytest.mark.parametrize(
    ("family", "branches"),
    [
        ("llama", [("attention", "self_attn", 1), ("feedforward", "mlp", 1)]),
        ("gpt_neox", [("attention", "attention", 1), ("feedforward", "mlp", 1)]),
        (
            "gemma2",
            [("attention", "post_attention_layernorm", 1), ("feedforward", "post_feedforward_layernorm", 1)],
        ),
        (
            "olmo2",
            [("attention", "post_attention_layernorm", 1), ("feedforward", "post_feedforward_layernorm", 1)],
        ),
        ("opt", [("attention", "self_attn", 1), ("feedforward", "fc2", 1)]),
        ("mamba", [("attention", "mixer", 1)]),
        ("bloom", [("attention", "self_attention", 1), ("feedforward", "mlp", 1)]),
        ("mixtral", [("attention", "self_attn", 1), ("feedforward", "mlp", 1)]),
        ("bert", None),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_what_blocks_add_is_found_by_the_identity(family, branches, dtype):
    anatomy = describe_anatomy(tiny.build(family).to(dtype))
    for inside in anatomy.insides:
        found = inside.branches and [(b.kind, b.path, b.scale) for b in inside.branches]
        assert found == branches


def test_a_scaled_branch_keeps_its_factor():
    config = AutoConfig.for_model("granite", **tiny.SHAPE, num_key_value_heads=2, residual_multiplier=0.22)
    anatomy = describe_anatomy(AutoModelForCausalLM.from_config(config).eval())
    assert all(b.scale == 0.22 for inside in anatomy.insides for b in inside.branches)


def test_a_model_without_blocks_is_refused():
    with pytest.raises(AnatomyError, match="Linear has no list of blocks"):
        describe_anatomy(nn.Linear(3, 3))
