"""The engine against the slow truth: one text at a time, through a copy whose blocks are really gone."""

import copy
import dataclasses
import inspect
import random
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

from depthprobe.errors import MeasureError, OptionError
from depthprobe.evaluation.scoring import trial
from depthprobe.evaluation.scoring.chunks import plan_chunks
from depthprobe.evaluation.scoring.engine import ScoreRequest, ScoringEngine
from depthprobe.evaluation.scoring.layout import Prices, lay_out
from depthprobe.models.anatomy.anatomy import describe_anatomy
from support import tiny
from support.scoring_models import LAYERS, build, loaded

VOCAB = tiny.SHAPE["vocab_size"]
TOLERANCE = 1e-4  # float32

SHARES_ALL = [
    "llama",
    "qwen3",
    "gpt2",
    "opt",
    "mixtral",
    "gemma2",
    "gemma3_text",
    "mistral",
    "granite",
    "gpt_neox",
]
OTHERS = ["bloom", "mamba", "jamba", "olmo2"]


def engine_of(model, **options):
    return ScoringEngine(loaded(model), describe_anatomy(model), **options)


def truly_without(model, path, gone):
    """Return a copy whose blocks are deleted, its lists and numbers put right; written for the test alone."""
    short = copy.deepcopy(model)
    config = short.config
    stay = [layer for layer in range(LAYERS) if layer not in gone]
    holder = short.get_submodule(path)
    types_ = list(getattr(config, "layer_types", None) or [])
    kept = torch.nn.ModuleList([holder[layer] for layer in stay])
    parent, _, name = path.rpartition(".")
    setattr(short.get_submodule(parent), name, kept)
    for number, block in enumerate(kept):
        for module in block.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = number
    config.num_hidden_layers = len(stay)
    if types_:
        right = [types_[layer] for layer in stay]
        if isinstance(inspect.getattr_static(config, "layer_types", None), property):
            config.__class__ = type("Fixed", (type(config),), {"layer_types": right})
        else:
            config.layer_types = right
    return short


def truth_of(model, path, requests, variants):
    answers = {}
    for variant in variants:
        short = truly_without(model, path, variant)
        sums, greedy = [], []
        for request in requests:
            tokens = torch.tensor([request.tokens])
            with torch.no_grad():
                logits = short(input_ids=tokens[:, :-1], use_cache=False).logits[0]
            logprob = torch.log_softmax(logits.float(), dim=-1)[-request.scored :]
            target = tokens[0, -request.scored :]
            sums.append(logprob.gather(1, target[:, None]).double().sum().item())
            greedy.append(bool((logprob.argmax(dim=-1) == target).all()))
        answers[variant] = (np.array(sums), np.array(greedy))
    return answers


def draw(generator, count):
    return tuple(generator.randrange(5, VOCAB) for _ in range(count))


def mmlu_like(seed=0):
    generator = random.Random(seed)
    requests = []
    for header in (draw(generator, 40), draw(generator, 31)):
        for _ in range(3):
            question = header + draw(generator, generator.randint(4, 12))
            requests += [ScoreRequest((*question, 7 + choice), 1) for choice in range(4)]
    return requests


def hellaswag_like(seed=1):
    generator = random.Random(seed)
    requests = []
    for _ in range(3):
        context = draw(generator, generator.randint(8, 20))
        for _ in range(4):
            ending = draw(generator, generator.randint(2, 8))
            requests.append(ScoreRequest(context + ending, len(ending)))
    return requests


def rolling_and_odd(seed=2):
    generator = random.Random(seed)
    long = draw(generator, 60)
    return [
        ScoreRequest(long, 59),
        ScoreRequest(long[:30], 5),
        ScoreRequest(long[:31], 29),
        ScoreRequest(long[:30], 5),
        ScoreRequest((*long[:30], 9, 9), 3),
        ScoreRequest(long[:2], 1),
        ScoreRequest(draw(generator, 25), 24),
        ScoreRequest(draw(generator, 3), 1),
    ]


REQUESTS = mmlu_like() + hellaswag_like() + rolling_and_odd()
SINGLES = [(layer,) for layer in range(LAYERS)]


