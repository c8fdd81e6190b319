"""What every causal and masked model type of transformers goes through, and the record of what came of it.

Each type is built tiny with random weights and put through every probe, a skip of two layers, and cached
generation under that skip; each result is held against a reference of this file's own. ``families.csv``
records the outcomes:

    PYTHONPATH=tests python -m support.families              # rewrites it
    PYTHONPATH=tests python -m support.families gpt2 bert    # prints the rows of some types, writes nothing
"""

import copy
import csv
import math
import sys
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers

from depthprobe.errors import AnatomyError, MeasureError
from depthprobe.evaluation.scoring.engine import ScoreRequest, ScoringEngine
from depthprobe.models.anatomy.anatomy import describe_anatomy
from depthprobe.models.gradients.objective import masked_examples, next_token_examples
from depthprobe.models.intervene import delete_blocks, discard_blocks, skip_blocks
from depthprobe.models.loading.checkpoint import is_masked
from depthprobe.probes import angular, gradnorm, variance
from depthprobe.texts.samples import Samples
from support import model_types

TABLE = Path(__file__).with_name("families.csv")
COLUMNS = (
    "model_type",
    "head",
    "outcome",
    "layers",
    "norms",
    "branches",
    "skip",
    "generation",
    "sharing",
    "reason",
)
KINDS = [(kind, "causal") for kind in model_types.CAUSAL] + [(kind, "masked") for kind in model_types.MASKED]
# The version that the table was made with: another one may know other types, or split models differently.
TRANSFORMERS = "5.23.0"

# Blocks hand on more than the stream: one whose output is discarded still acts, so deletion is the truth.
CARRY = {"glm_moe_dsa", "zaya"}
# Computations of their own in float32: the reference stays there too.
SINGLE = {"inkling2_loop_text", "inkling2_text", "longformer", "mra", "xglm"}
# Blocks of their own, with parts in common.
SHARE = {"zamba", "zamba2"}
# The first half of the layers computes the keys and values of the second: only that can be removed here.
SHARED_KEYS = {"gemma4", "gemma4_text", "gemma4_unified", "gemma4_unified_text"}


# --- the reference: forwards of its own, distinguished by the order in which the blocks of a list are called


def tensors(value):
    if torch.is_tensor(value):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors(item)


def stream_of(value):
    return next(t for t in tensors(value) if t.is_floating_point() and t.dim() == 3)


