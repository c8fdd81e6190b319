"""What is tried before the first score: little, right, and remembered."""

import dataclasses
import types

import pytest
import torch
from transformers import AutoModelForCausalLM

from depthprobe.errors import MeasureError
from depthprobe.evaluation.scoring.engine import ScoringEngine
from depthprobe.evaluation.scoring.passes import Ways
from depthprobe.evaluation.scoring.remembered import Remembered
from depthprobe.evaluation.scoring.ways import find_ways
from depthprobe.evaluation.scoring.windows import other_distances, short_windows, window_of
from depthprobe.models.anatomy.anatomy import describe_anatomy
from depthprobe.models.intervene import discard_in_rows, skip_blocks
from support import model_types
from support.scoring_models import build, loaded


class Count:
    """Passes and tokens that go into a model's embedding, and positions that its head reads."""

    def __init__(self, model):
        self.passes = self.tokens = self.positions = 0
        model.get_input_embeddings().register_forward_pre_hook(self._embedding)
        model.get_output_embeddings().register_forward_pre_hook(self._head)

    def _embedding(self, module, args):
        self.passes += 1
        self.tokens += args[0].numel()

    def _head(self, module, args):
        self.positions += args[0].shape[:-1].numel()


def gemma3(window=512):
    model = build("gemma3_text", layers=4)
    model.config.sliding_window = window
    for block in model.model.layers:
        if block.self_attn.sliding_window is not None:
            block.self_attn.sliding_window = window
    return model


@pytest.mark.parametrize(
    ("make", "tokens", "passes"),
    [
        (lambda: build("llama"), 450, 30),
        (gemma3, 500, 32),
        (lambda: build("mixtral"), 450, 30),
        (lambda: build("mamba"), 650, 35),
    ],
    ids=["llama", "gemma 3 with a window of 512", "mixtral", "mamba"],
)
def test_little_is_run_before_the_first_score(make, tokens, passes):
    model = make()
    count = Count(model)
    anatomy = describe_anatomy(model)
    engine = ScoringEngine(loaded(model), anatomy)
    engine.check([(layer,) for layer in range(anatomy.layers)])
    assert count.tokens <= tokens
    assert count.passes <= passes
    assert count.positions <= 25


def test_a_deep_model_is_tried_in_few_passes_and_reads_each_weight_seldom():
    model = build("llama", layers=40)
    anatomy = describe_anatomy(model)
    engine = ScoringEngine(loaded(model), anatomy)
    runs = [0]
    for block in anatomy.blocks:
        block.mlp.register_forward_pre_hook(lambda *_: runs.__setitem__(0, runs[0] + 1))
    engine.check([(layer,) for layer in range(40)])
    # from the stored stream: 40 blocks whole, 39 + 38 + .. after each layer, 40 in one pass for all variants
    assert runs[0] <= 40 + 40 * 39 // 2 + 40


@pytest.mark.parametrize("kind", ["llama", "gemma2", "mixtral", "gpt2", "mamba"])
def test_rows_of_one_batch_go_without_different_blocks(kind):
    model = build(kind)
    anatomy = describe_anatomy(model)
    variants = [(), (0,), (2,), (1, 3)]
    ids = torch.randint(5, 250, (1, 9), generator=torch.Generator().manual_seed(0)).expand(4, -1)
    gone = {layer: torch.tensor([layer in variant for variant in variants]) for layer in range(4)}
    with torch.inference_mode():
        with discard_in_rows(anatomy, gone):
            together = model(input_ids=ids, use_cache=False).logits
        for row, variant in enumerate(variants):
            with skip_blocks(anatomy, variant):
                alone = model(input_ids=ids[:1], use_cache=False).logits
            torch.testing.assert_close(together[row], alone[0], rtol=1e-5, atol=1e-5)
        assert not torch.allclose(together[0], together[2], atol=1e-3)


