"""Locks and what is written aside: they end with their process, however that ends."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from depthprobe.errors import RunError
from depthprobe.results.aside import aside, clear_leftovers, file_aside, folder_aside, remove_folder
from depthprobe.results.files import replace_file
from depthprobe.results.folders import replace_folder
from depthprobe.results.journal import Journal
from depthprobe.results.locks import Lock
from depthprobe.results.places import reserve
from depthprobe.results.store import save

WORK = {
    "lock": "Lock.take(place / 'run.lock', 'It is written', 'Wait.')",
    "file": "[manager := file_aside(place / 'table.csv'), manager.__enter__()]",
    "folder": "[manager := folder_aside(place / 'angular'), manager.__enter__()]",
}


@pytest.fixture
def holder(tmp_path):
    """A function that starts a process which holds something, and returns it once it does."""
    started = []

    def start(what):
        code = (
            "import sys, time; from pathlib import Path\n"
            "from depthprobe.results.aside import file_aside, folder_aside\n"
            "from depthprobe.results.locks import Lock\n"
            f"place = Path({str(tmp_path)!r}); kept = {WORK[what]}\n"
            "print('held', flush=True); time.sleep(60)"
        )
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_a_lock_names_its_holder_and_does_not_survive_a_kill(holder, tmp_path):
    process = holder("lock")
    with pytest.raises(RunError, match=rf"It is written by process {process.pid} on .*\. Wait\."):
        Lock.take(tmp_path / "run.lock", "It is written", "Wait.")
    kill(process)
    assert names(tmp_path) == ["run.lock"]
    Lock.take(tmp_path / "run.lock", "It is written", "Wait.").release()
    assert names(tmp_path) == []


def test_a_lock_is_released_once_and_with_its_last_reference(tmp_path):
    lock = Lock.take(tmp_path / "run.lock", "It is written", "Wait.")
    lock.release()
    lock.release()
    forgotten = Lock.take(tmp_path / "run.lock", "It is written", "Wait.")
    del forgotten
    assert names(tmp_path) == []


@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_is_written_aside_is_cleared_when_its_writer_is_dead_and_not_before(holder, tmp_path, what):
    process = holder(what)
    (left,) = names(tmp_path)
    clear_leftovers(tmp_path)
    assert names(tmp_path) == [left]
    kill(process)
    clear_leftovers(tmp_path, "another")
    assert names(tmp_path) == [left]
    clear_leftovers(tmp_path)
    assert names(tmp_path) == []


def test_what_another_machine_writes_aside_is_left_for_a_day(tmp_path):
    # Its locks may not be seen here.
    path = tmp_path / re.sub(r"partial-\w+", "partial-elsewhere", aside(tmp_path / "table.csv").name)
    path.write_text("half")
    clear_leftovers(tmp_path)
    assert path.exists()
    yesterday = time.time() - 100_000
    os.utime(path, (yesterday, yesterday))
    clear_leftovers(tmp_path)
    assert not path.exists()


@pytest.mark.parametrize(
    ("what", "write"),
    [
        ("file", lambda place: replace_file(place / "table.csv", b"whole")),
        ("folder", lambda place: replace_folder(place / "angular", {"a.csv": b"whole"})),
    ],
)
def test_writing_the_same_again_clears_what_a_killed_writer_left(holder, tmp_path, what, write):
    kill(holder(what))
    write(tmp_path)
    assert names(tmp_path) == [{"file": "table.csv", "folder": "angular"}[what]]


def test_a_failure_while_writing_aside_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), file_aside(tmp_path / "a") as (_, file):
        file.write(b"half")
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), folder_aside(tmp_path / "b") as folder:
        (folder / "half").touch()
        raise KeyboardInterrupt
    (tmp_path / "c" / "deep").mkdir(parents=True)
    remove_folder(tmp_path / "c")
    remove_folder(tmp_path / "c")
    assert names(tmp_path) == []


def test_of_equal_measurements_one_runs_and_others_go_on_beside_it(tmp_path, settings, measurement):
    first = reserve(tmp_path, "m", "angular", settings)
    with pytest.raises(RunError, match=r"angular is being measured by process \d+ on .*another --name"):
        reserve(tmp_path, "m", "angular", settings)
    other = reserve(tmp_path, "m", "angular", {**settings, "seed": 1})
    named = reserve(tmp_path, "m", "angular", settings, name="mine")
    for place in (other, named):
        place.abandon()
    save(first, measurement, {})
    assert reserve(tmp_path, "m", "angular", settings).finished is not None
    assert names(tmp_path / "m") == ["angular"]


def test_unfinished_work_of_a_finished_run_goes_and_other_work_stays(tmp_path, settings, measurement):
    from depthprobe.pipeline.resuming import drop_leftovers

    save(reserve(tmp_path, "m", "angular", settings), measurement, {})
    other = {**settings, "seed": 1}
    for name, kept in (("angular", settings), ("angular-12345678", other)):
        Journal.open(tmp_path / "m" / f".{name}.unfinished", {**kept, "tokens_sha256": "x"}).close()
    place = reserve(tmp_path, "m", "angular", settings)
    with Journal.open(tmp_path / "m" / ".angular.unfinished", {**settings, "tokens_sha256": "x"}):
        drop_leftovers(place, "angular")  # another process is at work there
    assert names(tmp_path / "m") == [".angular-12345678.unfinished", ".angular.unfinished", "angular"]
    drop_leftovers(place, "angular")
    assert names(tmp_path / "m") == [".angular-12345678.unfinished", "angular"]
