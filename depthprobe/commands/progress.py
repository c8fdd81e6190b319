"""How a stage is going: what is done, how fast, how long is left; and when a log gets a line about it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Clock = Callable[[], float]

# A stage that takes this long gets a line in a log, and one at its end if it took as long as EVERY_S.
BEGIN_S = 2.0
# Then whenever this time has passed and this share is done, whichever is rarer, but after MOST_S at the
# latest: a stage of three hours has some forty lines, one of a minute two.
EVERY_S, SHARE, MOST_S = 30.0, 0.05, 300.0
# So near to the end, no more lines: that of the end comes soon enough.
NEARLY_S = 15.0

# The rate is that of the last third, since pieces differ, but of at least a minute.
LAST_PART, LEAST_S = 1 / 3, 60.0


class Pace:
    """How far a stage is and how fast it goes, by a clock in seconds.

    Args:
        total: Units there are to do; None where that is not known.
        already: Units that an earlier start has done: they count as done, but not for the rate.
        clock: Gives the time.
    """

    def __init__(self, total: int | None, already: int = 0, clock: Clock = time.monotonic) -> None:
        self.total = total
        self.done = float(already)
        self.started = clock()
        self._clock = clock
        self._marks: deque[tuple[float, float]] = deque([(self.started, self.done)])
        self._lock = threading.Lock()  # one thread counts, another reports

    @property
    def elapsed_s(self) -> float:
        """Seconds since the stage began."""
        return self._clock() - self.started

    def advance(self, count: float) -> None:
        """Count ``count`` more units as done."""
        now = self._clock()
        with self._lock:
            self.done += count
            if len(self._marks) > 1 and now - self._marks[-2][0] < 1:
                self._marks.pop()
            self._marks.append((now, self.done))
            span = max(LEAST_S, LAST_PART * (now - self.started))
            while len(self._marks) > 2 and self._marks[1][0] <= now - span:
                self._marks.popleft()

    @property
    def rate(self) -> float | None:
        """Units per second, up to when the last ones were done; None before the first."""
        with self._lock:
            (begun, before), (ended, after) = self._marks[0], self._marks[-1]
        return (after - before) / (ended - begun) if ended > begun and after > before else None

    @property
    def left_s(self) -> float | None:
        """Seconds that the rest will take at this rate; None where that is not known."""
        rate = self.rate
        if self.total is None or rate is None:
            return None
        return max(self.total - self.done, 0.0) / rate

    def facts(self, unit: str) -> str:
        """Return what is known, as ``120 of 1,000 answers (12%), 4.0 answers/s, 30 s so far, 220 s left``."""
        known = []
        if self.total is not None:
            share = min(self.done / self.total, 1) if self.total else 1
            known.append(f"{self.done:,.0f} of {self.total:,} {unit} ({share:.0%})")
        rate, left = self.rate, self.left_s
        if rate is not None and self.total is not None:
            known.append(_rate(rate, unit))
        known.append(f"{duration(self.elapsed_s)} so far")
        if left is not None:
            known.append(f"{duration(left)} left")
        return ", ".join(known)


def duration(seconds: float) -> str:
    """Return ``42 s``, ``5 min`` or ``3 h 20 min``."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def _rate(a_second: float, unit: str) -> str:
    """``4.0 answers/s``, or by the minute or hour where that is less than one."""
    factor, time_unit = next(
        (pair for pair in ((1, "s"), (60, "min")) if a_second * pair[0] >= 1), (3600, "h")
    )
    value = a_second * factor
    return f"{value:,.0f} {unit}/{time_unit}" if value >= 10 else f"{value:.1f} {unit}/{time_unit}"


class Log:
    """Says in lines how a stage is going, rarely enough for a file; nothing about a short stage.

    Args:
        what: What is being done.
        unit: What is counted.
        pace: How far it has come.
        say: Takes a line.
    """

    def __init__(self, what: str, unit: str, pace: Pace, say: Callable[[str], None]) -> None:
        self.what, self.unit, self.pace, self._say = what, unit, pace, say
        self._told: tuple[float, float] | None = None  # when, and what was done by then

    def look(self) -> None:
        """Say a line if it is time for one."""
        if self._is_due():
            self._told = (self.pace.elapsed_s, self.pace.done)
            self._say(f"{self.what}: {self.pace.facts(self.unit)}.")

    def _is_due(self) -> bool:
        elapsed, left, total = self.pace.elapsed_s, self.pace.left_s, self.pace.total
        if self._told is None:
            return elapsed >= BEGIN_S
        since, more = elapsed - self._told[0], self.pace.done - self._told[1]
        if since < EVERY_S or (left is not None and left < NEARLY_S):
            return False
        # Without a known total, less and less often.
        enough = since >= elapsed * LAST_PART if total is None else more >= SHARE * total
        return enough or since >= MOST_S

    def end(self) -> None:
        """Say that the stage is over, if it was long enough to wait for."""
        if self._told is not None and self.pace.elapsed_s >= EVERY_S:
            count = "" if self.pace.total is None else f"{self.pace.done:,.0f} {self.unit} "
            self._say(f"{self.what}: done, {count}in {duration(self.pace.elapsed_s)}.")


@contextmanager
def looking(log: Log, every_s: float, is_innermost: Callable[[], bool]) -> Iterator[None]:
    """Let a thread look at the clock while the body runs: what hangs or loads does not count anything.

    Args:
        log: Gets the lines.
        every_s: How often the thread looks.
        is_innermost: Whether no other stage, which would be reported instead, runs within this one.
    """
    over = threading.Event()

    def look() -> None:
        while not over.wait(every_s):
            with contextlib.suppress(OSError, ValueError):  # a full disk or a closed stream behind stderr
                if is_innermost():
                    log.look()

    thread = threading.Thread(target=look, name="progress", daemon=True)
    thread.start()
    try:
        yield
        log.end()
    finally:
        over.set()
        thread.join()
