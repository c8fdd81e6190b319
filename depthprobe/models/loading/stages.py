"""How loading reports its stages: not at all, unless the caller passes something that shows them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

# (what is being done, how much of it there is or None, in which unit) -> a context manager around doing it,
# which yields the function that counts progress; for "bytes" the libraries draw bars of their own
Stage = Callable[[str, int | None, str], AbstractContextManager[Callable[[int], None]]]


@contextmanager
def unseen(what: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
    """Yield a function that does nothing: a stage that is not shown."""
    yield lambda count: None
