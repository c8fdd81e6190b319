import pytest
import tiny
import torch
from torch import nn

from depthprobe.errors import AnatomyError
from depthprobe.models.anatomy import describe_anatomy

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


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (
            lambda m: setattr(m.model, "layers", nn.ModuleList([*m.model.layers, m.model.layers[0]])),
            "once each",
        ),
        (lambda m: m.model.layers[1].register_forward_hook(lambda *a: None), None),
        (
            lambda m: m.model.layers[2].register_forward_pre_hook(lambda mod, a: (a[0] + 1, *a[1:])),
            "does not receive",
        ),
        (
            lambda m: m.model.layers[3].register_forward_hook(lambda mod, a, out: out[:, :3]),
            r"not \[batch, token",
        ),
    ],
)
def test_a_stream_that_is_no_plain_chain_is_refused_with_the_reason(break_it, reason):
    model = tiny.build("llama")
    model.config.num_hidden_layers = 5 if reason == "once each" else 4
    break_it(model)
    if reason is None:
        assert describe_anatomy(model).layers == 4
        return
    with pytest.raises(AnatomyError, match=reason):
        describe_anatomy(model)


def test_a_model_without_blocks_is_refused():
    with pytest.raises(AnatomyError, match="Linear has no list of blocks"):
        describe_anatomy(nn.Linear(3, 3))