def test_windows_are_short_for_a_while_and_masks_follow():
    model = gemma3(window=512)
    ids = torch.randint(5, 250, (1, 12), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before = model(input_ids=ids).logits
        with short_windows(model, 5):
            assert window_of(model.config) == 5
            short = model(input_ids=ids).logits
        torch.testing.assert_close(model(input_ids=ids).logits, before, rtol=0, atol=0)
    assert window_of(model.config) == 512
    torch.testing.assert_close(short[:, :5], before[:, :5])
    assert not torch.allclose(short[:, 6:], before[:, 6:], atol=1e-3)


def test_a_window_that_cannot_be_made_short_bounds_what_is_shared():
    config = model_types.build("gpt_neo").config
    config.window_size = 64
    model = AutoModelForCausalLM.from_config(config).eval()  # its masks are made when the model is
    ways = find_ways(model, describe_anatomy(model), torch.device("cpu"), None)
    assert ways.depth_limit == window_of(config) == 64
    slides = gemma3()  # its masks are made in every pass
    assert find_ways(slides, describe_anatomy(slides), torch.device("cpu"), None).depth_limit is None


def test_other_distances_of_a_text_are_named_and_those_of_images_are_not():
    config = types.SimpleNamespace(
        sliding_window=512,
        to_dict=lambda: {
            "sliding_window": 512,
            "attention_chunk_size": 8192,
            "rope_scaling": {"original_max_position_embeddings": 4096, "factor": 8},
            "vision_config": {"window_size": 14},
            "index_topk": 2048,
            "index_topk_blocks": 16,
            "index_block_size": 64,
            "max_window_layers": 28,
        },
    )
    assert other_distances(config) == [1024, 2048, 4096, 8192]


def test_in_half_precision_a_wrong_mask_is_distinguished_from_rounding():
    model = model_types.build("mpt")  # its position bias follows the row, not the text
    device = torch.device("cpu")
    assert not find_ways(model, describe_anatomy(model), device, None).pack
    model = model.to(torch.bfloat16)
    assert not find_ways(model, describe_anatomy(model), device, None).pack
    llama = build("llama").to(torch.bfloat16)
    assert find_ways(llama, describe_anatomy(llama), device, None).pack == "full"


def test_broken_weights_are_reported_before_anything_is_blamed_on_layers():
    model = build("llama")
    anatomy = describe_anatomy(model)
    with torch.no_grad():
        model.model.layers[2].mlp.down_proj.weight[0] = float("nan")
    with pytest.raises(
        MeasureError, match=r"NaN or infinite from boundary x\^3 on \(the output of layer 2\)"
    ):
        ScoringEngine(loaded(model), anatomy)
    model = build("llama")
    anatomy = describe_anatomy(model)
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(MeasureError, match="The model's log-probabilities hold NaN"):
        ScoringEngine(loaded(model), anatomy)


# --- what was found out is not found out again


def with_source(model, fingerprint="abc"):
    source = types.SimpleNamespace(
        fingerprint=fingerprint, revision=None, location="/models/x", gguf_file=None, adapter=None
    )
    parts = vars(loaded(model)) | {"source": source, "initial_seed": None}
    return types.SimpleNamespace(**parts)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DEPTHPROBE_CACHE", str(tmp_path / "cache"))


def passes_before_scoring(model, variants, **named):
    count = Count(model)
    known = with_source(model, **named)
    anatomy = describe_anatomy(model)
    begun = count.passes
    engine = ScoringEngine(known, anatomy, Remembered.of(known))
    engine.check(variants)
    return count.passes - begun, engine.way


def test_a_second_sweep_of_the_same_model_tries_nothing():
    variants = [(0,), (3,)]
    first, way = passes_before_scoring(build("gemma3_text"), variants)
    assert first > 0
    assert passes_before_scoring(build("gemma3_text"), variants) == (0, way)
    # other layers are tried, and only they
    more, _ = passes_before_scoring(build("gemma3_text"), [(0,), (1,), (3,)])
    assert 0 < more < first


@pytest.mark.parametrize("change", ["weights", "dtype", "configuration"])
def test_another_model_is_tried_anew(change):
    passes_before_scoring(build("llama"), [(0,)])
    model = build("llama")
    if change == "dtype":
        model = model.double()
    if change == "configuration":
        model.config.rms_norm_eps = 0.5
    fingerprint = "other" if change == "weights" else "abc"
    assert passes_before_scoring(model, [(0,)], fingerprint=fingerprint)[0] > 0


def test_a_sweep_killed_while_layers_are_tried_keeps_how_work_is_shared(monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    whole, _ = passes_before_scoring(build("llama"), [(0,)], fingerprint="one")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("depthprobe.evaluation.scoring.engine.check_removals", killed)
        passes_before_scoring(build("llama"), [(0,)], fingerprint="two")
    rest, _ = passes_before_scoring(build("llama"), [(0,)], fingerprint="two")
    assert 0 < rest < whole / 2


def test_a_cache_that_cannot_be_read_or_written_is_done_without(tmp_path, monkeypatch):
    model = with_source(build("llama"))
    path = Remembered.of(model).path
    path.parent.mkdir(parents=True)
    path.write_text("{")
    assert Remembered.of(model) == Remembered(path=path)
    path.unlink()
    path.parent.rmdir()
    path.parent.write_text("in the way")
    remembered = dataclasses.replace(Remembered.of(model), ways=Ways())
    remembered.keep()
    assert Remembered.of(model).ways is None


def test_weights_without_a_name_are_not_remembered():
    assert Remembered.of(with_source(build("llama"), fingerprint=None)).path is None
