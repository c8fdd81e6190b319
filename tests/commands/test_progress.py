"""When a log is told of a stage, and what: by a clock that the test turns."""

import pytest

from depthprobe.commands.progress import Log, Pace, duration


class Clock:
    """A clock that stands until it is turned."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def told(total, steps, step_s, already=0, count=1, ends=True):
    """The lines of a stage that counts ``count`` units every ``step_s`` seconds, looked at each second."""
    clock, lines = Clock(), []
    pace = Pace(total, already, clock)
    log = Log("Sweeping", "answers", pace, lines.append)
    for _ in range(steps):
        for _ in range(step_s):
            clock.now += 1
            log.look()
        pace.advance(count)
    if ends:
        log.end()
    return lines


def test_a_stage_of_three_hours_has_some_forty_lines_with_all_that_is_known():
    lines = told(10_800, 10_800, 1)
    assert 20 <= len(lines) <= 60
    assert lines[0] == "Sweeping: 1 of 10,800 answers (0%), 1.0 answers/s, 2 s so far, 3 h 0 min left."
    assert lines[18] == "Sweeping: 5,401 of 10,800 answers (50%), 1.0 answers/s, 90 min so far, 90 min left."
    assert lines[-1] == "Sweeping: done, 10,800 answers in 3 h 0 min."


def test_a_stage_of_ten_minutes_has_a_line_every_twentieth():
    assert 18 <= len(told(600, 600, 1)) <= 21


def test_a_stage_of_forty_seconds_has_two_lines_and_one_of_a_second_none():
    assert [line.split(",")[-1] for line in told(40, 40, 1)] == [" 39 s left.", " 40 answers in 40 s."]
    assert told(10, 10, 0) == told(2, 1, 1, count=2) == []


def test_a_stage_that_counts_nothing_tells_that_it_goes_on_ever_more_seldom():
    lines = told(None, 1, 1200, ends=False)
    assert lines[:2] == ["Sweeping: 2 s so far.", "Sweeping: 32 s so far."]
    assert len(lines) <= 12 and lines[-1].endswith(("17 min so far.", "18 min so far.", "19 min so far."))


def test_a_piece_that_takes_an_hour_does_not_silence_the_log():
    lines = told(4, 2, 3600, ends=False)
    assert 20 <= len(lines) <= 28
    assert lines[2] == "Sweeping: 0 of 4 answers (0%), 10 min so far."
    assert "1 of 4 answers (25%), 1.0 answers/h" in lines[-1] and lines[-1].endswith("3 h 0 min left.")


def test_what_an_earlier_start_has_done_counts_as_done_and_not_for_the_rate():
    lines = told(1000, 50, 2, already=600, count=2, ends=False)
    assert lines[0].startswith("Sweeping: 600 of 1,000 answers (60%), 2 s so far")
    assert "(65%), 1.0 answers/s" in lines[-1]


def test_the_rate_is_that_of_the_last_part():
    clock = Clock()
    pace = Pace(10_000, 0, clock)
    for seconds, units in ((10, 1), (1, 1)):  # ten minutes each, first slow, then fast
        for _ in range(600 // seconds):
            clock.now += seconds
            pace.advance(units)
    assert pace.rate == pytest.approx(1.0, rel=0.02)
    assert pace.left_s == pytest.approx(10_000 - 660, rel=0.02)


def test_a_stage_that_counts_past_its_estimate_is_no_more_than_done():
    clock = Clock()
    pace = Pace(10, 0, clock)
    clock.now += 5
    pace.advance(11)
    assert "(100%)" in pace.facts("tokens") and pace.left_s == 0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "0 s"), (98, "98 s"), (100, "2 min"), (5900, "98 min"), (12_000, "3 h 20 min")],
)
def test_times_are_told_as_a_person_would(seconds, words):
    assert duration(seconds) == words
