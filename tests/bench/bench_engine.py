"""The engine against a good naive loop, on a random 12-layer Llama: times, their ratio and the work left.

    OMP_NUM_THREADS=1 python tests/bench/bench_engine.py [mmlu hellaswag arc rolling wikitext] [--hidden 256]

With one thread on a CPU the process's own time is taken, so that others on the machine do not count.

The naive loop does what everybody does, as well as it can be done: for the whole model and each model with
one block skipped, batches by length, the last-token choices of one question scored from one row, at the
best of several batch sizes. Both give the same numbers, which is checked.
"""

from __future__ import annotations

import argparse
import random
import time
import types

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from depthprobe.evaluation.scoring.engine import ScoreRequest, ScoringEngine
from depthprobe.evaluation.scoring.layout import lay_out
from depthprobe.models.anatomy.anatomy import describe_anatomy
from depthprobe.models.intervene import skip_blocks


def build(args):
    config = LlamaConfig(
        vocab_size=args.vocab,
        hidden_size=args.hidden,
        intermediate_size=args.hidden * 8 // 3,
        num_hidden_layers=args.layers,
        num_attention_heads=max(args.hidden // 64, 1),
        num_key_value_heads=max(args.hidden // 64, 1),
        max_position_embeddings=4096,
    )
    torch.manual_seed(0)
    return LlamaForCausalLM(config).eval().to(args.device, getattr(torch, args.dtype))


def requests_like(shape, vocab):
    generator = random.Random(0)

    def draw(count):
        return tuple(generator.randrange(5, vocab) for _ in range(count))

    if shape == "mmlu":
        headers = [draw(500) for _ in range(2)]
        items = [header + draw(generator.randint(60, 100)) for header in headers for _ in range(24)]
        return [ScoreRequest((*item, choice), 1) for item in items for choice in range(10, 14)]
    if shape == "hellaswag":
        contexts = [draw(generator.randint(60, 90)) for _ in range(48)]
        pairs = [(context, draw(generator.randint(15, 30))) for context in contexts for _ in range(4)]
        return [ScoreRequest(context + ending, len(ending)) for context, ending in pairs]
    if shape == "arc":  # short questions, endings of a few tokens
        contexts = [draw(generator.randint(15, 50)) for _ in range(96)]
        pairs = [(context, draw(generator.randint(1, 6))) for context in contexts for _ in range(4)]
        return [ScoreRequest(context + ending, len(ending)) for context, ending in pairs]
    if shape == "rolling":
        return [ScoreRequest(draw(generator.randint(200, 512)), 199) for _ in range(32)]
    if shape == "wikitext":  # every token scored
        return [ScoreRequest(text, len(text) - 1) for text in (draw(512) for _ in range(24))]
    raise SystemExit(f"no shape {shape}")


@torch.inference_mode()
def naive(model, anatomy, requests, variants, batch_size, device):
    """Return the loglikelihoods by variant, as lm-eval's HFLM computes them."""
    askers = {}
    for index, request in enumerate(requests):
        askers.setdefault(request.tokens[:-1], []).append(index)
    texts = sorted(askers, key=lambda text: (-len(text), text))
    answers = {}
    for variant in variants:
        total = np.zeros(len(requests))
        with skip_blocks(anatomy, variant):
            for first in range(0, len(texts), batch_size):
                part = texts[first : first + batch_size]
                ids = torch.zeros(len(part), len(part[0]), dtype=torch.int64)
                for row, text in enumerate(part):
                    ids[row, : len(text)] = torch.tensor(text)
                logits = model(input_ids=ids.to(device), use_cache=False).logits
                logprob = torch.log_softmax(logits, dim=-1, dtype=torch.float32)
                for row, text in enumerate(part):
                    most = max(requests[index].scored for index in askers[text])
                    own = logprob[row, len(text) - most : len(text)]
                    own.argmax(dim=-1)
                    for index in askers[text]:
                        request = requests[index]
                        target = torch.tensor(request.tokens[-request.scored :], device=device)
                        total[index] = float(own[-request.scored :].gather(1, target[:, None]).sum())
        answers[variant] = total
    return answers


def work_left(engine, model, anatomy, requests, chunks, args):
    """Return the floating-point operations of the engine's matrix products, variants and baseline."""
    layers = args.layers
    weights = sum(p.numel() for p in anatomy.blocks[0].parameters() if p.dim() > 1)
    passes = layers + layers * (layers - 1) // 2
    block = head = 0
    for chunk in chunks:
        for group in lay_out([requests[index] for index in chunk], engine._prices, None):
            ahead = 0 if group.prefix is None else len(group.prefix.tokens)
            if ahead:
                block += ahead * (2 * weights + 2 * args.hidden * ahead)
            for row in group.rows:
                tokens = len(row.tokens)
                block += tokens * (2 * weights + 4 * args.hidden * (ahead + tokens))
                head += len(np.unique(np.concatenate(row.at))) * 2 * args.hidden * args.vocab
    return passes * block + (layers + 1) * head


def matrix_rate(args):
    size = 1024 if args.device == "cpu" else 8192
    a = torch.randn(size, size, device=args.device, dtype=getattr(torch, args.dtype))
    best = 0.0
    for _ in range(5):
        begin = clock(args)
        for _ in range(4):
            a @ a
        best = max(best, 8 * size**3 / (clock(args) - begin))
    return best


def clock(args):
    if args.device != "cpu":
        torch.cuda.synchronize()
    elif torch.get_num_threads() == 1:
        return time.process_time()  # others on the machine do not count
    return time.perf_counter()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shapes", nargs="*", default=["mmlu", "hellaswag"])
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--vocab", type=int, default=8192)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--naive-sizes", type=int, nargs="*", default=[4, 16, 32])
    args = parser.parse_args()
    model = build(args)
    anatomy = describe_anatomy(model)
    loaded = types.SimpleNamespace(
        model=model,
        device=torch.device(args.device),
        weight_bytes=sum(p.numel() * p.element_size() for p in model.parameters()),
    )
    begin = clock(args)
    engine = ScoringEngine(loaded, anatomy)
    print(f"capability check {clock(args) - begin:.2f} s: {engine.way}")
    rate = matrix_rate(args)
    variants = [(), *((layer,) for layer in range(args.layers))]
    for shape in args.shapes or ["mmlu", "hellaswag"]:
        requests = requests_like(shape, args.vocab)
        chunks = engine.plan(requests)
        ours = []
        for _ in range(args.repeats):
            begin = clock(args)
            found = [engine.score(requests, chunk, variants) for chunk in chunks]
            ours.append(clock(args) - begin)
        trials = {}
        for size in args.naive_sizes:
            begin = clock(args)
            naive(model, anatomy, requests, variants[:2], size, loaded.device)
            trials[size] = clock(args) - begin
        size = min(trials, key=trials.get)
        theirs = []
        for _ in range(args.repeats):
            begin = clock(args)
            truth = naive(model, anatomy, requests, variants, size, loaded.device)
            theirs.append(clock(args) - begin)
        worst = 0.0
        for chunk, scores in zip(chunks, found, strict=True):
            for variant in variants:
                worst = max(worst, np.abs(scores[variant].loglikelihood - truth[variant][chunk]).max())
        work = work_left(engine, model, anatomy, requests, chunks, args)
        ours, theirs = min(ours), min(theirs)
        print(
            f"{shape}: {len(requests)} requests, {len(variants)} variants, {len(chunks)} chunks: "
            f"naive (batch {size}) {theirs:.2f} s, engine {ours:.2f} s, ratio {theirs / ours:.2f}; "
            f"largest difference {worst:.1e}; work left {work / 1e9:.0f} GFLOP, "
            f"{work / ours / rate:.0%} of the {rate / 1e9:.0f} GFLOP/s of a matrix product",
            flush=True,
        )


if __name__ == "__main__":
    main()
