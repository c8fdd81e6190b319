import errno
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from depthprobe.errors import MachineError, RunError
from depthprobe.results import journal as module
from depthprobe.results import locks, log_file
from depthprobe.results.journal import Journal, read_settings

SETTINGS = {"model": "m", "tasks": ["mmlu"], "options": {"limit": 5, "seed": 1}}


def values_of(number):
    """What piece ``number`` holds: arrays and JSON, the same in every process."""
    random_ = np.random.default_rng(number)
    return {
        "logprobs": random_.normal(size=(50, 4)),
        "correct": random_.random(50) < 0.5,
        "generations": [f"text {number} \u00e9\n", "\ud800"],
        "none": None,
    }


def equal(one, other):
    return list(one) == list(other) and all(
        (np.array_equal(one[key], other[key], equal_nan=one[key].dtype.kind == "f"))
        and one[key].dtype == other[key].dtype
        if isinstance(one[key], np.ndarray)
        else one[key] == other[key]
        for key in one
    )


def write_pieces(directory, numbers):
    with Journal.open(directory, SETTINGS) as journal:
        for number in numbers:
            journal.write(f"piece-{number}", values_of(number))


def log_of(directory):
    return directory / "journal" / "pieces.log"


def test_pieces_come_back_as_written_also_after_reopening(tmp_path):
    write_pieces(tmp_path / "run", range(3))
    with Journal.open(tmp_path / "run", SETTINGS) as journal:
        assert journal.pieces == ("piece-0", "piece-1", "piece-2")
        assert journal.done("piece-1") and not journal.done("piece-3")
        for number in range(3):
            assert equal(journal.read(f"piece-{number}"), values_of(number))
        journal.write("piece-3", values_of(3))
        assert equal(journal.read("piece-3"), values_of(3))
        with pytest.raises(KeyError):
            journal.read("piece-4")


numeric = arrays.arrays(
    st.sampled_from(["<f8", ">f4", "<f2", "<i8", "|u1", "|b1", "<c8", "<U5", "|S3"]),
    arrays.array_shapes(min_dims=0, min_side=0, max_side=4),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=8), numeric | json_values, max_size=5))
def test_any_arrays_and_json_survive_packing(values):
    packed = module._pack(values)
    again = module._unpack(packed)
    assert packed == module._pack(again)
    assert list(again) == list(values)
    for key, value in values.items():
        if isinstance(value, np.ndarray):
            assert again[key].dtype == value.dtype and again[key].shape == value.shape
            assert again[key].tobytes() == value.tobytes()
        else:
            assert again[key] == value


def test_equal_work_gives_equal_bytes(tmp_path):
    write_pieces(tmp_path / "a", range(5))
    write_pieces(tmp_path / "b", range(2))
    write_pieces(tmp_path / "b", range(2, 5))
    assert log_of(tmp_path / "a").read_bytes() == log_of(tmp_path / "b").read_bytes()


def test_a_piece_written_again_holds_the_later_values(tmp_path):
    with Journal.open(tmp_path, SETTINGS) as journal:
        journal.write("p", {"x": 1})
        journal.write("p", {"x": 2})
        assert journal.read("p") == {"x": 2}
    with Journal.open(tmp_path, SETTINGS) as journal:
        assert journal.read("p") == {"x": 2}


@pytest.mark.parametrize(
    "values, error",
    [
        ({"x": np.array([object()])}, TypeError),
        ({"x": {1, 2}}, TypeError),
        ({"x": [float("nan")]}, ValueError),
    ],
)
def test_what_cannot_be_read_back_is_not_written(tmp_path, values, error):
    with Journal.open(tmp_path, SETTINGS) as journal:
        with pytest.raises(error):
            journal.write("p", values)
        assert not journal.done("p")


def test_other_settings_are_refused_with_what_differs(tmp_path):
    write_pieces(tmp_path, range(1))
    other = {"model": "m", "tasks": ["mmlu"], "options": {"limit": 10}, "versions": {"torch": "2"}}
    with pytest.raises(RunError) as refusal:
        Journal.open(tmp_path, other)
    assert refusal.value.problem == (
        f"{tmp_path} holds an unfinished run with other settings: options.limit 5 there, 10 here; "
        'versions.torch unset there, "2" here; options.seed 1 there, unset here.'
    )
    assert refusal.value.hint == "Give the new run another --name or --output, or remove that directory."
    write_pieces(tmp_path, range(1, 2))  # the refusal left no lock and no damage behind


def test_settings_are_told_apart_by_type_but_not_by_order(tmp_path):
    Journal.open(tmp_path, {"a": 1, "b": (2,)}).close()
    Journal.open(tmp_path, {"b": [2], "a": 1}).close()
    with pytest.raises(RunError, match="a 1 there, true here"):
        Journal.open(tmp_path, {"a": True, "b": [2]})


