"""``python -m depthprobe`` and the ``depthprobe`` command."""

from __future__ import annotations

import gc
import sys
from types import TracebackType


def main() -> None:
    """Run the command line."""
    sys.excepthook = _redacted_traceback
    # Starting leaves no garbage to speak of; the command itself has it collected again.
    gc.disable()
    try:
        from depthprobe.commands.app import run

        run(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        if "torch" not in sys.modules:
            # A last look for garbage among all that was imported would take longer than the short commands.
            gc.freeze()
        # Under `python -m`, an interrupt that met code run by exec() (imports do that) is remembered by the
        # interpreter and kills the process at its end, handled or not; the next exec() forgets it.
        exec("")


def _redacted_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Show a bug of ours with its traceback, but without tokens and credentials."""
    import traceback

    from depthprobe.redaction import redact

    sys.stderr.write(redact("".join(traceback.format_exception(kind, error, trace))))


if __name__ == "__main__":
    main()
