"""The program in a shell: output closed, full or unread, and an environment that is not as usual."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

GALLERY = Path(__file__).parents[2] / "reports" / "gallery"
PROGRAM = f"{sys.executable} -m depthprobe"


def shell(line, **environment):
    known = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        ["bash", "-c", line], env=known | environment, capture_output=True, text=True, errors="replace"
    )


CLOSED = "Error: The output cannot be printed: the output is closed.\n"
FULL = "Error: The output cannot be printed: no space left on device.\n"


@pytest.mark.parametrize(
    ("line", "status", "said"),
    [
        ("--help >&-", 1, CLOSED),
        ("--version >&-", 1, CLOSED),
        ("--help > /dev/full", 1, FULL),
        ("variance --help > /dev/full", 1, FULL),
        ("docs > /dev/full", 1, f"{FULL.strip()} What was measured is saved.\n"),
        ("--help 2>&-", 0, ""),
        ("--help 2>/dev/full", 0, ""),
        ("--help <&- >&- 2>&-", 1, ""),
        ("--help | true; exit ${PIPESTATUS[0]}", 0, ""),
        ("docs running | head -1 > /dev/null; exit ${PIPESTATUS[0]}", 0, ""),
        ("docs nowhere 2>&-", 2, ""),
        ("docs nowhere 2>/dev/full", 2, ""),
    ],
)
def test_streams_that_cannot_be_written_end_in_a_sentence_or_in_silence(line, status, said):
    done = shell(f"{PROGRAM} {line}")
    assert (done.returncode, done.stderr) == (status, said)


def test_results_that_cannot_be_printed_are_saved_all_the_same(tmp_path):
    (run,) = sorted(GALLERY.rglob("angular/manifest.json"))[:1]
    done = shell(f"{PROGRAM} plot {run.parent} --format png -o {tmp_path} >&-", MPLBACKEND="nonsense")
    assert done.returncode == 1
    assert done.stderr == f"{CLOSED.strip()} What was measured is saved.\n"
    assert [path.suffix for path in tmp_path.iterdir()] == [".png"]


@pytest.mark.parametrize("columns", ["x", "0", "1", "-5"])
def test_help_can_be_read_whatever_the_terminal_claims_to_be(columns):
    done = shell(f"{PROGRAM} --help", COLUMNS=columns, TERM="dumb")
    assert done.returncode == 0 and "prune-sweep" in done.stdout


def test_what_an_encoding_lacks_is_printed_as_a_question_mark():
    done = shell(f"{PROGRAM} docs variance", PYTHONIOENCODING="ascii")
    assert done.returncode == 0 and done.stdout.isascii() and not done.stderr


def test_a_current_directory_that_is_gone_is_one_sentence(tmp_path):
    done = shell(f"mkdir {tmp_path}/gone; cd {tmp_path}/gone; rmdir {tmp_path}/gone; {PROGRAM} variance")
    told = "Error: The current directory does not exist any more. Change to one that does.\n"
    assert (done.returncode, done.stderr) == (2, told)


@pytest.mark.parametrize(
    "error", [MemoryError(), ImportError("libtorch_cpu.so: failed to map segment from shared object")]
)
def test_too_little_memory_is_one_sentence(monkeypatch, capsys, error):
    from depthprobe import __main__ as program
    from depthprobe.commands import app

    def fail(words):
        raise error

    monkeypatch.setattr(app, "run", fail)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setenv("MPLBACKEND", "agg")
    with pytest.raises(SystemExit) as caught:
        program.main()
    assert caught.value.code == 1
    assert capsys.readouterr().err.startswith("Error: There is not enough memory, perhaps because of a limit")
