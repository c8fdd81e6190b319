"""Interventions: right while they last, and gone without a trace."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from depthprobe.models.anatomy.anatomy import describe_anatomy
from depthprobe.models.anatomy.block_sites import Site
from depthprobe.models.intervene import delete_blocks, discard_blocks, replay_stream, skip_blocks
from support import tiny

KINDS = ["llama", "gpt2", "opt", "bloom", "mixtral", "mamba", "gemma2"]
IDS = torch.arange(5, 35).view(2, 15)


def gemma3():
    types = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]
    own = {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 6, "layer_types": types}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(
            AutoConfig.for_model("gemma3_text", **tiny.SHAPE | own)
        ).eval()


def build(kind):
    return gemma3() if kind == "gemma3_text" else tiny.build(kind)


@torch.no_grad()
def logits_of(model, **options):
    return model(input_ids=IDS, use_cache=False, **options).logits


def state_of(model):
    """Return all that an intervention could leave changed."""
    attributes = {}
    for name, module in model.named_modules():
        plain = {k: copy.copy(v) for k, v in vars(module).items() if isinstance(v, (int, str, list, tuple))}
        attributes[name] = (plain, list(module._modules), "forward" in vars(module), type(module))
        assert not module._forward_hooks and not module._forward_pre_hooks
    config = model.config
    return attributes, config.to_dict(), type(config), dict(vars(config))


def managers(model, anatomy):
    stream = torch.zeros(2, 15, anatomy.hidden)
    return {
        "skip": skip_blocks(anatomy, [0, 2]),
        "discard": discard_blocks(anatomy, [0, 2]),
        "delete": delete_blocks(model, anatomy, [0, 2]),
        "replay": replay_stream(anatomy, 1, stream),
    }


@pytest.mark.parametrize("kind", [*KINDS, "gemma3_text"])
@pytest.mark.parametrize("layers", [[0], [1], [3], [0, 1], [0, 2]])
def test_skipping_discarding_and_deleting_agree_bit_for_bit(kind, layers):
    model = build(kind)
    anatomy = describe_anatomy(model)
    with delete_blocks(model, anatomy, layers):
        truth = logits_of(model)
    assert not torch.equal(truth, logits_of(model))
    with skip_blocks(anatomy, layers):
        torch.testing.assert_close(logits_of(model), truth, rtol=0, atol=0)
    with discard_blocks(anatomy, layers):
        torch.testing.assert_close(logits_of(model), truth, rtol=0, atol=0)


@pytest.mark.parametrize("way", ["skip", "discard", "delete", "replay"])
@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma3_text", "mamba"])
@pytest.mark.parametrize("raises", [False, True])
def test_the_model_comes_back_the_same_also_when_the_body_raises(way, kind, raises):
    model = build(kind)
    anatomy = describe_anatomy(model)
    before, state = logits_of(model), state_of(model)
    blocks = model.get_submodule(anatomy.path)
    manager = managers(model, anatomy)[way]
    if raises:
        with pytest.raises(ZeroDivisionError), manager:
            raise ZeroDivisionError
    else:
        with manager:
            changed = logits_of(model)
        assert not torch.equal(changed, before)
    torch.testing.assert_close(logits_of(model), before, rtol=0, atol=0)
    assert state_of(model) == state
    assert model.get_submodule(anatomy.path) is blocks and tuple(blocks) == anatomy.blocks


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gpt2", "gemma3_text"])
@pytest.mark.parametrize("layer", [0, 2, 3])
def test_cached_generation_with_a_discarded_block_is_that_of_a_deleted_one(kind, layer):
    model = build(kind)
    anatomy = describe_anatomy(model)
    mask = torch.ones_like(IDS)
    mask[0, :4] = 0  # left padding, where a passed-through first block would go wrong
    options = {"attention_mask": mask, "max_new_tokens": 12, "do_sample": False, "pad_token_id": 1}
    with delete_blocks(model, anatomy, [layer]):
        truth = model.generate(IDS, **options)
    with discard_blocks(anatomy, [layer]):
        assert torch.equal(model.generate(IDS, **options), truth)


def test_a_replayed_stream_gives_the_whole_models_logits():
    model = tiny.build("llama")
    anatomy = describe_anatomy(model)
    kept = []
    handle = anatomy.blocks[1].register_forward_hook(lambda module, args, output: kept.append(output))
    truth = logits_of(model)
    handle.remove()
    with replay_stream(anatomy, 1, kept[0]):
        torch.testing.assert_close(logits_of(model), truth, rtol=0, atol=0)


class _Block(nn.Module):
    """Returns more than the stream, and adds to its input in place."""

    def __init__(self, size):
        super().__init__()
        self.linear = nn.Linear(size, size)

    def forward(self, x):
        x += self.linear(x)
        return x, None, x.mean()


class _Tuples(nn.Module):
    def __init__(self):
        super().__init__()
        self.config = SimpleNamespace(num_hidden_layers=3, get_text_config=lambda **_: None)
        self.embed = nn.Embedding(300, 8)
        self.layers = nn.ModuleList(_Block(8) for _ in range(3))

    def forward(self, input_ids, attention_mask=None):
        x = self.embed(input_ids)
        for layer in self.layers:
            x = layer(x)[0]
        return x


def test_blocks_that_return_tuples_and_work_in_place_can_be_left_out():
    torch.manual_seed(0)
    model = _Tuples().eval()
    sites = tuple(Site(block, index, 0, (0,), (0,)) for index, block in enumerate(model.layers))
    anatomy = SimpleNamespace(sites=sites, layers=3, backbone=model, embedding=model.embed, path="layers")
    with torch.no_grad():
        truth = model.layers[2](model.layers[0](model.embed(IDS))[0])[0]
        with skip_blocks(anatomy, [1]):
            torch.testing.assert_close(model(IDS), truth, rtol=0, atol=0)
        with discard_blocks(anatomy, [1]):
            torch.testing.assert_close(model(IDS), truth, rtol=0, atol=0)