def test_the_settings_of_an_unfinished_run_can_be_asked_for(tmp_path):
    assert read_settings(tmp_path / "nothing") is None
    write_pieces(tmp_path, [])
    assert read_settings(tmp_path) == SETTINGS
    (tmp_path / "journal" / "settings.json").write_text("{")
    with pytest.raises(RunError, match="settings.json is damaged"):
        read_settings(tmp_path)
    with pytest.raises(RunError, match="settings.json is damaged"):
        Journal.open(tmp_path, SETTINGS)


def test_a_log_cut_at_any_byte_of_its_last_record_loses_that_record_only(tmp_path):
    small = {"x": np.arange(3), "text": "hello"}
    with Journal.open(tmp_path, SETTINGS) as journal:
        for name in ("a", "b"):
            journal.write(name, small)
        before = log_of(tmp_path).stat().st_size
        journal.write("c", small)
    whole = log_of(tmp_path).read_bytes()
    for length in range(before, len(whole)):
        log_of(tmp_path).write_bytes(whole[:length])
        with Journal.open(tmp_path, SETTINGS) as journal:
            assert journal.pieces == ("a", "b")
            assert equal(journal.read("b"), small)
            journal.write("c", small)
        assert log_of(tmp_path).read_bytes() == whole


def test_any_damaged_byte_costs_the_record_it_lies_in_and_no_other(tmp_path):
    with Journal.open(tmp_path, SETTINGS) as journal:
        ends = []
        for name in ("a", "b", "c"):
            journal.write(name, {"name": name})
            ends.append(log_of(tmp_path).stat().st_size)
    whole = log_of(tmp_path).read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        log_of(tmp_path).write_bytes(damaged)
        hit = "abc"[sum(position >= end for end in ends)]
        with Journal.open(tmp_path, SETTINGS) as journal:
            assert set(journal.pieces) == {"a", "b", "c"} - {hit}
            for name in journal.pieces:
                assert journal.read(name) == {"name": name}
            journal.write(hit, {"name": hit})
            assert set(journal.pieces) == {"a", "b", "c"}


def test_a_mark_across_two_search_blocks_is_found(tmp_path, monkeypatch):
    with Journal.open(tmp_path, SETTINGS) as journal:
        journal.write("a", values_of(0))
        journal.write("b", values_of(1))
    content = bytearray(log_of(tmp_path).read_bytes())
    content[40] ^= 1
    log_of(tmp_path).write_bytes(content)
    for block in range(len(log_file.MARK), 40):
        monkeypatch.setattr(log_file, "SEARCH_BYTES", block)
        with Journal.open(tmp_path, SETTINGS) as journal:
            assert journal.pieces == ("b",)


def test_damage_while_the_journal_is_open_is_noticed_when_read(tmp_path):
    with Journal.open(tmp_path, SETTINGS) as journal:
        journal.write("a", values_of(0))
        content = bytearray(log_of(tmp_path).read_bytes())
        content[60] ^= 1
        log_of(tmp_path).write_bytes(content)
        with pytest.raises(RunError, match="a is gone. Everything finished so far is kept"):
            journal.read("a")


def test_a_second_process_ends_with_a_line_that_names_the_first(tmp_path):
    with Journal.open(tmp_path, SETTINGS):
        code = (
            "import sys; from pathlib import Path\n"
            "from depthprobe.errors import RunError\n"
            "from depthprobe.results.journal import Journal\n"
            f"try: Journal.open(Path({str(tmp_path)!r}), {SETTINGS!r})\n"
            "except RunError as error: print(error)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == (
        f"{tmp_path} is being written by process {os.getpid()} on {os.uname().nodename}. "
        "Wait until that has ended, or give this run another --name or --output."
    )
    write_pieces(tmp_path, range(1))  # free again


def test_writers_of_one_run_write_side_by_side_and_see_each_other_s_pieces(tmp_path):
    with Journal.open(tmp_path, SETTINGS) as first, Journal.open(tmp_path, SETTINGS, writer=1) as second:
        first.write("a", {"x": 1})
        second.write("b", {"x": 2})
        assert not first.done("b")
        first.refresh()
        assert first.read("b") == {"x": 2}
        with pytest.raises(RunError, match="is being written by"):
            Journal.open(tmp_path, SETTINGS, writer=1)
    with log_of(tmp_path).with_name("pieces-1.log").open("ab") as other:
        other.write(b"half a record")
    with Journal.open(tmp_path, SETTINGS) as alone:
        assert alone.read("a") == {"x": 1} and alone.read("b") == {"x": 2}
    # What looks torn may be another process writing; only its owner cuts it off.
    assert log_of(tmp_path).with_name("pieces-1.log").read_bytes().endswith(b"half a record")


WORKER = """
import sys
sys.path[:0] = [{tests!r}]
from pathlib import Path
from results.test_journal import SETTINGS, values_of
from depthprobe.results.journal import Journal
with Journal.open(Path({directory!r}), SETTINGS) as journal:
    print("open", flush=True)
    for number in range({count}):
        if not journal.done(f"piece-{{number}}"):
            journal.write(f"piece-{{number}}", values_of(number))
            print(number, flush=True)
"""


