"""The probe against plain autograd: the whole set as one padded batch, float64, one backward pass."""

import copy
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from depthprobe.errors import MeasureError, OptionError
from depthprobe.models.anatomy.anatomy import describe_anatomy
from depthprobe.models.gradients.objective import masked_examples, next_token_examples
from depthprobe.probes import gradnorm
from depthprobe.texts.samples import Samples
from support import tiny

# family -> where its blocks are, and what of a parameter's name says attention and feed-forward
FAMILIES = {
    "llama": ("model.layers", "self_attn", "mlp"),
    "qwen3": ("model.layers", "self_attn", "mlp"),
    "gpt2": ("transformer.h", "attn", "mlp"),
    "gpt_neox": ("gpt_neox.layers", "attention.", "mlp"),
    "opt": ("model.decoder.layers", "self_attn.", "fc"),
    "bloom": ("transformer.h", "self_attention", "mlp"),
    "gemma2": ("model.layers", "self_attn", "mlp"),
    "olmo2": ("model.layers", "self_attn", "mlp"),
    "granite": ("model.layers", "self_attn", "mlp"),
    "mixtral": ("model.layers", "self_attn", "mlp"),
    "bert": ("bert.encoder.layer", "attention", ""),
}
MASK = 4


def loaded(model):
    tokenizer = SimpleNamespace(mask_token_id=MASK, all_special_ids=[])
    return SimpleNamespace(
        unfilled=(),
        model=model,
        device=torch.device("cpu"),
        weight_bytes=0,
        pad_token_id=1,
        tokenizer=tokenizer,
    )


def make_samples(lengths, seed=0):
    generator = np.random.default_rng(seed)
    return Samples(tuple(generator.integers(5, 290, size=length) for length in lengths), {"seed": 0})


def measure(model, samples, **options):
    return gradnorm.measure(loaded(model), describe_anatomy(model), samples, **options)


def examples_of(model, samples):
    if "Masked" in type(model).__name__:
        return masked_examples(samples.tokens, MASK)
    return next_token_examples(samples.tokens)


def reference(model, examples):
    """{parameter name: gradient}, the loss: everything padded by hand into one batch, float64."""
    model = copy.deepcopy(model).double().requires_grad_(True)
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")  # the grouped kernels know no float64
    longest = max(len(example.input_ids) for example in examples)
    ids = torch.ones(len(examples), longest, dtype=torch.long)
    mask, targets = torch.zeros_like(ids), torch.full_like(ids, -100)
    for row, example in enumerate(examples):
        length = len(example.input_ids)
        ids[row, :length] = torch.tensor(example.input_ids)
        targets[row, :length] = torch.tensor(example.targets)
        mask[row, :length] = 1
    logprobs = model(input_ids=ids, attention_mask=mask).logits.log_softmax(dim=-1)
    wanted = targets >= 0
    loss = -logprobs[wanted, targets[wanted]].mean()
    loss.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}, float(loss.detach())


def norm(gradients, wanted):
    return math.sqrt(
        sum(float(gradient.square().sum()) for name, gradient in gradients.items() if wanted(name))
    )


def all_of(frame, part="all"):
    return frame[frame.part == part].set_index("layer").grad_norm


