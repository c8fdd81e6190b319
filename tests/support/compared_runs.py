"""Runs to be compared, saved as probes save them, without a model."""

import io

import numpy as np
import pandas as pd

from depthprobe.measurement import Column, Measurement, Table
from depthprobe.metrics.detection import holm
from depthprobe.metrics.paired import paired_difference
from depthprobe.results.store import reserve, save
from support import profile_frames

TEXT = {"dataset": "builtin", "samples": 8, "seq_len": 64, "seed": 0}
KEY = "quiz/acc/none"


def angular(layers, seed):
    steps = np.random.default_rng(seed).uniform(0.02, 0.1, layers)
    rows = [
        (layer, n, min(1.0, float(np.hypot.reduce(steps[layer : layer + n]))), 0.01, 8)
        for layer in range(layers)
        for n in range(1, layers - layer + 1)
    ]
    return pd.DataFrame(rows, columns=["layer", "n", "distance", "std", "samples"])


def sweep(layers, seed, docs=200):
    """Drops of a random quiz, and the [variant, doc] scores that they are the means of."""
    random = np.random.default_rng(seed)
    whole = random.random(docs) < 0.7
    scores = [whole, *(np.where(random.random(docs) < 0.1, ~whole, whole) for _ in range(layers))]
    scores = np.array(scores, dtype="float64")
    found = [paired_difference(scores[0], variant) for variant in scores[1:]]
    adjusted = holm([each.p_value for each in found])
    rows = [
        ("quiz", "acc", "none", layer, scores[0].mean(), scores[layer + 1].mean(),
         scores[layer + 1].mean() - scores[0].mean(), each.ci_low, each.ci_high, each.p_value,
         float(p), each.flips, docs)
        for layer, (each, p) in enumerate(zip(found, adjusted, strict=True))
    ]  # fmt: skip
    names = ["task", "metric", "filter", "layer", "baseline", "pruned", "drop", "ci_low", "ci_high"]
    return pd.DataFrame(rows, columns=[*names, "p_value", "p_adjusted", "flips", "docs"]), scores


def items_of(scores):
    """The file of a sweep's [variant, doc] scores."""
    buffer = io.BytesIO()
    arrays = {f"{KEY}.docs": np.arange(scores.shape[1]), f"{KEY}.scores": scores}
    variants = np.array([[-1], *([layer] for layer in range(len(scores) - 1))])
    np.savez_compressed(buffer, variants=variants, **arrays)
    return buffer.getvalue()


def save_run(root, model, probe, layers=4, seed=0, items=True, text=TEXT, tokens="t", **settings):
    """A saved run of a probe, of the form that its command saves."""
    extra, options = {}, {}
    if probe == "angular":
        frames = {"angular": angular(layers, seed)}
    elif probe == "variance":
        least = np.linspace(0.5, 0.1, layers) + seed / 100
        frames = {
            "variance": profile_frames.robust(profile_frames.rising(layers, seed)),
            "influence": profile_frames.influence(least),
        }
    elif probe == "gradnorm":
        frames = {"gradnorm": profile_frames.falling(layers, seed)}
    else:
        frame, scores = sweep(layers, seed)
        frames = {"prune_sweep": frame}
        options = {
            "tasks": ["quiz"], "block": 1, "chance": {KEY: 0.25}, "higher_is_better": {KEY: True},
            "requests": {"tasks": {"quiz": {"sha256": "same"}}},
        }  # fmt: skip
        if items:
            extra = {"items.npz": items_of(scores)}
    tables = tuple(
        Table(stem, frame, tuple(Column(name, "", name) for name in frame)) for stem, frame in frames.items()
    )
    manifest = {
        "model": {"id": model, "layers": layers, "dtype": "float32"},
        "data": {**text, "tokens": 512, "tokens_sha256": tokens},
        "options": options,
    }
    place = reserve(root, model, probe, {"model": model, "text": text, **settings})
    return save(place, Measurement(probe, tables), manifest, extra)
