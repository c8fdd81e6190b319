"""Files of the hub: fetched into its cache, listed, and every failure turned into one of our errors."""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import (
    HfApi,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from depthprobe.models.loading.hub_errors import HUB_EXCEPTIONS, explain_hub_error


def fetch_file(repo: str, filename: str, revision: str | None) -> Path | None:
    """Return the local copy of a hub file, None where the repository has no such file.

    Raises:
        LoadError: If there is no such repository or revision, or it may not be read.
        MachineError: If the hub cannot be reached and the cache does not help, or the disk is full.
    """
    if revision is not None and re.fullmatch("[0-9a-f]{40}", revision):
        # A commit never changes, so what the cache knows about it needs no network.
        cached = try_to_load_from_cache(repo, filename, revision=revision)
        if cached is not None:
            return Path(cached) if isinstance(cached, str) else None
    try:
        # Asked once without retries: hf_hub_download itself tries an unreachable hub for 23 seconds.
        get_hf_file_metadata(hf_hub_url(repo, filename, revision=revision))
    except EntryNotFoundError:
        pass  # hf_hub_download below notes the absence in the cache, for later runs without network
    except (HFValidationError, RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise explain_hub_error(error, repo, revision, downloading=False) from error
    except HUB_EXCEPTIONS as error:
        cached = try_to_load_from_cache(repo, filename, revision=revision)
        if cached is None:
            raise explain_hub_error(error, repo, revision, downloading=False) from error
        return Path(cached) if isinstance(cached, str) else None
    try:
        return Path(hf_hub_download(repo, filename, revision=revision))
    except LocalEntryNotFoundError as error:
        raise explain_hub_error(error, repo, revision, downloading=True) from error
    except EntryNotFoundError:
        return None
    except HUB_EXCEPTIONS as error:
        raise explain_hub_error(error, repo, revision, downloading=True) from error


def is_cached(repo: str, filename: str, revision: str | None) -> bool:
    """Return whether the cache holds a hub file; uses no network."""
    return isinstance(try_to_load_from_cache(repo, filename, revision=revision), str)


def list_files(repo: str, revision: str | None) -> list[str]:
    """Return the paths of a repository's files at a revision; empty where the hub cannot be asked.

    Such a list only serves a better choice or a better message, so it must not cause a failure of its own.
    """
    try:
        return [file.rfilename for file in HfApi().model_info(repo, revision=revision).siblings or ()]
    except HUB_EXCEPTIONS:
        return []


def cached_files(repo: str, revision: str | None) -> list[str]:
    """Return the paths of what the cache holds of a repository at a revision; uses no network."""
    try:
        # No pattern: no file is asked for, so none is missing; only the directory is wanted.
        folder = Path(snapshot_download(repo, revision=revision, allow_patterns=[], local_files_only=True))
    except HUB_EXCEPTIONS:
        return []
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def download(repo: str, revision: str | None, patterns: list[str], ignore: list[str] | None = None) -> Path:
    """Return the local directory of a repository, with the files that match the patterns in it.

    Raises:
        LoadError: If the repository may not be read.
        MachineError: If the connection breaks, or the disk is full.
    """
    try:
        return Path(
            snapshot_download(repo, revision=revision, allow_patterns=patterns, ignore_patterns=ignore)
        )
    except HUB_EXCEPTIONS as error:
        raise explain_hub_error(error, repo, revision, downloading=True) from error