@pytest.mark.parametrize("memory", ["auto", 1])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_block_and_part_equals_plain_autograd_in_float64(family, memory):
    model = tiny.build(family)
    path, attention, feedforward = FAMILIES[family]
    samples = make_samples([2, 9, 17, 17, 5])
    gradients, loss = reference(model, examples_of(model, samples))
    found = measure(model, samples, batch_size=2, memory=memory)
    assert found.facts["loss_nats"] == pytest.approx(loss, rel=1e-6)
    blocks = all_of(found.frame)
    assert len(blocks) == 4
    for layer, value in blocks.items():
        start = f"{path}.{layer}."
        assert value == pytest.approx(norm(gradients, lambda n, s=start: n.startswith(s)), rel=1e-4)
        is_norm = [n for n in gradients if n.startswith(start) and "norm" in n.lower().replace("ln_", "norm")]
        assert all_of(found.frame, "norm")[layer] == pytest.approx(
            norm(gradients, lambda n, names=is_norm: n in names), rel=1e-4
        )
        for part, word in (("attention", attention), ("feedforward", feedforward)):
            inside = [
                n
                for n in gradients
                if n.startswith(start) and n not in is_norm and (word in n[len(start) :] if word else True)
            ]
            if not word:  # BERT's feed-forward is what is neither attention nor norm
                inside = [n for n in inside if attention not in n]
            assert all_of(found.frame, part)[layer] == pytest.approx(
                norm(gradients, lambda n, names=inside: n in names), rel=1e-4
            ), part


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_embedding_and_head_stand_outside_the_layers(family):
    model = tiny.build(family)
    samples = make_samples([8, 12])
    gradients, _ = reference(model, next_token_examples(samples.tokens))
    found = measure(model, samples)
    ends = found.frame[~found.frame.layer.between(0, 3)].set_index("part")
    tied = family == "gpt2"
    embedding = "transformer.wte.weight" if tied else "model.embed_tokens.weight"
    assert ends.layer["embedding"] == -1 and ends.layer["final_norm"] == 4
    assert ends.grad_norm["embedding"] == pytest.approx(norm(gradients, lambda n: n == embedding), rel=1e-4)
    assert ends.parameters["embedding"] == gradients[embedding].numel()
    assert ("head" in ends.index) is not tied
    assert any("tied to the embedding" in note for note in found.facts["notes"]) is tied
    if not tied:
        assert ends.layer["head"] == 4
        assert ends.grad_norm["head"] == pytest.approx(
            norm(gradients, lambda n: n == "lm_head.weight"), rel=1e-4
        )


def test_the_parts_make_the_whole_and_the_rms_is_per_parameter():
    frame = measure(tiny.build("qwen3"), make_samples([9, 9])).frame
    inside = frame[frame.layer.between(0, 3)]
    parts = inside[inside.part != "all"].groupby("layer")
    whole = inside[inside.part == "all"].set_index("layer")
    np.testing.assert_allclose(parts.grad_norm.apply(lambda g: math.sqrt((g**2).sum())), whole.grad_norm)
    assert (parts.parameters.sum() == whole.parameters).all()
    np.testing.assert_allclose(frame.grad_rms, frame.grad_norm / np.sqrt(frame.parameters))
    assert (frame["std"] == 0).all()


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(2, 24), min_size=2, max_size=7),
    batch_size=st.integers(1, 7),
    memory=st.sampled_from(["auto", "whole", 1, 2, 3]),
    turn=st.randoms(use_true_random=False),
)
def test_neither_micro_batches_nor_memory_nor_order_make_a_difference(lengths, batch_size, memory, turn):
    model = tiny.build("llama")
    samples = make_samples(lengths)
    order = list(samples.tokens)
    turn.shuffle(order)
    one = measure(model, samples, batch_size=len(lengths))
    other = measure(model, Samples(tuple(order), samples.facts), batch_size=batch_size, memory=memory)
    np.testing.assert_allclose(other.frame.grad_norm, one.frame.grad_norm, rtol=1e-4)
    assert other.facts["loss_nats"] == pytest.approx(one.facts["loss_nats"], rel=1e-6)


@pytest.mark.parametrize("family", ["bert", "gpt2", "gemma2"])
def test_padding_makes_no_difference(family):
    model = tiny.build(family)
    samples = make_samples([3, 20, 7, 11])
    frames = [
        measure(model, samples, batch_size=size, memory=memory).frame
        for size, memory in ((1, 2), (4, "auto"))
    ]
    np.testing.assert_allclose(frames[1].grad_norm, frames[0].grad_norm, rtol=1e-4)


