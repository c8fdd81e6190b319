"""Distances that a configuration names: how far tokens see, and from where on positions change.

Sharing work must be tried on texts longer than a sliding window, and real windows are 512 to 4096 tokens
long. So the window is made short while ways are tried: the model's own code then cuts off what tokens see
after a few of them, just as it does after thousands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from depthprobe.models.anatomy.block_sites import set_for_now
from depthprobe.models.intervene import configurations

# What a configuration calls a distance that tokens see, or beyond which positions or attention change:
# sparse attention chooses among the tokens once there are more than it keeps.
DISTANCE = re.compile(r"^(?!.*layer).*(window|chunk|local|original_max_position|index_topk$)")
# Not Doge's keep_window_size, which is how many tokens its attention chooses.
WINDOW = re.compile(r"^(?!.*(layer|keep)).*window")
# Parts of a configuration that concern something other than text.
NOT_TEXT = re.compile(r"vision|image|video|audio|speech")


def window_of(config: Any) -> int | None:
    """Return how many tokens a sliding block sees, itself included; None where nothing slides."""
    return next((value for name, value in vars(config).items() if _is_window(name, value)), None)


def other_distances(config: Any) -> list[int]:
    """Return every distance that a configuration names besides its window, also in nested lists and dicts."""
    window, values = window_of(config), config.to_dict()
    found = {distance for distance in _distances(values) if distance != window}
    blocks, block = values.get("index_topk_blocks"), values.get("index_block_size")
    if _is_distance(blocks) and _is_distance(block):
        found.add(blocks * block)
    return sorted(found)


@contextmanager
def short_windows(model: nn.Module, tokens: int) -> Iterator[None]:
    """Limit every window of the model to ``tokens`` while the body runs.

    Configurations and modules each keep the number under a name of their own; masks that were built with
    the model (GPT-Neo's) stay as they are, so the caller must check whether it takes effect.
    """
    with ExitStack() as stack:
        for owner in (*configurations(model), *model.modules()):
            for name, value in list(vars(owner).items()):
                if _is_window(name, value) and value > tokens:
                    set_for_now(owner, name, tokens, stack)
        yield


def _is_window(name: str, value: Any) -> bool:
    return bool(WINDOW.match(name)) and _is_distance(value)


def _distances(values: Any, name: str = "") -> Iterator[int]:
    if isinstance(values, dict):
        for key, value in values.items():
            if not NOT_TEXT.search(str(key)):
                yield from _distances(value, str(key))
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from _distances(value, name)
    elif DISTANCE.match(name) and _is_distance(values):
        yield int(values)


def _is_distance(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 1
