"""What the engine scores, for which variants, and what comes back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from depthprobe.errors import OptionError

Variant = tuple[int, ...]
"""Layers left out, ascending; ``()`` is the whole model."""


@dataclass(frozen=True)
class ScoreRequest:
    """A text whose last ``scored`` tokens are the continuation; it already fits the model.

    Raises:
        OptionError: if no token is scored, or none comes before the first scored one.
    """

    tokens: tuple[int, ...]
    scored: int

    def __post_init__(self) -> None:
        if not 0 < self.scored < len(self.tokens):
            raise OptionError(
                f"A request must score at least 1 and not all of its {len(self.tokens)} tokens, "
                f"got {self.scored}."
            )


@dataclass(frozen=True)
class Scores:
    """Answers, in the order of the requests.

    ``loglikelihood`` float64 ``[request]``, nats summed over the continuation; ``greedy`` bool
    ``[request]``, whether every token of the continuation is the likeliest one.
    """

    loglikelihood: np.ndarray
    greedy: np.ndarray
