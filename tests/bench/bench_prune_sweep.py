"""A whole sweep of depthprobe beside the naive loop of one ``lm_eval.simple_evaluate`` per layer.

    python tests/bench/bench_prune_sweep.py
    python tests/bench/bench_prune_sweep.py --hidden 4096 --layers 32 --heads 32 --device cuda \\
        --dtype bfloat16

Same process, same model (random weights), same lm-eval tasks over made-up text in three shapes: ``mmlu``
(subjects whose questions share a long few-shot header, four one-letter answers), ``hellaswag`` (0-shot,
four endings behind one context) and ``rolling`` (wikitext: every token of long documents is scored). The
naive loop takes the block out of the module list, runs lm-eval at a fixed batch size and puts it back; the
batch size is the best of those tried on the whole model. Every number must agree.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import random
import statistics
import tempfile
import time
from pathlib import Path

import lm_eval
import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from transformers import LlamaConfig, LlamaForCausalLM

from depthprobe.evaluation.harness.work import TaskOptions, build_work, find_tasks
from depthprobe.models.anatomy.anatomy import describe_anatomy
from depthprobe.models.intervene import delete_blocks
from depthprobe.models.loading.loading import LoadedModel, load_model
from depthprobe.probes import prune_sweep
from depthprobe.results.journal import Journal
from depthprobe.texts.samples import Samples


def words(generator, count):
    """Return about ``count`` words of Python-like text (some 1.3 tokens each for the embedded tokenizer)."""
    common = "the value of self is not set when this method returns a new list and data for each name".split()
    return " ".join(generator.choices(common, k=count))


def write_tasks(directory, shape, items):
    """Write one shape's tasks as lm-eval YAML over local rows; return their names."""
    generator = random.Random(0)
    names = []
    for part in range(2 if shape == "mmlu" else 1):
        name = f"bench_{shape}_{part}"
        rows = []
        for index in range(items):
            if shape == "mmlu":
                row = {
                    "text": words(generator, 45) + "\nAnswer:",
                    "choices": list("ABCD"),
                    "label": index % 4,
                }
            elif shape == "hellaswag":
                endings = [words(generator, generator.randint(10, 22)) for _ in range(4)]
                row = {"text": words(generator, 55), "choices": endings, "label": index % 4}
            else:
                row = {"text": words(generator, 330)}
            rows.append(json.dumps(row))
        (directory / f"{name}.jsonl").write_text("\n".join(rows) + "\n")
        config = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(directory / f"{name}.jsonl")}},
            "test_split": "test",
            "doc_to_text": "{{text}}",
            "metadata": {"version": 1},
        }
        if shape == "rolling":
            config |= {"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{text}}"}
            config |= {"metric_list": [{"metric": "word_perplexity"}]}
        else:
            config |= {
                "output_type": "multiple_choice",
                "doc_to_choice": "{{choices}}",
                "doc_to_target": "label",
            }
            config |= {"metric_list": [{"metric": "acc"}]}
        if shape == "mmlu":
            config["description"] = words(generator, 400) + "\n\n"  # what five examples come to
        (directory / f"{name}.yaml").write_text(json.dumps(config))  # JSON is YAML
        names.append(name)
    return names


@contextlib.contextmanager
def hushed():
    """Keep lm-eval's bars and warnings out of the table."""
    logging.disable(logging.WARNING)
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        yield
    logging.disable(logging.NOTSET)


def evaluate(model, tokenizer, directory, names, batch_size):
    """Return lm-eval's numbers for the model as it stands."""
    with hushed():
        found = lm_eval.simple_evaluate(
            model=HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size),
            tasks=names,
            task_manager=TaskManager(include_path=str(directory), include_defaults=False),
            bootstrap_iters=0,
        )
    return {
        (task, *key.split(",")): value
        for task, results in found["results"].items()
        for key, value in results.items()
        if "," in key and "stderr" not in key
    }


def clock(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, value in [("hidden", 256), ("layers", 12), ("heads", 8), ("items", 24), ("repeats", 1)]:
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--shapes", default="mmlu,hellaswag,rolling")
    parser.add_argument("--batch-sizes", default="4,16")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    given = parser.parse_args()
    device, dtype = torch.device(given.device), getattr(torch, given.dtype)
    torch.manual_seed(0)
    source = load_model("builtin:pre-ln", device="cpu")
    config = LlamaConfig(
        vocab_size=4096, hidden_size=given.hidden, intermediate_size=round(given.hidden * 2.6875),
        num_hidden_layers=given.layers, num_attention_heads=given.heads, num_key_value_heads=given.heads,
        max_position_embeddings=2048, initializer_range=0.05, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    net = LlamaForCausalLM(config).to(device, dtype).eval()
    model = LoadedModel(net, source.tokenizer, source.source, device)
    anatomy = describe_anatomy(net)
    variants = prune_sweep.variants_of(None, 1, anatomy.layers)
    print(f"{given.layers} layers x {given.hidden}, {device} {given.dtype}, {len(variants)} variants")
    for shape in given.shapes.split(","):
        with tempfile.TemporaryDirectory() as place:
            directory = Path(place)
            names = write_tasks(directory, shape, given.items if shape != "rolling" else given.items // 2)
            timed = {}
            for size in map(int, given.batch_sizes.split(",")):
                start = clock(device)
                evaluate(net, source.tokenizer, directory, names, size)
                timed[size] = clock(device) - start
            best = min(timed, key=timed.get)
            ratios, spent = [], []
            for _ in range(given.repeats):
                start = clock(device)
                naive = {(): evaluate(net, source.tokenizer, directory, names, best)}
                for variant in variants:
                    with delete_blocks(net, anatomy, variant):
                        naive[variant] = evaluate(net, source.tokenizer, directory, names, best)
                middle = clock(device)
                with hushed():
                    options = TaskOptions(tuple(names), include_path=(directory,))
                    work = build_work(find_tasks(options), model)
                    none = Samples((work_sample(work),), {})
                    sweep = prune_sweep.prepare(model, anatomy, none, work, variants)
                    with Journal.open(directory / f"run-{len(ratios)}", {}) as journal:
                        prune_sweep.answer(sweep, journal)
                        outcomes = prune_sweep.measure(sweep, journal)[1]
                end = clock(device)
                spent.append((middle - start, end - middle))
                ratios.append((middle - start) / (end - middle))
            tolerance = 1e-3 if dtype == torch.float32 else 0.05
            for variant, numbers in naive.items():
                for key, value in numbers.items():
                    ours = outcomes[variant].aggregate[key]
                    agrees = abs(ours - value) <= tolerance * max(1.0, abs(value))
                    assert agrees, (shape, variant, key, ours, value)
            loop, ours = (statistics.median(times) for times in zip(*spent, strict=True))
            print(
                f"{shape:10s} naive loop {loop:7.1f} s (batch size {best})   depthprobe {ours:6.1f} s   "
                f"ratio {statistics.median(ratios):5.2f}   {sweep.engine.way}"
            )


def work_sample(work):
    """Return one short calibration sample, so that nothing but the tasks is timed."""
    import numpy as np

    return np.asarray(work.score_requests[0].tokens[:8], dtype=np.int64)


if __name__ == "__main__":
    main()
