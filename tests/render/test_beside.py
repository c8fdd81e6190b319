"""Figures are drawn by copies of the process: the same ones, whatever becomes of the copies."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
from matplotlib.figure import Figure

from depthprobe.render.report import beside
from depthprobe.render.report.beside import drawing, files_of
from support.gallery_runs import GALLERY

MINE = os.getpid()
needs_copies = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods() or len(os.sched_getaffinity(0)) < 2,
    reason="no copies of processes, or one core",
)


def drawn_as(text):
    figure = Figure((2, 1))
    figure.text(0.1, 0.5, f"{text}: {'here' if os.getpid() == MINE else 'in a copy'}")
    return figure


def plain(text):
    figure = Figure((2, 1))
    figure.text(0.1, 0.5, text)
    return figure


def dies_in_a_copy(text):
    if os.getpid() != MINE:
        os._exit(9)
    return plain(text)


def cannot_be_drawn():
    raise ZeroDivisionError("no such scale")


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """As in a process of the command, which has neither torch nor threads; and no copy is left."""
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(beside.threading, "active_count", lambda: 1)
    yield
    assert not multiprocessing.active_children()


@needs_copies
def test_copies_draw_and_give_what_would_be_drawn_here_in_order():
    with drawing([partial(drawn_as, text) for text in "abc"]) as drawn:
        assert drawn() != [files_of(partial(drawn_as, text)) for text in "abc"]
    drawings = [partial(plain, text) for text in "abcde"]
    with drawing(drawings) as drawn:
        found = drawn()
    assert found == [files_of(draw) for draw in drawings]
    assert [set(files) for files in found] == [{"png", "pdf", "svg"}] * 5


def test_where_no_copy_can_be_made_all_is_drawn_here(monkeypatch):
    def refused(*asked):
        raise OSError(11, "Resource temporarily unavailable")

    drawings = [partial(drawn_as, text) for text in "ab"]
    monkeypatch.setattr(beside.os, "fork", refused)
    with drawing(drawings) as drawn:
        assert drawn() == [files_of(draw) for draw in drawings]


def test_beside_torch_or_a_thread_no_copy_is_made(monkeypatch):
    drawings = [partial(drawn_as, text) for text in "ab"]
    for change in (
        lambda: monkeypatch.setattr(beside.threading, "active_count", lambda: 2),
        lambda: monkeypatch.setitem(sys.modules, "torch", object()),
    ):
        change()
        with drawing(drawings) as drawn:
            assert drawn() == [files_of(draw) for draw in drawings]


def test_what_dies_with_a_copy_is_drawn_here():
    with drawing([partial(dies_in_a_copy, text) for text in "abc"]) as drawn:
        assert drawn() == [files_of(partial(plain, text)) for text in "abc"]


def test_what_cannot_be_drawn_is_told_as_if_there_were_no_copies():
    with pytest.raises(ZeroDivisionError, match="no such scale"):  # noqa: SIM117
        with drawing([partial(plain, "a"), cannot_be_drawn, partial(plain, "b")]) as drawn:
            drawn()


def test_no_copy_outlives_a_body_that_fails():
    with pytest.raises(KeyError), drawing([partial(plain, text) for text in "abcdef"]):
        raise KeyError


@needs_copies
@pytest.mark.parametrize("to_all", [True, False], ids=["the terminal's processes", "the process alone"])
def test_ctrl_c_while_figures_are_drawn_ends_the_command_and_leaves_nothing(tmp_path, to_all):
    # Copies that never come to an end, and a line that says that they are waited for.
    code = (
        "import sys, time; from depthprobe.render.report import beside; collected = beside._collected\n"
        "def told(drawings, connections):\n"
        "    print(len(connections), flush=True); return collected(drawings, connections)\n"
        "beside._collected = told; beside._draw = lambda *given: time.sleep(600)\n"
        "from depthprobe.__main__ import main; main()"
    )
    for after in (0.0, 0.3):
        process = subprocess.Popen(
            [sys.executable, "-c", code, "report", str(GALLERY), "-o", str(tmp_path), "--quiet"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert int(process.stdout.readline()) >= 2
        time.sleep(after)
        (os.killpg if to_all else os.kill)(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 130 and said.startswith("Interrupted") and said.count("\n") == 1
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)
        assert not list(tmp_path.rglob("report.html"))
