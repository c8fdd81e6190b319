"""The user's pages, Markdown files that travel with the program; ``depthprobe docs`` shows them."""

from __future__ import annotations

from pathlib import Path

from depthprobe.errors import OptionError


def pages() -> dict[str, Path]:
    """Return every page, its name -> its file, sorted by name."""
    return {path.stem: path for path in sorted(Path(__file__).parent.glob("*.md"))}


def title_of(page: Path) -> str:
    """Return the heading that a page opens with, without its mark."""
    with page.open(encoding="utf-8") as file:
        return file.readline().removeprefix("#").strip()


def text_of(name: str) -> str:
    """Return a page as it is written.

    Raises:
        OptionError: if there is no page of this name.
    """
    known = pages()
    if name not in known:
        raise OptionError(f"There is no page {name!r}.", f"The pages are {', '.join(known)}.")
    return known[name].read_text(encoding="utf-8")
