"""Saved runs of one made-up model, of any depth, without a model."""

import os

import numpy as np
import pandas as pd

from depthprobe.measurement import Column, Measurement, Table
from depthprobe.results.naming import usual_run_name
from depthprobe.results.store import reserve, save
from support import profile_frames

HEADLINES = {"mmlu": "acc", "arc_easy": "acc", "wikitext": "word_perplexity", "calibration": "loss"}
SWEEP = (
    *("task", "metric", "filter", "layer", "baseline", "pruned", "drop"),
    *("ci_low", "ci_high", "p_value", "p_adjusted", "flips", "docs"),
)


def importance(layers, seed=0):
    """How much each layer matters: most at the ends, least in the deep middle, with noise."""
    depth = np.arange(layers) / max(1, layers - 1)
    noise = np.random.default_rng(seed).normal(0, 0.08, layers)
    return np.exp(-4 * depth + noise) + 0.3 * np.exp(-12 * (1 - depth)) + 0.02


def angular_frame(layers, turns=None):
    """Angular distances: those of single layers as given, those of blocks as of a walk with right angles."""
    turns = 0.4 * importance(layers, 1) if turns is None else np.asarray(turns)
    rows = [
        (layer, n, min(1.0, float(np.hypot.reduce(turns[layer : layer + n]))), 0.01, 64)
        for layer in range(layers)
        for n in range(1, layers - layer + 1)
    ]
    return pd.DataFrame(rows, columns=("layer", "n", "distance", "std", "samples"))


def sweep_rows(task, drops, layers=None, half=0.01, baseline=0.6, docs=1000):
    """The rows of one task; p follows from drop and interval."""
    drops = np.asarray(drops, dtype="float64")
    layers = range(len(drops)) if layers is None else layers
    frame = pd.DataFrame(
        {"task": task, "metric": HEADLINES.get(task, "acc"), "filter": "none", "layer": layers}
    )
    frame = frame.assign(baseline=baseline, drop=drops, ci_low=drops - half, ci_high=drops + half)
    p = np.where(np.abs(drops) > half, 0.001, 1.0)
    frame = frame.assign(pruned=baseline + drops, p_value=p, p_adjusted=p, flips=7, docs=docs)
    return frame[list(SWEEP)]


def sweep_frame(layers, tasks=("mmlu",), seed=2):
    """A sweep whose drops go with the importance of the layers, the calibration loss included."""
    frames = [sweep_rows(task, -0.3 * importance(layers, seed + i)) for i, task in enumerate(tasks)]
    frames.append(sweep_rows("calibration", importance(layers, seed + 9), baseline=2.5))
    return pd.concat(frames, ignore_index=True)


def sweep_options(tasks, block=1):
    keys = {task: f"{task}/{HEADLINES.get(task, 'acc')}/none" for task in (*tasks, "calibration")}
    better = {
        key: HEADLINES.get(task, "acc") not in ("loss", "word_perplexity") for task, key in keys.items()
    }
    return {
        "tasks": list(tasks),
        "block": block,
        "higher_is_better": better,
        "chance": {key: 0.25 if better[key] else None for key in keys.values()},
        "detectable": {key: 0.0123 for key in keys.values()},
    }


def write_run(
    output, probe, tables, layers, *, model="owner/name", name=None, options=None, facts=None, **more
):
    """A saved run with these tables; its directory."""
    manifest = {
        "model": {"id": model, "layers": layers, "dtype": "float32", "commit": "0" * 40, **(facts or {})},
        "data": {"dataset": "allenai/c4", "samples": 64, "tokens": 9000, "seq_len": 256},
        "options": options or {},
        "versions": {"depthprobe": "0.1.0"},
        **more,
    }
    made = tuple(
        Table(stem, frame, tuple(Column(column, "", column) for column in frame.columns))
        for stem, frame in tables.items()
    )
    settings = {"model": model, "name": name, "facts": facts, "more": more}
    place = reserve(output, model, name or probe, settings)
    return save(place, Measurement(probe, made), manifest).directory


def write_angular(output, layers, *, turns=None, **options):
    return write_run(output, "angular", {"angular": angular_frame(layers, turns)}, layers, **options)


def write_sweep(output, layers, tasks=("mmlu",), *, frame=None, block=1, name=None, **options):
    frame = sweep_frame(layers, tasks) if frame is None else frame
    name = name or usual_run_name("prune-sweep", "-".join(tasks))
    facts = sweep_options(tasks, block)
    return write_run(
        output, "prune-sweep", {"prune_sweep": frame}, layers, name=name, options=facts, **options
    )


def write_model(output, layers, tasks=("mmlu",), **options):
    """Runs of all probes; the directory of the model."""
    directory = write_angular(output, layers, **options)
    stream = {
        "variance": profile_frames.robust(profile_frames.rising(layers)),
        "influence": profile_frames.influence(0.2 * importance(layers, 3)),
    }
    write_run(output, "variance", stream, layers, **options)
    write_run(output, "gradnorm", {"gradnorm": profile_frames.falling(layers)}, layers, **options)
    write_sweep(output, layers, tasks, **options)
    return directory.parent


def age(directory, seconds):
    """Make a run look as if it was finished so long ago."""
    path = directory / "manifest.json"
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))
