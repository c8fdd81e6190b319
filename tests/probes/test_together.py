"""A text gets the same numbers whatever it shares a batch with, and whatever was read before it."""

import copy
from types import MethodType

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from depthprobe.errors import MeasureError
from depthprobe.evaluation.scores import ScoreRequest
from depthprobe.evaluation.scoring.engine import ScoringEngine
from depthprobe.models.anatomy.anatomy import describe_anatomy
from depthprobe.models.anatomy.stream import run_backbone
from depthprobe.models.capture import reading_stream
from depthprobe.models.frequencies import Scaling, scalings_of
from depthprobe.models.loading.loading import already_loaded
from depthprobe.probes import angular, gradnorm, variance
from depthprobe.probes.together import how_together
from depthprobe.texts.samples import Samples
from support import tiny

BORDER = 32
ROPE = {"rope_theta": 1e4}
LONG = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0, 5.0, 9.0, 16.0], **ROPE}
DYNAMIC = {"rope_type": "dynamic", "factor": 8.0, **ROPE}
KINDS = ["sliding_attention", "full_attention"] * 2
# By case: model type, what its configuration says, and its scaling.
SCALED = {
    "longrope": (
        "phi3",
        {"rope_parameters": LONG, "original_max_position_embeddings": BORDER, "num_key_value_heads": 2},
        Scaling(BORDER, by_length=False),
    ),
    "dynamic": (
        "llama",
        {"rope_parameters": DYNAMIC, "max_position_embeddings": BORDER, "num_key_value_heads": 2},
        Scaling(BORDER, by_length=True),
    ),
    "dynamic in one type of layer": (
        "gemma3_text",
        {
            "rope_parameters": {KINDS[0]: {"rope_type": "default", **ROPE}, KINDS[1]: DYNAMIC},
            "layer_types": KINDS,
            "max_position_embeddings": BORDER,
            "num_key_value_heads": 2,
            "head_dim": 8,
        },
        Scaling(BORDER, by_length=True),
    ),
}
LENGTHS = [50, 40, 40, 33, 32, 20, 7]


def build(case):
    kind, said, _ = SCALED[case]
    config = AutoConfig.for_model(kind, **(tiny.SHAPE | said))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config).eval()
        tiny.enlarge(model)
    return model


def loaded(model):
    return already_loaded(model)


def make_samples(lengths, seed=0):
    generator = np.random.default_rng(seed)
    return Samples(tuple(generator.integers(5, 290, size=length) for length in lengths), {})


def last_stream(model, tokens):
    """x^L of one text, read by a model that has read nothing before."""
    model, seen = copy.deepcopy(model), []
    anatomy = describe_anatomy(model)
    with reading_stream(anatomy, lambda boundary, stream: seen.append(stream[0].clone())):
        ids = torch.from_numpy(tokens)[None]
        run_backbone(anatomy.backbone, ids, torch.ones_like(ids))
    return seen[-1]


PROBES = {
    "angular": (lambda *given, **how: angular.measure(*given, tokens="all", **how), "distance"),
    "variance": (variance.measure, "variance"),
    "gradnorm": (gradnorm.measure, "grad_norm"),
}


@pytest.mark.parametrize("case", SCALED)
def test_the_scaling_is_found_in_the_configuration(case):
    assert scalings_of(build(case)) == (SCALED[case][2],)


def test_a_model_with_other_frequencies_has_no_border():
    assert scalings_of(tiny.build("llama")) == () == scalings_of(tiny.build("gpt2"))


@pytest.mark.parametrize("case", SCALED)
@pytest.mark.parametrize("probe", PROBES)
def test_neither_batch_size_nor_order_counts_where_frequencies_follow_the_longest_row(case, probe):
    measure, column = PROBES[probe]
    samples, numbers = make_samples(LENGTHS), []
    for order, batch_size in ((1, 1), (1, 3), (1, None), (-1, None)):
        model = build(case)
        turned = Samples(samples.tokens[::order], {})
        found = measure(loaded(model), describe_anatomy(model), turned, batch_size=batch_size)
        again = measure(loaded(model), describe_anatomy(model), turned, batch_size=batch_size)
        numbers += [found.frame[column].to_numpy(), again.frame[column].to_numpy()]
        assert any("4 of 7 samples are longer than 32 tokens" in note for note in found.facts["notes"])
    for each in numbers[1:]:
        np.testing.assert_allclose(each, numbers[0], rtol=3e-5)


