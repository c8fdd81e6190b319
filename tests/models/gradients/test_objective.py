"""Losses: against transformers' own, and the choice of what a masked model has to guess."""

import numpy as np
import pytest
import torch

from depthprobe.errors import MeasureError
from depthprobe.machine.batches import pad_batch
from depthprobe.models.gradients.objective import (
    MASKED_SHARE,
    MASKED_TOKEN,
    NEXT_TOKEN,
    NOT_PREDICTED,
    loss_feels_padding,
    masked_examples,
    next_token_examples,
    objective_of,
    summed_loss,
)
from support import tiny


def samples(*lengths, seed=0):
    generator = np.random.default_rng(seed)
    return [generator.integers(5, 290, size=length) for length in lengths]


def batch_loss(model, examples, pad=1):
    ids, mask = pad_batch([example.input_ids for example in examples], pad)
    targets, _ = pad_batch([example.targets for example in examples], NOT_PREDICTED)
    with torch.no_grad():
        return float(summed_loss(model, ids, mask, targets))


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "bloom"])
def test_the_next_token_loss_is_transformers_own_summed_over_samples(family):
    model = tiny.build(family)
    texts = samples(4, 9, 17)
    wanted = 0.0
    for text in texts:
        ids = torch.tensor(text)[None]
        with torch.no_grad():
            wanted += float(model(input_ids=ids, labels=ids).loss) * (len(text) - 1)
    examples = next_token_examples(texts)
    assert sum(example.predicted for example in examples) == 3 + 8 + 16
    assert batch_loss(model, examples) == pytest.approx(wanted, rel=1e-5)
    assert objective_of(model) == NEXT_TOKEN


def test_the_masked_loss_is_transformers_own():
    model = tiny.build("bert")
    examples = masked_examples(samples(20, 7), mask_id=4)
    wanted = 0.0
    for example in examples:
        ids, labels = torch.tensor(example.input_ids)[None], torch.tensor(example.targets)[None]
        with torch.no_grad():
            wanted += float(model(input_ids=ids, labels=labels).loss) * example.predicted
    assert batch_loss(model, examples) == pytest.approx(wanted, rel=1e-5)
    assert objective_of(model) == MASKED_TOKEN


def test_a_mask_is_the_seeds_and_the_samples_not_the_orders():
    texts = samples(100, 40, 3)
    forward = masked_examples(texts, mask_id=4, seed=7)
    backward = masked_examples(texts[::-1], mask_id=4, seed=7)[::-1]
    other = masked_examples(texts, mask_id=4, seed=8)
    for text, a, b in zip(texts, forward, backward, strict=True):
        np.testing.assert_array_equal(a.input_ids, b.input_ids)
        chosen = a.targets != NOT_PREDICTED
        assert chosen.sum() == max(round(MASKED_SHARE * len(text)), 1) == a.predicted
        np.testing.assert_array_equal(a.targets[chosen], text[chosen])
        assert (a.input_ids[chosen] == 4).all()
        np.testing.assert_array_equal(a.input_ids[~chosen], text[~chosen])
    assert any((a.input_ids != b.input_ids).any() for a, b in zip(forward, other, strict=True))


def test_special_tokens_are_never_masked():
    text = np.array([2, 50, 3, 60, 3, 70])
    for seed in range(20):
        example = masked_examples([text], mask_id=4, special_ids=[2, 3], seed=seed)[0]
        assert set(np.flatnonzero(example.targets != NOT_PREDICTED)) <= {1, 3, 5}


def test_a_text_of_special_tokens_alone_predicts_nothing():
    assert masked_examples([np.array([2, 3, 2])], mask_id=4, special_ids=[2, 3])[0].predicted == 0


def test_a_model_without_a_head_has_no_loss():
    with pytest.raises(MeasureError, match="LlamaModel has no language-model head"):
        objective_of(tiny.build("llama").model)


def test_padding_is_felt_where_it_changes_the_loss():
    example, device = next_token_examples(samples(9))[0], torch.device("cpu")
    model = tiny.build("llama")
    assert not loss_feels_padding(model, example, 1, device)
    model.lm_head.register_forward_hook(
        lambda module, args, output: output + output.mean(dim=1, keepdim=True)
    )
    assert loss_feels_padding(model, example, 1, device)


@pytest.mark.parametrize("family", ["llama", "bert"])
def test_taking_the_logits_some_tokens_at_a_time_changes_neither_loss_nor_gradient(family, monkeypatch):
    from depthprobe.models.gradients import objective

    model = tiny.build(family)
    examples = (
        next_token_examples(samples(9, 17, 5)) if family == "llama" else masked_examples(samples(9, 17), 4)
    )
    ids, mask = pad_batch([example.input_ids for example in examples], 1)
    targets, _ = pad_batch([example.targets for example in examples], NOT_PREDICTED)
    found = []
    for at_once in (1 << 24, 300 * 4):
        monkeypatch.setattr(objective, "LOGITS_AT_ONCE", at_once)
        model.zero_grad()
        loss = summed_loss(model, ids, mask, targets)
        loss.backward()
        found.append((loss.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]))
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-6)
