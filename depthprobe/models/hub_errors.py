"""Foreign exceptions of finding and loading a model, as one sentence each.

What huggingface_hub, transformers, safetensors and torch raise, told as our own errors. Their own text is
quoted only where it says something about the model; never for the hub, whose messages carry addresses.
"""

from __future__ import annotations

import errno
import pickle
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import torch
from huggingface_hub import constants, get_token
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,  # of whichever HTTP library huggingface_hub is built on: every failure of the connection
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from depthprobe.errors import DepthprobeError, LoadError, MachineError

# OSError holds connection failures of the standard library, LocalEntryNotFoundError and a full disk.
HUB_EXCEPTIONS = (HTTPError, HFValidationError, OSError)

OFFLINE_HINT = "Check the network, set HF_HUB_OFFLINE=1 to use cached files only, or name a local directory."
LOG_IN = "log in with `hf auth login` or set HF_TOKEN"


def explain_hub_error(
    error: Exception, repo: str, revision: str | None, *, downloading: bool
) -> DepthprobeError:
    """Return our error for one of :data:`HUB_EXCEPTIONS`.

    Args:
        error: What huggingface_hub raised, as it came.
        repo: The hub id that was asked for.
        revision: The branch, tag or commit that was asked for.
        downloading: True once the hub had answered for this repository, so that a failing connection
            broke in the middle rather than never came about.
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
            "Name a branch, tag or commit that its page lists, or none.",
        )
    if isinstance(error, RepositoryNotFoundError):
        return LoadError(
            f"The hub has no model {repo}, or it is private.",
            f"Check the spelling (NAMESPACE/NAME, upper and lower case count); for a private model {LOG_IN}.",
        )
    reasons = list(_chain(error))
    if any(isinstance(reason, OSError) and reason.errno == errno.ENOSPC for reason in reasons):
        return MachineError(
            f"The disk is full: {repo} could not be stored in the hub cache.",
            "Free some space, or point HF_HOME at a larger disk.",
        )
    denied = next((r for r in reasons if isinstance(r, PermissionError)), None)
    if denied is not None:
        return MachineError(
            f"{repo} could not be stored in the hub cache: no permission to write {denied.filename}.",
            "Make the directory writable, or point HF_HOME at another one.",
        )
    if any(isinstance(reason, OfflineModeIsEnabled) for reason in reasons) or constants.HF_HUB_OFFLINE:
        at = f" at revision {revision}" if revision else ""
        return MachineError(
            f"{repo}{at} is not complete in the local cache, and HF_HUB_OFFLINE forbids to ask the hub.",
            "Unset HF_HUB_OFFLINE to download it, or name a local directory.",
        )
    status = next((r.response.status_code for r in reasons if isinstance(r, HfHubHTTPError)), None)
    if status in (401, 403):
        return LoadError(
            f"The hub refuses your token for {repo} (HTTP {status}).",
            f"Make a token that may read this model and {LOG_IN}, or unset HF_TOKEN for a public one.",
        )
    if status is not None:
        return MachineError(f"The hub at {_hub()} answered HTTP {status} for {repo}.", OFFLINE_HINT)
    if downloading:
        return MachineError(
            f"The connection to the hub at {_hub()} broke while {repo} was being downloaded.",
            "Run the command again: what has arrived is kept.",
        )
    return MachineError(f"The hub at {_hub()} cannot be reached to look for {repo}.", OFFLINE_HINT)


def explain_load_error(error: BaseException, name: str, what: str) -> DepthprobeError:
    """Return our error for what a library raised while it built ``what``, "model" say, of ``name``."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error):
        return MachineError(
            f"Out of memory while loading {name}.",
            "Use --dtype bfloat16, another --device, or a smaller model; close what else uses the memory.",
        )
    if isinstance(error, pickle.UnpicklingError) and "weights only" in str(error).lower():
        return LoadError(
            f"The weights of {name} are a pickle that holds more than tensors: reading it would run code.",
            "Choose a checkpoint with *.safetensors.",
        )
    if isinstance(error, ImportError):
        return LoadError(
            f"{name} needs a Python package that is missing: {first_line(error)}.",
            "Install it and run again.",
        )
    return LoadError(
        f"The {what} of {name} does not load: {first_line(error)}.",
        "Its files may be damaged or written for another version of transformers.",
    )


def first_line(error: BaseException) -> str:
    """Return the first telling line of a foreign message, without credentials and without a full stop."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = f"{lines[0]} {lines[1]}" if len(lines) > 1 and lines[0].endswith(":") else (lines or [""])[0]
    text = re.sub(r"://[^/@\s]+@", "://", text)
    text = re.sub(r"\bhf_\w{8,}", "hf_***", text)
    kind = "" if isinstance(error, ImportError) else f"{type(error).__name__}: "
    return f"{kind}{text}"[:300].rstrip(" .:")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and those it came from, nearest first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _hub() -> str:
    """Return the host of the hub in use: the whole address could carry credentials."""
    return urlsplit(constants.ENDPOINT).hostname or "the configured address"
