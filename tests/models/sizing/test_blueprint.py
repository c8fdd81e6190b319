"""The plan without weights against the anatomy that real weights show."""

import psutil
import pytest
import torch

from depthprobe.catalogue import PROBES
from depthprobe.errors import AnatomyError
from depthprobe.models.anatomy.anatomy import describe_anatomy
from depthprobe.models.loading.initial import build_on_meta
from depthprobe.models.loading.quantisation import Quantisation
from depthprobe.models.sizing.blueprint import describe_blueprint
from depthprobe.models.sizing.footprint import (
    FITS,
    SPLIT,
    TOO_LARGE,
    Room,
    Widths,
    footprints,
    room_on,
    weight_bytes,
    why_not,
)
from support import model_types

MASKED = {"bert", "albert", "roberta", "modernbert"}
FAMILIES = ["llama", "gpt2", "gemma2", "olmo2", "bert", "mixtral", "mamba", "bamba", "zamba2"]
MORE = ["gpt_neox", "albert", "falcon_h1", "qwen3_next", "gemma4_text", "rwkv"]


def on_meta(model):
    with torch.device("meta"):
        return type(model)._from_config(model.config).eval()


def blueprint_of(model_type):
    return describe_blueprint(on_meta(model_types.build(model_type, masked=model_type in MASKED)))


@pytest.mark.parametrize("family", FAMILIES + MORE)
def test_what_is_seen_without_values_is_what_real_weights_show(family):
    model = model_types.build(family, masked=family in MASKED)
    anatomy, blueprint = describe_anatomy(model), describe_blueprint(on_meta(model))
    assert blueprint.not_run is None and blueprint.refusal is None
    assert blueprint.path == anatomy.path and len(blueprint.layers) == anatomy.layers
    assert tuple(plan.norm_placement for plan in blueprint.layers) == anatomy.norm_placements
    assert blueprint.norm_placement == anatomy.norm_placement
    assert [plan.parameters for plan in blueprint.layers] == [
        sum(parameter.numel() for parameter in block.parameters()) for block in anatomy.blocks
    ]
    ends = (anatomy.embedding_path, anatomy.final_norm_path, anatomy.head_path, anatomy.hidden)
    assert ends == (
        blueprint.embedding_path,
        blueprint.final_norm_path,
        blueprint.head_path,
        blueprint.hidden,
    )
    assert blueprint.parameters == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("family", "kinds"),
    [
        ("llama", [("full attention", "feed-forward")] * 4),
        ("gemma2", [("sliding attention", "feed-forward"), ("full attention", "feed-forward")] * 2),
        ("mixtral", [("full attention", "4 experts, 2 active")] * 4),
        ("mamba", [("state space", "none")] * 4),
        ("bamba", [("state space", "feed-forward"), ("full attention", "feed-forward")] * 2),
        ("falcon_h1", [("state space + full attention", "feed-forward")] * 4),
        ("qwen3_next", None),
        ("rwkv", [("recurrent", "feed-forward")] * 4),
        ("lfm2", [("convolution", "feed-forward"), ("full attention", "feed-forward")] * 2),
        (
            "nemotron_h",
            [
                ("state space", "none"),
                ("none", "4 experts, 2 active + 1 shared"),
                ("full attention", "none"),
                ("none", "feed-forward"),
            ],
        ),
    ],
)
def test_kinds_of_blocks_are_distinguished(family, kinds):
    found = [(plan.kinds.mixer, plan.kinds.feedforward) for plan in blueprint_of(family).layers]
    if family == "qwen3_next":
        assert {mixer for mixer, _ in found} == {"linear attention", "full attention"}
        return
    assert found == kinds


def test_a_stream_of_several_tensors_is_refused_with_the_shapes():
    blueprint = blueprint_of("deepseek_v4")
    assert "not [batch, token, hidden]" in blueprint.refusal and "(2, 5, 4, 32)" in blueprint.refusal
    assert len(blueprint.layers) == 4


def test_a_model_that_looks_at_values_is_described_by_structure_and_says_so():
    blueprint = blueprint_of("dbrx")
    assert blueprint.not_run and blueprint.refusal is None and blueprint.norm_placement is None
    assert blueprint.path == "transformer.blocks" and blueprint.layers[0].kinds.feedforward.startswith(
        "4 exp"
    )


def test_a_model_without_blocks_is_refused():
    with pytest.raises(AnatomyError, match="Linear has no list of blocks"):
        describe_blueprint(torch.nn.Linear(3, 3, device="meta"))


def test_a_large_model_costs_no_memory():
    config = model_types.build("llama").config
    config.hidden_size, config.intermediate_size, config.num_hidden_layers = 8192, 28672, 80
    config.num_attention_heads, config.num_key_value_heads, config.head_dim = 64, 8, 128
    before = psutil.Process().memory_info().rss
    model = build_on_meta("large", config)
    blueprint = describe_blueprint(model)
    assert psutil.Process().memory_info().rss - before < 500 << 20
    assert blueprint.parameters > 68e9 and blueprint.layers[79].parameters == blueprint.layers[0].parameters
    assert weight_bytes(model, blueprint.path, torch.bfloat16, None) == 2 * blueprint.parameters
    packed = weight_bytes(model, blueprint.path, torch.bfloat16, Quantisation("gptq", 4))
    assert packed == pytest.approx(blueprint.parameters / 2, rel=0.01)


@pytest.mark.parametrize(
    ("free", "everywhere", "verdict"), [(200, 200, FITS), (80, 200, SPLIT), (80, 100, TOO_LARGE)]
)
def test_memory_is_compared_with_what_is_free(free, everywhere, verdict):
    room = Room(torch.device("cuda", 0), free << 30, everywhere << 30)
    found = footprints(131e9, Widths(80, 8192, 28672), torch.bfloat16, room)
    assert [needed.command for needed in found] == list(PROBES)
    assert {needed.verdict for needed in found} == {verdict}


def test_what_does_not_fit_is_a_sentence_with_the_numbers():
    room = Room(torch.device("cpu"), 8 << 30, 8 << 30)
    needed = footprints(28e9, Widths(32, 4096, 11008), torch.float32, room)[0]
    assert why_not("big", needed, torch.float32, room) == (
        "big needs 29.5 GiB in float32, but only 8.0 GiB are free on cpu alone. "
        "--dtype bfloat16 halves the weights."
    )


def test_the_main_memory_counts_with_what_can_be_swapped():
    room = room_on(torch.device("cpu"))
    assert room.free == room.everywhere > 0
