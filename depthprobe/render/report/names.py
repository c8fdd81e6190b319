"""Names of a report's files: letters and digits that any system takes."""

from __future__ import annotations

from collections.abc import Iterable


def unique_names(names: Iterable[str]) -> list[str]:
    """Return the names in letters, digits, ``_`` and ``-``, no two of them equal, case or not."""
    taken: list[str] = []
    for name in names:
        safe = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "-" for c in name)[:80].strip("-")
        tried, number = safe or "table", 1
        while tried.lower() in (other.lower() for other in taken):
            number += 1
            tried = f"{safe}-{number}"
        taken.append(tried)
    return taken
