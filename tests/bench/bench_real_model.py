"""A whole ``depthprobe prune-sweep`` of a real model beside one whole stock lm-eval process per layer.

    python tests/bench/bench_real_model.py MODEL --tasks arc_easy --limit 25 --layers 3,9,15
    python tests/bench/bench_real_model.py MODEL --tasks arc_easy --limit 200 --stock-layers 0,9

MODEL is a directory that plain transformers loads, or a .gguf file, and the tasks' data must be within
reach. The stock side loads the model with transformers, takes the block out of the module list and the
configuration's list of layer types, and calls ``lm_eval.simple_evaluate``; each variant is a process of its
own, as people do it. ``--stock-layers`` runs it for some layers only and multiplies their mean time, which
is the same work for each. Accuracies must agree. Times are those of whole processes from their start to
their end: wall clock, and CPU seconds in parentheses.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def stock(model, tasks, limit, layer):
    """Print lm-eval's numbers for a model without one layer, as JSON; runs in a process of its own."""
    import lm_eval
    import torch
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = Path(model)
    place, more = (str(path.parent), {"gguf_file": path.name}) if path.is_file() else (model, {})
    net = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32, **more).eval()
    if layer >= 0:
        blocks = net.model.layers
        net.model.layers = torch.nn.ModuleList(b for number, b in enumerate(blocks) if number != layer)
        for number, block in enumerate(net.model.layers):
            block.self_attn.layer_idx = number
        for name, values in vars(net.config).items():
            if isinstance(values, list) and len(values) == len(blocks):
                setattr(net.config, name, [v for number, v in enumerate(values) if number != layer])
        net.config.num_hidden_layers -= 1
    tokenizer = AutoTokenizer.from_pretrained(place, **more)
    found = lm_eval.simple_evaluate(
        model=HFLM(pretrained=net, tokenizer=tokenizer, batch_size=8),
        tasks=tasks.split(","),
        limit=limit,
        bootstrap_iters=0,
    )
    numbers = {
        f"{task}/{key}": value
        for task, results in found["results"].items()
        for key, value in results.items()
        if "," in key and "stderr" not in key
    }
    print("NUMBERS " + json.dumps(numbers))


def timed(command):
    """Return wall seconds, CPU seconds and standard output of a process."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with status {done.returncode}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def sweep(args, output):
    """Return the times of a whole sweep, and its numbers by layer (-1: the whole model)."""
    command = [sys.executable, "-m", "depthprobe", "prune-sweep", args.model, "--task", args.tasks]
    command += ["--limit", str(args.limit), "--dtype", "float32", "--output", str(output)]
    command += args.options.split()
    command += ["--layers", args.layers] if args.layers else []
    wall, cpu, _ = timed(command)
    numbers = {}
    (table,) = output.rglob("prune_sweep.csv")
    with table.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            key = f"{row['task']}/{row['metric']},{row['filter']}"
            numbers.setdefault(-1, {})[key] = float(row["baseline"])
            numbers.setdefault(int(row["layer"]), {})[key] = float(row["pruned"])
    return wall, cpu, numbers


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--tasks", default="arc_easy")
    parser.add_argument("--limit", type=int, default=25)
    parser.add_argument("--layers", help="layers of the sweep; all by default")
    parser.add_argument("--stock-layers", help="layers for which the stock side runs; those of the sweep")
    parser.add_argument("--options", default="--dataset builtin", help="more for the sweep, in one string")
    parser.add_argument("--stock-only", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.stock_only is not None:
        stock(args.model, args.tasks, args.limit, args.stock_only)
        return
    os.environ["DEPTHPROBE_CACHE"] = tempfile.mkdtemp()  # nothing is known of the model
    with tempfile.TemporaryDirectory() as output:
        wall, cpu, ours = sweep(args, Path(output))
    variants = sorted(ours)
    print(f"depthprobe, {len(variants)} variants: {wall:.0f} s ({cpu:.0f})", flush=True)
    chosen = [int(layer) for layer in (args.stock_layers or "").split(",") if layer] or variants[1:]
    times = []
    for layer in [-1, *chosen]:
        me = [sys.executable, __file__, args.model, "--tasks", args.tasks, "--limit", str(args.limit)]
        one = timed([*me, "--stock-only", str(layer)])
        times.append(one[:2])
        found = json.loads(one[2].partition("NUMBERS ")[2])
        differing = {
            key: (value, ours[layer].get(key))
            for key, value in found.items()
            if key in ours[layer] and abs(ours[layer][key] - value) > 1e-9
        }
        who = "whole model" if layer < 0 else f"without layer {layer}"
        print(f"stock, {who}: {one[0]:.0f} s ({one[1]:.0f}); differing: {differing or 'none'}", flush=True)
    naive_wall, naive_cpu = (len(variants) * sum(column) / len(times) for column in zip(*times, strict=True))
    print(
        f"naive loop {naive_wall:.0f} s ({naive_cpu:.0f}) from {len(times)} of {len(variants)} runs; "
        f"ratio {naive_wall / wall:.2f} ({naive_cpu / cpu:.2f})"
    )


if __name__ == "__main__":
    main()
