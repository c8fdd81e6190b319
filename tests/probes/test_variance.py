"""The probe against an independent slow reference: plain loops, float64, hooks and batches of its own."""

import copy
import json
import math
import statistics
from dataclasses import dataclass, field
from itertools import pairwise
from types import MethodType, SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForMaskedLM, AutoModelForSeq2SeqLM

from depthprobe.errors import MeasureError, OptionError
from depthprobe.machine.processes import Processes
from depthprobe.models.anatomy.anatomy import describe_anatomy
from depthprobe.probes import variance
from depthprobe.texts.samples import Samples
from support import tiny

PRE = ("self_attn.o_proj", "mlp.down_proj")
BEHIND_NORM = ("post_attention_layernorm", "post_feedforward_layernorm")

# What the families' code adds to the stream: (blocks, attention, feed-forward), the factor aside.
ADDENDS = {
    "llama": ("model.layers", *PRE),
    "qwen3": ("model.layers", *PRE),
    "gpt2": ("transformer.h", "attn.c_proj", "mlp.c_proj"),
    "gpt_neox": ("gpt_neox.layers", "attention.dense", "mlp.dense_4h_to_h"),
    "opt": ("model.decoder.layers", "self_attn.out_proj", "fc2"),
    "bloom": ("transformer.h", "self_attention.dense", "mlp.dense_4h_to_h"),
    "gemma2": ("model.layers", *BEHIND_NORM),
    "olmo2": ("model.layers", *BEHIND_NORM),
    "granite": ("model.layers", *PRE),
    "mixtral": ("model.layers", "self_attn.o_proj", "mlp"),
    "bert": ("bert.encoder.layer", None, None),
    "mamba": ("backbone.layers", "mixer.out_proj", None),
}
MULTIPLIER = {"granite": 0.22}


def build(family, **options):
    model = tiny.build(family, **options)
    if family in MULTIPLIER:
        model.config.residual_multiplier = MULTIPLIER[family]
        for block in model.model.layers:
            block.residual_multiplier = MULTIPLIER[family]
    return model


def first(value):
    return value if torch.is_tensor(value) else value[0]


def reference(model, samples, path, attention, feedforward, scale=1.0):
    """Every row of both tables: one sample at a time, unpadded, float64, one number after the other."""
    model = copy.deepcopy(model).double()
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")  # the grouped kernels know no float64
    model.config.use_cache = False
    blocks = list(model.get_submodule(path))
    seen = {}

    def keep(*keys):
        def hook(module, args, output):
            for key in keys:
                seen[key] = first(output).reshape(-1, first(output).shape[-1]).clone()

        return hook

    for layer, block in enumerate(blocks):
        block.register_forward_hook(keep(("stream", layer + 1)))
        for kind, name in (("attention", attention), ("feedforward", feedforward)):
            if name is not None:
                block.get_submodule(name).register_forward_hook(keep((kind, layer)))
    blocks[0].register_forward_pre_hook(
        lambda module, args, kwargs: keep(("stream", 0))(
            module, args, args[0] if args else kwargs["hidden_states"]
        ),
        with_kwargs=True,
    )
    values = {}

    def note(key, *numbers):
        values.setdefault(key, []).append(numbers)

    for sample in samples:
        with torch.no_grad():
            model(input_ids=torch.tensor(sample)[None])
        for key, vectors in seen.items():
            for vector in vectors * (1 if key[0] == "stream" else scale):
                row = vector.tolist()
                note(key, statistics.variance(row), math.hypot(*row) / math.sqrt(len(row)))
        for layer in range(len(blocks)):
            for x, y in zip(seen["stream", layer].tolist(), seen["stream", layer + 1].tolist(), strict=True):
                dot = math.fsum(a * b for a, b in zip(x, y, strict=True))
                step = math.dist(x, y)
                note(("influence", layer), 1 - dot / (math.hypot(*x) * math.hypot(*y)), step / math.hypot(*x))
    return {key: np.mean(rows, axis=0) for key, rows in values.items()}


def loaded(model):
    device = torch.device("cpu")
    return SimpleNamespace(model=model, device=device, weight_bytes=0, pad_token_id=1)


def make_samples(lengths, seed=0):
    generator = np.random.default_rng(seed)
    return Samples(tuple(generator.integers(5, 290, size=length) for length in lengths), {})


