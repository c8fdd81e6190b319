"""Documents as the files say now: the caches of the datasets library keep some that are no longer so.

It takes a local file for unchanged if its time is, and the result of a function over documents for unchanged
if the function's name is, although it or what it calls was edited. Python's own cache of compiled files goes
by time and size as well.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import lm_eval.api.task
from lm_eval.api.task import ConfigurableTask, Task

from depthprobe.evaluation.harness.origins import arrow_files, data_behind, own_functions


@contextmanager
def no_stale_documents() -> Iterator[None]:
    """While the body loads tasks, their documents are made anew wherever a cache may be out of date."""
    download = ConfigurableTask.download

    def fresh(self: Task, dataset_kwargs: dict[str, Any] | None = None, **options: Any) -> None:
        datasets = lm_eval.api.task.datasets
        if callable(getattr(self.config, "custom_dataset", None)):
            with _uncached(datasets):
                download(self, dataset_kwargs, **options)
            return
        download(self, dataset_kwargs, **options)
        if _older(arrow_files(self), data_behind(self.config)):
            anew = {**(dataset_kwargs or {}), "download_mode": "reuse_cache_if_exists"}
            download(self, anew, **options)
        functions = own_functions(self.config)
        if functions and isinstance(self.dataset, datasets.DatasetDict):
            self.dataset = datasets.DatasetDict(
                {
                    name: datasets.Dataset(
                        part.data, part.info, part.split, fingerprint=_joined(part, functions)
                    )
                    for name, part in self.dataset.items()
                }
            )

    # Nothing compiled is left beside a task's functions: a file put back with its old time would meet it.
    with patch.object(ConfigurableTask, "download", fresh), patch.object(sys, "dont_write_bytecode", True):
        yield


def _joined(part: Any, functions: str) -> str:
    """Return the name under which results over a data set are cached: it changes with the functions."""
    held = [(each["filename"], Path(each["filename"]).stat().st_mtime_ns) for each in part.cache_files]
    return hashlib.sha256(repr((held, str(part.split), functions)).encode()).hexdigest()[:16]


def _older(cached: list[Path], files: list[Path]) -> bool:
    """Whether one of the files changed after what is cached of them was written."""
    if not cached or not files:
        return False
    written = min(path.stat().st_mtime_ns for path in cached)
    return any(path.stat().st_ctime_ns >= written for path in files)


@contextmanager
def _uncached(datasets: Any) -> Iterator[None]:
    on = datasets.is_caching_enabled()
    datasets.disable_caching()
    try:
        yield
    finally:
        if on:
            datasets.enable_caching()