def assert_equal(scores, truth, order=None):
    assert set(scores) == set(truth)
    order = np.arange(len(next(iter(truth.values()))[0])) if order is None else order
    for variant, (loglikelihood, greedy) in truth.items():
        np.testing.assert_allclose(
            scores[variant].loglikelihood,
            loglikelihood[order],
            atol=TOLERANCE,
            rtol=1e-6,
            err_msg=str(variant),
        )
        np.testing.assert_array_equal(scores[variant].greedy, greedy[order])


@pytest.mark.parametrize("kind", SHARES_ALL + OTHERS)
def test_every_variant_scores_what_a_model_without_its_blocks_scores(kind):
    model = build(kind)
    anatomy = describe_anatomy(model)
    engine = ScoringEngine(loaded(model), anatomy)
    # greedy answers must occur, or comparing them says nothing
    requests = REQUESTS + greedy_requests(model)
    variants = [(), *SINGLES, (0, 1), (1, 2, 3), (0, 2), (0, 1, 2, 3)[:3]]
    truth = truth_of(model, anatomy.path, requests, variants)
    assert any(greedy.any() for _, greedy in truth.values())
    assert_equal(engine.score(requests, range(len(requests)), variants), truth)


def greedy_requests(model):
    generator = random.Random(3)
    requests = []
    for length in (5, 9, 14):
        tokens = list(draw(generator, length))
        for _ in range(2):
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([tokens]), use_cache=False).logits
            tokens.append(int(logits[0, -1].argmax()))
        requests.append(ScoreRequest(tuple(tokens), 2))
    return requests


@pytest.mark.parametrize("kind", SHARES_ALL)
def test_attention_models_share_all_there_is_to_share(kind):
    way = engine_of(build(kind)).way
    for part in ("stored stream", "scored positions", "packed branches", "kept prefix", "passed through"):
        assert part in way, way


def test_models_that_cannot_take_a_way_do_without_it_and_say_so():
    assert "packed" not in engine_of(build("mamba")).way
    assert "kept prefix" not in engine_of(build("mamba")).way
    assert "packed" not in engine_of(build("jamba")).way
    assert "packed" not in engine_of(build("bloom")).way


MODEL = build("llama")
ENGINE = engine_of(MODEL)
TRUTH = truth_of(MODEL, describe_anatomy(MODEL).path, REQUESTS, [(), (0,), (2,)])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(
    order=st.permutations(range(len(REQUESTS))),
    cuts=st.lists(st.integers(0, len(REQUESTS)), max_size=4),
    tokens=st.integers(1, 400),
    prices=st.tuples(st.floats(0, 1), st.floats(0, 300), st.floats(0, 100), st.booleans(), st.booleans()),
)
def test_any_plan_batch_and_layout_gives_the_same_numbers(order, cuts, tokens, prices):
    engine = copy.copy(ENGINE)
    engine._batch_tokens = tokens
    pair, copies, call, packs, keeps = prices
    engine._prices = dataclasses.replace(
        ENGINE._prices, pair=pair, copy=copies, call=call, packs=packs, keeps=keeps
    )
    edges = sorted({0, *cuts, len(order)})
    for first, last in pairwise(edges):
        chunk = order[first:last]
        assert_equal(engine.score(REQUESTS, chunk, list(TRUTH)), TRUTH, np.array(chunk))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    texts=st.lists(
        st.tuples(st.lists(st.integers(0, 2), min_size=2, max_size=12), st.integers(1, 11)), min_size=1
    ),
    pair=st.floats(0, 2),
    call=st.floats(0, 8),
    packs=st.booleans(),
    keeps=st.booleans(),
    limit=st.none() | st.integers(1, 10),
)
def test_a_layout_answers_each_scored_token_once_after_its_own_text(texts, pair, call, packs, keeps, limit):
    requests = [ScoreRequest(tuple(tokens), min(scored, len(tokens) - 1)) for tokens, scored in texts]
    prices = Prices(pair=pair, copy=1.0, call=call, packs=packs, keeps=keeps)
    found = {index: [] for index in range(len(requests))}
    for group in lay_out(requests, prices, limit):
        ahead = () if group.prefix is None else tuple(group.prefix.tokens)
        for row in [*group.rows, *([group.prefix] if group.prefix else [])]:
            behind = ahead if row is not group.prefix else ()
            assert packs or row.is_chain
            for at, target, request in zip(row.at, row.target, row.request, strict=True):
                for place, token, index in zip(at, target, request, strict=True):
                    seen = [i for i in range(place + 1) if row.until[i] > place]
                    text = behind + tuple(row.tokens[seen])
                    assert row.depths[place] == len(text) - 1
                    assert requests[index].tokens[: len(text) + 1] == (*text, token)
                    found[index].append(len(text))
    for index, request in enumerate(requests):
        length = len(request.tokens)
        assert sorted(found[index]) == list(range(length - request.scored, length))


