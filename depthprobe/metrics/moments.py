"""Running mean and standard deviation that do not depend on how the data are split into batches."""

from __future__ import annotations

import torch


class Moments:
    """Mean and standard deviation over the first axis of everything added, in float64 with a count.

    Batches are merged by the parallel update of Chan, Golub and LeVeque (1979), so no digits are lost over
    many batches of nearly equal values.
    """

    def __init__(self) -> None:
        self.count = 0
        self._mean: torch.Tensor | None = None
        self._squares: torch.Tensor | None = None

    def add(self, values: torch.Tensor) -> None:
        """Add ``[count, ...]`` values; all calls must agree on the axes after the first."""
        values = values.detach().to("cpu", torch.float64)
        if len(values) == 0:
            return
        mean = values.mean(dim=0)
        self._join(len(values), mean, (values - mean).square().sum(dim=0))

    def merge(self, other: Moments) -> None:
        """Add everything that was added to ``other``, for example in another process; it may be empty."""
        if other._mean is not None and other._squares is not None:
            self._join(other.count, other._mean, other._squares)

    def _join(self, count: int, mean: torch.Tensor, squares: torch.Tensor) -> None:
        if self._mean is None or self._squares is None:
            self.count, self._mean, self._squares = count, mean, squares
            return
        total = self.count + count
        shift = mean - self._mean
        self._mean = self._mean + shift * (count / total)
        self._squares = self._squares + squares + shift.square() * (self.count * count / total)
        self.count = total

    @property
    def mean(self) -> torch.Tensor:
        """Mean over everything added, float64."""
        if self._mean is None:
            raise ValueError("no values were added")
        return self._mean

    @property
    def std(self) -> torch.Tensor:
        """Sample standard deviation (divisor count - 1), float64; zero for a single value."""
        if self._squares is None:
            raise ValueError("no values were added")
        return (self._squares / max(self.count - 1, 1)).sqrt()
