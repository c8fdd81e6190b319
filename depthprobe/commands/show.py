"""What a person sees: progress and news on stderr, results on stdout, errors as one line."""

from __future__ import annotations

import functools
import gc
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from depthprobe import interruption
from depthprobe.commands.progress import Log, Pace, looking
from depthprobe.commands.streams import say, unprintable
from depthprobe.errors import DepthprobeError
from depthprobe.machine import caches
from depthprobe.machine.launcher import launched
from depthprobe.redaction import message, printable, redact

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


LOOKS_S = 1.0
_MOST_CHARACTERS = 12

# Piped output has no width of its own; 80 columns would break long paths.
_WIDTH = 120


class Watch:
    """Shows a person how a run is going: bars at a terminal, now and then a line in a log.

    Of several processes of one run, only the first one speaks.
    """

    def __init__(self, quiet: bool = False, verbose: bool = False) -> None:
        self.quiet = quiet or not _is_first()
        self.verbose = verbose
        self.live = not self.quiet and sys.stderr.isatty()
        self._bars: Progress | None = None
        self._open: list[Log] = []
        _hush_libraries(verbose, bars=self.live)
        if "huggingface_hub" not in sys.modules:  # it reads where its cache is when it is imported
            note = caches.make_usable()
            if note:
                self.say(note)

    def say(self, news: str) -> None:
        """Print one line of news."""
        if not self.quiet:
            _line(news)

    @contextmanager
    def stage(
        self, what: str, total: int | None, unit: str, already: int = 0
    ) -> Iterator[Callable[[float], None]]:
        """Show what is done, the rate and the time left while the body runs; yield the function that counts.

        At a terminal this is a bar, or a spinner without ``total``; while ``bytes`` are fetched, the
        libraries draw bars of their own there, one for each file, and nothing is drawn over them. In a log it
        is lines, the first when the stage has taken some seconds.
        """
        pace = Pace(total, already)
        if self.quiet or (self.live and unit == "bytes"):
            yield pace.advance
        elif self.live:
            with self._bar(what, unit, pace):
                yield pace.advance
        else:
            log = Log(what, unit, pace, self.say)
            self._open.append(log)
            try:
                with looking(log, LOOKS_S, lambda: self._open[-1] is log):
                    yield pace.advance
            finally:
                self._open.remove(log)

    @contextmanager
    def _bar(self, what: str, unit: str, pace: Pace) -> Iterator[None]:
        """Show a moving line; a stage within a stage gets a line below."""
        if self._bars is None:
            with _bars() as self._bars, _no_other_bars():
                try:
                    with self._bar(what, unit, pace):
                        yield
                finally:
                    self._bars = None
            return
        bars = self._bars
        line = bars.add_task(what, total=pace.total, pace=pace, unit=unit)
        try:
            yield
        finally:
            bars.remove_task(line)


def _bars() -> Progress:
    """Return the moving lines at a terminal: what is done, how much of it, and at which pace."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
    from rich.text import Text

    class Share(BarColumn):
        def render(self, task: Task) -> Any:
            task.completed = task.fields["pace"].done
            return Text() if task.total is None else super().render(task)

    class Facts(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(task.fields["pace"].facts(task.fields["unit"]))

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), Share(bar_width=20), Facts())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _no_other_bars() -> AbstractContextManager[None]:
    """Keep the model libraries' bars from writing over ours, if the libraries are imported at all."""
    if "transformers" not in sys.modules:
        return nullcontext()
    from depthprobe.models.loading.bars import hidden

    return hidden()


def _is_first() -> bool:
    """Whether this is the first process of a run, or the only one."""
    return launched().rank == 0


def result_console() -> Console:
    """Return the console for results: stdout, plain text when it is not a terminal."""
    return _console(width=None if sys.stdout.isatty() else _WIDTH, highlight=False, soft_wrap=False)


def _console(**options: Any) -> Console:
    """Return a console on which names and texts from foreign files are printed, never obeyed."""
    from rich.segment import Segment
    from rich.text import Text

    from depthprobe.commands.console import Console

    class Harmless(Console):
        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(printable(text), **options)

        # What came as a Text of its own.
        def render(self, *args: Any, **options: Any) -> Iterator[Segment]:
            for text, style, control in super().render(*args, **options):
                yield Segment(text if control else printable(text), style, control)

    return Harmless(**options)