def replaced(value, old, new):
    if value is old:
        return new
    if isinstance(value, dict):
        return type(value)({key: replaced(item, old, new) for key, item in value.items()})
    if isinstance(value, (tuple, list)):
        items = [replaced(item, old, new) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


@contextmanager
def tapped(model, path, seen=None, without=(), layers=4):
    """Note the stream at every boundary, and hand on what a block received where it is to be left out."""
    calls = [0]

    def tap(forward):
        def run(*args, **kwargs):
            layer, calls[0] = calls[0] % layers, calls[0] + 1
            received = stream_of((*args, kwargs)).clone()
            output = forward(*args, **kwargs)
            if layer in without:
                output = replaced(output, stream_of(output), received)
            if seen is not None:
                seen.setdefault(0, received)
                seen[layer + 1] = stream_of(output).clone()
            return output

        return run

    with ExitStack() as stack:
        for block in model.get_submodule(path):
            vars(block)["forward"] = tap(block.forward)
            stack.callback(vars(block).pop, "forward")
        yield


def reference_distances(model, path, samples, layers):
    """Angular distances of the last token: one sample at a time, the arccos in float64."""
    found = {}
    for sample in samples:
        seen = {}
        with tapped(model, path, seen, layers=layers):
            model_types.forward(model, torch.tensor(sample)[None])
        states = [vector_at(seen[boundary], len(sample)) for boundary in range(layers + 1)]
        for low in range(layers):
            for high in range(low + 1, layers + 1):
                u, v = states[low], states[high]
                cosine = (u @ v / (u.norm() * v.norm())).clamp(-1, 1)
                found.setdefault((low, high - low), []).append(math.acos(cosine) / math.pi)
    return {key: float(np.mean(values)) for key, values in found.items()}


def vector_at(stream, length):
    """The last token's vector, in float64, whatever the order of the axes and whatever comes before."""
    if stream.shape[0] == length and stream.shape[1] == 1:  # XLNet
        return stream[-1, 0].double()
    if stream.shape[2] == length and stream.shape[1] != length:  # SqueezeBERT
        return stream[0, :, -1].double()
    prompts = 32 if stream.shape[1] == length + 32 else 0  # CPM-Ant
    return stream[0, prompts + length - 1].double()


# --- what every family goes through; a later probe joins with one line in CONTRACT


def loaded(model):
    tokenizer = SimpleNamespace(mask_token_id=4, all_special_ids=[])
    return SimpleNamespace(
        unfilled=(),
        model=model,
        device=torch.device("cpu"),
        weight_bytes=0,
        pad_token_id=1,
        tokenizer=tokenizer,
    )


def samples_for(seed=0, lengths=(9, 14, 6)):
    generator = np.random.default_rng(seed)
    return Samples(tuple(generator.integers(5, 250, size=length) for length in lengths), {})


def angular_is_right(model, anatomy):
    samples = samples_for()
    frame = angular.measure(loaded(model), anatomy, samples, batch_size=2).frame
    wanted = reference_distances(model, anatomy.path, samples.tokens, anatomy.layers)
    assert len(frame) == len(wanted)
    for row in frame.itertuples():
        assert row.distance == pytest.approx(wanted[row.layer, row.n], abs=2e-4), (row.layer, row.n)


def reference_gradients(model, anatomy, examples):
    """The squared norm of the gradient at each block, and the mean loss: one sample at a time, one pass."""
    exact = copy.deepcopy(model).requires_grad_(True)
    if model.config.model_type not in SINGLE:
        exact = exact.double()
    if hasattr(exact, "set_experts_implementation"):
        exact.set_experts_implementation("eager")  # the grouped kernels know no float64
    predicted = sum(int((example.targets >= 0).sum()) for example in examples)
    total = 0
    for example in examples:
        logits = model_types.logits(exact, torch.tensor(example.input_ids)[None])[0].double()
        places = [place for place, target in enumerate(example.targets) if target >= 0]
        logprobs = logits[places].log_softmax(dim=-1)
        total = total - sum(logprobs[row, example.targets[place]] for row, place in enumerate(places))
    (total / predicted).backward()
    blocks = exact.get_submodule(anatomy.path)
    squares = [
        sum(float(p.grad.square().sum()) for p in blocks[site.index].parameters() if p.grad is not None)
        for site in anatomy.sites
    ]
    return squares, float(total) / predicted


def gradnorm_is_right(model, anatomy):
    samples = samples_for()
    examples = next_token_examples(samples.tokens)
    if is_masked(model):
        examples = masked_examples(samples.tokens, mask_id=4)
    found = gradnorm.measure(loaded(model), anatomy, samples, batch_size=2)
    shared = len({id(block) for block in anatomy.blocks}) < anatomy.layers or model.config.model_type in SHARE
    rows = found.frame[found.frame.part == "all"]
    assert np.isfinite(found.frame.grad_norm).all() and len(rows) == anatomy.layers
    if shared:
        return  # checked against an untied model in tests/probes/test_gradnorm.py
    with torch.inference_mode(False), torch.enable_grad():
        wanted, loss = reference_gradients(model, anatomy, examples)
    assert found.facts["loss_nats"] == pytest.approx(loss, rel=1e-4)
    for row in rows.itertuples():
        assert row.grad_norm == pytest.approx(math.sqrt(wanted[row.layer]), rel=1e-3), row.layer


def vectors_at(stream, length):
    """Every token's vector, in float64, as :func:`vector_at` has the last one's."""
    if stream.shape[0] == length and stream.shape[1] == 1:  # XLNet
        return stream[:, 0].double()
    if stream.shape[2] == length and stream.shape[1] != length:  # SqueezeBERT
        return stream[0].T.double()
    prompts = 32 if stream.shape[1] == length + 32 else 0  # CPM-Ant
    return stream[0, prompts : prompts + length].double()


@contextmanager
def silenced(anatomy, layer, kind):
    """Let the branches of one kind add nothing in one layer."""

    def silence(module, args, kwargs, output):
        if anatomy.blocks[layer] not in running:
            return output
        residual = kwargs.get("residual", args[1] if len(args) > 1 else None) if whole[module] else None
        adds = next(tensors(output))
        return replaced(output, adds, torch.zeros_like(adds) if residual is None else residual.clone())

    running, whole = [], {}
    with ExitStack() as stack:
        block = anatomy.blocks[layer]
        stack.callback(block.register_forward_pre_hook(lambda *_: running.append(block)).remove)
        stack.callback(block.register_forward_hook(lambda *_: running.clear()).remove)
        for branch in anatomy.insides[layer].branches:
            if branch.kind == kind:
                module = block.get_submodule(branch.path)
                whole[module] = branch.carries_stream
                stack.callback(module.register_forward_hook(silence, with_kwargs=True).remove)
        yield


def reference_sizes(model, anatomy, samples):
    """Variance and rms of stream and branches, and both influences: one sample at a time, in float64.

    A branch is what the block adds while the others are silent: the feed-forward part is the rest.
    """
    sums = {}
    tokens = sum(map(len, samples))

    def add(key, *values):
        total = sums.setdefault(key, [0.0] * len(values))
        for place, value in enumerate(values):
            total[place] += float(value.sum()) / tokens

    def add_sizes(point, layer, x):
        mean = x.mean(dim=1, keepdim=True)
        add((point, layer), (x - mean).pow(2).sum(dim=1) / (x.shape[1] - 1), x.pow(2).mean(dim=1).sqrt())

    def boundaries(sample):
        seen = {}
        with tapped(model, anatomy.path, seen, layers=anatomy.layers):
            model_types.forward(model, torch.tensor(sample)[None])
        return [vectors_at(seen[boundary], len(sample)) for boundary in range(anatomy.layers + 1)]

    for sample in samples:
        stream = boundaries(sample)
        for boundary, x in enumerate(stream):
            add_sizes("stream", boundary, x)
        for layer, (x, y) in enumerate(pairwise(stream)):
            cosine = (x * y).sum(dim=1) / (x.norm(dim=1) * y.norm(dim=1))
            add(("influence", layer), 1 - cosine, (y - x).norm(dim=1) / x.norm(dim=1))
            branches = anatomy.insides[layer].branches
            kinds = sorted({branch.kind for branch in branches or ()})
            added = [y - x] if kinds else []
            if len(kinds) == 2:
                with silenced(anatomy, layer, "feedforward"):
                    attention = boundaries(sample)[layer + 1] - x
                added = [attention, y - x - attention]
            for kind, vectors in zip(kinds, added, strict=True):
                add_sizes(kind, layer, vectors)
    return sums


def variance_is_right(model, anatomy):
    samples = samples_for()
    found = variance.measure(loaded(model), anatomy, samples, batch_size=2)
    sizes, influence = (table.frame for table in found.tables)
    wanted = reference_sizes(model, anatomy, samples.tokens)
    assert len(sizes) + len(influence) == len(wanted)
    for row in sizes.itertuples():
        place = row.point, row.layer
        assert (row.variance, row.rms) == pytest.approx(wanted[place], rel=1e-3), place
        assert row.tokens == found.facts["tokens"] == sum(samples.lengths)
    for row in influence.itertuples():
        values = wanted["influence", row.layer]
        assert (row.block_influence, row.contribution_ratio) == pytest.approx(values, rel=1e-3, abs=2e-5)
    left_out = sorted(layer for layers in found.facts["without_branches"].values() for layer in layers)
    assert left_out == list(anatomy.without_branches)


CONTRACT = [angular_is_right, gradnorm_is_right, variance_is_right]


def truth_without(model, kind, anatomy, layers, ids):
    if kind in CARRY:
        with delete_blocks(model, anatomy, layers):
            return model_types.forward(model, ids)
    with tapped(model, anatomy.path, without=layers, layers=anatomy.layers):
        return model_types.forward(model, ids)


def skip_of(model, kind, anatomy, layers):
    """Which ways of leaving two layers out give what a model without them gives."""
    ids = torch.randint(5, 250, (2, 24), generator=torch.Generator().manual_seed(0))
    truth, whole = truth_without(model, kind, anatomy, layers, ids), model_types.forward(model, ids)
    scale = truth.abs().max()
    assert (truth - whole).abs().max() > 1e-3 * scale, "the layers make no difference"
    right = []
    for name, leaving_out in (
        ("passed through", skip_blocks(anatomy, layers)),
        ("discarded", discard_blocks(anatomy, layers)),
    ):
        with leaving_out:
            assert (model_types.forward(model, ids) - truth).abs().max() <= 1e-5 * scale, name
        right.append(name)
    assert torch.equal(model_types.forward(model, ids), whole), "the model is not what it was"
    return "; ".join(right)


def generation_of(model, kind, anatomy, layers, count=5):
    """Whether cached generation without two layers gives what passes without a cache give."""
    ids = torch.randint(5, 250, (2, 10), generator=torch.Generator().manual_seed(1))

    def generated():
        return model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=count,
            min_new_tokens=count,
            do_sample=False,
        )[:, ids.shape[1] :]

    def step_by_step():
        rows = ids
        for _ in range(count):
            logits = model_types.forward(model, rows)[:, -1]
            logits[:, 1] = -math.inf  # the end of text, which min_new_tokens forbids
            rows = torch.cat([rows, logits.argmax(dim=-1)[:, None]], dim=1)
        return rows[:, ids.shape[1] :]

    try:
        cached = generated()
    except Exception as error:  # whatever transformers raises for a type that it cannot generate with
        return f"not by transformers ({type(error).__name__})"
    if not torch.equal(cached, step_by_step()):
        return "cached differs from uncached without us"
    with discard_blocks(anatomy, layers):
        cached = generated()
    if kind in CARRY:
        with delete_blocks(model, anatomy, layers):
            truth = step_by_step()
    else:
        with tapped(model, anatomy.path, without=layers, layers=anatomy.layers):
            truth = step_by_step()
    assert torch.equal(cached, truth), "cached generation without layers is wrong"
    return "right"


