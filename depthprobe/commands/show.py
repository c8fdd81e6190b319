"""What a person sees: progress and news on stderr, results on stdout, errors as one line."""

from __future__ import annotations

import errno
import functools
import gc
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from depthprobe.errors import DepthprobeError
from depthprobe.redaction import redact

if TYPE_CHECKING:
    from rich.console import Console


class Watch:
    """Tells a person at a terminal how a run is going; silent where nobody looks."""

    def __init__(self, quiet: bool = False, verbose: bool = False) -> None:
        self.quiet = quiet
        self.verbose = verbose
        self.live = not quiet and sys.stderr.isatty()
        _hush_libraries(verbose, bars=self.live)

    def say(self, news: str) -> None:
        """Print one line of news."""
        if not self.quiet:
            _line(news)

    @contextmanager
    def stage(self, what: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
        """Show a bar with rate and time left while the body runs; yield the function that moves it.

        Without ``total`` a clock turns. While a model is loaded the libraries draw bars of their own, with
        bytes and rates, so nothing is put over them.
        """
        if not self.live or unit == "bytes":
            yield lambda count: None
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns: list[Any] = [SpinnerColumn(), TextColumn("{task.description}")]
        if total is not None:
            columns += [BarColumn(), TextColumn("{task.fields[state]}")]
        with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(what, total=total, state="")

            def advance(count: int) -> None:
                bar.advance(task, count)
                now = bar.tasks[0]
                rate = f"{now.speed:,.0f} {unit}/s" if now.speed else ""
                left = f"{now.time_remaining:,.0f} s left" if now.time_remaining is not None else ""
                bar.update(task, state=f"{now.completed:,.0f}/{total:,} {unit}  {rate}  {left}")

            yield advance


def result_console() -> Console:
    """Return the console of results: stdout, plain text when it is not a terminal."""
    from rich.console import Console

    # Piped output has no width of its own; 80 columns would break long paths.
    return Console(width=None if sys.stdout.isatty() else 120, highlight=False, soft_wrap=False)


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command with failures told as one line on stderr and an exit status of 1 or 2.

    Only our own errors are caught; anything else is a bug and keeps its traceback. Ctrl-C ends with 130.
    """

    @functools.wraps(command)
    def wrapper(*args: Any, **options: Any) -> None:
        gc.enable()  # was off while the program started
        try:
            command(*args, **options)
        except DepthprobeError as error:
            if options.get("verbose"):
                import traceback

                sys.stderr.write(redact(traceback.format_exc()))
            _line(f"Error: {error}")
            raise typer.Exit(error.exit_status) from None
        except OSError as error:
            # A closed pipe or a full disk behind stdout; our own writing has sentences of its own.
            if error.errno not in (errno.EPIPE, errno.ENOSPC, errno.EBADF):
                raise
            sys.stdout = None  # nothing more can be written there, not even at exit
            if error.errno == errno.EPIPE:
                raise typer.Exit(0) from None
            _line(f"Error: The results cannot be printed: {error.strerror}. They are saved.")
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            _line(
                "Interrupted: nothing half-written is left; the same command continues a sweep, a gradnorm "
                "or a pretrain."
            )
            raise typer.Exit(130) from None

    return wrapper


@contextmanager
def importing() -> Iterator[None]:
    """Let Ctrl-C wait while the body imports: interrupted half way, torch's C++ side aborts the process.

    Nor is garbage collected meanwhile.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread is interrupted
        return
    pressed = False

    def later(*_: Any) -> None:
        nonlocal pressed
        pressed = True

    before = signal.signal(signal.SIGINT, later)
    try:
        with uncollected():
            yield
    finally:
        signal.signal(signal.SIGINT, before)
        if pressed:
            raise KeyboardInterrupt


@contextmanager
def uncollected() -> Iterator[None]:
    """Look for no garbage in reference cycles while the body runs.

    For what takes a moment and leaves nearly no such garbage, as imports do: looking through all that they
    bring is a quarter of their time.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _line(text: str) -> None:
    sys.stderr.write(" ".join(redact(text).split()) + "\n")
    sys.stderr.flush()


def _hush_libraries(verbose: bool, bars: bool) -> None:
    """Let the model libraries speak only on request, and draw their bars only at a terminal."""
    import os
    import warnings

    if not bars:
        # Read when the libraries are imported, which happens later.
        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
        os.environ["TQDM_DISABLE"] = "1"
    if verbose:
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "info")
        handler = logging.StreamHandler()
        handler.setFormatter(_Redacting("%(levelname)s:%(name)s:%(message)s"))
        logging.basicConfig(level=logging.INFO, handlers=[handler])
        logging.getLogger("fontTools").setLevel(logging.WARNING)
        return
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # What they call an error is told in our words.
    os.environ.setdefault("DATASETS_VERBOSITY", "critical")
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")


class _Redacting(logging.Formatter):
    """Log lines without tokens and credentials: clients log the addresses they ask."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))
