"""Every causal and masked model type of transformers, tiny: measured right, or refused with a sentence.

Each type is built with random weights and put through every probe, a skip of two layers, and cached
generation under that skip; each result is held against a reference of this file's own, and the outcome
against ``families.csv``. By default a part of the types runs, another one every day;
``DEPTHPROBE_FAMILIES=all pytest tests/test_families.py`` runs them all, and
``python tests/test_families.py`` writes the table anew.
"""

import csv
import datetime
import math
import os
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
import zoo

from depthprobe.errors import AnatomyError, MeasureError
from depthprobe.evaluation.engine import ScoreRequest, ScoringEngine
from depthprobe.models.anatomy import describe_anatomy
from depthprobe.models.intervene import delete_blocks, discard_blocks, skip_blocks
from depthprobe.probes import angular
from depthprobe.texts import Samples

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
KINDS = [(kind, "causal") for kind in zoo.CAUSAL] + [(kind, "masked") for kind in zoo.MASKED]
PARTS = 10

# Where blocks hand on more than the stream: a block that runs in vain still acts, so deletion is the truth.
CARRY = {"glm_moe_dsa", "zaya"}
# The first half of the layers computes the keys and values of the second: only that can be removed here.
SHARED_KEYS = {"gemma4", "gemma4_text", "gemma4_unified", "gemma4_unified_text"}


def todays_part():
    if os.environ.get("DEPTHPROBE_FAMILIES") == "all":
        return KINDS
    return KINDS[datetime.date.today().toordinal() % PARTS :: PARTS]


# --- the reference: forwards of its own, told apart by the order in which the blocks of a list are called


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
            zoo.forward(model, torch.tensor(sample)[None])
        states = [vector_at(seen[boundary], len(sample)) for boundary in range(layers + 1)]
        for low in range(layers):
            for high in range(low + 1, layers + 1):
                u, v = states[low], states[high]
                cosine = (u @ v / (u.norm() * v.norm())).clamp(-1, 1)
                found.setdefault((low, high - low), []).append(math.acos(cosine) / math.pi)
    return {key: float(np.mean(values)) for key, values in found.items()}


def vector_at(stream, length):
    """The last token's vector, in float64, whatever the order of the axes and whatever stands before."""
    if stream.shape[0] == length and stream.shape[1] == 1:  # XLNet
        return stream[-1, 0].double()
    if stream.shape[2] == length and stream.shape[1] != length:  # SqueezeBERT
        return stream[0, :, -1].double()
    prompts = 32 if stream.shape[1] == length + 32 else 0  # CPM-Ant
    return stream[0, prompts + length - 1].double()


# --- what every family goes through; a later probe joins with one line in CONTRACT


def loaded(model):
    return SimpleNamespace(model=model, device=torch.device("cpu"), weight_bytes=0, pad_token_id=1)


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


CONTRACT = [angular_is_right]


def truth_without(model, kind, anatomy, layers, ids):
    if kind in CARRY:
        with delete_blocks(model, anatomy, layers):
            return zoo.forward(model, ids)
    with tapped(model, anatomy.path, without=layers, layers=anatomy.layers):
        return zoo.forward(model, ids)


def skip_of(model, kind, anatomy, layers):
    """Which ways of leaving two layers out give what a model without them gives."""
    ids = torch.randint(5, 250, (2, 24), generator=torch.Generator().manual_seed(0))
    truth, whole = truth_without(model, kind, anatomy, layers, ids), zoo.forward(model, ids)
    scale = truth.abs().max()
    assert (truth - whole).abs().max() > 1e-3 * scale, "the layers make no difference"
    right = []
    for name, leaving_out in (
        ("passed through", skip_blocks(anatomy, layers)),
        ("discarded", discard_blocks(anatomy, layers)),
    ):
        with leaving_out:
            assert (zoo.forward(model, ids) - truth).abs().max() <= 1e-5 * scale, name
        right.append(name)
    assert torch.equal(zoo.forward(model, ids), whole), "the model is not what it was"
    return "; ".join(right)


def generation_of(model, kind, anatomy, layers, count=5):
    """Whether cached generation without two layers says what passes without a cache say."""
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
            logits = zoo.forward(model, rows)[:, -1]
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
    """How prune-sweep shares its work; its scores are held against plain passes, one text at a time."""
    generator = np.random.default_rng(2)
    start = tuple(int(token) for token in generator.integers(5, 250, 8))
    requests = [ScoreRequest((*start, 7 + choice, 9), 2) for choice in range(3)] + [ScoreRequest(start, 7)]
    engine = ScoringEngine(loaded(model), anatomy)
    engine.check([layers])
    scores = engine.score(requests, range(len(requests)), [(), layers])
    for variant in ((), layers):
        for request, found in zip(requests, scores[variant].loglikelihood, strict=True):
            ids = torch.tensor(request.tokens[:-1])[None]  # as lm-eval: the last answer is not read
            logits = truth_without(model, kind, anatomy, variant, ids) if variant else zoo.forward(model, ids)
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
        model = zoo.build(kind, masked=head == "masked")
    except zoo.NotBuildable as reason:
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


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "head"), todays_part(), ids=lambda value: str(value))
def test_a_family_is_measured_right_or_refused_with_the_recorded_sentence(kind, head):
    known = recorded()
    if (kind, head) not in known or transformers.__version__ != TRANSFORMERS:
        assert examine(kind, head)["outcome"] in ("works", "refused", "not buildable here")
    else:
        assert examine(kind, head) == known[kind, head]


# The version that the table was made with: another one may know other types, or split models differently.
TRANSFORMERS = "5.23.0"


def test_nearly_every_family_works_and_each_of_the_rest_has_a_reason():
    rows = list(recorded().values())
    if transformers.__version__ == TRANSFORMERS:
        assert {(row["model_type"], row["head"]) for row in rows} == set(KINDS)
    for head, share in (("causal", 0.95), ("masked", 0.90)):
        buildable = [row for row in rows if row["head"] == head and row["outcome"] != "not buildable here"]
        works = [row for row in buildable if row["outcome"] == "works"]
        assert len(works) >= share * len(buildable)
    assert all(len(row["reason"]) > 20 for row in rows if row["outcome"] != "works")


def test_the_readme_counts_what_the_table_holds():
    readme = TABLE.parents[1].joinpath("README.md").read_text(encoding="utf-8")
    for head in ("causal", "masked"):
        outcomes = [row["outcome"] for row in recorded().values() if row["head"] == head]
        counts = [outcomes.count(outcome) for outcome in ("works", "refused", "not buildable here")]
        assert f"| {len(outcomes)} {head} | {' | '.join(map(str, counts))} |" in readme


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
