"""Errors as sentences to a person: what is wrong with the values, then what to do.

One base class and one subclass for each stage. The command line prints ``problem`` and ``hint`` without a
traceback; anything that is not a :class:`DepthprobeError` is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

from depthprobe.redaction import message, printable, redact


class DepthprobeError(Exception):
    """A failure that the user can act on.

    Args:
        problem: What is wrong, with the offending values, as one sentence.
        hint: What to do next, as one sentence; empty if there is nothing to advise.

    ``exit_status`` is that of the command line: 2 if the request was wrong, 1 if the machine failed (disk,
    memory, network).
    """

    exit_status = 2

    def __init__(self, problem: str, hint: str = "") -> None:
        # Names and contents of foreign files stand in both.
        self.problem = message(problem)
        self.hint = message(hint)
        super().__init__(f"{self.problem} {self.hint}".strip())


class OptionError(DepthprobeError):
    """An option or a setting has a value that cannot be used."""


class LoadError(DepthprobeError):
    """A model cannot be found, read or loaded."""


class AnatomyError(DepthprobeError):
    """The residual blocks of a model were not found, or the one forward pass contradicted them."""


class TextError(DepthprobeError):
    """Calibration text cannot be found, read or used."""


class MeasureError(DepthprobeError):
    """A measurement met values it must not average, such as NaN in the hidden states."""


class RunError(DepthprobeError):
    """A run directory cannot be read, written or trusted."""


class MachineError(DepthprobeError):
    """The machine failed: no memory, no disk, no network."""

    exit_status = 1


def first_line(error: BaseException, *, kind: bool = True) -> str:
    """Return the first meaningful line of a foreign message, fit to print, without secrets or full stop.

    Args:
        error: What a library raised.
        kind: Whether to put the exception's name first: foreign messages often make no sense without it.
            Import errors do.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    text = f"{lines[0]} {lines[1]}" if len(lines) > 1 and lines[0].endswith(":") else lines[0]
    name = type(error).__name__
    prefix = f"{name}: " if kind and not isinstance(error, ImportError) else ""
    return f"{prefix}{printable(redact(text))}"[:300].rstrip(" .:") or name
