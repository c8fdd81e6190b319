"""What was found out about a model when ways of sharing work were tried, kept for the next sweep of it.

A small file in the user's cache, named after everything that could change the findings: weights,
configuration, dtype, device, attention kernel and libraries. Without a usable cache the work goes on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from depthprobe.errors import DepthprobeError
from depthprobe.evaluation.scores import Variant
from depthprobe.evaluation.scoring.passes import Ways
from depthprobe.private_names import attention_kernel
from depthprobe.results.files import replace_file
from depthprobe.results.manifest import canonical

if TYPE_CHECKING:
    from depthprobe.models.loading.loading import LoadedModel

# Raised when other things are tried, or judged differently.
FORMAT = 1
LIBRARIES = ("torch", "transformers")


@dataclass
class Remembered:
    """How work is shared on one model, and which ways of removing layers were found right.

    ``path`` is the file that keeps it; None keeps nothing beyond this process.
    """

    ways: Ways | None = None
    removals: dict[Variant, frozenset[str]] = field(default_factory=dict)
    path: Path | None = None

    @classmethod
    def of(cls, model: LoadedModel) -> Remembered:
        """Return what is remembered of a loaded model; nothing if its weights have no name."""
        source = model.source
        if source.fingerprint is None and source.revision is None:
            return cls()
        facts = _facts_of(model)
        path = cache_directory() / "sharing" / f"{hashlib.sha256(canonical(facts).encode()).hexdigest()}.json"
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            removals = {
                tuple(map(int, name.split("+"))): frozenset(ways) for name, ways in kept["removals"].items()
            }
            return cls(Ways(**kept["ways"]), removals, path)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return cls(path=path)

    def keep(self) -> None:
        """Write down what is known now."""
        if self.path is None or self.ways is None:
            return
        removals = {"+".join(map(str, variant)): sorted(ways) for variant, ways in self.removals.items()}
        content = json.dumps({"ways": asdict(self.ways), "removals": removals}, indent=1)
        with contextlib.suppress(DepthprobeError):
            replace_file(self.path, content.encode("utf-8"))


def cache_directory() -> Path:
    """Return the directory for what depthprobe can find out again; ``DEPTHPROBE_CACHE`` sets it."""
    own, shared = os.environ.get("DEPTHPROBE_CACHE"), os.environ.get("XDG_CACHE_HOME")
    if own:
        return Path(own)
    return (Path(shared) if shared else Path(os.path.expanduser("~"), ".cache")) / "depthprobe"


def _facts_of(model: LoadedModel) -> dict[str, Any]:
    """Return everything that could change the findings about a model, JSON-safe."""
    source, net, device = model.source, model.model, model.device
    config = net.config.to_json_string(use_diff=False)
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "format": FORMAT,
        "location": None if source.fingerprint else source.location,
        "file": source.gguf_file,
        "fingerprint": source.fingerprint,
        "revision": source.revision,
        "adapter": None if source.adapter is None else str(source.adapter.identity),
        "initial_seed": model.initial_seed,
        "class": type(net).__name__,
        "config": hashlib.sha256(config.encode()).hexdigest(),
        "attention": attention_kernel(net.config.get_text_config()),
        "dtype": str(net.dtype),
        "device": [device.type, gpu],
        "libraries": {name: version(name) for name in LIBRARIES},
    }
