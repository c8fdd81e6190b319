"""The table that sets the embedded models side by side, from their records and committed runs.

    PYTHONPATH=tests python -m support.embedded_models_table

prints it in Markdown; a test holds the printed one against it.
"""

from __future__ import annotations

import json

from depthprobe.builtin import embedded_models
from depthprobe.findings.of_runs import findings_of
from depthprobe.findings.thirds import compared_thirds
from depthprobe.results.store import read_run
from support.documents import ROOT

SISTERS = ("pre-ln", "lns", "post-ln", "deepnorm")
GALLERY = ROOT / "reports" / "gallery"


def rows() -> list[str]:
    """Return the rows of the table, without its heading."""

    def run(name, probe):
        return read_run(GALLERY / f"builtin--{name}" / probe)

    def drops(name, task):
        return findings_of(run(name, "prune-sweep-stdlib_mc")).every[task]

    def harm(name, task):
        found = compared_thirds(drops(name, task).harm)
        interval = f"{found.difference:+.3f}, {found.low:+.3f} to {found.high:+.3f}"
        # Adding 0: what rounds to -0.000 is 0.000.
        return f"{round(found.shallow, 3) + 0:.3f}, {round(found.deep, 3) + 0:.3f} ({interval})"

    def turn(name):
        found = compared_thirds(findings_of(run(name, "angular")).turns.to_numpy())
        return f"{found.shallow:.3f}, {found.deep:.3f}"

    def growth(name):
        stream = findings_of(run(name, "variance")).stream
        return f"{stream[12] / stream[1]:.2f}"

    def pull(name, last):
        log = run(name, "training").tables["training"]
        rows = log[log.step == (log.step.max() if last else 0)].set_index("layer").grad_norm
        return f"{rows[0]:.3g}, {rows[6]:.3g}, {rows[11]:.3g}"

    def loss(name):
        record = json.loads((embedded_models()[f"builtin:{name}"] / "training.json").read_text())
        return f"{record['heldout_loss_nats']:.3f}"

    def accuracy(name):
        return f"{drops(name, 'stdlib_mc').baseline:.3f}"

    def fitted(name):
        losses = run(name, "training").tables["loss"]
        return f"{losses[losses.data == 'train'].loss_nats.iloc[-1]:.3f}"

    quantities = {
        "held-out loss, nats a token": loss,
        "loss on the training text, mean of the last 50 steps": fitted,
        "accuracy on `stdlib_mc` (guessing: 0.25)": accuracy,
        "angular distance across one layer: shallow third, deep third": turn,
        "accuracy lost without a layer: shallow, deep third (difference, 95% interval)": lambda name: harm(
            name, "stdlib_mc"
        ),
        "loss gained without a layer: shallow, deep third (difference, 95% interval)": lambda name: harm(
            name, "calibration"
        ),
        "variance of x^L over that of x^1": growth,
        "gradient norm of layers 0, 6, 11 before training": lambda name: pull(name, last=False),
        "the same at the end": lambda name: pull(name, last=True),
    }
    return [f"| {what} | {' | '.join(map(number, SISTERS))} |" for what, number in quantities.items()]


if __name__ == "__main__":
    print(f"| | {' | '.join(SISTERS)} |")
    print("| --- " * (len(SISTERS) + 1) + "|")
    print("\n".join(rows()))
