"""Numbers and layers as text, the same in figures, tables and sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

# Between these a number is written out; beyond, in powers of ten.
_SMALLEST_PLAIN, _LARGEST_PLAIN = 1e-4, 1e6


def spoken(value: float, decimals: int, *, signed: bool = False) -> str:
    """A number as text: fixed decimals, ``1.23e+06`` where it is huge, never ``-0.000``."""
    text = f"{value:.{decimals}f}" if abs(value) < 1e5 else f"{value:.2e}"
    text = text.lstrip("-") if float(text) == 0 else text
    return f"+{text}" if signed and float(text) > 0 else text


def significant(value: float, digits: int = 3) -> str:
    """Return a number with ``digits`` significant digits: ``0.0312``, ``12.3``, ``1,234``, ``1.23e-05``."""
    return _written(value, digits, _SMALLEST_PLAIN)


def aligned(values: Sequence[float | None], digits: int = 3, width: int = 9) -> list[str]:
    """Return equally long texts: numbers with ``digits`` significant digits, their points aligned.

    A dash stands for None. Where a column would be wider than ``width``, its smallest numbers are written in
    powers of ten, or all are.
    """
    for least in (0.0, _SMALLEST_PLAIN, 1e-3, 1e-2, _LARGEST_PLAIN):
        # Powers of ten: a digit, a point, and the four of e-05.
        kept = digits if least == 0 else min(digits, width - 5)
        column = _below_each_other(
            ["-" if value is None else _written(value, digits, least, kept) for value in values]
        )
        if not column or len(column[0]) <= width:
            break
    return column


def _written(value: float, digits: int, least: float, kept: int | None = None) -> str:
    """A number with ``digits`` significant digits; in powers of ten, with ``kept``, if small or huge."""
    if value == 0:
        return "0"
    text = f"{value:.{digits - 1}e}"
    rounded, exponent = float(text), int(text.partition("e")[2])
    if not least <= abs(rounded) < _LARGEST_PLAIN:
        return f"{value:.{(kept or digits) - 1}e}"
    return f"{value:,.{max(0, digits - 1 - exponent)}f}"


def _below_each_other(texts: Sequence[str]) -> list[str]:
    """The texts filled up to one length, with decimal points in one place and powers of ten on the right."""
    plain = [text.partition(".") for text in texts if "e" not in text]
    before = max((len(whole) for whole, _, _ in plain), default=0)
    after = max((len(point + decimals) for _, point, decimals in plain), default=0)
    width = max([before + after, *map(len, texts)], default=0)
    filled = []
    for text in texts:
        whole, point, decimals = text.partition(".")
        filled.append(text if "e" in text else whole + (point + decimals).ljust(after))
    return [text.rjust(width) for text in filled]


def stretches(layers: Iterable[int]) -> list[range]:
    """Ascending layers as stretches without a gap."""
    found: list[range] = []
    for layer in layers:
        if found and layer == found[-1].stop:
            found[-1] = range(found[-1].start, layer + 1)
        else:
            found.append(range(layer, layer + 1))
    return found


def spans(layers: Iterable[int]) -> str:
    """Ascending layers as a short list: ``0, 5, 20-31``."""
    return ", ".join(
        str(each[0]) if len(each) == 1 else f"{each[0]}-{each[-1]}" for each in stretches(layers)
    )


def layers_named(layers: Iterable[int]) -> str:
    """Ascending layers with their noun: ``layer 5``, ``layers 0-3``."""
    listed = list(layers)
    return f"layer{'s' * (len(listed) != 1)} {spans(listed)}"


def counted(count: int, noun: str) -> str:
    """A number of things: ``1 sample``, ``1,000 samples``."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def listed(names: Sequence[str]) -> str:
    """Names in a sentence: ``a``, ``a and b``, ``a, b and c``."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def about(count: int) -> str:
    """A number of things that is an estimate, with two digits: ``1,300`` for 1,318."""
    return f"{round(count, 2 - len(str(count))) if count > 99 else count:,}"


def printed(line: str) -> str:
    """A line with a replacement character for each that cannot be printed."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in line)


def plain(text: str) -> str:
    """The text on one line; what cannot be printed becomes a replacement character."""
    return printed(" ".join(str(text).split()))


def capital(words: str) -> str:
    """Return the words beginning with a capital; the other letters stay."""
    return words[:1].upper() + words[1:]
