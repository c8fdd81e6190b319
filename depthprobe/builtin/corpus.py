"""Text that every Python has on disk: the sources of its standard library.

The embedded models are trained on one part of it and measured on the other, so a first run needs no
download. The held-out part is a fixed list of modules. The list is the same for every Python version, but
the text of the modules is not, which is why runs record a hash of the tokens they used.
"""

from __future__ import annotations

import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from depthprobe.errors import TextError

CorpusSplit = Literal["train", "heldout"]

PARTS: tuple[CorpusSplit, ...] = ("heldout", "train")

# Left out of training, for evaluation only. Chosen for variety (parsers, numerics, networking,
# introspection) among modules that Python 3.10 to 3.14 all have.
HELD_OUT = frozenset(
    """
    argparse ast bdb bisect calendar cmd codeop colorsys concurrent configparser contextlib copy csv
    dataclasses difflib filecmp fnmatch fractions getopt getpass gettext glob graphlib gzip heapq hmac
    imaplib ipaddress json linecache mailbox mimetypes netrc nturl2path opcode pathlib pickletools
    platform plistlib poplib pprint queue quopri random reprlib sched secrets selectors shelve shlex
    shutil smtplib socketserver statistics stringprep tabnanny tarfile tempfile textwrap timeit
    tokenize tomllib trace uuid wave weakref webbrowser zipapp zipfile
    """.split()
)

# Used for neither: tests and fixtures (absent from many distributions), generated tables (character
# maps, build settings) and what pip or the distribution adds.
IGNORED = frozenset(
    """
    test tests idlelib idle_test lib2to3 site-packages dist-packages __pycache__ ensurepip turtledemo
    pydoc_data encodings config-3 lib-dynload this antigravity
    """.split()
)

SMALLEST_DOCUMENT = 400


@dataclass(frozen=True)
class Document:
    """One source file: ``name`` is its path below the standard library, with ``/`` between parts."""

    name: str
    text: str


def standard_library() -> Path:
    """Return the directory that holds the running interpreter's standard library."""
    return Path(sysconfig.get_path("stdlib"))


def documents(part: CorpusSplit, root: Path | None = None) -> list[Document]:
    """Return the sources of one part of the standard library, sorted by name.

    Args:
        part: ``heldout`` for the modules of :data:`HELD_OUT`, ``train`` for all others.
        root: Where to look; the running interpreter's standard library by default.

    Returns:
        The documents of at least :data:`SMALLEST_DOCUMENT` characters that are valid UTF-8.

    Raises:
        TextError: if there are no sources (frozen or stripped Pythons ship none).
    """
    root = root or standard_library()
    found = []
    for path in root.rglob("*.py"):
        parts = path.relative_to(root).parts
        if IGNORED.intersection(parts) or parts[0].startswith(("_sysconfigdata", "config-")):
            continue
        if (parts[0].removesuffix(".py") in HELD_OUT) != (part == "heldout"):
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except (UnicodeDecodeError, OSError):
            continue
        if len(text) >= SMALLEST_DOCUMENT:
            found.append(Document("/".join(parts), text))
    if not found:
        raise TextError(
            f"This Python has no standard library sources in {root}.",
            "Name a text with --dataset FILE, or use a Python that ships its .py files.",
        )
    return sorted(found, key=lambda document: document.name)
