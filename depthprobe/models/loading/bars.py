"""The bars that transformers and the hub library draw at a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import transformers
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars


@contextmanager
def hidden() -> Iterator[None]:
    """Hide them while the body runs: the caller draws its own."""
    with ExitStack() as stack:
        if transformers.utils.logging.is_progress_bar_enabled():
            transformers.utils.logging.disable_progress_bar()
            stack.callback(transformers.utils.logging.enable_progress_bar)
        if not are_progress_bars_disabled():
            disable_progress_bars()
            stack.callback(enable_progress_bars)
        yield
