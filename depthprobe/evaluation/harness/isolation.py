"""What lm-eval does to the process around it, kept to itself: random state, log lines, progress bars."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from typing import Any
from unittest.mock import patch

import lm_eval.api.task
import lm_eval.utils
import numpy as np
import torch

# Both log what we report ourselves: overridden options, truncated texts, tokens beyond the model's limit.
LOGGERS = ("lm_eval", "transformers")

# lm-eval compiles a task's templates anew for every document: nine tenths of the time that scoring takes.
_compile_template = lru_cache(maxsize=512)(lm_eval.utils.env.from_string)


class RandomState:
    """Python's and numpy's global random state as lm-eval would have it at this point of its run.

    ``simple_evaluate`` seeds them once, then loading, prompts and metrics draw from them in turn. Here these
    are separate steps and metrics are computed once for every variant, so the state is kept between the
    steps, and the caller's own is restored after each.
    """

    def __init__(self, random_seed: int | None, numpy_seed: int | None) -> None:
        with _callers_state_kept():
            if random_seed is not None:
                random.seed(random_seed)
            if numpy_seed is not None:
                np.random.seed(numpy_seed)
            self._state = _read_state()

    @contextmanager
    def advancing(self) -> Iterator[None]:
        """Run the body in this state, and keep the state that it leaves."""
        with self.replayed():
            yield
            self._state = _read_state()

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """Run the body in this state, which stays as it was: the next body starts from the same."""
        with _callers_state_kept():
            _write_state(self._state)
            yield


@contextmanager
def torch_seeded(seed: int | None, device: torch.device) -> Iterator[None]:
    """Run the body with torch's generator seeded (sampled decoding draws from it), then restore it."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        if seed is not None:
            torch.manual_seed(seed)
        yield


@contextmanager
def quiet(advance: Callable[[int], None] | None = None) -> Iterator[None]:
    """Hide lm-eval's log lines and progress bars while the body runs, and cache its compiled templates.

    Args:
        advance: Called with 1 for every document whose prompt was built.
    """
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]

    def counted(documents: Iterable[Any], **_: Any) -> Iterator[Any]:
        for document in documents:
            yield document
            if advance is not None:
                advance(1)

    with ExitStack() as stack:
        stack.enter_context(patch.object(lm_eval.utils.env, "from_string", _compile_template))
        # build_all_requests offers no switch for its bar, and draws one for each of mmlu's 57 subjects.
        stack.enter_context(patch.object(lm_eval.api.task, "tqdm", counted))
        # Nor does loading have a switch for the bars that datasets draws for each split it prepares.
        datasets = lm_eval.api.task.datasets
        if not datasets.are_progress_bars_disabled():
            datasets.disable_progress_bars()
            stack.callback(datasets.enable_progress_bars)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(logging.ERROR)
            stack.callback(logger.setLevel, level)
        yield


def _read_state() -> tuple[Any, Any]:
    return random.getstate(), np.random.get_state()


def _write_state(state: tuple[Any, Any]) -> None:
    random.setstate(state[0])
    np.random.set_state(state[1])


@contextmanager
def _callers_state_kept() -> Iterator[None]:
    state = _read_state()
    try:
        yield
    finally:
        _write_state(state)
