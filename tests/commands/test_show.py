"""What a command says while it runs into a log, and when it ends otherwise than by itself."""

import os
import signal
import threading
import time

import pytest
import typer

from depthprobe import interruption
from depthprobe.commands import progress
from depthprobe.commands.show import Watch, guarded, importing


def ended(command):
    with pytest.raises(typer.Exit) as caught:
        guarded(command)()
    return caught.value.exit_code


def test_an_interrupt_is_told_by_who_knows_what_is_on_disk(capsys):
    def command():
        with interruption.told("Interrupted: something vague."), interruption.told("Interrupted: 3 of 7."):
            raise KeyboardInterrupt

    assert ended(command) == 130
    assert capsys.readouterr().err == "Interrupted: 3 of 7.\n"


def test_an_interrupt_that_nobody_knows_about_is_told_in_one_word(capsys):
    def command():
        raise KeyboardInterrupt

    assert ended(command) == 130 and capsys.readouterr().err == "Interrupted.\n"


@pytest.mark.parametrize("around", [importing, interruption.terminable])
def test_sigterm_is_heard_as_ctrl_c_is(capsys, around):
    def command():
        with interruption.told("Interrupted: 3 of 7."), around():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)

    before = signal.getsignal(signal.SIGTERM)
    assert ended(command) == 143
    assert capsys.readouterr().err == "Interrupted: 3 of 7.\n"
    assert signal.getsignal(signal.SIGTERM) is before


def test_of_several_measurements_the_finished_ones_are_named(tmp_path):
    with pytest.raises(KeyboardInterrupt) as caught, interruption.several_told([tmp_path / "angular"]):
        with interruption.told(interruption.NOTHING):
            raise KeyboardInterrupt
    said = interruption.sentence(caught.value)
    assert said.startswith(interruption.NOTHING) and str(tmp_path / "angular") in said


def test_of_several_processes_the_first_one_speaks(capsys, monkeypatch):
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setenv("MASTER_PORT", "29500")
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        Watch().say(f"I am {rank}.")
    assert capsys.readouterr().err == "I am 0.\n"


def test_a_stage_in_a_log_is_told_in_lines(capsys, monkeypatch):
    monkeypatch.setattr(progress, "BEGIN_S", 0.0)
    monkeypatch.setattr("depthprobe.commands.show.LOOKS_S", 0.001)
    said = ""
    with Watch().stage("Sweeping", 10, "answers", 4) as advance:
        advance(1)
        for _ in range(10_000):
            said += capsys.readouterr().err
            if said:
                break
            time.sleep(0.001)
    assert said.startswith(("Sweeping: 5 of 10 answers (50%)", "Sweeping: 4 of 10 answers (40%)"))


def test_of_a_stage_within_a_stage_the_inner_one_is_told():
    lines, asked, times = [], threading.Event(), []
    pace = progress.Pace(None, 0, lambda: 1000.0 * len(times))

    def is_innermost():
        times.append(1)
        if len(times) > 1:
            asked.set()
        return False

    with progress.looking(progress.Log("Outer", "", pace, lines.append), 0.001, is_innermost):
        assert asked.wait(60) and lines == []


def test_nobody_looks_at_a_stage_that_nobody_wants_told():
    before = threading.active_count()
    with Watch(quiet=True).stage("Sweeping", 10, "answers") as advance:
        advance(1)
        assert threading.active_count() == before
