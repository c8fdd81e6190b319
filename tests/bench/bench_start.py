"""What prune-sweep runs before its first score, beside one plain pass of the model over a short batch.

    python tests/bench/bench_start.py                                  # 12 layers x 256
    python tests/bench/bench_start.py --model MODEL                    # any model that depthprobe loads
    python tests/bench/bench_start.py --hidden 4096 --layers 32 --heads 32 --vocab 32000 --dtype bfloat16

The start is the anatomy of the blocks, the ways of sharing work, and the removal of every layer; the plain
pass runs 8 texts of 64 tokens with the head at every position, as lm-eval does. Random weights unless MODEL
is given. Counted are passes and tokens that go into the embedding, and positions that the head reads.
"""

from __future__ import annotations

import argparse
import time
import types

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from depthprobe.evaluation.scoring.engine import ScoringEngine
from depthprobe.models.anatomy.anatomy import describe_anatomy
from depthprobe.models.loading.loading import load_model

ROWS, TOKENS = 8, 64


class Counts:
    """Passes, tokens and head positions of a model while it is looked at."""

    def __init__(self, model):
        self.passes = self.tokens = self.positions = 0
        model.get_input_embeddings().register_forward_pre_hook(self.embedding)
        model.get_output_embeddings().register_forward_pre_hook(self.head)

    def embedding(self, module, args):
        self.passes, self.tokens = self.passes + 1, self.tokens + args[0].numel()

    def head(self, module, args):
        self.positions += args[0].shape[:-1].numel()


def build(args):
    config = LlamaConfig(
        vocab_size=args.vocab, hidden_size=args.hidden, intermediate_size=round(args.hidden * 2.6875),
        num_hidden_layers=args.layers, num_attention_heads=args.heads, num_key_value_heads=args.heads,
    )  # fmt: skip
    with torch.device("meta"):
        net = LlamaForCausalLM(config).to(getattr(torch, args.dtype))
    net = net.to_empty(device=args.device).eval()
    generator = torch.Generator(args.device).manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.02, generator=generator)
            else:
                parameter.fill_(1.0)
    # buffers have no values on the meta device
    net.model.rotary_emb = type(net.model.rotary_emb)(config=config).to(args.device)
    return types.SimpleNamespace(
        model=net, device=torch.device(args.device), weight_bytes=sum(p.nbytes for p in net.parameters())
    )


def clock(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model")
    for name, value in [("hidden", 256), ("layers", 12), ("heads", 8), ("vocab", 8192), ("repeats", 3)]:
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    args = parser.parse_args()
    model = load_model(args.model, device=args.device, dtype=args.dtype) if args.model else build(args)
    net, device = model.model, model.device
    vocab = net.config.get_text_config().vocab_size
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, vocab, (ROWS, TOKENS), generator=generator).to(device)
    with torch.inference_mode():
        net(input_ids=ids, use_cache=False)  # warms up
    counts = Counts(net)
    plain, start = [], []
    for _ in range(args.repeats):
        begun = clock(device)
        with torch.inference_mode():
            net(input_ids=ids, use_cache=False)
        plain.append(clock(device) - begun)
        counts.passes = counts.tokens = counts.positions = 0
        begun = clock(device)
        anatomy = describe_anatomy(net)
        found = clock(device)
        engine = ScoringEngine(model, anatomy)
        shared = clock(device)
        engine.check([(layer,) for layer in range(anatomy.layers)])
        ended = clock(device)
        start.append((ended - begun, found - begun, shared - found, ended - shared))
    whole, first, second, third = sorted(start)[len(start) // 2]
    bare = sorted(plain)[len(plain) // 2]
    print(
        f"{anatomy.layers} layers x {anatomy.hidden}, vocabulary {vocab}, {device.type} {net.dtype}: "
        f"plain pass over {ROWS} x {TOKENS} tokens {bare:.2f} s; start {whole:.2f} s, {whole / bare:.2f} x "
        f"(blocks {first:.2f}, sharing {second:.2f}, removals {third:.2f}); "
        f"{counts.passes} passes, {counts.tokens} tokens, head at {counts.positions} positions; {engine.way}"
    )


if __name__ == "__main__":
    main()
