"""Each norm placement computes its paper's formula, and no other's; and is a model like any other."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, PreTrainedConfig

from depthprobe.models.anatomy.anatomy import describe_anatomy
from depthprobe.models.intervene import delete_blocks, discard_blocks, skip_blocks
from depthprobe.models.loading.initial import build_on_meta
from depthprobe.models.loading.loading import load_model
from depthprobe.models.own.configuration import DepthprobeConfig
from depthprobe.models.own.decoder import DepthprobeForCausalLM
from depthprobe.models.own.placements import NORMS
from depthprobe.models.sizing.blueprint import describe_blueprint
from support import norm_placement_reference as reference
from support import tiny
from support.norm_placement_models import IDS, build, logits_of

PLACEMENTS = {
    "pre": ["pre"] * 8,
    "post": ["post"] * 8,
    "deepnorm": ["post"] * 8,
    "mix": ["post"] * 2 + ["pre"] * 6,
    "lns": ["pre"] * 8,
    "sandwich": ["sandwich"] * 8,
}


def apart(found, wanted):
    return ((found.double() - wanted.double()).norm() / wanted.double().norm()).item()


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("norm", NORMS)
def test_the_forward_pass_is_the_papers_formula(norm, attention):
    wanted = reference.logits(reference.weights(), IDS, norm)
    assert (
        apart(logits_of(build(norm, attention)), wanted) < 1e-5
    )  # float32; the nearest other formula is 0.8 away


@pytest.mark.parametrize(("one", "other"), itertools.combinations(NORMS, 2))
def test_with_the_same_weights_no_two_variants_agree(one, other):
    assert apart(logits_of(build(one)), logits_of(build(other))) > 0.5


def test_a_name_nobody_knows_is_refused_and_so_is_one_in_capitals():
    # the trainer released with the paper compares 'LNS' with a name in small letters: its blocks do nothing
    for norm in ("LNS", "prenorm"):
        known = "pre, post, deepnorm, mix, lns, sandwich"
        with pytest.raises(ValueError, match=f"norm must be one of {known}; got '{norm}'"):
            DepthprobeConfig(norm=norm)
    with pytest.raises(ValueError, match="initialisation must be one of normal, scaled; got 'xavier'"):
        DepthprobeConfig(initialisation="xavier")
    with pytest.raises(ValueError, match="DeepNorm already scales its initial weights by depth"):
        DepthprobeConfig(norm="deepnorm", initialisation="scaled")
    with pytest.raises(ValueError, match="norm_factors has 2 entries for 32 blocks"):
        DepthprobeConfig(norm="lns", norm_factors=[1.0, 0.5])
    with pytest.raises(ValueError, match="block_norms may hold pre, post and sandwich, got 'Pre'"):
        DepthprobeConfig(block_norms=["Pre"], norm_factors=[1.0], num_hidden_layers=1)


def test_the_configuration_has_llamas_fields_and_defaults():
    own = set(LlamaConfig().to_dict()) - set(PreTrainedConfig().to_dict())
    llama, ours = LlamaConfig().to_dict(), DepthprobeConfig().to_dict()
    assert {name: ours.get(name, "absent") for name in own} == {name: llama[name] for name in own}


@pytest.mark.parametrize("norm", NORMS)
def test_cached_generation_is_that_without_a_cache_also_with_left_padding(norm):
    model = build(norm)
    mask = torch.ones_like(IDS)
    mask[0, :4] = 0
    options = {"attention_mask": mask, "max_new_tokens": 10, "do_sample": False, "pad_token_id": 1}
    cached = model.generate(IDS, use_cache=True, **options)
    assert torch.equal(cached, model.generate(IDS, use_cache=False, **options))


@pytest.mark.parametrize("norm", NORMS)
def test_every_weight_gets_a_gradient_and_checkpointing_changes_none(norm):
    def gradients(checkpointing):
        model = build(norm).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        model(input_ids=IDS, labels=IDS, use_cache=False).loss.backward()
        return {name: parameter.grad for name, parameter in model.named_parameters()}

    plain, again = gradients(False), gradients(True)
    assert all(gradient.isfinite().all() and gradient.ne(0).any() for gradient in plain.values())
    assert all(torch.equal(plain[name], again[name]) for name in plain)


@pytest.mark.parametrize("norm", NORMS)
def test_hidden_states_and_attentions_are_recorded_and_the_head_can_be_tied(norm):
    model = build(norm, "eager")
    output = model(IDS, output_hidden_states=True, output_attentions=True)
    assert len(output.hidden_states) == 9 and len(output.attentions) == 8
    tied = DepthprobeForCausalLM(DepthprobeConfig(norm=norm, tie_word_embeddings=True, **reference.SIZES))
    assert tied.lm_head.weight is tied.model.embed_tokens.weight


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("norm", NORMS)
def test_the_anatomy_sees_where_the_norms_stand_and_what_is_added(norm, dtype):
    anatomy = describe_anatomy(build(norm, dtype=dtype))
    assert list(anatomy.norm_placements) == PLACEMENTS[norm] and anatomy.path == "model.layers"
    assert anatomy.final_norm_path == (None if norm in ("post", "deepnorm") else "model.norm")
    added = {"pre": ("self_attn", "mlp"), "post": None}
    added["sandwich"] = ("post_attention_layernorm", "post_feedforward_layernorm")
    for placement, inside in zip(PLACEMENTS[norm], anatomy.insides, strict=True):
        found = inside.branches and tuple(branch.path for branch in inside.branches)
        assert found == added[placement]


@pytest.mark.parametrize("norm", NORMS)
def test_the_blueprint_sees_the_same_without_weights(norm):
    config = DepthprobeConfig(norm=norm, **reference.SIZES)
    blueprint = describe_blueprint(build_on_meta(norm, config))
    assert [layer.norm_placement for layer in blueprint.layers] == PLACEMENTS[norm]
    assert blueprint.architecture == "DepthprobeForCausalLM" and blueprint.refusal is None
    assert {(plan.kinds.mixer, plan.kinds.feedforward) for plan in blueprint.layers} == {
        ("full attention", "feed-forward")
    }


@pytest.mark.parametrize("layers", [[0], [3], [7], [0, 1], [1, 4]])
@pytest.mark.parametrize("norm", NORMS)
def test_skipping_discarding_and_deleting_agree_bit_for_bit(norm, layers):
    model = build(norm)
    anatomy, before = describe_anatomy(model), logits_of(model)
    with delete_blocks(model, anatomy, layers):
        truth = logits_of(model)
    with skip_blocks(anatomy, layers):
        assert torch.equal(logits_of(model), truth)
    with discard_blocks(anatomy, layers):
        assert torch.equal(logits_of(model), truth)
    assert not torch.equal(truth, before) and torch.equal(logits_of(model), before)


@pytest.mark.parametrize("layers", [[0], [1, 4], [0, 1], [2, 3, 4, 5, 6, 7]])
@pytest.mark.parametrize("norm", NORMS)
def test_a_model_saved_without_some_blocks_keeps_what_the_others_were_trained_with(norm, layers, tmp_path):
    model = build(norm)
    with delete_blocks(model, describe_anatomy(model), layers):
        truth = logits_of(model)
        model.save_pretrained(tmp_path)
    shorter = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert shorter.config.num_hidden_layers == 8 - len(layers)
    assert torch.equal(logits_of(shorter), truth)


def test_a_configuration_read_with_fewer_blocks_is_that_of_the_first_ones(tmp_path):
    model = build("lns")
    model.save_pretrained(tmp_path)
    shorter = AutoModelForCausalLM.from_pretrained(tmp_path, num_hidden_layers=3)
    with delete_blocks(model, describe_anatomy(model), [3, 4, 5, 6, 7]):
        assert torch.equal(logits_of(shorter), logits_of(model))


@pytest.mark.parametrize("norm", ["post", "mix", "lns"])
def test_a_saved_model_loads_like_any_other(norm, tmp_path):
    model = build(norm)
    model.save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path))
    assert loaded.describe()["model_type"] == "depthprobe" and loaded.context_tokens == 128
    assert loaded.describe()["architecture"] == "DepthprobeForCausalLM" and not loaded.notes
    assert torch.equal(logits_of(loaded.model), logits_of(model))


READ = """
import sys, torch
import depthprobe
from transformers import AutoModel, AutoModelForCausalLM
depthprobe.register_with_transformers()
found = {}
for folder in sys.argv[2:]:
    model = AutoModelForCausalLM.from_pretrained(folder)
    body = AutoModel.from_pretrained(folder)
    ids = torch.arange(5, 35).view(2, 15)
    with torch.no_grad():
        found[folder] = (model(ids).logits, model.lm_head(body(ids).last_hidden_state))
torch.save(found, sys.argv[1])
"""


def test_a_fresh_process_reads_every_variant_through_the_auto_classes(tmp_path):
    wanted = {}
    for norm in NORMS:
        model = build(norm)
        model.save_pretrained(tmp_path / norm)
        wanted[str(tmp_path / norm)] = logits_of(model)
        saved = json.loads((tmp_path / norm / "config.json").read_text())
        assert (saved["model_type"], saved["architectures"]) == ("depthprobe", ["DepthprobeForCausalLM"])
    command = [sys.executable, "-c", READ, str(tmp_path / "found"), *wanted]
    subprocess.run(command, check=True, capture_output=True, cwd=Path(__file__).parents[2])
    found = torch.load(tmp_path / "found")
    for folder, logits in wanted.items():
        assert torch.equal(found[folder][0], logits) and torch.equal(found[folder][1], logits)


def test_the_configuration_alone_can_be_read_and_copied():
    config = AutoConfig.for_model("depthprobe", norm="mix", **reference.SIZES)
    assert config.block_norms == PLACEMENTS["mix"] and config.final_norm
    again = DepthprobeConfig.from_dict(json.loads(config.to_json_string()))
    assert again.to_dict() == config.to_dict()
