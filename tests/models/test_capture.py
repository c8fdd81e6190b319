import pytest
import torch

from depthprobe.models.anatomy.anatomy import describe_anatomy
from depthprobe.models.anatomy.stream import run_backbone
from depthprobe.models.capture import reading_branches, reading_stream
from support import model_types, tiny


def hooks_of(model):
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert", "bloom"])
def test_every_boundary_is_read_once_and_in_order(family):
    model = tiny.build(family)
    anatomy = describe_anatomy(model)
    ids = torch.arange(14).view(2, 7)
    seen = []
    with torch.no_grad(), reading_stream(anatomy, lambda boundary, stream: seen.append((boundary, stream))):
        states = anatomy.backbone(input_ids=ids, output_hidden_states=True).hidden_states
    assert [boundary for boundary, _ in seen] == [0, 1, 2, 3, 4]
    for boundary, stream in seen[:-1]:  # transformers' own last entry may be after the final norm
        assert torch.equal(stream, states[boundary])
    last = seen[-1][1] if anatomy.final_norm is None else anatomy.final_norm(seen[-1][1])
    assert torch.allclose(last, states[-1], atol=1e-6)


def test_the_model_is_the_same_again_also_when_the_body_raises():
    model = tiny.build("llama")
    anatomy = describe_anatomy(model)
    ids = torch.arange(6)[None]
    before, hooks = model(ids).logits, hooks_of(model)
    with pytest.raises(ZeroDivisionError), reading_stream(anatomy, lambda boundary, stream: 1 / 0):
        model(ids)
    assert hooks_of(model) == hooks and torch.equal(model(ids).logits, before)


def read_everything(model, ids):
    """Return the stream and the branches of one pass, in the order in which they came."""
    anatomy = describe_anatomy(model)
    seen = []

    def stream(boundary, stream):
        seen.append(("stream", boundary, stream.clone()))

    def branch(layer, kind, added):
        seen.append((kind, layer, added.clone()))

    with reading_stream(anatomy, stream), reading_branches(anatomy, branch):
        run_backbone(anatomy.backbone, ids, torch.ones_like(ids))
    return seen


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "opt", "bloom", "gemma2", "olmo2", "mixtral"])
def test_what_branches_add_comes_between_the_boundaries_and_is_their_difference(family):
    seen = read_everything(tiny.build(family), torch.arange(14).view(2, 7) + 5)
    assert [(what, layer) for what, layer, _ in seen] == [
        ("stream", 0),
        *(
            item
            for layer in range(4)
            for item in (("attention", layer), ("feedforward", layer), ("stream", layer + 1))
        ),
    ]
    for layer in range(4):
        before, attention, feedforward, after = (tensor for _, _, tensor in seen[3 * layer : 3 * layer + 4])
        assert attention.shape == feedforward.shape == before.shape == (2, 7, 32)
        torch.testing.assert_close(before + attention + feedforward, after, rtol=1e-5, atol=1e-5)


def test_a_scaled_branch_comes_scaled():
    model = tiny.build("granite")
    model.config.residual_multiplier = 0.22
    for block in model.model.layers:
        block.residual_multiplier = 0.22
    raw = []
    model.model.layers[0].mlp.register_forward_hook(lambda module, args, output: raw.append(output))
    seen = read_everything(model, torch.arange(6)[None])
    added = next(tensor for what, _, tensor in seen if what == "feedforward")
    torch.testing.assert_close(added, 0.22 * raw[-1])


@pytest.mark.parametrize("family", ["bloom", "granite"])
def test_what_is_computed_of_a_half_precision_branch_keeps_float32(family):
    model = tiny.build(family).bfloat16()
    model.config.residual_multiplier = 0.22
    for block in model.model.layers if family == "granite" else ():
        block.residual_multiplier = 0.22
    seen = read_everything(model, torch.arange(6)[None])
    assert {tensor.dtype for what, _, tensor in seen if what == "attention"} == {torch.float32}


def test_places_before_the_text_are_left_out_of_branches_too():
    # CPM-Ant sets 32 prompts of its own before the text.
    seen = read_everything(model_types.build("cpmant"), torch.arange(14).view(2, 7) + 5)
    assert {tuple(tensor.shape) for _, _, tensor in seen} == {(2, 7, 32)}
    x, attention, feedforward, y = (tensor for _, _, tensor in seen[:4])
    torch.testing.assert_close(x + attention + feedforward, y, rtol=1e-5, atol=1e-5)


def test_layers_without_branches_have_none():
    assert {what for what, _, _ in read_everything(tiny.build("bert"), torch.arange(6)[None])} == {"stream"}


def test_calls_of_a_module_shared_by_layers_are_distinguished_by_the_block_that_runs():
    model = tiny.build("llama")
    shared = model.model.layers[0].mlp
    model.model.layers[2].mlp = shared
    model.model.layers[3].mlp = torch.nn.Sequential(shared)  # here under another name
    seen = read_everything(model, torch.arange(6)[None])
    assert [layer for what, layer, _ in seen if what == "feedforward"] == [0, 1, 2, 3]


def test_no_hook_is_left_when_reading_branches_fails():
    model = tiny.build("llama")
    anatomy = describe_anatomy(model)
    ids = torch.arange(6)[None]
    before, hooks = model(ids).logits, hooks_of(model)
    with pytest.raises(ZeroDivisionError), reading_branches(anatomy, lambda layer, kind, added: 1 / 0):
        model(ids)
    assert hooks_of(model) == hooks and torch.equal(model(ids).logits, before)
    with reading_branches(anatomy, lambda layer, kind, added: 1 / 0):
        model.model.layers[0].mlp(torch.ones(1, 6, 32))  # outside any block: nothing is reported