def rows_of(measurement):
    """Return ``{(point, layer): numbers}`` of both tables."""
    sizes, influence = (table.frame for table in measurement.tables)
    rows = {(row.point, row.layer): (row.variance, row.rms) for row in sizes.itertuples()}
    return rows | {
        ("influence", row.layer): (row.block_influence, row.contribution_ratio)
        for row in influence.itertuples()
    }


def assert_same(found, wanted, rel=2e-5, abs=1e-7):
    assert found.keys() == wanted.keys()
    for key, numbers in found.items():
        assert numbers == pytest.approx(tuple(wanted[key]), rel=rel, abs=abs), key


LENGTHS = [2, 9, 17, 17, 5]


@pytest.mark.parametrize("family", ADDENDS)
def test_every_row_equals_the_slow_reference(family):
    model = build(family)
    samples = make_samples(LENGTHS)
    found = variance.measure(loaded(model), describe_anatomy(model), samples, batch_size=3)
    wanted = reference(model, samples.tokens, *ADDENDS[family], MULTIPLIER.get(family, 1.0))
    assert_same(rows_of(found), wanted)
    assert set(found.frame.tokens) == {50} and found.facts["tokens"] == 50


@pytest.mark.parametrize("family", ["llama", "gemma2", "bert"])
def test_median_and_mean_without_the_first_token_equal_a_plain_loop(family):
    model, samples = build(family), make_samples(LENGTHS)
    found = variance.measure(loaded(model), describe_anatomy(model), samples, batch_size=3)
    path = {"bert": "bert.encoder.layer"}.get(family, "model.layers")
    slow, seen = copy.deepcopy(model).double(), []
    for block in slow.get_submodule(path):
        block.register_forward_hook(lambda module, args, output: seen.append(first(output)[0]))
    variances = []  # [token of all samples] of [layer]; [0] is whether it is the first
    for sample in samples.tokens:
        seen.clear()
        with torch.no_grad():
            slow(input_ids=torch.from_numpy(sample)[None])
        for token in range(len(sample)):
            spread = [statistics.variance(stream[token].tolist()) for stream in seen]
            variances.append((token == 0, *spread))
    later = [row for row in variances if not row[0]]
    assert found.facts["first_tokens"] == len(samples.tokens)
    stream = found.frame[found.frame.point == "stream"].set_index("layer")
    for layer in range(1, 5):
        assert stream.variance[layer] == pytest.approx(
            statistics.fmean(r[layer] for r in variances), rel=2e-5
        )
        without = statistics.fmean(row[layer] for row in later)
        assert stream.variance_without_first[layer] == pytest.approx(without, rel=2e-5)
        median = statistics.median(row[layer] for row in variances)
        assert stream.variance_median[layer] == pytest.approx(median, rel=2e-5)


def test_samples_of_a_single_token_leave_nothing_without_the_first():
    model = build("llama")
    with pytest.raises(MeasureError, match="Every sample is a single token"):
        variance.measure(loaded(model), describe_anatomy(model), make_samples([1, 1]))


def test_the_rows_stand_in_order_and_the_facts_are_json():
    model = build("llama")
    found = variance.measure(loaded(model), describe_anatomy(model), make_samples(LENGTHS), batch_size=2)
    points = [*found.frame[["point", "layer"]].itertuples(index=False, name=None)]
    assert points == [
        *(("stream", boundary) for boundary in range(5)),
        *(("attention", layer) for layer in range(4)),
        *(("feedforward", layer) for layer in range(4)),
    ]
    assert [table.stem for table in found.tables] == ["variance", "influence"]
    assert json.loads(json.dumps(found.facts)) == {
        "batches": 3,
        "tokens": 50,
        "first_tokens": 5,
        "without_branches": {},
    }


def test_where_the_norms_are_on_the_stream_there_are_no_branches_and_the_reason_is_given():
    model = build("bert")
    found = variance.measure(loaded(model), describe_anatomy(model), make_samples(LENGTHS))
    assert set(found.frame.point) == {"stream"}
    assert found.facts["without_branches"] == {
        "the norms are on the stream itself (Post-LN), so the block does more than add to it": [0, 1, 2, 3]
    }