def test_groups_take_several_passes_and_hold_one_groups_gradients_at_a_time(monkeypatch):
    from depthprobe.models.gradients import sums as gradients

    held = []
    add = gradients.GradientSums.add

    def counting(self, key, gradient):
        add(self, key, gradient)
        held.append(len({place for place, _ in self.sums}))

    monkeypatch.setattr(gradients.GradientSums, "add", counting)
    model, samples = tiny.build("llama"), make_samples([9, 9])
    whole = measure(model, samples)
    assert max(held) == 7 and whole.facts["passes"] == 1
    held.clear()
    grouped = measure(model, samples, memory=2)
    assert grouped.facts["passes"] > 1 and grouped.facts["checkpointed"] and max(held) <= 4


def test_per_batch_gives_mean_and_deviation_over_whole_batches():
    model, samples = tiny.build("llama"), make_samples([9, 14, 6, 11, 8])
    found = measure(model, samples, per_batch=2)
    norms = []
    for start in (0, 2):  # the fifth sample alone is not a batch of two
        part = Samples(samples.tokens[start : start + 2], samples.facts)
        norms.append(all_of(measure(model, part).frame).to_numpy())
    rows = found.frame[found.frame.part == "all"]
    np.testing.assert_allclose(rows.grad_norm, np.mean(norms, axis=0), rtol=1e-5)
    np.testing.assert_allclose(rows["std"], np.std(norms, axis=0, ddof=1), rtol=1e-4)
    assert found.facts["gradient_batches"] == 2 and found.facts["per_batch"] == 2
    assert "The last 1 of 5 samples do not fill a batch of 2 and are left out." in found.facts["notes"]
    four = Samples(samples.tokens[:4], samples.facts)
    assert found.facts["loss_nats"] == pytest.approx(measure(model, four).facts["loss_nats"], rel=1e-6)


TWO_PROCESSES = """
import sys
import numpy as np
from support import tiny
import torch
from test_gradnorm import loaded, make_samples
from depthprobe.models.anatomy.anatomy import describe_anatomy
from depthprobe.probes import gradnorm
from depthprobe.machine.processes import Processes

torch.set_num_threads(1)
processes = Processes.here()
model = tiny.build("llama")
for options in ({}, {"per_batch": 2}):
    samples = make_samples([9, 14, 6, 11, 8, 20])
    found = gradnorm.measure(
        loaded(model), describe_anatomy(model), samples, batch_size=1, processes=processes, **options
    )
    if processes.rank == 0:
        np.save(f"{sys.argv[1]}-{len(options)}", found.frame[["grad_norm", "std"]].to_numpy())
processes.wait()
processes.part()
"""


