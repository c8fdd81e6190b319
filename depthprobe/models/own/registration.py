"""depthprobe's own model type registered with transformers, when one is loaded or on request."""

from __future__ import annotations

import importlib

OWN_TYPE = "depthprobe"


def register_with_transformers() -> None:
    """Make models of the type ``depthprobe`` known to transformers' Auto classes; repeating it is harmless.

    depthprobe itself does so when it loads such a model. Call it before ``AutoModel.from_pretrained`` reads
    one directly. Importing depthprobe alone changes nothing in transformers, and does not import it.
    """
    importlib.import_module("depthprobe.models.own.decoder")  # registers itself