def test_a_block_that_does_not_only_add_has_no_branches_and_the_reason_is_given():
    model = build("llama")

    class Shrinking(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(32, 32)

        def forward(self, hidden_states, **kwargs):
            return 0.5 * hidden_states + self.linear(hidden_states)

    model.model.layers[2] = Shrinking()
    found = variance.measure(loaded(model), describe_anatomy(model), make_samples(LENGTHS))
    left_out = {"no sum of module outputs was found to equal what the block adds": [2]}
    assert found.facts["without_branches"] == left_out
    assert sorted(found.frame[found.frame.point == "attention"].layer) == [0, 1, 3]


@pytest.mark.parametrize("family", ["llama", "gpt2", "bloom", "bert", "mixtral", "mamba"])
def test_batch_size_padding_and_order_of_samples_make_no_difference(family):
    model = build(family)
    anatomy = describe_anatomy(model)
    samples = make_samples([3, 30, 11, 11, 28, 2, 19])
    backwards = Samples(samples.tokens[::-1], {})
    first, *others = [
        rows_of(variance.measure(loaded(model), anatomy, these, batch_size=size))
        for these, size in [(samples, 1), (samples, 3), (samples, None), (backwards, 7)]
    ]
    for rows in others:
        assert_same(rows, first, rel=1e-6, abs=1e-9)


def test_in_float64_nothing_is_left_of_batches_and_padding_but_the_last_digits():
    model = build("gpt_neox").double()
    anatomy = describe_anatomy(model)
    samples = make_samples([3, 30, 11, 11, 28, 2, 19])
    one, all_at_once = (
        rows_of(variance.measure(loaded(model), anatomy, samples, batch_size=size)) for size in (1, 7)
    )
    assert_same(one, all_at_once, rel=1e-12, abs=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("family", ["llama", "bloom", "gemma2", "granite", "gpt_neox"])
def test_half_precision_keeps_its_branches_and_differs_by_no_more_than_its_rounding(family, dtype):
    model = build(family)
    samples = make_samples([20] * 8)
    exact = rows_of(variance.measure(loaded(model), describe_anatomy(model), samples))
    model = model.to(dtype)
    anatomy = describe_anatomy(model)
    found = variance.measure(loaded(model), anatomy, samples)
    assert found.facts["without_branches"] == {}
    assert_same(rows_of(found), exact, rel=0.03)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_stream_without_numbers_is_an_error_that_names_the_boundary(value):
    model = build("llama")
    anatomy = describe_anatomy(model)
    model.model.layers[2].mlp.down_proj.weight.data.fill_(value)
    with pytest.raises(
        MeasureError, match=r"NaN or infinite from boundary x\^3 on \(the output of layer 2\)"
    ):
        variance.measure(loaded(model), anatomy, make_samples([6, 6]))


def test_a_stream_of_zeros_has_no_direction():
    model = build("llama")
    anatomy = describe_anatomy(model)
    model.model.embed_tokens.weight.data.zero_()
    with pytest.raises(MeasureError, match=r"zero from boundary x\^0 on \(the embedding\)"):
        variance.measure(loaded(model), anatomy, make_samples([6, 6]))


def rewritten(block, forward):
    block.forward = MethodType(forward, block)  # goes with the block where it is copied


def change_forward(block, change):
    rewritten(block, lambda self, *args, **kwargs: change(type(self).forward(self, *args, **kwargs)))


def test_a_branch_without_numbers_is_an_error_also_where_the_stream_has_some():
    model = build("llama")
    anatomy = describe_anatomy(model)
    model.model.layers[1].mlp.down_proj.weight.data.fill_(float("nan"))
    change_forward(model.model.layers[1], lambda output: output.nan_to_num(1.0))
    message = "What the feedforward of layer 1 adds is NaN or infinite in 12 of the 12 vectors of a batch"
    with pytest.raises(MeasureError, match=message):
        variance.measure(loaded(model), anatomy, make_samples([6, 6]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_branches_that_no_longer_add_up_on_the_text_lose_their_rows_with_a_reason(dtype):
    model = build("llama").to(dtype)
    anatomy = describe_anatomy(model)
    change_forward(model.model.layers[1], lambda output: output + 0.05)
    samples = make_samples(LENGTHS)
    found = variance.measure(loaded(model), anatomy, samples, batch_size=2)
    reason = "on this text the branches did not add up to what the block adds"
    assert found.facts["without_branches"] == {reason: [1]}
    rows = rows_of(found)
    assert {layer for point, layer in rows if point == "attention"} == {0, 2, 3}
    assert {layer for point, layer in rows if point == "feedforward"} == {0, 2, 3}
    if dtype == torch.float32:
        wanted = reference(model, samples.tokens, *ADDENDS["llama"])
        assert_same(rows, {key: wanted[key] for key in rows})


def test_one_bad_batch_is_enough_to_lose_the_rows():
    model = build("llama")
    anatomy = describe_anatomy(model)
    change_forward(model.model.layers[3], lambda output: output * 1.1 if output.shape[1] == 9 else output)
    found = variance.measure(loaded(model), anatomy, make_samples([9, 8, 8, 7]), batch_size=1)
    assert list(found.facts["without_branches"].values()) == [[3]]


def test_a_block_that_adds_something_else_in_a_branchs_place_loses_its_rows():
    model = build("llama")
    anatomy = describe_anatomy(model)

    def forward(self, hidden_states, **kwargs):
        added, _ = self.self_attn(hidden_states=self.input_layernorm(hidden_states), **kwargs)
        hidden_states = hidden_states + added
        return hidden_states + self.mlp.forward(self.post_attention_layernorm(hidden_states))  # not called

    rewritten(model.model.layers[1], forward)
    samples = make_samples(LENGTHS)
    found = variance.measure(loaded(model), anatomy, samples, batch_size=2)
    assert list(found.facts["without_branches"].values()) == [[1]]
    rows, wanted = rows_of(found), reference(model, samples.tokens, *ADDENDS["llama"])
    assert wanted.keys() - rows.keys() == {("attention", 1), ("feedforward", 1)}
    assert_same(rows, {key: wanted[key] for key in rows})


def test_what_a_block_writes_into_its_branches_afterwards_is_not_measured():
    model = build("llama")
    samples = make_samples(LENGTHS)
    wanted = rows_of(variance.measure(loaded(model), describe_anatomy(model), samples))

    def forward(self, hidden_states, **kwargs):
        added, _ = self.self_attn(hidden_states=self.input_layernorm(hidden_states), **kwargs)
        hidden_states += added
        added.fill_(7.0)
        added = self.mlp(self.post_attention_layernorm(hidden_states))
        added += hidden_states
        return added

    for block in model.model.layers:
        rewritten(block, forward)
    assert_same(rows_of(variance.measure(loaded(model), describe_anatomy(model), samples)), wanted)


@dataclass(frozen=True)
class Told(Processes):
    """One process of several that meets the others' values in a list: ``gather`` is called once by each."""

    others: list = field(default_factory=list)

    def first(self, decide):
        return decide()

    def gather(self, value):
        self.others.append(value)
        return list(self.others)


@pytest.mark.parametrize(("count", "lengths"), [(2, LENGTHS), (3, [5, 9]), (4, [7])])
def test_several_processes_give_what_a_single_one_does_also_where_one_has_nothing_to_do(count, lengths):
    model = build("llama")
    anatomy = describe_anatomy(model)
    change_forward(model.model.layers[1], lambda output: output + (output.shape[1] == 9))
    samples = make_samples(lengths)
    alone = variance.measure(loaded(model), anatomy, samples, batch_size=1)
    others, counted = [], []
    for rank in range(count):
        together = variance.measure(
            loaded(model),
            anatomy,
            samples,
            batch_size=1,
            processes=Told(rank, count, others=others),
            advance=counted.append,
        )
    # Only the last one received everything.
    assert len(others) == count and sum(counted) == sum(lengths)
    assert together.facts == alone.facts
    assert_same(rows_of(together), rows_of(alone), rel=1e-12, abs=1e-15)


def test_a_block_that_runs_for_every_layer_is_measured_at_each():
    config = AutoConfig.for_model("albert", **tiny.SHAPE, embedding_size=16)
    torch.manual_seed(0)
    model = AutoModelForMaskedLM.from_config(config).eval()
    anatomy = describe_anatomy(model)
    samples = make_samples([7, 7, 7])
    found = variance.measure(loaded(model), anatomy, samples)
    ids = torch.tensor(np.stack(samples.tokens))
    with torch.no_grad():
        states = [state.double() for state in model(ids, output_hidden_states=True).hidden_states]
    sizes = [
        (state.var(dim=-1).mean().item(), state.square().mean(-1).sqrt().mean().item()) for state in states
    ]
    wanted = {("stream", boundary): numbers for boundary, numbers in enumerate(sizes)}
    for layer, (x, y) in enumerate(pairwise(states)):
        cosine = torch.nn.functional.cosine_similarity(x, y, dim=-1).mean().item()
        wanted["influence", layer] = 1 - cosine, ((y - x).norm(dim=-1) / x.norm(dim=-1)).mean().item()
    assert_same(rows_of(found), wanted, abs=1e-6)
    assert [*found.facts["without_branches"].values()] == [[0, 1, 2, 3]]


def test_a_block_that_runs_again_has_branches_at_each_of_its_layers():
    model = build("llama")
    model.model.layers = nn.ModuleList([*model.model.layers, model.model.layers[1]])
    model.config.num_hidden_layers = 5
    samples = make_samples(LENGTHS)
    rows = rows_of(variance.measure(loaded(model), describe_anatomy(model), samples))
    model.model.layers[4] = copy.deepcopy(model.model.layers[1])
    assert_same(rows, reference(model, samples.tokens, *ADDENDS["llama"]))


def test_two_attentions_of_a_decoder_count_as_the_sum_of_their_vectors():
    config = AutoConfig.for_model(
        "t5", d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, vocab_size=300, decoder_start_token_id=0
    )
    torch.manual_seed(0)
    model = AutoModelForSeq2SeqLM.from_config(config).eval()
    samples = make_samples([6, 11])
    anatomy = describe_anatomy(model, "decoder")
    rows = rows_of(variance.measure(loaded(model), anatomy, samples, batch_size=2))
    seen = {}
    for layer, block in enumerate(model.decoder.block):
        for name, part in (
            ("self", block.layer[0].SelfAttention.o),
            ("cross", block.layer[1].EncDecAttention.o),
        ):
            part.register_forward_hook(
                lambda m, a, output, key=(layer, name): seen.__setitem__(key, output[0])
            )
    sizes = {0: [], 1: []}
    for sample in samples.tokens:
        ids = torch.tensor(sample)[None]
        with torch.no_grad():
            model(input_ids=ids, decoder_input_ids=ids)
        for layer, found in sizes.items():
            found.append((seen[layer, "self"] + seen[layer, "cross"]).double().var(dim=-1))
    for layer, found in sizes.items():
        assert rows["attention", layer][0] == pytest.approx(torch.cat(found).mean().item(), rel=2e-5)
    assert ("feedforward", 1) in rows


def test_out_of_memory_halves_the_batch_and_changes_nothing():
    model = build("llama")
    anatomy = describe_anatomy(model)
    samples = make_samples([12] * 9)
    whole = variance.measure(loaded(model), anatomy, samples, batch_size=9)
    sizes = []

    def short_of_memory(module, args, kwargs):
        sizes.append(len(kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]))
        if sizes[-1] > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    # half way through the blocks: what was seen before it must not count twice
    handle = anatomy.blocks[2].register_forward_pre_hook(short_of_memory, with_kwargs=True)
    halved = variance.measure(loaded(model), anatomy, samples, batch_size=9)
    handle.remove()
    assert sizes == [9, 5, 3, 2, 3, 1]
    assert_same(rows_of(halved), rows_of(whole), rel=1e-6, abs=1e-9)
    assert halved.facts["tokens"] == 108 and halved.facts["batches"] == 4


@pytest.mark.parametrize("family", ["llama", "bloom", "mamba"])
def test_the_model_is_bit_for_bit_what_it_was(family):
    model = build(family)
    anatomy = describe_anatomy(model)
    ids = torch.arange(12).view(2, 6)
    before, modules = model(ids).logits, [dict(vars(module)) for module in model.modules()]
    variance.measure(loaded(model), anatomy, make_samples([6, 9]))
    with pytest.raises(ZeroDivisionError):
        variance.measure(loaded(model), anatomy, make_samples([6]), advance=lambda count: 1 / 0)
    assert torch.equal(model(ids).logits, before)
    assert [vars(module).keys() for module in model.modules()] == [known.keys() for known in modules]
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("wrong", [0, -1, "auto", 1.5])
def test_a_batch_size_that_means_nothing_is_refused(wrong):
    model = build("llama")
    with pytest.raises(OptionError, match="batch_size must be"):
        variance.measure(loaded(model), describe_anatomy(model), make_samples([5]), batch_size=wrong)