@given(tokens=st.integers(1, 300))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_a_plan_holds_every_request_once_and_keeps_to_its_tokens(tokens):
    chunks = plan_chunks(REQUESTS, tokens)
    assert sorted(index for chunk in chunks for index in chunk) == list(range(len(REQUESTS)))
    assert chunks == plan_chunks(REQUESTS, tokens)
    for chunk in chunks:
        texts = sorted({REQUESTS[index].tokens[:-1] for index in chunk})
        different = {text[: end + 1] for text in texts for end in range(len(text))}
        assert len(different) <= tokens or len(texts) == 1


def test_a_long_common_beginning_is_computed_once_and_choices_of_one_token_cost_nothing():
    requests = mmlu_like()
    groups = lay_out(requests, Prices(pair=0.1, copy=0.0, call=0.0))
    assert sorted(len(group.prefix.tokens) for group in groups) == [31, 40]
    computed = sum(len(row.tokens) for group in groups for row in [group.prefix, *group.rows])
    assert computed == len({r.tokens[:end] for r in requests for end in range(1, len(r.tokens))})


def test_running_out_of_memory_halves_the_chunk_and_gives_the_same_numbers(monkeypatch):
    engine = engine_of(build("llama"))
    answers = engine._answers

    def tight(requests, variants):
        if len(requests) > 10:
            raise RuntimeError("CUDA out of memory. Tried to allocate")
        return answers(requests, variants)

    monkeypatch.setattr(engine, "_answers", tight)
    assert_equal(engine.score(REQUESTS, range(len(REQUESTS)), list(TRUTH)), TRUTH)


def test_logits_in_small_pieces_and_variants_one_by_one_give_the_same_numbers(monkeypatch):
    engine = engine_of(build("llama"))
    monkeypatch.setattr(engine._passes, "logit_bytes", 0)
    monkeypatch.setattr(engine._passes, "least_positions", 3)
    for variant in TRUTH:
        scores = engine.score(REQUESTS, range(len(REQUESTS)), [variant])
        assert_equal(scores, {variant: TRUTH[variant]})


