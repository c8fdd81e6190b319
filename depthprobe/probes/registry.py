"""Every probe there is: its name, its module and the question it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Probe:
    """One probe. ``module`` has ``measure(model, anatomy, samples, **options) -> Measurement``.

    One that ``resumes`` takes a ``journal`` for what is finished; prune-sweep has a way of its own.
    ``defaults`` are the options that decide its numbers where nobody asks for others: runs of a report and
    of a comparison are then those of the command.
    """

    name: str
    module: str
    question: str
    resumes: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def measure(self, *args: Any, **options: Any) -> Any:
        """Load the probe's module and measure."""
        return import_module(self.module).measure(*args, **options)


PROBES = {
    probe.name: probe
    for probe in (
        Probe(
            "prune-sweep",
            "depthprobe.probes.prune_sweep",
            "How much worse do tasks get when a layer is removed?",
        ),
        Probe(
            "angular",
            "depthprobe.probes.angular",
            "How far does the residual stream turn between any two layers?",
            defaults={"tokens": "last"},
        ),
        Probe(
            "gradnorm",
            "depthprobe.probes.gradnorm",
            "How strongly does the loss pull at the parameters of each layer?",
            resumes=True,
            defaults={"per_batch": None},
        ),
        Probe(
            "variance",
            "depthprobe.probes.variance",
            "How does the residual stream grow with depth, and what adds to it?",
        ),
    )
}
