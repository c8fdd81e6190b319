"""``depthprobe docs``: the user's pages on the terminal."""

from __future__ import annotations

import re
import sys
from typing import Annotated, Optional

import typer

from depthprobe.commands.show import guarded, result_console
from depthprobe.docs import text_of, titles

# Not for a terminal: comments, which mark generated tables, pictures, and where links to other pages lead.
_UNSEEN = re.compile(r"<!--.*?-->\n?|^!\[[^\]]*\]\([^)]*\)\n|^<img [^>]*>\n", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[([^\]]+)\]\((?!https?:)[^)\s]+\)")


EXAMPLE = "depthprobe docs prune-sweep"


@guarded
def command(
    page: Annotated[
        Optional[str],
        typer.Argument(
            metavar="[PAGE]", help="Name of a page. Without it, the list of pages.", show_default=False
        ),
    ] = None,
) -> None:
    """Read the documentation: a page, or the list of pages.

    On a terminal the page is formatted to fit; a file or a pipe gets the Markdown source.
    """
    if page is None:
        _list()
        return
    text = text_of(page)
    if not sys.stdout.isatty():
        sys.stdout.write(text)
        return
    from rich.markdown import Markdown

    result_console().print(Markdown(_LINK.sub(r"*\1*", _UNSEEN.sub("", text))))


def _list() -> None:
    """Print every page with its heading: first those of commands, then the others."""
    known = titles()
    of_commands = {name: title for name, title in known.items() if title.startswith("depthprobe ")}
    others = {name: title for name, title in known.items() if name not in of_commands}
    width = max(map(len, known))
    console = result_console()
    for group in (of_commands, others):
        for name, title in group.items():
            said = title.removeprefix(f"depthprobe {name}: ")
            console.print(f"{name:{width}}  {said}", markup=False, soft_wrap=True)
        console.print()
    console.print("depthprobe docs PAGE shows one of them.", markup=False)