@pytest.mark.parametrize("kind", ["llama", "gpt2", "jamba"])
def test_scoring_leaves_the_model_bit_for_bit_the_same(kind):
    model = build(kind)
    ids = torch.arange(5, 25).view(2, 10)
    before, weights = model(input_ids=ids).logits, copy.deepcopy(model.state_dict())
    engine_of(model).score(REQUESTS, range(len(REQUESTS)), [(), *SINGLES])
    torch.testing.assert_close(model(input_ids=ids).logits, before, rtol=0, atol=0)
    torch.testing.assert_close(model.state_dict(), weights, rtol=0, atol=0)
    assert all("forward" not in vars(module) for module in model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_texts_beyond_an_untried_window_share_nothing_but_score_right():
    model = build("mistral")
    anatomy = describe_anatomy(model)
    engine = ScoringEngine(loaded(model), anatomy)
    engine.ways = dataclasses.replace(engine.ways, depth_limit=20)
    truth = truth_of(model, anatomy.path, REQUESTS, [(), (1,)])
    assert_equal(engine.score(REQUESTS, range(len(REQUESTS)), [(), (1,)]), truth)


def test_a_model_whose_block_carries_more_than_the_stream_is_deleted_from_instead(monkeypatch):
    model = build("llama")
    anatomy = describe_anatomy(model)
    scores = trial.Trial.scores

    def carried(self, requests, ways, variants, alone):
        if ways.removal == "skip" and not alone:
            raise RuntimeError("later blocks lack what the block hands on")
        return scores(self, requests, ways, variants, alone)

    monkeypatch.setattr(trial.Trial, "alone_before_head", lambda _: None)
    monkeypatch.setattr(trial.Trial, "scores", carried)
    engine = ScoringEngine(loaded(model), anatomy)
    assert engine.way == "plain batches; blocks deleted"
    assert_equal(engine.score(REQUESTS, range(len(REQUESTS)), list(TRUTH)), TRUTH)


def test_nan_is_an_error_that_names_the_layers():
    model = build("llama")
    engine = engine_of(model)
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(MeasureError, match="NaN"):
        engine.score(REQUESTS, [0], [(1,)])


def test_a_request_must_score_a_token_that_follows_another():
    with pytest.raises(OptionError, match="must score at least 1 and not all of its 3 tokens, got 3"):
        ScoreRequest((5, 6, 7), 3)


def test_no_requests_have_no_scores():
    assert len(ENGINE.score(REQUESTS, [], [()])[()].greedy) == 0
    assert ENGINE.plan([]) == []


def gemma4(layers=6, shared=2):
    from support import model_types

    config = model_types.build("gemma4_text").config.to_dict()
    kinds = ["sliding_attention", "full_attention"] * (layers // 2)
    config |= {"num_hidden_layers": layers, "num_kv_shared_layers": shared, "layer_types": kinds}
    config.pop("per_layer_config", None)
    config.pop("model_type")
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("gemma4_text", **config)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.15, generator=generator)
    return model


def test_a_layer_that_alone_keeps_keys_for_later_ones_is_refused_by_its_number():
    model = gemma4(layers=4, shared=2)
    engine = ScoringEngine(loaded(model), describe_anatomy(model))
    with pytest.raises(MeasureError, match="The model cannot run without layers 0, 1: later blocks use"):
        engine.check([(0,), (1,), (2,), (3,)])
    engine.check([(2,), (3,)], generates=True)


def test_without_the_last_keeper_of_keys_an_earlier_one_serves_as_in_a_shorter_model():
    model = gemma4(layers=6, shared=2)
    anatomy = describe_anatomy(model)
    engine = ScoringEngine(loaded(model), anatomy)
    engine.check([(layer,) for layer in range(6)], generates=True)
    # the independent truth: a model of four layers, built without layers 2 and 3, its weights copied
    short = gemma4(layers=4, shared=2)
    kept = {0: 0, 1: 1, 2: 4, 3: 5}
    state = model.state_dict()
    wanted = {}
    for name, value in short.state_dict().items():
        parts = name.split(".")
        if "layers" in parts:
            place = parts.index("layers") + 1
            parts[place] = str(kept[int(parts[place])])
        old = state[".".join(parts)]
        if old.shape != value.shape:  # the inputs of each layer, side by side on one axis
            axis = next(axis for axis in range(old.dim()) if old.shape[axis] != value.shape[axis])
            width = old.shape[axis] // 6
            old = torch.cat([old.narrow(axis, layer * width, width) for layer in kept.values()], dim=axis)
        wanted[name] = old
    short.load_state_dict(wanted)
    requests = REQUESTS[:6]
    scores = engine.score(requests, range(len(requests)), [(2, 3)])[2, 3]
    for request, found in zip(requests, scores.loglikelihood, strict=True):
        ids = torch.tensor(request.tokens)
        with torch.no_grad():
            logprobs = short(input_ids=ids[None], use_cache=False).logits[0].log_softmax(-1)
        places = range(len(ids) - request.scored, len(ids))
        assert found == pytest.approx(float(sum(logprobs[p - 1, ids[p]] for p in places)), abs=1e-3)


def test_where_a_discarded_block_still_acts_nothing_is_generated(monkeypatch):
    engine = engine_of(build("llama"))
    ways = {(1,): frozenset({"skip"}), (2,): frozenset({"skip", "discard"})}
    monkeypatch.setattr("depthprobe.evaluation.scoring.engine.check_removals", lambda *_: ways)
    engine.check([(1,), (2,)])
    with pytest.raises(MeasureError, match="Text cannot be generated without layer 1: later blocks"):
        engine.check([(1,), (2,)], generates=True)
