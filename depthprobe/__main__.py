"""``python -m depthprobe`` and the ``depthprobe`` command."""

from __future__ import annotations

import gc
import os
import sys
from types import TracebackType

from depthprobe.commands import streams


def main() -> None:
    """Run the command line."""
    sys.excepthook = _redacted_traceback
    streams.prepare()
    if not _is_somewhere():
        streams.say("Error: The current directory does not exist any more. Change to one that does.")
        sys.exit(2)
    # Only files are drawn; whatever is set for windows may not be installed, or not exist.
    os.environ["MPLBACKEND"] = "agg"
    # Starting leaves hardly any garbage; the command itself turns the collector on again.
    gc.disable()
    try:
        from depthprobe.commands.app import run

        try:
            run(sys.argv[1:])
        finally:
            streams.flush()
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        status = streams.unprintable(error)
        if status is None:
            raise
        sys.exit(status)
    except (MemoryError, ImportError) as error:
        # The second is how the system's loader says so of a library.
        if isinstance(error, ImportError) and "failed to map segment" not in str(error):
            raise
        streams.say("Error: There is not enough memory, perhaps because of a limit such as ulimit -v.")
        sys.exit(1)
    finally:
        if "torch" not in sys.modules:
            # A last look for garbage among all that was imported would take longer than a short command.
            gc.freeze()
        # Under `python -m`, the interpreter remembers an interrupt of code run by exec() (as imports are) and
        # kills the process with it at the end, handled or not; the next exec() makes it forget.
        exec("")


def _is_somewhere() -> bool:
    """Whether there is a current directory: without one, torch aborts the process."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _redacted_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the traceback of one of our bugs, fit to print, without tokens and credentials."""
    import traceback

    from depthprobe.redaction import printable, redact

    sys.stderr.write(printable(redact("".join(traceback.format_exception(kind, error, trace)))))


if __name__ == "__main__":
    main()
