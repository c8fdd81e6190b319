"""Where training starts from, by norm and initialisation, and how LNS ends as a plain Llama."""

import math
import subprocess
import sys
from itertools import pairwise

import pytest
import torch
from transformers import LlamaForCausalLM

from depthprobe.models.anatomy.anatomy import describe_anatomy
from depthprobe.models.intervene import delete_blocks
from depthprobe.models.own.building import build_model, fold_lns
from depthprobe.models.own.decoder import DepthprobeForCausalLM
from depthprobe.models.own.placements import (
    INITIALISATIONS,
    NORMS,
    block_norms,
    deepnorm_beta,
    norm_factors,
    residual_alpha,
)
from depthprobe.training.recipe import Recipe
from support import norm_placement_reference as reference
from support.norm_placement_models import IDS, build, logits_of

SIZES = Recipe().model_config(2000)
OUTPUTS = ("o_proj", "down_proj")


def start(norm="pre", initialisation="normal"):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_model(SIZES, norm, initialisation)


def same_sizes(one, other):
    """Return whether two configurations are one but for the dtype, which is written when a model is saved."""
    return one.to_dict() | {"dtype": None} == other.to_dict() | {"dtype": None}


def matrices(model):
    return {name: weight.detach() for name, weight in model.named_parameters() if weight.dim() > 1}


def test_the_papers_numbers_for_twelve_blocks():
    assert block_norms("mix", 12) == ["post"] * 3 + ["pre"] * 9 and block_norms("mix", 2) == ["post", "pre"]
    assert norm_factors("lns", 4) == [1, 1 / math.sqrt(2), 1 / math.sqrt(3), 0.5]
    assert residual_alpha("deepnorm", 12) == pytest.approx(2.2134, abs=1e-4)
    assert deepnorm_beta(12) == pytest.approx(0.3195, abs=1e-4)
    # what both are chosen for: a sum over 2L branches of (v^2 + w^2) / alpha^2 that does not grow with L
    for layers in (1, 12, 1000):
        update = 2 * layers * 2 * (deepnorm_beta(layers) / residual_alpha("deepnorm", layers)) ** 2
        assert update == pytest.approx(1)


@pytest.mark.parametrize(
    ("norm", "initialisation"),
    [(norm, how) for norm in NORMS for how in INITIALISATIONS if (norm, how) != ("deepnorm", "scaled")],
)
def test_matrices_are_drawn_with_the_stated_deviation(norm, initialisation):
    for name, weight in matrices(start(norm, initialisation)).items():
        kind = name.split(".")[-2]
        wanted = 0.02
        if norm == "deepnorm" and kind != "embed_tokens":
            gain = 1 if kind in ("q_proj", "k_proj") else deepnorm_beta(12)
            wanted = gain * math.sqrt(2 / (weight.shape[0] + weight.shape[1]))
        elif initialisation == "scaled" and kind in OUTPUTS:
            wanted = 0.02 / math.sqrt(24)
        error = 4 / math.sqrt(2 * weight.numel())  # four standard errors
        assert weight.std().item() == pytest.approx(wanted, rel=error), name
        assert abs(weight.mean().item()) < 4 * wanted / math.sqrt(weight.numel()), name


@pytest.mark.parametrize("norm", NORMS)
def test_norms_start_at_one(norm):
    vectors = [weight for weight in start(norm).parameters() if weight.dim() == 1]
    assert vectors and all(weight.eq(1).all() for weight in vectors)


def test_pre_ln_is_the_llama_that_transformers_itself_would_have_made():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ours = build_model(SIZES)
        after = torch.get_rng_state()
        torch.manual_seed(0)
        theirs = LlamaForCausalLM(SIZES)
        assert torch.equal(after, torch.get_rng_state())
    assert type(ours) is LlamaForCausalLM and same_sizes(ours.config, theirs.config)
    assert all(torch.equal(weight, theirs.state_dict()[name]) for name, weight in ours.state_dict().items())
    assert ours.training and ours.lm_head.weight is ours.model.embed_tokens.weight


def test_with_one_seed_all_norms_start_from_the_same_numbers():
    first = matrices(start())
    for norm in NORMS:
        for name, weight in matrices(start(norm)).items():
            scale = weight.std() / first[name].std() if norm == "deepnorm" else 1
            torch.testing.assert_close(weight, scale * first[name], rtol=1e-5, atol=0)
    for name, weight in matrices(start("pre", "scaled")).items():
        scale = 1 / math.sqrt(24) if name.split(".")[-2] in OUTPUTS else 1
        torch.testing.assert_close(weight, scale * first[name], rtol=1e-6, atol=0)


