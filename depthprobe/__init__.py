"""depthprobe: how much does each layer of a language model really do?

The package is a path, one folder a stage; each imports only what stands to its right:

    commands -> pipeline -> probes -> (models, metrics, texts)      results, render read what was saved

``models`` loads a model and finds its blocks by structure, ``texts`` and ``rows`` turn text into token
samples, ``batches`` cuts them, ``processes`` shares them out, ``metrics`` holds the formulas, ``probes``
ask the questions, ``results`` keeps the answers on disk, ``render`` draws them, ``lab`` trains the small
models that ``builtin`` ships. ``registration`` makes transformers know the lab's own model type when one is
loaded: importing depthprobe changes nothing elsewhere.

Words: a *layer* is a 0-based index, a *block* the module behind it. *Boundary* l is the residual stream
x^l: x^0 enters the first block, x^l enters block l, x^L leaves the last one, before the final norm.

In Python::

    import depthprobe
    model = depthprobe.load_model("builtin:pre-ln")
    found = depthprobe.angular(model, samples=64)
    found.frame                       # a tidy pandas DataFrame
    depthprobe.draw(found)            # a matplotlib Figure

Nothing heavy is imported until one of these is used.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# Public name -> where it lives; loaded on first use, so that importing depthprobe costs nothing.
_PUBLIC = {
    "load_model": "depthprobe.models.loading",
    "describe_anatomy": "depthprobe.models.anatomy",
    "angular": "depthprobe.notebook",
    "gradnorm": "depthprobe.notebook",
    "variance": "depthprobe.notebook",
    "draw": "depthprobe.notebook",
    "register_with_transformers": "depthprobe.registration",
    "LayerLog": "depthprobe.lab.layer_log",
    "read_run": "depthprobe.results.runs",
    "DepthprobeError": "depthprobe.errors",
}

__all__ = ["__version__", *_PUBLIC]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'depthprobe' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