def test_two_processes_share_out_the_work_and_give_the_norm_of_one(tmp_path):
    (tmp_path / "run.py").write_text(TWO_PROCESSES)
    tests = Path(__file__).parents[1]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(tests), str(tests / "probes")]),
        "OMP_NUM_THREADS": "1",
    }
    launch = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29513"]
    command = [sys.executable, *launch, str(tmp_path / "run.py"), str(tmp_path / "two")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    model, samples = tiny.build("llama"), make_samples([9, 14, 6, 11, 8, 20])
    for options in ({}, {"per_batch": 2}):
        one = measure(model, samples, batch_size=1, **options).frame[["grad_norm", "std"]].to_numpy()
        two = np.load(tmp_path / f"two-{len(options)}.npy")
        np.testing.assert_allclose(two, one, rtol=1e-5, atol=1e-9)


def test_a_shared_block_has_a_gradient_for_each_of_its_layers():
    from transformers import AlbertConfig, AlbertForMaskedLM

    shape = {
        "vocab_size": 300, "embedding_size": 16, "hidden_size": 32, "intermediate_size": 64,
        "num_attention_heads": 4, "num_hidden_layers": 3, "max_position_embeddings": 64,
    }  # fmt: skip
    torch.manual_seed(0)
    shared = AlbertForMaskedLM(AlbertConfig(num_hidden_groups=1, **shape)).eval()
    untied = AlbertForMaskedLM(AlbertConfig(num_hidden_groups=3, **shape)).eval()
    weights = shared.state_dict()
    group = "albert.encoder.albert_layer_groups."
    untied.load_state_dict(
        {
            name: weights[name.replace(f"{group}1", f"{group}0").replace(f"{group}2", f"{group}0")]
            for name in untied.state_dict()
        }
    )
    samples = make_samples([9, 12, 12])
    gradients, loss = reference(untied, masked_examples(samples.tokens, MASK))
    for memory in ("auto", 1):
        found = measure(shared, samples, memory=memory)
        assert found.facts["loss_nats"] == pytest.approx(loss, rel=1e-5)
        for layer, value in all_of(found.frame).items():
            wanted = norm(gradients, lambda n, start=f"{group}{layer}.": n.startswith(start))
            assert value == pytest.approx(wanted, rel=1e-4), (memory, layer)
        assert any("shared by several layers" in note for note in found.facts["notes"])


def test_the_model_is_bit_for_bit_the_same_afterwards_also_after_an_error():
    model = tiny.build("llama")
    model.model.layers[1].mlp.up_proj.weight.requires_grad_(False)
    kept = torch.ones_like(model.lm_head.weight)
    model.lm_head.weight.grad = kept
    before = {name: value.clone() for name, value in model.state_dict().items()}
    flags = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    forwards = {name: vars(module).get("forward") for name, module in model.named_modules()}
    found = measure(model, make_samples([6, 8]), memory=1)
    assert any("frozen" in note for note in found.facts["notes"])
    with pytest.raises(ZeroDivisionError):
        measure(model, make_samples([6, 8]), advance=lambda count: 1 / 0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert flags == {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    assert forwards == {name: vars(module).get("forward") for name, module in model.named_modules()}
    assert model.lm_head.weight.grad is kept
    assert all(p.grad is None for name, p in model.named_parameters() if name != "lm_head.weight")


def test_frozen_parameters_are_measured_like_all_others():
    model, samples = tiny.build("llama"), make_samples([9, 9])
    free = measure(model, samples).frame
    model.requires_grad_(False)
    frozen = measure(model, samples)
    np.testing.assert_allclose(frozen.frame.grad_norm, free.grad_norm, rtol=1e-6)
    assert frozen.facts["notes"][0].startswith(f"{len(list(model.parameters()))} parameters are frozen")


def test_packed_parameters_are_named_and_not_counted():
    model = tiny.build("llama")
    block = model.model.layers[2]
    block.mlp.register_parameter(
        "packed", torch.nn.Parameter(torch.zeros(10, dtype=torch.int8), requires_grad=False)
    )
    found = measure(model, make_samples([9]))
    note = next(note for note in found.facts["notes"] if "packed" in note)
    assert "1 packed parameters (10 numbers, such as model.layers.2.packed" in note.replace(
        "mlp.packed", "packed"
    )
    counts = found.frame[found.frame.part == "all"].set_index("layer").parameters
    assert counts[2] == counts[1]


def test_half_precision_sums_micro_batches_in_float32():
    model = tiny.build("llama")
    samples = make_samples([12] * 24)
    exact = all_of(measure(model, samples).frame)
    rounded = all_of(measure(copy.deepcopy(model).bfloat16(), samples, batch_size=1).frame)
    np.testing.assert_allclose(rounded, exact, rtol=0.02)


def test_in_place_blocks_are_run_again_from_what_they_received():
    model = tiny.build("llama")
    samples = make_samples([9, 12])
    plain = measure(model, samples).frame.grad_norm
    block = model.model.layers[1]
    forward = block.forward

    def writing(hidden_states, *args, **kwargs):
        output = forward(hidden_states, *args, **kwargs)
        hidden_states.mul_(1.0).add_(0.0)
        return output

    block.forward = writing
    found = measure(model, samples, memory=1).frame.grad_norm
    np.testing.assert_allclose(found, plain, rtol=1e-5)


def test_out_of_memory_starts_a_group_again_with_smaller_micro_batches():
    model = tiny.build("llama")
    samples = make_samples([12] * 6)
    whole = measure(model, samples, batch_size=6).frame
    sizes = []

    def short_of_memory(module, args, kwargs):
        size = len(kwargs["input_ids"])
        sizes.append(size)
        if size > 2 or (size == 2 and sizes.count(2) == 2):  # also in the middle of a group
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    anatomy = describe_anatomy(model)
    handle = model.model.register_forward_pre_hook(short_of_memory, with_kwargs=True)
    found = gradnorm.measure(loaded(model), anatomy, samples, batch_size=6).frame
    handle.remove()
    np.testing.assert_allclose(found.grad_norm, whole.grad_norm, rtol=1e-5)
    assert 6 in sizes and sizes[-6:] == [1] * 6


@pytest.mark.parametrize("memory", ["auto", 1])
def test_nan_is_an_error_that_names_where_it_is(memory):
    model = tiny.build("llama")
    model.model.layers[2].mlp.down_proj.weight.data[0] = float("nan")
    with pytest.raises(MeasureError, match=r"The loss is nan\. Try --dtype"):
        measure(model, make_samples([6, 6]), memory=memory)


def test_a_gradient_that_is_not_a_number_is_an_error():
    model = tiny.build("llama")

    class Spoiling(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * float("inf")

    model.model.layers[3].register_forward_hook(lambda module, args, output: Spoiling.apply(output))
    with pytest.raises(MeasureError, match="The gradient at layer 0 is NaN or infinite"):
        measure(model, make_samples([6, 6]))


def test_a_loss_without_gradients_is_an_error():
    model = tiny.build("llama")
    model.lm_head.register_forward_hook(lambda module, args, output: output.detach())
    with pytest.raises(MeasureError, match="gives no gradient to its parameters"):
        measure(model, make_samples([6]))


def test_a_masked_model_needs_a_mask_token():
    model = loaded(tiny.build("bert"))
    model.tokenizer.mask_token_id = None
    with pytest.raises(MeasureError, match="no mask token"):
        gradnorm.measure(model, describe_anatomy(model.model), make_samples([9]))


@pytest.mark.parametrize(
    "wrong",
    [
        {"per_batch": 0},
        {"per_batch": 2},
        {"per_batch": 1.5},
        {"memory": "some"},
        {"memory": 0},
        {"batch_size": 0},
    ],
)
def test_arguments_that_mean_nothing_are_refused(wrong):
    with pytest.raises(OptionError):
        measure(tiny.build("llama"), make_samples([5]), **wrong)


@pytest.mark.parametrize("per_batch", [None, 2])
def test_an_interrupted_run_continues_where_it_was_and_ends_with_the_same_numbers(tmp_path, per_batch):
    from depthprobe.results.journal import Journal

    model, samples = tiny.build("llama"), make_samples([9, 14, 6, 11])
    options = {"memory": 1, "per_batch": per_batch}
    calls = []
    plain = measure(model, samples, **options, advance=calls.append)
    whole = len(calls)

    def interrupting(count):
        calls.append(count)
        if len(calls) == whole // 2 + 1:
            raise KeyboardInterrupt

    calls.clear()
    with Journal.open(tmp_path, {}) as journal, pytest.raises(KeyboardInterrupt):
        measure(model, samples, **options, journal=journal, advance=interrupting)
    calls.clear()
    with Journal.open(tmp_path, {}) as journal:
        assert journal.pieces
        found = measure(model, samples, **options, journal=journal, advance=calls.append)
    assert 0 < len(calls) < whole - 1
    assert found.frame.equals(plain.frame)
    assert found.facts == plain.facts  # also how many passes the whole work takes
