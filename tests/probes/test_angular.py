"""The probe against an independent slow reference: plain loops, float64, hooks and batches of its own."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from depthprobe.errors import MeasureError, OptionError
from depthprobe.models.anatomy.anatomy import describe_anatomy
from depthprobe.probes import angular
from depthprobe.texts.samples import Samples
from support import tiny

PATHS = {
    "llama": "model.layers",
    "qwen3": "model.layers",
    "gpt2": "transformer.h",
    "opt": "model.decoder.layers",
    "bert": "bert.encoder.layer",
    "roberta": "roberta.encoder.layer",
    "mamba": "backbone.layers",
}


def reference_distances(model, path, samples, tokens="last"):
    """d[l, n] for every pair: one sample at a time, unpadded, float64, arccos of the cosine."""
    model = model.double()
    blocks = list(model.get_submodule(path))
    seen = {}
    handles = [
        block.register_forward_hook(
            lambda module, args, output, i=i: seen.__setitem__(
                i + 1, output if torch.is_tensor(output) else output[0]
            )
        )
        for i, block in enumerate(blocks)
    ]
    handles.append(
        blocks[0].register_forward_pre_hook(
            lambda module, args, kwargs: seen.__setitem__(0, args[0] if args else kwargs["hidden_states"]),
            with_kwargs=True,
        )
    )
    found = {}
    for sample in samples:
        with torch.no_grad():
            model(input_ids=torch.tensor(sample)[None])
        for low in range(len(blocks)):
            for high in range(low + 1, len(blocks) + 1):
                for position in [-1] if tokens == "last" else range(len(sample)):
                    u, v = seen[low][0, position].tolist(), seen[high][0, position].tolist()
                    dot = math.fsum(a * b for a, b in zip(u, v, strict=True))
                    lengths = math.sqrt(math.fsum(a * a for a in u)) * math.sqrt(math.fsum(b * b for b in v))
                    found.setdefault((low, high - low), []).append(math.acos(dot / lengths) / math.pi)
    for handle in handles:
        handle.remove()
    return found


def loaded(model):
    device = torch.device("cpu")
    return SimpleNamespace(model=model, device=device, weight_bytes=0, pad_token_id=1)


def make_samples(lengths, seed=0):
    generator = np.random.default_rng(seed)
    return Samples(tuple(generator.integers(5, 290, size=length) for length in lengths), {})


@pytest.mark.parametrize("family", PATHS)
def test_every_pair_of_boundaries_equals_the_slow_reference(family):
    model = tiny.build(family)
    samples = make_samples([2, 9, 17, 17, 5])
    frame = angular.measure(loaded(model), describe_anatomy(model), samples, batch_size=3).frame
    wanted = reference_distances(model, PATHS[family], samples.tokens)
    assert len(frame) == len(wanted) == 10
    for row in frame.itertuples():
        values = wanted[row.layer, row.n]
        assert row.distance == pytest.approx(np.mean(values), abs=1e-5)
        assert row.std == pytest.approx(np.std(values, ddof=1), abs=1e-5)
        assert row.samples == 5


def test_all_tokens_are_weighted_alike_whatever_sample_they_are_in():
    model = tiny.build("llama")
    samples = make_samples([2, 9, 17])
    frame = angular.measure(loaded(model), describe_anatomy(model), samples, tokens="all").frame
    wanted = reference_distances(model, PATHS["llama"], samples.tokens, tokens="all")
    for row in frame.itertuples():
        assert row.samples == 28
        assert row.distance == pytest.approx(np.mean(wanted[row.layer, row.n]), abs=1e-5)


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert", "mamba"])
def test_batch_size_and_order_of_samples_make_no_difference(family):
    model = tiny.build(family)
    anatomy = describe_anatomy(model)
    samples = make_samples([3, 30, 11, 11, 28, 2, 19])
    backwards = Samples(samples.tokens[::-1], {})
    frames = [
        angular.measure(loaded(model), anatomy, these, batch_size=size).frame
        for these, size in [(samples, 1), (samples, 3), (samples, None), (backwards, 7)]
    ]
    for frame in frames[1:]:
        np.testing.assert_allclose(frame[["distance", "std"]], frames[0][["distance", "std"]], atol=1e-5)


def test_the_last_boundary_is_taken_before_the_final_norm():
    model = tiny.build("gpt2")
    # Strongly uneven final norm: reading x^L after it would turn the vector far away.
    model.transformer.ln_f.weight.data = torch.linspace(-3, 3, 32)
    model.transformer.ln_f.bias.data.fill_(2.0)
    samples = make_samples([8, 8])
    frame = angular.measure(loaded(model), describe_anatomy(model), samples).frame
    wanted = reference_distances(model, PATHS["gpt2"], samples.tokens)
    last = frame[(frame.layer == 3) & (frame.n == 1)].distance.item()
    assert last == pytest.approx(np.mean(wanted[3, 1]), abs=1e-5)
    outputs = model.float()(torch.tensor(np.stack(samples.tokens)), output_hidden_states=True).hidden_states
    behind_norm = torch.nn.functional.cosine_similarity(outputs[3][:, -1], outputs[4][:, -1], dim=-1)
    assert abs(last - (behind_norm.arccos() / math.pi).mean().item()) > 0.05


def test_out_of_memory_halves_the_batch_and_changes_nothing():
    model = tiny.build("llama")
    anatomy = describe_anatomy(model)
    samples = make_samples([12] * 9)
    whole = angular.measure(loaded(model), anatomy, samples, batch_size=9)
    sizes = []

    def short_of_memory(module, args, kwargs):
        size = len(kwargs["input_ids"])
        sizes.append(size)
        if size > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    handle = anatomy.backbone.register_forward_pre_hook(short_of_memory, with_kwargs=True)
    halved = angular.measure(loaded(model), anatomy, samples, batch_size=9)
    handle.remove()
    assert sizes == [9, 5, 3, 2, 3, 1]
    np.testing.assert_allclose(halved.frame.distance, whole.frame.distance, atol=1e-6)


@pytest.mark.parametrize(
    ("value", "message"), [(float("nan"), "NaN or infinite"), (float("inf"), "NaN or infinite")]
)
def test_a_stream_without_numbers_is_an_error_that_names_the_layer(value, message):
    model = tiny.build("llama")
    anatomy = describe_anatomy(model)
    model.model.layers[2].mlp.down_proj.weight.data.fill_(value)
    with pytest.raises(MeasureError, match=rf"{message} from boundary x\^3 on \(the output of layer 2\)"):
        angular.measure(loaded(model), anatomy, make_samples([6, 6]))


def test_a_stream_of_zeros_has_no_direction():
    model = tiny.build("llama")
    anatomy = describe_anatomy(model)
    model.model.embed_tokens.weight.data.zero_()
    with pytest.raises(MeasureError, match=r"zero from boundary x\^0 on \(the embedding\)"):
        angular.measure(loaded(model), anatomy, make_samples([6, 6]))


def test_bf16_differs_from_float32_by_no_more_than_its_rounding():
    model = tiny.build("llama")
    anatomy = describe_anatomy(model)
    samples = make_samples([20] * 8)
    exact = angular.measure(loaded(model), anatomy, samples).frame.distance
    rounded = angular.measure(loaded(model.bfloat16()), anatomy, samples).frame.distance
    np.testing.assert_allclose(rounded, exact, atol=5e-3)


@pytest.mark.parametrize("wrong", [{"tokens": "some"}, {"batch_size": 0}, {"batch_size": "auto"}])
def test_arguments_that_mean_nothing_are_refused(wrong):
    model = tiny.build("llama")
    with pytest.raises(OptionError):
        angular.measure(loaded(model), describe_anatomy(model), make_samples([5]), **wrong)
