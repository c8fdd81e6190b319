"""Other libraries' exceptions while finding and loading a model, as one sentence each.

What huggingface_hub, transformers, safetensors and torch raise, turned into our own errors. Their text is
quoted only where it says something about the model; never for the hub, whose messages contain addresses.
"""

from __future__ import annotations

import pickle
import re

import torch
from huggingface_hub import get_token
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HFValidationError,
    HTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    StrictDataclassError,
)

from depthprobe.errors import DepthprobeError, LoadError, MachineError, first_line
from depthprobe.machine.connection import LOG_IN, explain_connection

# OSError covers the standard library's connection failures, LocalEntryNotFoundError and a full disk.
HUB_EXCEPTIONS = (HTTPError, HFValidationError, OSError)


def explain_hub_error(
    error: Exception, repo: str, revision: str | None, *, downloading: bool
) -> DepthprobeError:
    """Return our error for one of :data:`HUB_EXCEPTIONS`.

    Args:
        error: What huggingface_hub raised.
        repo: The hub id that was asked for.
        revision: The branch, tag or commit that was asked for.
        downloading: True once the hub has answered for this repository, so that a failing connection
            broke midway rather than never being made.
    """
    if isinstance(error, HFValidationError):
        return LoadError(
            f"{repo!r} is neither a directory nor a possible model id on the hub.",
            "Give NAMESPACE/NAME as on the hub, an existing directory, or builtin:NAME.",
        )
    if isinstance(error, GatedRepoError):
        whose = "" if get_token() is None else " with the account of your token"
        return LoadError(
            f"{repo} is gated: its licence must be accepted before the hub hands out its files.",
            f"Accept it on the model's page{whose}, then {LOG_IN}.",
        )
    if isinstance(error, DisabledRepoError):
        return LoadError(f"{repo} was disabled by the hub and cannot be downloaded.", "Choose another model.")
    if isinstance(error, RevisionNotFoundError):
        return LoadError(
            f"{repo} has no revision {revision!r}.",
            "Name a branch, tag or commit from its page, or leave the revision out.",
        )
    if isinstance(error, RepositoryNotFoundError):
        return LoadError(
            f"The hub has no model {repo}, or it is private.",
            f"Check the spelling (NAMESPACE/NAME, upper and lower case count); for a private model {LOG_IN}.",
        )
    return explain_connection(
        error, repo, "name a local directory", revision=revision, downloading=downloading
    )


def explain_load_error(error: BaseException, name: str, what: str) -> DepthprobeError:
    """Return our error for what a library raised while building ``what`` (such as "model") of ``name``."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error):
        return MachineError(
            f"Out of memory while loading {name}.",
            "Use --dtype bfloat16, another --device or a smaller model, or close other programs.",
        )
    if isinstance(error, pickle.UnpicklingError) and "weights only" in str(error).lower():
        return LoadError(
            f"The weights of {name} are a pickle with more than tensors in it: reading it would run code.",
            "Choose a checkpoint with *.safetensors.",
        )
    if isinstance(error, ImportError) and "kernels" in str(error):
        return LoadError(
            f"{name} asks for kernels that are code on the hub, which is not fetched.",
            "Use --attn-implementation sdpa or eager, or the model it was made from.",
        )
    if isinstance(error, ImportError):
        return LoadError(
            f"{name} needs a Python package that is missing: {first_line(error)}.",
            "Install it and run again.",
        )
    if isinstance(error, RecursionError):
        return LoadError(
            f"The {what} of {name} does not load: a file of it is nested too deep.",
            "Download its files again.",
        )
    if re.search(
        "attn_implementation|scaled_dot_product_attention|flex_attention|Flash ?Attention", str(error)
    ):
        return LoadError(
            f"{name} cannot be computed with that attention kernel: {first_line(error)}.",
            "Use --attn-implementation eager.",
        )
    return LoadError(
        f"The {what} of {name} does not load: {_cause(error)}.",
        "Its files may be damaged or written for another version of transformers.",
    )


def _cause(error: BaseException) -> str:
    """Return the informative line of a library's message: of a value of the wrong type, just that."""
    if isinstance(error, StrictDataclassError):
        found = re.search(r"(?:Type|Value)Error: (.+)", str(error))
        if found:
            return first_line(ValueError(found[1]), kind=False)
    return first_line(error)
