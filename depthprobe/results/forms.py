"""Forms that JSON values must have, put together from small ones; each says of a value what is wrong with it.

A form is a function of a value and its name. It returns what is wrong as the words of a sentence, such as
``model.layers is "12", not a whole number from 1 to 10000``, or an empty text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

Form = Callable[[Any, str], str]

# This much of a value that somebody else wrote is shown.
_SHOWN = 40


def shown(value: Any) -> str:
    """Return a value as JSON on one line, cut where it is long; nothing in it reaches a terminal raw."""
    return shortened(json.dumps(value, ensure_ascii=False, default=str), _SHOWN)


def shortened(words: str, most: int) -> str:
    """Return words that somebody else wrote on one printable line, cut where they are long."""
    line = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in words[: most + 1])
    return line if len(line) <= most else f"{line[: most - 3]}..."


def _must_be(what: str, fits: Callable[[Any], bool]) -> Form:
    def form(value: Any, name: str) -> str:
        return "" if fits(value) else f"{name} is {shown(value)}, not {what}"

    return form


def whole(least: int | None = None, most: int | None = None) -> Form:
    """The form of whole numbers within limits."""
    return _must_be(
        f"a whole number{_within(least, most)}",
        lambda value: type(value) is int and _between(value, least, most),
    )


def number(least: float | None = None, most: float | None = None) -> Form:
    """The form of numbers within limits."""
    return _must_be(
        f"a number{_within(least, most)}",
        lambda value: type(value) in (int, float) and _between(value, least, most),
    )


def _between(value: float, least: float | None, most: float | None) -> bool:
    return (least is None or value >= least) and (most is None or value <= most)


def _within(least: float | None, most: float | None) -> str:
    if most is not None:
        return f" from {least} to {most}"
    return "" if least is None else f" of at least {least}"


text: Form = _must_be("text", lambda value: isinstance(value, str))
truth: Form = _must_be("true or false", lambda value: isinstance(value, bool))


def matching(what: str, fits: Callable[[str], Any]) -> Form:
    """The form of texts that fit."""
    return _must_be(what, lambda value: isinstance(value, str) and bool(fits(value)))


def maybe(form: Form) -> Form:
    """The form of values that may be null."""
    return lambda value, name: "" if value is None else form(value, name)


def either(*forms: Form) -> Form:
    """The form of values that have one of several forms; the last one says what is wrong."""

    def form(value: Any, name: str) -> str:
        wrong = [each(value, name) for each in forms]
        return "" if "" in wrong else wrong[-1]

    return form


def listing(each: Form) -> Form:
    """The form of lists whose items have a form."""

    def form(value: Any, name: str) -> str:
        if not isinstance(value, list):
            return f"{name} is {shown(value)}, not a list"
        return next(filter(None, (each(item, f"{name}[{index}]") for index, item in enumerate(value))), "")

    return form


def mapping(each: Form) -> Form:
    """The form of objects whose values have a form."""

    def form(value: Any, name: str) -> str:
        if not isinstance(value, dict):
            return f"{name} is {shown(value)}, not an object"
        return next(filter(None, (each(item, _named(name, key)) for key, item in value.items())), "")

    return form


def record(needed: Mapping[str, Form], known: Mapping[str, Form] | None = None) -> Form:
    """The form of objects with entries of their own forms.

    Args:
        needed: Those that must be there.
        known: Those that may be there; null counts as missing. Others are not looked at.
    """

    def form(value: Any, name: str) -> str:
        if not isinstance(value, dict):
            return f"{name} is {shown(value)}, not an object"
        missing = next((key for key in needed if key not in value), None)
        if missing is not None:
            return f"{_named(name, missing)} is missing"
        entries = {**needed, **{key: maybe(each) for key, each in (known or {}).items()}}
        found = (entries[key](value[key], _named(name, key)) for key in entries if key in value)
        return next(filter(None, found), "")

    return form


def _named(name: str, key: str) -> str:
    """The name of an entry: ``model.layers``; a key that is not a word is quoted and cut."""
    word = key if key.isidentifier() and len(key) <= _SHOWN else shown(key)
    return f"{name}.{word}" if name else word
