"""depthprobe's own model type made known to transformers, where one is loaded or somebody asks for it."""

from __future__ import annotations

import importlib

OWN_TYPE = "depthprobe"


def register_with_transformers() -> None:
    """Make transformers' Auto classes know models of the type ``depthprobe``; again is harmless.

    depthprobe itself does so when it loads such a model. Call it before ``AutoModel.from_pretrained`` reads
    one directly. Importing depthprobe alone changes nothing in transformers, and does not import it.
    """
    importlib.import_module("depthprobe.models.own.decoder")  # registers itself
