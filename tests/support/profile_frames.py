"""Tables of gradnorm and variance as models give them, without a model."""

import numpy as np
import pandas as pd

GRADNORM = ("layer", "part", "grad_norm", "parameters", "grad_rms", "std")
# As in version 1 of the probe; ``robust`` adds what came later.
VARIANCE = ("layer", "point", "variance", "rms", "tokens")
ROBUST = ("layer", "point", "variance", "variance_without_first", "variance_median", "rms", "tokens")
INFLUENCE = ("layer", "block_influence", "contribution_ratio")
SHARES = {"attention": 0.5, "feedforward": 0.8, "norm": 0.05, "other": 0.02}


def gradnorm(norms, parts=("attention", "feedforward", "norm"), std=0.0, outside=("embedding", "final_norm")):
    """Whole blocks of these norms, their parts, and what is outside; ``std`` as a share of the norm."""
    rows = [(-1, "embedding", 2.0, 5000)] if "embedding" in outside else []
    for layer, norm in enumerate(norms):
        rows.append((layer, "all", norm, 1000))
        rows += [(layer, part, norm * SHARES[part], 400) for part in parts]
    rows += [(len(norms), part, 0.25, 100) for part in ("final_norm", "head") if part in outside]
    frame = pd.DataFrame(rows, columns=GRADNORM[:4])
    frame["grad_rms"] = frame["grad_norm"] / np.sqrt(frame["parameters"])
    return frame.assign(std=std * frame["grad_norm"])


def falling(layers, seed=0, **options):
    """Gradient norms as of a pre-norm model: falling with the depth, with a last layer that does not."""
    noise = np.random.default_rng(seed).normal(0, 0.05, layers)
    norms = np.exp(-2 * np.linspace(0, 1, layers) + noise)
    norms[-1] *= 3
    return gradnorm(norms, **options)


def variance(values, branches=("attention", "feedforward"), tokens=32640):
    """A stream of these variances at x^0 .. x^L, and branches that add a tenth of what they meet."""
    rows = [(layer, "stream", value) for layer, value in enumerate(values)]
    for layer in range(len(values) - 1):
        rows += [(layer, branch, values[layer] / 10) for branch in branches]
    frame = pd.DataFrame(rows, columns=VARIANCE[:3]).astype({"variance": "float64"})
    return frame.assign(rms=np.sqrt(frame["variance"]), tokens=tokens)


def rising(layers, seed=0, **options):
    """Variances as of a pre-norm model: a small embedding, then about exponential growth."""
    noise = np.random.default_rng(seed).normal(0, 0.1, layers)
    return variance([0.004, *0.3 * np.exp(np.linspace(0, 4.5, layers) + noise)], **options)


def robust(frame, without_first=1.0, median=1.0):
    """Variances with those of tokens other than the first, as shares of the mean: a number, or one a row."""
    columns = {
        "variance_without_first": without_first * frame["variance"],
        "variance_median": median * frame["variance"],
    }
    return frame.assign(**columns)[list(ROBUST)]


def influence(values):
    """Block influences, and contribution ratios that go with them."""
    frame = pd.DataFrame(
        {"layer": range(len(values)), "block_influence": np.asarray(values, dtype="float64")}
    )
    return frame.assign(contribution_ratio=np.sqrt(np.abs(frame["block_influence"])))
