"""depthprobe: how much does each layer of a language model really do?

The package is a path, one folder for each stage:

    MODEL, options -> loaded model -> anatomy of its blocks -> measurement -> run on disk -> findings -> chart

``catalogue`` declares every probe once; commands, Python functions, charts, tables, report, comparison and
documentation are loops over it. ``commands`` parse and show; ``pipeline`` leads from a request to a saved
run; ``probes`` ask the questions, one file each, with the formulas of ``metrics``; ``texts`` reads what they
measure on; ``models`` loads a model and finds its blocks by structure; ``evaluation`` answers lm-eval's tasks
for many variants of one model; ``machine`` knows batches, processes and versions; ``results`` keeps runs on
disk, ``findings`` says what they hold, and ``render`` shows it; ``comparing`` puts models side by side;
``api`` holds the same as Python functions,
``notebook`` what they return. ``training`` trains small models such as those in ``builtin``; transformers
learns of their model type (``models.own``) when one is loaded. Importing depthprobe changes nothing
elsewhere.

Words: a *layer* is a 0-based index, a *block* the module behind it. *Boundary* l is the residual stream
x^l: x^0 enters the first block, x^l enters block l, x^L leaves the last one, before the final norm.

In Python::

    import depthprobe
    model = depthprobe.load_model("builtin:pre-ln")
    found = depthprobe.angular(model, samples=64)
    found.frame                       # a tidy pandas DataFrame
    found.draw()                      # a matplotlib Figure
    found.save("reports")             # the run that its command would leave

Nothing heavy is imported until one of these is used.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# Public name -> where it lives; loaded on first use, so that importing depthprobe costs nothing.
_PUBLIC = {
    "load_model": "depthprobe.models.loading.loading",
    "describe_anatomy": "depthprobe.models.anatomy.anatomy",
    "draw": "depthprobe.api",
    "measure": "depthprobe.api",
    "register_with_transformers": "depthprobe.models.own.registration",
    "LayerLog": "depthprobe.training.layer_log",
    "read_run": "depthprobe.notebook",
    "DepthprobeError": "depthprobe.errors",
}

__all__ = ["__version__", *_PUBLIC]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    # Beside these there is a function for every probe: angular, prune_sweep and so on.
    probe = _probes().get(name)
    if probe is None:
        raise AttributeError(f"module 'depthprobe' has no attribute {name!r}")
    globals()[name] = function = importlib.import_module("depthprobe.api").function_of(probe)
    return function


def _probes() -> dict[str, Any]:
    catalogue = importlib.import_module("depthprobe.catalogue")
    return {name.replace("-", "_"): probe for name, probe in catalogue.PROBES.items()}


def __dir__() -> list[str]:
    return sorted([*__all__, *_probes()])
