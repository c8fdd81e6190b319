"""Who is told what the loading is at: nobody, unless the caller hands something in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

# (what is being done, how much of it there is or None, in which unit) -> a context manager around doing it,
# which gives the function that counts it on; "bytes" is what the libraries draw bars of their own for
Stage = Callable[[str, int | None, str], AbstractContextManager[Callable[[int], None]]]


@contextmanager
def unseen(what: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
    """Yield a function that does nothing: the stage that nobody looks at."""
    yield lambda count: None
