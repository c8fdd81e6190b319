"""What a run took is its own, not what the process took before it."""

import subprocess
import sys

import pytest

from depthprobe.machine import provenance
from depthprobe.machine.provenance import Usage

MEBI = 1 << 20


# In a process of its own: one that has run other tests holds freed memory, which it uses again.
PEAKS = """
import numpy as np
from depthprobe.machine import provenance
from depthprobe.machine.provenance import Usage

def hold(mebibytes):
    return int(np.ones(mebibytes << 20, dtype=np.uint8)[-1])

hold(400)
small = Usage()
hold(20)
first = small.peak_memory_bytes()["host"]
large = Usage()
hold(200)
more = large.peak_memory_bytes()["host"] - first
print(more >> 20, provenance._begin_host_mark_anew())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux begins the mark anew")
def test_the_peak_is_that_of_the_run_and_not_of_the_process():
    done = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, check=True)
    mebibytes, anew = done.stdout.split()
    if anew == "False":
        pytest.skip("this system does not begin the mark anew")
    assert 150 < int(mebibytes) < 250


def test_a_mark_of_the_whole_process_is_called_what_it_is(monkeypatch):
    marks = iter([1000, 1000, 2000])
    monkeypatch.setattr(provenance, "_begin_host_mark_anew", lambda: False)
    monkeypatch.setattr(provenance, "_host_mark", lambda: next(marks))
    usage = Usage()
    assert usage.peak_memory_bytes()["host_at_most"] == 1000
    # The mark rose since: it is the run's.
    assert usage.peak_memory_bytes()["host"] == 2000


def test_without_proc_the_mark_is_that_of_getrusage(monkeypatch, tmp_path):
    monkeypatch.setattr(provenance, "_CLEAR", tmp_path / "no" / "clear_refs")
    monkeypatch.setattr(provenance, "_STATUS", tmp_path / "no" / "status")
    assert not provenance._begin_host_mark_anew()
    assert provenance._host_mark() > 10 * MEBI


def test_the_time_is_counted_from_the_start(monkeypatch):
    times = iter([10.0, 12.34567])
    monkeypatch.setattr(provenance.time, "monotonic", lambda: next(times))
    assert Usage().elapsed_s() == 2.346


@pytest.mark.gpu
def test_the_peak_of_a_gpu_is_that_of_the_run():
    import torch

    torch.ones(400 * MEBI, dtype=torch.uint8, device="cuda")  # and gone
    usage = Usage()
    before = usage.peak_memory_bytes()["cuda"]
    torch.ones(100 * MEBI, dtype=torch.uint8, device="cuda")
    assert usage.peak_memory_bytes()["cuda"] - before == 100 * MEBI
