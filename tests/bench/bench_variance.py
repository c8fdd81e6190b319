"""The probe variance beside a bare pass and the common way: time and peak memory as ratios in one process.

    python tests/bench/bench_variance.py
    python tests/bench/bench_variance.py --device cuda --dtype bfloat16 --hidden 4096 --layers 32 --heads 32

Three ways over the same model, tokens and batches:

* bare pass: the blocks run, nothing is read;
* keep all: ``output_hidden_states=True`` and hooks that keep every branch's output, then variance, cosine and
  ratio in float32 (how published scripts do it);
* depthprobe: the probe itself, which also checks that the branches add up.

Memory is what tensors made during a pass hold at most (weights not counted). The floor is the blocks'
arithmetic at the machine's matrix rate.
"""

from __future__ import annotations

import argparse
import statistics
from contextlib import ExitStack
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import torch
from bench_angular import matrix_rate, peak_bytes, seconds
from transformers import LlamaConfig, LlamaForCausalLM

from depthprobe.machine.batches import pad_batch, plan_batches, token_budget
from depthprobe.models.anatomy.anatomy import describe_anatomy
from depthprobe.probes import variance
from depthprobe.texts.samples import Samples


def keep_all(model, batches):
    """Return mean variances of stream and branches, and both influences, as published scripts take them."""
    sums, tokens = {}, 0
    for ids, mask in batches:
        kept = {}
        with ExitStack() as stack, torch.inference_mode():
            for layer, block in enumerate(model.model.layers):
                for kind, part in (("attention", block.self_attn), ("feedforward", block.mlp)):
                    hook = part.register_forward_hook(
                        lambda module, args, output, kept=kept, key=(kind, layer): kept.__setitem__(
                            key, output[0] if isinstance(output, tuple) else output
                        )
                    )
                    stack.callback(hook.remove)
            states = model.model(
                input_ids=ids, attention_mask=mask, output_hidden_states=True, use_cache=False
            ).hidden_states
        real = mask.bool()
        kept |= {("stream", boundary): state for boundary, state in enumerate(states)}
        values = {key: tensor[real].float().var(dim=-1) for key, tensor in kept.items()}
        for layer, (x, y) in enumerate(pairwise(states)):
            x, y = x[real].float(), y[real].float()
            values["cosine", layer] = torch.nn.functional.cosine_similarity(x, y, dim=-1)
            values["ratio", layer] = (y - x).norm(dim=-1) / x.norm(dim=-1)
        for key, value in values.items():
            sums[key] = sums.get(key, 0.0) + value.sum().item()
        tokens += int(real.sum())
    return {key: total / tokens for key, total in sums.items()}


def bare(anatomy, batches):
    with torch.inference_mode():
        for ids, mask in batches:
            anatomy.backbone(input_ids=ids, attention_mask=mask, use_cache=False)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, value in [("hidden", 256), ("layers", 12), ("heads", 8), ("vocab", 32000), ("samples", 12)]:
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--seq-len", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)  # on shared cores more of them only wait
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    given = parser.parse_args()
    device, dtype = torch.device(given.device), getattr(torch, given.dtype)

    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=given.vocab, hidden_size=given.hidden, intermediate_size=round(given.hidden * 2.6875),
        num_hidden_layers=given.layers, num_attention_heads=given.heads, num_key_value_heads=given.heads,
        max_position_embeddings=max(2048, given.seq_len),
    )  # fmt: skip
    with device:
        model = LlamaForCausalLM(config).eval().to(dtype)
    generator = np.random.default_rng(0)
    lengths = generator.integers(given.seq_len // 2, given.seq_len + 1, size=given.samples)
    samples = Samples(tuple(generator.integers(5, given.vocab, size=n) for n in lengths), {})
    anatomy = describe_anatomy(model)
    weight_bytes = sum(p.numel() * p.element_size() for p in model.parameters())
    loaded = SimpleNamespace(model=model, device=device, weight_bytes=weight_bytes, pad_token_id=0)
    budget = token_budget(device, variance._bytes_per_token(loaded, anatomy), weight_bytes)
    plan = plan_batches(samples.lengths, budget)
    batches = [
        tuple(t.to(device) for t in pad_batch([samples.tokens[i] for i in batch], 0)) for batch in plan
    ]
    size = max(map(len, plan))
    ways = {
        "bare pass": lambda: bare(anatomy, batches),
        "keep all": lambda: keep_all(model, batches),
        "depthprobe": lambda: variance.measure(loaded, anatomy, samples, batch_size=size),
    }
    frame, theirs = ways["depthprobe"]().frame, ways["keep all"]()
    apart = max(
        abs(theirs[row.point, row.layer] / row.variance - 1)
        for row in frame.itertuples()
        if (row.point, row.layer) != ("stream", given.layers)  # theirs reads x^L behind the final norm
    )

    times = {name: [] for name in ways}
    for _ in range(given.repeats):  # in turn, so that a drifting machine hits all alike
        for name, work in ways.items():
            times[name].append(seconds(work, device))
    one, first = batches[:1], Samples(tuple(samples.tokens[i] for i in plan[0]), {})
    peaks = {
        "bare pass": peak_bytes(lambda: bare(anatomy, one), device),
        "keep all": peak_bytes(lambda: keep_all(model, one), device),
        "depthprobe": peak_bytes(
            lambda: variance.measure(loaded, anatomy, first, batch_size=len(plan[0])), device
        ),
    }
    print(
        f"{given.layers} layers x {given.hidden}, {sum(samples.lengths)} tokens in {len(batches)} batches, "
        f"{device} {given.dtype}; variances agree to {apart:.1e}"
    )
    for name in ways:
        ratio = statistics.median(a / b for a, b in zip(times[name], times["bare pass"], strict=True))
        print(
            f"{name:12s} {statistics.median(times[name]):8.2f} s   {ratio:5.2f} x a bare pass's time   "
            f"{peaks[name] / 2**20:8.1f} MiB   {peaks[name] / peaks['bare pass']:5.2f} x its memory"
        )
    tokens = sum(ids.numel() for ids, _ in batches)
    in_blocks = sum(p.numel() for block in anatomy.blocks for p in block.parameters())
    attention = sum(4 * ids.shape[0] * ids.shape[1] ** 2 * given.hidden * given.layers for ids, _ in batches)
    work, rate = 2 * in_blocks * tokens + attention, matrix_rate(device, dtype)
    ours = statistics.median(times["depthprobe"])
    print(
        f"floor: {work / 1e9:,.0f} GFLOP in the blocks at {rate / 1e9:,.0f} GFLOP/s = {work / rate:.2f} s; "
        f"depthprobe takes {ours / (work / rate):.1f} x that"
    )


if __name__ == "__main__":
    main()
