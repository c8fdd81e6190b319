"""What a block adds: found by the identity, sorted by kind, and checked against it again."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForSeq2SeqLM

from depthprobe.models.anatomy.anatomy import describe_anatomy
from depthprobe.models.anatomy.branches import identity_holds
from support import model_types


def branches_of(model, tower=None):
    anatomy = describe_anatomy(model, tower)
    return [inside.branches and [(b.kind, b.path) for b in inside.branches] for inside in anatomy.insides]


def test_a_module_that_hands_on_what_the_block_received_is_not_a_branch():
    # MobileBERT's bottleneck may: x - x + y = y would make a branch of the whole output.
    assert branches_of(model_types.build("mobilebert", masked=True)) == [None] * 4


def test_a_module_after_a_feedforward_part_belongs_to_it_whatever_it_is():
    added = [("attention", "attn_sconv"), ("feedforward", "mlp_sconv")]
    assert branches_of(model_types.build("inkling_text")) == [added] * 4


def test_a_name_that_says_nothing_leaves_the_word_to_the_class():
    # Nemotron-H: Mamba, experts, attention and MLP in turn, each called mixer.
    kinds = [added[0][0] for added in branches_of(model_types.build("nemotron_h"))]
    assert kinds == ["attention", "feedforward", "attention", "feedforward"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_three_branches_are_found_among_many_modules(dtype):
    config = AutoConfig.for_model(
        "t5", d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, vocab_size=300, decoder_start_token_id=0
    )
    torch.manual_seed(0)
    model = AutoModelForSeq2SeqLM.from_config(config).eval().to(dtype)
    added = [
        ("attention", "layer.0.SelfAttention"),
        ("attention", "layer.1.EncDecAttention"),
        ("feedforward", "layer.2.DenseReluDense"),
    ]
    assert branches_of(model, "decoder") == [added] * 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("family", ["falcon_h1", "granitemoeshared"])
def test_branches_that_are_added_to_each_other_first_are_found_in_half_precision(family, dtype):
    found = branches_of(model_types.build(family).to(dtype))
    assert all(len(added) == 3 for added in found)


def test_a_stream_laid_out_differently_shows_its_norms():
    assert describe_anatomy(model_types.build("xlnet")).norm_placement == "post"
    assert describe_anatomy(model_types.build("squeezebert", masked=True)).norm_placement == "post"


def holds(x, y, *added):
    return identity_holds(x, y, added, tokens_at_once=3)


def drawn(seed, *shape, dtype):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    st.floats(-4, 1),
    st.integers(1, 3),
)
def test_however_a_model_orders_its_sums_their_rounding_is_admitted(seed, dtype, log_size, count):
    x = drawn(seed, 5, 64, dtype=dtype)
    added = [(10**log_size * drawn(seed + 1 + n, 5, 64, dtype=torch.float32)).to(dtype) for n in range(count)]
    for terms in itertools.permutations([x, *added]):
        y = terms[0]
        for term in terms[1:]:
            y = y + term
        assert holds(x, y, *added)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(-1.5, 1))
def test_a_missing_or_wrong_addend_shows_in_half_precision_too(seed, log_size):
    x, a, b, other = (drawn(seed + n, 20, 64, dtype=torch.bfloat16) for n in range(4))
    a, b, other = (10**log_size * term for term in (a, b, other))
    y = x + a + b
    for wrong in ([a], [b], [a, other], [a, 1.25 * b]):
        assert not holds(x, y, *wrong)


def test_an_error_of_a_thousandth_of_what_is_added_is_the_limit_in_float32():
    x, a = (drawn(seed, 10, 64, dtype=torch.float32) for seed in (0, 1))
    assert holds(x, x + a, a * (1 + 0.9e-3))
    assert not holds(x, x + a, a * (1 + 1.1e-3))


def test_a_block_that_adds_nothing_keeps_the_identity():
    x = drawn(0, 10, 64, dtype=torch.float32)
    assert holds(x, x, torch.zeros_like(x))
    assert not holds(x, x, x)


def test_float16_keeps_the_identity_where_its_numbers_thin_out():
    x, a = (drawn(seed, 10, 64, dtype=torch.float32).mul(2e-6).to(torch.float16) for seed in (0, 1))
    assert holds(x, x + 0.22 * a, 0.22 * a.float())
