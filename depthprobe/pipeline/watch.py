"""Who shows how a run is going."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol


class Watcher(Protocol):
    """Shows how a run is going."""

    def say(self, news: str) -> None:
        """Show one line of news."""

    def stage(self, what: str, total: int | None, unit: str, already: int = 0) -> Any:
        """Return a context manager around one stage; it yields the function that counts what is done.

        Args:
            what: What is being done, as a person would say it.
            total: Units there are to do; None if not known.
            unit: What is counted.
            already: Units that an earlier start has done, which say nothing about the pace.
        """


class Silent:
    """Shows nothing."""

    def say(self, news: str) -> None:
        """Ignore the news."""

    @contextmanager
    def stage(
        self, what: str, total: int | None, unit: str, already: int = 0
    ) -> Iterator[Callable[[float], None]]:
        """Yield a function that does nothing."""
        yield lambda count: None
