"""Rotary frequencies that depend on how long the longest row of a batch is, and on what was read before.

With ``longrope`` (Phi-3) every row of a batch has other frequencies as soon as one of them is longer than the
texts of pre-training; with dynamic NTK the frequencies follow the longest row there has been. So texts on two
sides of such a border must not share a batch, and a pass must not begin with what an earlier one left.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from depthprobe.models.intervene import configurations
from depthprobe.private_names import dynamic_rotaries, reset_rotary

# How configurations call them; "su" is longrope's earlier name.
BY_SIDE, BY_LENGTH = ("longrope", "su"), "dynamic"
ORIGINAL, DECLARED = "original_max_position_embeddings", "max_position_embeddings"
# What tells a scaling from other things that have a type.
OF_ROTARY = {"factor", "rope_theta", "short_factor", "long_factor", ORIGINAL}


@dataclass(frozen=True)
class Scaling:
    """Where frequencies change: texts of up to ``border`` tokens share one set.

    Longer ones share a second set or, ``by_length``, have one for every length.
    """

    border: int
    by_length: bool

    def side(self, length: int) -> int:
        """Return a number that two texts share if they are read with the same frequencies."""
        return 0 if length <= self.border else length if self.by_length else 1


def scalings_of(model: nn.Module) -> tuple[Scaling, ...]:
    """Return every scaling that the configurations of a model and its parts name, the nearest border first.

    In parts of a model, and for each type of layer, there may be different ones.
    """
    known = [config.to_dict() for config in configurations(model) if hasattr(config, "to_dict")]
    found = {scaling for values in known for scaling in _named_in(values, {})}
    return tuple(sorted(found, key=lambda each: (each.border, each.by_length)))


def sides(scalings: Sequence[Scaling], length: int) -> tuple[int, ...]:
    """Return what texts must have in common to share a batch, as far as frequencies go."""
    return tuple(scaling.side(length) for scaling in scalings)


def forget_lengths(model: nn.Module) -> None:
    """Let the next pass begin with the frequencies of a model that has read nothing yet."""
    for module in dynamic_rotaries(model):
        reset_rotary(module)


def _named_in(values: Any, around: dict[str, Any]) -> Iterator[Scaling]:
    """Yield the scalings in nested values; ``around`` is the configuration that these stand in."""
    if not isinstance(values, dict):
        return
    kind = str(values.get("rope_type", values.get("type", "")))
    if (kind in BY_SIDE or BY_LENGTH in kind) and OF_ROTARY & set(values):
        yield from _borders(kind, (values, around))
    around = values if DECLARED in values else around
    for value in values.values():
        yield from _named_in(value, around)


def _borders(kind: str, places: Iterable[dict[str, Any]]) -> Iterator[Scaling]:
    """Yield a scaling for each border that may be meant: one too many costs only smaller batches."""
    for place in places:
        original, declared = place.get(ORIGINAL), place.get(DECLARED)
        # Longrope knows only the original length; without one it is the declared length.
        names = (original, declared) if BY_LENGTH in kind else (original or declared,)
        for border in names:
            if isinstance(border, int) and not isinstance(border, bool) and border > 0:
                yield Scaling(border, BY_LENGTH in kind)
