"""Angular distance of depthprobe beside what people run today: time and peak memory as ratios in one process.

    python tests/bench/bench_angular.py
    python tests/bench/bench_angular.py --device cuda --dtype bfloat16 --hidden 4096 --layers 32 --heads 32

Three ways over the same model, tokens and batches:

* per-n loop: for every block size n a whole pass with ``output_hidden_states=True``, the last tokens picked
  in Python, arccos of the cosine (how the paper's and its descendants' scripts do it);
* single pass: the same once, all n from one pass;
* depthprobe: the probe itself.

Memory is what tensors made during a pass hold at most (weights not counted), from the allocator on CUDA and
from a count of live storages on a CPU. The floor is the blocks' arithmetic at the machine's matrix rate.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
import weakref
from types import SimpleNamespace

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig, LlamaForCausalLM

from depthprobe.machine.batches import pad_batch, plan_batches, token_budget
from depthprobe.models.anatomy.anatomy import describe_anatomy
from depthprobe.probes import angular
from depthprobe.texts.samples import Samples


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of storages that operations inside made and that are still alive."""

    def __init__(self):
        super().__init__()
        self.seen, self.now, self.peak = set(), 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        given = {
            t.untyped_storage()._cdata
            for t in torch.utils._pytree.tree_leaves((args, kwargs))
            if torch.is_tensor(t)
        }
        for tensor in torch.utils._pytree.tree_leaves(result):
            if torch.is_tensor(tensor):
                storage = tensor.untyped_storage()
                key, size = storage._cdata, storage.nbytes()
                if key in self.seen or key in given:
                    continue
                self.seen.add(key)
                self.now += size
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._freed, key, size)
        return result

    def _freed(self, key, size):
        self.seen.discard(key)
        self.now -= size