def kill_at_random_moments(directory, times, count):
    """Start the worker again and again, kill it each time, and check what is left each time."""
    moment = random.Random(0)
    code = WORKER.format(
        tests=os.path.dirname(os.path.dirname(__file__)), directory=str(directory), count=count
    )
    kept = set()
    for _ in range(times):
        worker = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert worker.stdout.readline() == "open\n"
        time.sleep(moment.uniform(0, 0.02))
        worker.send_signal(signal.SIGKILL)
        said = {f"piece-{line.strip()}" for line in worker.stdout.read().splitlines()}
        worker.wait()
        worker.stdout.close()
        with Journal.open(directory, SETTINGS) as journal:  # the lock died with the worker
            found = set(journal.pieces)
            assert kept | said <= found and len(found - kept - said) <= 1
            for piece in found:
                assert equal(journal.read(piece), values_of(int(piece.removeprefix("piece-"))))
        kept = found
    return kept


def check_killing(tmp_path, times, count):
    kept = kill_at_random_moments(tmp_path / "killed", times, count)
    assert kept
    with Journal.open(tmp_path / "killed", SETTINGS) as journal:
        for number in range(count):
            if not journal.done(f"piece-{number}"):
                journal.write(f"piece-{number}", values_of(number))
    write_pieces(tmp_path / "whole", range(count))
    assert log_of(tmp_path / "killed").read_bytes() == log_of(tmp_path / "whole").read_bytes()


def test_sigkill_loses_at_most_the_piece_in_progress_and_resuming_ends_with_equal_bytes(tmp_path):
    check_killing(tmp_path, times=4, count=200)


@pytest.mark.slow
def test_sigkill_many_times(tmp_path):
    check_killing(tmp_path, times=60, count=20_000)


def test_a_forked_child_that_outlives_the_process_does_not_keep_the_lock(tmp_path):
    code = (
        "import os, signal, time; from pathlib import Path\n"
        "from depthprobe.results.journal import Journal\n"
        f"journal = Journal.open(Path({str(tmp_path)!r}), {SETTINGS!r})\n"
        "child = os.fork()\n"
        "if child == 0: print(os.getpid(), flush=True); time.sleep(30); os._exit(0)\n"
        "time.sleep(0.2); os.kill(os.getpid(), signal.SIGKILL)"
    )
    worker = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    child = int(worker.stdout.readline())
    worker.wait()
    try:
        write_pieces(tmp_path, range(1))
    finally:
        os.kill(child, signal.SIGKILL)
        worker.stdout.close()


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_full_disk_or_ctrl_c_leaves_everything_before_readable(tmp_path, monkeypatch, failure):
    with Journal.open(tmp_path, SETTINGS) as journal:
        journal.write("a", values_of(0))
        size = log_of(tmp_path).stat().st_size

        def fail(handle):
            raise failure

        with monkeypatch.context() as patch, pytest.raises((MachineError, KeyboardInterrupt)) as caught:
            patch.setattr(os, "fsync", fail)
            journal.write("b", values_of(1))
        if isinstance(failure, OSError):
            assert caught.value.problem == f"Cannot write {log_of(tmp_path)}: no space left on device."
            assert caught.value.hint == (
                "Free some space there. Everything finished so far is kept: "
                "start the same command again to continue."
            )
        assert not journal.done("b") and log_of(tmp_path).stat().st_size == size
        assert equal(journal.read("a"), values_of(0))
        journal.write("b", values_of(1))  # space was freed
    with Journal.open(tmp_path, SETTINGS) as journal:
        assert journal.pieces == ("a", "b")


def test_a_write_that_the_system_cuts_short_is_taken_back(tmp_path):
    with Journal.open(tmp_path, SETTINGS) as journal:
        journal.write("a", values_of(0))
        size = log_of(tmp_path).stat().st_size
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, hard))
        try:
            with pytest.raises(MachineError, match="file too large. Free some space there"):
                journal.write("b", values_of(1))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert log_of(tmp_path).stat().st_size == size
        assert equal(journal.read("a"), values_of(0))


def test_a_place_that_is_a_file_or_may_not_be_written_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="it is not a directory"):
        Journal.open(tmp_path / "file", SETTINGS)

    def no_locks(handle, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", no_locks)
    with pytest.raises(MachineError, match="no locks available. Choose a file system that has locks"):
        Journal.open(tmp_path, SETTINGS)


def test_a_closed_journal_is_not_written(tmp_path):
    journal = Journal.open(tmp_path, SETTINGS)
    journal.close()
    journal.close()
    with pytest.raises(ValueError, match="is closed"):
        journal.write("a", {})


def test_settings_on_disk_are_json_that_people_can_read(tmp_path):
    write_pieces(tmp_path, [])
    text = (tmp_path / "journal" / "settings.json").read_text()
    assert json.loads(text) == {"format": 1, "settings": SETTINGS} and text.endswith("\n")
    assert sorted(path.name for path in (tmp_path / "journal").iterdir()) == [
        "lock",
        "pieces.log",
        "settings.json",
    ]
