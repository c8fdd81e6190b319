"""``python -m depthprobe`` and the ``depthprobe`` command."""

from __future__ import annotations

import gc
import sys
from types import TracebackType


def main() -> None:
    """Run the command line."""
    sys.excepthook = _redacted_traceback
    # Starting leaves hardly any garbage; the command itself turns the collector on again.
    gc.disable()
    try:
        from depthprobe.commands.app import run

        run(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        if "torch" not in sys.modules:
            # A last look for garbage among all that was imported would take longer than a short command.
            gc.freeze()
        # Under `python -m`, the interpreter remembers an interrupt of code run by exec() (as imports are) and
        # kills the process with it at the end, handled or not; the next exec() makes it forget.
        exec("")


def _redacted_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the traceback of one of our bugs, fit to print, without tokens and credentials."""
    import traceback

    from depthprobe.redaction import printable, redact

    sys.stderr.write(printable(redact("".join(traceback.format_exception(kind, error, trace)))))


if __name__ == "__main__":
    main()