def peak_bytes(work, device):
    """Return the most bytes held at once beyond what was there before."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    with LiveBytes() as live:
        work()
    return live.peak


def seconds(work, device):
    """Return the time of one call."""
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def hidden_states_at_last_token(model, ids, mask):
    with torch.no_grad():
        states = model(
            input_ids=ids, attention_mask=mask, output_hidden_states=True, use_cache=False
        ).hidden_states
    last = mask.sum(dim=1) - 1
    return [torch.stack([state[row, last[row]] for row in range(len(ids))]) for state in states]


def arccos_distance(u, v):
    u, v = u.float(), v.float()
    cosine = (u * v).sum(-1) / (u.norm(dim=-1) * v.norm(dim=-1))
    return cosine.clamp(-1, 1).arccos() / math.pi


def per_n_loop(model, layers, batches):
    """Return {(layer, n): mean distance}, one pass over everything for each n."""
    found = {}
    for n in range(1, layers + 1):
        for ids, mask in batches:
            states = hidden_states_at_last_token(model, ids, mask)
            for layer in range(layers + 1 - n):
                found.setdefault((layer, n), []).append(arccos_distance(states[layer], states[layer + n]))
    return {pair: torch.cat(values).mean().item() for pair, values in found.items()}


def single_pass(model, layers, batches):
    """Return the same from one pass."""
    found = {}
    for ids, mask in batches:
        states = hidden_states_at_last_token(model, ids, mask)
        for n in range(1, layers + 1):
            for layer in range(layers + 1 - n):
                found.setdefault((layer, n), []).append(arccos_distance(states[layer], states[layer + n]))
    return {pair: torch.cat(values).mean().item() for pair, values in found.items()}


def matrix_rate(device, dtype):
    """Return the best multiply-add rate of a large matrix product, in FLOP/s."""
    size = 8192 if device.type == "cuda" else 1536
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    a @ b
    return max(2 * size**3 / seconds(lambda: a @ b, device) for _ in range(5))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, value in [("hidden", 256), ("layers", 12), ("heads", 8), ("vocab", 32000), ("samples", 32)]:
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--seq-len", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    given = parser.parse_args()
    device, dtype = torch.device(given.device), getattr(torch, given.dtype)

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=given.vocab, hidden_size=given.hidden, intermediate_size=round(given.hidden * 2.6875),
        num_hidden_layers=given.layers, num_attention_heads=given.heads, num_key_value_heads=given.heads,
        max_position_embeddings=max(2048, given.seq_len),
    )  # fmt: skip
    with device:
        torch.set_default_dtype(dtype)
        model = LlamaForCausalLM(config).eval()
        torch.set_default_dtype(torch.float32)
    generator = np.random.default_rng(0)
    lengths = generator.integers(given.seq_len // 2, given.seq_len + 1, size=given.samples)
    samples = Samples(tuple(generator.integers(5, given.vocab, size=n) for n in lengths), {})
    anatomy = describe_anatomy(model)
    weight_bytes = sum(p.numel() * p.element_size() for p in model.parameters())
    loaded = SimpleNamespace(model=model, device=device, weight_bytes=weight_bytes, pad_token_id=0)
    budget = token_budget(device, angular._bytes_per_token(loaded, anatomy, "last"), weight_bytes)
    plan = plan_batches(samples.lengths, budget)
    batches = [
        tuple(t.to(device) for t in pad_batch([samples.tokens[i] for i in batch], 0)) for batch in plan
    ]
    size = max(len(batch) for batch in plan)
    ways = {
        "per-n loop": lambda: per_n_loop(model, given.layers, batches),
        "single pass": lambda: single_pass(model, given.layers, batches),
        "depthprobe": lambda: angular.measure(loaded, anatomy, samples, batch_size=size),
    }
    frame = ways["depthprobe"]().frame
    single = ways["single pass"]()
    apart = max(
        abs(single[row.layer, row.n] - row.distance)
        for row in frame.itertuples()
        if row.layer + row.n < given.layers  # theirs reads x^L behind the final norm
    )

    times = {name: [] for name in ways}
    for _ in range(given.repeats):  # in turn, so that a drifting machine hits all alike
        for name, work in ways.items():
            times[name].append(seconds(work, device))
    one = batches[:1]
    peaks = {
        "per-n loop": peak_bytes(lambda: single_pass(model, given.layers, one), device),  # the same every n
        "single pass": peak_bytes(lambda: single_pass(model, given.layers, one), device),
        "depthprobe": peak_bytes(
            lambda: angular.measure(loaded, anatomy, Samples(tuple(samples.tokens[i] for i in plan[0]), {})),
            device,
        ),
    }

    def bare():
        with torch.inference_mode():
            anatomy.backbone(input_ids=one[0][0], attention_mask=one[0][1], use_cache=False)

    bare_peak = peak_bytes(bare, device)
    print(
        f"{given.layers} layers x {given.hidden}, {given.samples} samples of {min(lengths)}-{max(lengths)}, "
        f"{device} {given.dtype}, {len(batches)} batches; distances agree to {apart:.1e}"
    )
    ours = statistics.median(times["depthprobe"])
    for name in ways:
        ratio = statistics.median(a / b for a, b in zip(times[name], times["depthprobe"], strict=True))
        print(
            f"{name:12s} {statistics.median(times[name]):8.2f} s   {ratio:5.2f} x depthprobe's time   "
            f"{peaks[name] / 2**20:8.1f} MiB   {peaks[name] / peaks['depthprobe']:5.2f} x its memory"
        )
    print(
        f"{'bare pass':12s} {'':29s}       {bare_peak / 2**20:8.1f} MiB   "
        f"{bare_peak / peaks['depthprobe']:5.2f} x (one batch's own activations, nothing read)"
    )
    tokens = sum(ids.numel() for ids, _ in batches)
    in_blocks = sum(p.numel() for block in anatomy.blocks for p in block.parameters())
    attention = sum(4 * ids.shape[0] * ids.shape[1] ** 2 * given.hidden * given.layers for ids, _ in batches)
    work = 2 * in_blocks * tokens + attention
    rate = matrix_rate(device, dtype)
    print(
        f"floor: {work / 1e9:,.0f} GFLOP in the blocks at {rate / 1e9:,.0f} GFLOP/s = {work / rate:.2f} s; "
        f"depthprobe takes {ours / (work / rate):.1f} x that"
    )


if __name__ == "__main__":
    main()
