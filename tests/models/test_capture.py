import pytest
import tiny
import torch

from depthprobe.models.anatomy import describe_anatomy
from depthprobe.models.capture import reading_stream


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
    for boundary, stream in seen[:-1]:  # transformers' own last entry may be behind the final norm
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
