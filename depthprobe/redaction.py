"""Text that may be shown: without secrets, and without what a terminal would obey rather than print.

Every string passes through :func:`redact` before it reaches a file or a log, and every message through
:func:`printable`, since names and contents of foreign files stand in them.
"""

from __future__ import annotations

import os
import re

_HIDDEN = "***"

# In the environment, a token need not start with hf_ (a private hub issues its own).
_ENVIRONMENT = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_HUB_TOKEN", "HUGGINGFACE_TOKEN")
# A shorter value is not a token, and hiding it would tear holes in ordinary words.
_SHORTEST_VALUE = 4

_SECRET_KEY = r"[\w.-]*(?:token|api[_-]?key|secret|password|passwd|signature|credential|sig)"
_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"hf_[A-Za-z0-9]{8,}\w*"), f"hf_{_HIDDEN}"),
    # Basic credentials are as good as a bearer token.
    (
        re.compile(r"(authorization[\"']?\s*[:=]\s*[\"']?(?:(?:bearer|basic|token)\s+)?)[^\s\"',;]+", re.I),
        rf"\1{_HIDDEN}",
    ),
    (re.compile(r"\b(bearer)\s+[^\s\"',;]+", re.I), rf"\1 {_HIDDEN}"),
    # Up to the last @ before the path, for passwords that hold an unescaped @.
    # One slash will do: paths made from a URL have lost the other.
    (re.compile(r"\b([a-z][a-z0-9+.-]*:/{1,2})[^\s/?#\"']*@", re.I), rf"\1{_HIDDEN}@"),
    (re.compile(rf"([?&;]{_SECRET_KEY}=)[^\s&;#\"']+", re.I), rf"\1{_HIDDEN}"),
    # Outside a URL only names that are surely secrets: `--tokens=all` and `pad_token=...` must survive.
    (
        re.compile(
            r"((?:\b(?:access[_-]token|auth[_-]token|hf_token|api[_-]key|password|secret)|--token)"
            r"[\"']?\s*[=:]\s*[\"']?)[^\s&;#,\"']+",
            re.I,
        ),
        rf"\1{_HIDDEN}",
    ),
)


# What a terminal obeys, what turns the direction of writing, and half characters that no encoding can write.
# Tabs and line ends stay.
_NOT_PRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
# Paths are shorter than this, and what is longer hides the sentence around it.
_LONGEST_WORD = 400
_LONGEST_MESSAGE = 4000


def printable(text: str) -> str:
    """Return the text with control characters and lone surrogates as the escapes that Python writes."""
    return _NOT_PRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)


def is_text(text: str) -> bool:
    """Return whether a string is text: bytes that are not UTF-8 reach Python as lone surrogates."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def message(text: str) -> str:
    """Return a message that can be printed, with the middle left out of words and of a text too long to read.

    Applying it twice changes nothing more.
    """
    words = re.sub(
        rf"\S{{{_LONGEST_WORD + 1},}}", lambda found: _ends(found[0], _LONGEST_WORD), printable(text)
    )
    return _ends(words, _LONGEST_MESSAGE)


def _ends(text: str, most: int) -> str:
    """Return the text, or its beginning and end with the number of characters left out between them."""
    if len(text) <= most:
        return text
    kept = most // 2 - 20
    return f"{text[:kept]}[...{len(text) - 2 * kept:,} characters...]{text[-kept:]}"


def redact(text: str) -> str:
    """Return the text with tokens and credentials replaced by ``***``.

    Hidden are Hugging Face tokens (``hf_...`` and the values of the token variables in the
    environment), ``Authorization`` headers and ``Bearer`` values, the user and password of a URL,
    and the secret parameters of its query. Redacting twice changes nothing more.
    """
    for name in _ENVIRONMENT:
        value = os.environ.get(name, "").strip()
        if len(value) >= _SHORTEST_VALUE:
            text = text.replace(value, _HIDDEN)
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text