@pytest.mark.parametrize("case", SCALED)
def test_the_numbers_are_those_of_each_text_read_by_itself(case):
    model, samples = build(case), make_samples(LENGTHS)
    alone = torch.cat([last_stream(model, tokens) for tokens in samples.tokens]).double().var(dim=-1)
    found = variance.measure(loaded(model), describe_anatomy(model), samples)
    stream = found.frame[found.frame.point == "stream"]
    assert stream.variance.iloc[-1] == pytest.approx(alone.mean().item(), rel=1e-5)
    # The case is one: with the frequencies of the longest text the numbers are others.
    ids, mask = torch.ones(1, 50, dtype=torch.int64), torch.ones(1, 50, dtype=torch.int64)
    ids[0, :20], mask[0, 20:] = torch.from_numpy(samples.tokens[5]), 0
    seen, anatomy = [], describe_anatomy(model)
    with reading_stream(anatomy, lambda boundary, stream: seen.append(stream[0, :20].clone())):
        run_backbone(anatomy.backbone, ids, mask)
    assert not torch.allclose(seen[-1], last_stream(model, samples.tokens[5]), rtol=1e-3)


@pytest.mark.parametrize("case", SCALED)
def test_prune_sweep_shares_nothing_beyond_the_border(case):
    model = build(case)
    engine = ScoringEngine(loaded(model), describe_anatomy(model))
    assert engine.ways.depth_limit == BORDER
    requests = [ScoreRequest(tuple(text.tolist()), 3) for text in make_samples(LENGTHS).tokens]
    together = engine.score(requests, range(len(requests)), [(), (1,)])
    for place, request in enumerate(requests):
        other = build(case)
        fresh = ScoringEngine(loaded(other), describe_anatomy(other))
        for variant, scores in together.items():
            alone = fresh.score([request], [0], [variant])[variant].loglikelihood[0]
            assert scores.loglikelihood[place] == pytest.approx(alone, rel=1e-4)


def changed(change):
    """A model whose first block's output ``[batch, token, hidden]`` is changed."""
    model = tiny.build("llama")
    block, forward = model.model.layers[0], model.model.layers[0].forward
    block.forward = MethodType(lambda self, *args, **kwargs: change(forward(*args, **kwargs)), block)
    return model


def by_rows(output):
    return output - output.mean(dim=(0, 1), keepdim=True)  # as a batch norm in training mode does


def by_longest(output):
    return output * (1 + 0.1 * (output.shape[1] > BORDER))


class Remembering:
    """Scales by the longest text so far, as code that caches its tables without clearing them does."""

    def __init__(self):
        self.longest = 0

    def __call__(self, output):
        self.longest = max(self.longest, output.shape[1])
        return output * (1 + 0.01 * self.longest)


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize(
    ("change", "said"),
    [(by_rows, "each is read alone"), (by_longest, "a batch holds texts of one length")],
)
def test_where_texts_change_each_other_they_are_kept_apart_and_it_is_said(probe, change, said):
    measure, column = PROBES[probe]
    samples, numbers = make_samples(LENGTHS), []
    for batch_size in (1, 4, None):
        model = changed(change)
        found = measure(loaded(model), describe_anatomy(model), samples, batch_size=batch_size)
        numbers.append(found.frame[column].to_numpy())
        notes = found.facts.get("notes", [])
        assert any(said in note for note in notes) == (batch_size != 1)
    for each in numbers[1:]:
        np.testing.assert_allclose(each, numbers[0], rtol=3e-5)


@pytest.mark.parametrize("probe", PROBES)
def test_a_model_that_remembers_earlier_texts_is_refused(probe):
    model = changed(Remembering())
    with pytest.raises(MeasureError, match="After another text a text gets other numbers"):
        PROBES[probe][0](loaded(model), describe_anatomy(model), make_samples(LENGTHS), batch_size=2)


def test_most_models_keep_their_batches_and_nothing_is_said():
    for family in ("llama", "mixtral", "mamba", "bert"):
        model = tiny.build(family)
        anatomy, texts = describe_anatomy(model), make_samples(LENGTHS).tokens
        found = how_together(loaded(model), anatomy, texts, 2048)
        assert (found.alone, found.same_length, found.notes) == (False, anatomy.feels_padding, [])


def test_what_was_tried_of_a_model_is_not_tried_again():
    model, passes = tiny.build("llama"), []
    anatomy, texts = describe_anatomy(model), make_samples(LENGTHS).tokens
    model.model.layers[0].register_forward_hook(lambda *args: passes.append(1))
    how_together(loaded(model), anatomy, texts, 2048)
    tried = len(passes)
    how_together(loaded(model), anatomy, texts, 2048)
    assert tried == len(passes) > 0
