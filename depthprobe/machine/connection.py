"""Why the hub did not deliver something: one sentence for each reason.

Foreign messages are not quoted here, because the hub's contain URLs.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from urllib.parse import urlsplit

from huggingface_hub import constants
from huggingface_hub.errors import (
    HfHubHTTPError,
    HTTPError,  # from whichever HTTP library huggingface_hub is built on: every failure of the connection
    OfflineModeIsEnabled,
)

from depthprobe.errors import DepthprobeError, LoadError, MachineError

NETWORK_EXCEPTIONS = (HTTPError, ConnectionError, TimeoutError)
LOG_IN = "log in with `hf auth login` or set HF_TOKEN"


def explain_connection(
    error: BaseException,
    name: str,
    instead: str,
    *,
    revision: str | None = None,
    downloading: bool = False,
    refusal: type[DepthprobeError] = LoadError,
) -> DepthprobeError:
    """Return our error for what kept the hub from answering: disk, offline mode, token, server, network.

    Args:
        error: What was raised.
        name: The hub id that was asked for.
        instead: What can be done without the hub, such as "name a local directory".
        revision: The branch, tag or commit that was asked for.
        downloading: Whether the hub had already answered for this repository, so that the connection broke
            in the middle.
        refusal: The error if the hub refuses the token.
    """
    full = explain_full_disk(error, name)
    if full is not None:
        return full
    reasons = list(_chain(error))
    denied = next((r for r in reasons if isinstance(r, PermissionError)), None)
    if denied is not None:
        return MachineError(
            f"{name} could not be stored in the hub cache: no permission to write {denied.filename}.",
            "Make the directory writable, or point HF_HOME at another one.",
        )
    if any(isinstance(reason, OfflineModeIsEnabled) for reason in reasons) or constants.HF_HUB_OFFLINE:
        at = f" at revision {revision}" if revision else ""
        return MachineError(
            f"{name}{at} is not complete in the local cache, and HF_HUB_OFFLINE forbids asking the hub.",
            f"Unset HF_HUB_OFFLINE to download it, or {instead}.",
        )
    status = next((r.response.status_code for r in reasons if isinstance(r, HfHubHTTPError)), None)
    if status in (401, 403):
        return refusal(
            f"The hub refuses your token for {name} (HTTP {status}).",
            f"Create a token that may read it and {LOG_IN}, or unset HF_TOKEN if it is public.",
        )
    hint = f"Check the network, set HF_HUB_OFFLINE=1 to use cached files only, or {instead}."
    if status is not None:
        return MachineError(f"The hub at {_hub()} answered HTTP {status} for {name}.", hint)
    if downloading:
        return MachineError(
            f"The connection to the hub at {_hub()} broke while {name} was being downloaded.",
            "Run the command again: what has been downloaded is kept.",
        )
    return MachineError(f"The hub at {_hub()} cannot be reached to look for {name}.", hint)


def is_offline() -> bool:
    """Return whether the hub may not be asked: ``HF_HUB_OFFLINE`` is set."""
    return bool(constants.HF_HUB_OFFLINE)


def explain_full_disk(error: BaseException, what: str) -> MachineError | None:
    """Return our error if the disk of the hub's cache is full; None if that was not the reason.

    Args:
        error: What was raised.
        what: What was to be stored.
    """
    if not any(isinstance(reason, OSError) and reason.errno == errno.ENOSPC for reason in _chain(error)):
        return None
    return MachineError(
        f"The disk is full: {what} could not be stored in the hub cache.",
        "Free some space, or point HF_HOME at a larger disk.",
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and those it came from, nearest first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _hub() -> str:
    """Return the host of the hub in use: the whole URL could contain credentials."""
    return urlsplit(constants.ENDPOINT).hostname or "the configured address"