def sharing_of(model, kind, anatomy, layers):
    """How prune-sweep shares its work; its scores are checked against plain passes, one text at a time."""
    generator = np.random.default_rng(2)
    start = tuple(int(token) for token in generator.integers(5, 250, 8))
    requests = [ScoreRequest((*start, 7 + choice, 9), 2) for choice in range(3)] + [ScoreRequest(start, 7)]
    engine = ScoringEngine(loaded(model), anatomy)
    engine.check([layers])
    scores = engine.score(requests, range(len(requests)), [(), layers])
    for variant in ((), layers):
        for request, found in zip(requests, scores[variant].loglikelihood, strict=True):
            ids = torch.tensor(request.tokens[:-1])[None]  # as lm-eval: the last answer is not read
            if variant:
                logits = truth_without(model, kind, anatomy, variant, ids)
            else:
                logits = model_types.forward(model, ids)
            logprobs = logits[0].double().log_softmax(-1)
            wanted = sum(
                float(logprobs[place - 1, request.tokens[place]])
                for place in range(len(request.tokens) - request.scored, len(request.tokens))
            )
            assert found == pytest.approx(wanted, abs=1e-3, rel=1e-4), (variant, request)
    return engine.way


def examine(kind, head):
    """Return the row of the table for one type; anything wrong raises."""
    row = dict.fromkeys(COLUMNS, "") | {"model_type": kind, "head": head}
    try:
        model = model_types.build(kind, masked=head == "masked")
    except model_types.NotBuildable as reason:
        return row | {"outcome": "not buildable here", "reason": str(reason)}
    try:
        anatomy = describe_anatomy(model)
    except AnatomyError as refusal:
        return row | {"outcome": "refused", "reason": str(refusal)}
    layers = (anatomy.layers - 2, anatomy.layers - 1) if kind in SHARED_KEYS or kind in CARRY else (1, 2)
    placement = anatomy.norm_placement
    row |= {"outcome": "works", "layers": str(anatomy.layers), "norms": placement}
    row["branches"] = "no" if anatomy.without_branches else "yes"
    with torch.inference_mode():
        for is_right in CONTRACT:
            is_right(model, anatomy)
        row["skip"] = skip_of(model, kind, anatomy, layers)
        if head == "causal":
            row["generation"] = generation_of(model, kind, anatomy, layers)
            try:
                row["sharing"] = sharing_of(model, kind, anatomy, layers)
            except MeasureError as refusal:
                row["sharing"] = f"refused: {refusal}"
    return row


def recorded():
    with TABLE.open(encoding="utf-8", newline="") as file:
        return {(row["model_type"], row["head"]): row for row in csv.DictReader(file)}


if __name__ == "__main__":
    import warnings

    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    rows, wrong = [], 0
    for kind, head in [item for item in KINDS if not sys.argv[1:] or item[0] in sys.argv[1:]]:
        try:
            rows.append(examine(kind, head))
        except Exception as error:
            wrong += 1
            print(f"WRONG {kind} {head}: {type(error).__name__}: {str(error)[:300]}", flush=True)
    if not sys.argv[1:]:
        with TABLE.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    else:
        for row in rows:
            print(row)
    print(len(rows), "rows,", wrong, "wrong")