@torch.no_grad()
def variances(model):
    """Return the variance over hidden of x^0 .. x^L, mean over tokens."""
    ids = torch.randint(2, 2000, (4, 64), generator=torch.Generator().manual_seed(0))
    stream = model.model(ids, output_hidden_states=True).hidden_states[:-1]
    return [x.var(dim=-1).mean().item() for x in stream]


def test_at_the_start_the_stream_of_lns_grows_slower_than_that_of_pre_ln():
    pre, lns = variances(start("pre")), variances(start("lns"))
    assert lns[:2] == pre[:2]  # the first block's factor is 1
    growth = [(b - a, d - c) for (a, b), (c, d) in zip(pairwise(pre[1:]), pairwise(lns[1:]), strict=True)]
    assert all(ours < plain for plain, ours in growth)
    assert lns[-1] - lns[0] < 0.5 * (pre[-1] - pre[0])


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("norm", ["pre", "lns"])
def test_folding_the_factors_changes_no_bit_of_the_logits(norm, dtype, attention):
    model = build(norm, attention, dtype)
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    folded = fold_lns(model)
    assert type(folded) is LlamaForCausalLM and folded.config.model_type == "llama"
    assert torch.equal(logits_of(folded), logits_of(model))
    assert all(torch.equal(model.state_dict()[name], weight) for name, weight in weights.items())
    assert not folded.training and fold_lns(model.train()).training


def test_a_model_that_lost_blocks_folds_with_the_factors_of_those_that_stay():
    model = build("lns")
    with delete_blocks(model, describe_anatomy(model), [0, 3]):
        assert torch.equal(logits_of(fold_lns(model)), logits_of(model))


def test_the_folded_factors_are_those_of_the_paper():
    folded = fold_lns(build("lns"))
    pool = reference.weights()
    for layer, block in enumerate(folded.model.layers):
        for name, ours in (("input", "input"), ("post_attention", "pre_feedforward")):
            wanted = pool[f"model.layers.{layer}.{ours}_layernorm.weight"].double() / math.sqrt(layer + 1)
            found = getattr(block, f"{name}_layernorm").weight
            torch.testing.assert_close(found.double(), wanted, rtol=1e-7, atol=0)
    assert torch.equal(folded.model.norm.weight, pool["model.norm.weight"])


@pytest.mark.parametrize("norm", ["post", "deepnorm", "mix", "sandwich"])
def test_a_model_that_is_not_a_llama_is_not_folded(norm):
    with pytest.raises(ValueError, match="cannot become a Llama; save it as it is"):
        fold_lns(build(norm))


def test_a_folded_model_generates_as_before():
    model = build("lns")
    model.generation_config.max_length = 40
    options = {"attention_mask": torch.ones_like(IDS), "do_sample": False, "pad_token_id": 1}
    assert torch.equal(fold_lns(model).generate(IDS, **options), model.generate(IDS, **options))


READ = """
import sys, torch
from transformers import AutoModelForCausalLM
with torch.no_grad():
    model = AutoModelForCausalLM.from_pretrained(sys.argv[2])
    torch.save(model(torch.arange(5, 35).view(2, 15)).logits, sys.argv[1])
try:
    AutoModelForCausalLM.from_pretrained(sys.argv[3])
except ValueError as error:
    assert "depthprobe" in str(error), error
else:
    raise AssertionError("a model of depthprobe's own type was read without depthprobe")
assert not [name for name in sys.modules if name.startswith("depthprobe")]
"""


def test_anybodys_transformers_reads_an_exported_lns_model(tmp_path):
    model = build("lns")
    fold_lns(model).save_pretrained(tmp_path / "lns")
    build("post").save_pretrained(tmp_path / "post")
    command = [sys.executable, "-c", READ, *(str(tmp_path / name) for name in ("found", "lns", "post"))]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    assert torch.equal(torch.load(tmp_path / "found"), logits_of(model))


def test_lns_is_trained_with_its_factors_and_exported_when_done():
    """A folded model would take other steps: Adam moves a weight of 1/sqrt(l) as far as one of 1."""
    assert isinstance(start("lns"), DepthprobeForCausalLM)
    after = []
    for model in (build("lns").train(), fold_lns(build("lns")).train()):
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
        model(input_ids=IDS, labels=IDS, use_cache=False).loss.backward()
        optimiser.step()
        after.append(logits_of(model.eval()))
    assert not torch.allclose(after[0], after[1], atol=1e-2)
