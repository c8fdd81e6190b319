"""Who is told how a run is going."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol


class Watcher(Protocol):
    """Who is told how a run is going."""

    def say(self, news: str) -> None:
        """Take one line of news."""

    def stage(self, what: str, total: int | None, unit: str, already: int = 0) -> Any:
        """Return a context manager around one stage; it yields the function that counts it on.

        Args:
            what: What is done, as a person would say it.
            total: How many units there are to do; None where that is not known.
            unit: What is counted.
            already: How many of these an earlier start has done, which say nothing of the pace.
        """


class Silent:
    """Tells nobody."""

    def say(self, news: str) -> None:
        """Ignore the news."""

    @contextmanager
    def stage(
        self, what: str, total: int | None, unit: str, already: int = 0
    ) -> Iterator[Callable[[float], None]]:
        """Yield a function that does nothing."""
        yield lambda count: None
