"""Gradient norms of depthprobe beside plain ``loss.backward()``: time and peak memory beyond the weights.

    python tests/bench/bench_gradnorm.py
    python tests/bench/bench_gradnorm.py --device cuda --dtype bfloat16 --hidden 4096 --layers 32 --heads 32

Ways over the same model, tokens and micro-batches, in one process:

* backward: ``loss.backward()`` for each micro-batch, gradients left to add up in ``.grad``, norms at the end
  (what a script does; in bf16 the sums are rounded at every step);
* whole: the probe, all gradients at once;
* N blocks: the probe with ``--memory N``: groups of blocks in several passes, blocks run again in the
  backward pass.

Memory is what tensors made during the work hold at most, weights not counted. Beside each way stands what it
cannot do without: the float32 gradients of one group, and for the groups one micro-batch's stream at every
boundary and its logits with their gradient.
"""

from __future__ import annotations

import argparse
import math
import statistics
from types import SimpleNamespace

import numpy as np
import torch
from bench_angular import peak_bytes, seconds
from transformers import LlamaConfig, LlamaForCausalLM

from depthprobe.machine.batches import pad_batch, plan_batches
from depthprobe.models.anatomy.anatomy import describe_anatomy
from depthprobe.models.gradients.objective import NOT_PREDICTED, next_token_examples
from depthprobe.models.gradients.parameters import holdings_of
from depthprobe.models.gradients.plan import gradient_bytes, plan_gradients
from depthprobe.probes import gradnorm
from depthprobe.texts.samples import Samples


def plain(model, examples, batches):
    """Return the norm of each block by plain backward passes."""
    model.zero_grad(set_to_none=True)
    predicted = sum(example.predicted for example in examples)
    for batch in batches:
        ids, mask = pad_batch([examples[index].input_ids for index in batch], 0)
        targets, _ = pad_batch([examples[index].targets for index in batch], NOT_PREDICTED)
        ids, mask, targets = (tensor.to(model.device) for tensor in (ids, mask, targets))
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits.float()
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
        (loss / predicted).backward()
    norms = [
        math.sqrt(sum(float(p.grad.float().square().sum()) for p in block.parameters()))
        for block in model.model.layers
    ]
    model.zero_grad(set_to_none=True)
    return norms


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, value in [("hidden", 256), ("layers", 12), ("heads", 8), ("vocab", 4096), ("samples", 8)]:
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--seq-len", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=512, help="a micro-batch")
    parser.add_argument("--groups", default="6,3,1", help="blocks at a time")
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
    examples = next_token_examples(samples.tokens)
    anatomy = describe_anatomy(model)
    weight_bytes = sum(p.numel() * p.element_size() for p in model.parameters())
    loaded = SimpleNamespace(
        model=model, device=device, weight_bytes=weight_bytes, pad_token_id=0, unfilled=()
    )
    size = max(1, given.tokens // given.seq_len)
    batches = plan_batches(samples.lengths, given.tokens, size)
    holdings = holdings_of(model, anatomy)
    ways = {"backward": lambda: plain(model, examples, batches)}
    needed = {"backward": sum(map(gradient_bytes, holdings)) * dtype.itemsize // 4}
    stream = size * given.seq_len * (given.layers * given.hidden + 2 * given.vocab) * dtype.itemsize
    for memory in ("whole", *map(int, given.groups.split(","))):
        name = memory if memory == "whole" else f"{memory} block{'s' * (memory > 1)}"
        ways[name] = lambda memory=memory: gradnorm.measure(
            loaded, anatomy, samples, batch_size=size, memory=memory
        )
        plan = plan_gradients(holdings, config, given.hidden, dtype, device, memory)
        group = max(sum(gradient_bytes(holdings[place]) for place in group) for group in plan.groups)
        needed[name] = group + (stream if plan.checkpoint else 0)

    wanted = np.array(ways["backward"]())
    apart, times, peaks, passes = {}, {name: [] for name in ways}, {}, {"backward": 1}
    for name in list(ways)[1:]:
        found = ways[name]()
        norms = found.frame[found.frame.part == "all"].grad_norm.to_numpy()
        apart[name] = float(np.abs(norms / wanted - 1).max())
        passes[name] = found.facts["passes"]
    for _ in range(given.repeats):  # in turn, so that a drifting machine hits all alike
        for name, work in ways.items():
            times[name].append(seconds(work, device))
    for name, work in ways.items():
        peaks[name] = peak_bytes(work, device)
    print(
        f"{given.layers} layers x {given.hidden}, {given.samples} samples of {min(lengths)}-{max(lengths)}, "
        f"{device} {given.dtype}, {len(batches)} micro-batches; weights {weight_bytes / 2**20:.0f} MiB; "
        f"norms agree with backward to {max(apart.values()):.1e}"
    )
    for name in ways:
        ratio = statistics.median(a / b for a, b in zip(times[name], times["backward"], strict=True))
        print(
            f"{name:9s} {passes[name]:3d} pass{'es' * (passes[name] > 1):2s} "
            f"{statistics.median(times[name]):7.2f} s   {ratio:5.2f} x backward's time   "
            f"{peaks[name] / 2**20:7.1f} MiB beyond the weights, {peaks[name] / peaks['backward']:4.2f} x "
            f"backward's; needs {needed[name] / 2**20:6.1f}"
        )


if __name__ == "__main__":
    main()
