"""The Markdown files for people: the commands in them, and the output that they promise."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"

LEFT_OUT = "[...]"  # a line by itself in a printed output: here lines were left out


def documents() -> list[Path]:
    """Return the README and the user's pages, those that exist."""
    return [path for path in (README, *sorted((ROOT / "depthprobe" / "docs").glob("*.md"))) if path.is_file()]


def notes() -> list[Path]:
    """Return the other documents, for people who work on the project or look at its studies."""
    places = ("reports/gallery/README.md", "tests/bench/README.md", ".github/CONTRIBUTING.md")
    return [ROOT / place for place in places if (ROOT / place).is_file()]


def whole_text(*more: Path) -> str:
    """Return the text of all documents, one after another, and of ``more``."""
    return "\n".join(path.read_text(encoding="utf-8") for path in (*documents(), *more))


def blocks(path: Path, language: str) -> list[str]:
    """Return the fenced blocks of a language, without those under a comment ``<!-- file: ... -->``.

    Such a block is a file of its own, which another test writes and uses.
    """
    found = re.findall(
        rf"(^<!-- file: .+? -->\n)?^```{language}\n(.*?)^```",
        path.read_text(encoding="utf-8"),
        flags=re.DOTALL | re.MULTILINE,
    )
    return [text for of_a_file, text in found if not of_a_file]


def outputs() -> list[tuple[str, str, str]]:
    """Return (name of the file, command, text) of every output that is printed under its command."""
    return [
        (path.name, *found)
        for path in (*documents(), *notes())
        for found in re.findall(
            r"<!-- output of: (.+?) -->\n```text\n(.*?)^```",
            path.read_text(encoding="utf-8"),
            flags=re.DOTALL | re.MULTILINE,
        )
    ]


def commands() -> list[tuple[str, tuple[str, ...]]]:
    """Return (name of the file, arguments) of every ``depthprobe`` in a block of the shell."""
    found = []
    for path in (*documents(), *notes()):
        for block in (*blocks(path, "bash"), *blocks(path, "sh")):
            for line in block.replace("\\\n", " ").splitlines():
                for part in re.split(r"&&|\|", line):
                    words = shlex.split(part, comments=True)
                    # By its name, after variables of the environment, or as a module of Python.
                    while words and re.match(r"[A-Z_]+=", words[0]):
                        words = words[1:]
                    starts = [place for place, word in enumerate(words[1:], 1) if words[place - 1] == "-m"]
                    for place in (0, *starts):
                        if words[place : place + 1] == ["depthprobe"]:
                            found.append((path.name, tuple(words[place + 1 :])))
    return found


def pattern_of(printed: str) -> re.Pattern[str]:
    """Return what a whole output has to match: line by line, any lines where some were left out."""
    parts = [
        "(?:.*\n)*?" if line.strip() == LEFT_OUT else re.escape(line.rstrip()) + "\n"
        for line in printed.splitlines()
    ]
    return re.compile("".join(parts))