def print_lines(console: Console, lines: Sequence[Any]) -> None:
    """Print tables and sentences; brackets in sentences may come from outside and are not markup."""
    for line in lines:
        console.print(line, markup=False, soft_wrap=isinstance(line, str) and not console.is_terminal)


def plain_text(lines: Sequence[Any]) -> str:
    """Return tables and sentences as they are printed without a terminal."""
    console = _console(
        file=io.StringIO(), width=_WIDTH, highlight=False, soft_wrap=False, force_terminal=False
    )
    print_lines(console, lines)
    return console.file.getvalue()  # type: ignore[attr-defined]


def already_measured(directory: Path) -> str:
    """Return the news that a run is there already."""
    return f"Already measured: {directory} (--name measures again)."


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command with failures reported as one line on stderr and an exit status of 1 or 2.

    Only our own errors are caught; anything else is a bug and keeps its traceback. Ctrl-C ends with 130,
    SIGTERM with 143, and a line says what is on disk.
    """

    @functools.wraps(command)
    def wrapper(*args: Any, **options: Any) -> None:
        gc.enable()  # it was off while the program started
        try:
            with interruption.terminable():
                command(*args, **options)
        except DepthprobeError as error:
            if options.get("verbose"):
                import traceback

                sys.stderr.write(printable(redact(traceback.format_exc())))
            _line(f"Error: {error}")
            raise typer.Exit(error.exit_status) from None
        except OSError as error:
            # A closed pipe or a full disk behind stdout; our own writing has sentences of its own.
            status = unprintable(error, "What was measured is saved.")
            if status is None:
                raise
            raise typer.Exit(status) from None
        except KeyboardInterrupt as interrupt:
            if _is_first():
                _line(interruption.sentence(interrupt))
            raise typer.Exit(interruption.exit_status(interrupt)) from None

    return wrapper


@contextmanager
def importing() -> Iterator[None]:
    """Hold back Ctrl-C and SIGTERM, and collect no garbage, while the body imports.

    If an import is interrupted halfway, torch's C++ side aborts the process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread is interrupted
        return
    pressed: list[type[KeyboardInterrupt]] = []
    kinds = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: interruption.Terminated}
    before = {
        number: signal.signal(number, lambda *_, kind=kind: pressed.append(kind))
        for number, kind in kinds.items()
        if signal.getsignal(number) is not signal.SIG_IGN  # as in the background of a script
    }
    try:
        with uncollected():
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if pressed:
            raise pressed[0]


@contextmanager
def uncollected() -> Iterator[None]:
    """Do not look for reference cycles while the body runs.

    For short work that leaves hardly any, such as imports: looking through all that they load takes a quarter
    of their time.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@contextmanager
def lacking_told() -> Iterator[None]:
    """Say which characters of names no font here has, if the figures that the body draws hold such."""
    from depthprobe.render.charts.kit.style import lacking_characters

    with lacking_characters() as lacking:
        yield
    if lacking:
        shown = "".join(sorted(lacking)[:_MOST_CHARACTERS])
        more = "..." if len(lacking) > _MOST_CHARACTERS else ""
        _line(
            f"No font here has {shown}{more}: in figures ? stands for them. With a TrueType font installed "
            "that has them, such as Noto Sans SC or WenQuanYi Micro Hei, they are drawn."
        )


def _line(text: str) -> None:
    say(message(" ".join(redact(text).split())))


def _hush_libraries(verbose: bool, bars: bool) -> None:
    """Let the model libraries speak only on request, and draw their bars only at a terminal."""
    import warnings

    if not bars:
        # The libraries read these when they are imported, which happens later.
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
    # What they call an error is reported in our words.
    os.environ.setdefault("DATASETS_VERBOSITY", "critical")
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")


class _Redacting(logging.Formatter):
    """Log lines fit to print, without tokens and credentials: clients log the URLs that they request."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(redact(super().format(record)))
