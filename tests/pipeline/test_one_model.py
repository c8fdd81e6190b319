"""``report MODEL``: what is missing is measured, with one model in memory; what fails leaves the rest."""

from dataclasses import replace

import pytest

from depthprobe.errors import LoadError, MachineError, MeasureError, OptionError
from depthprobe.evaluation.harness.options import SweepOptions
from depthprobe.pipeline import one_model, session
from depthprobe.pipeline.one_model import measure_all
from depthprobe.pipeline.request import Request
from depthprobe.pipeline.run import run
from depthprobe.texts.options import TextOptions
from support.watching import Told


@pytest.fixture
def wanted(tmp_path):
    text = TextOptions(samples=4, seq_len=32)
    sweep = {"prune-sweep": SweepOptions(limit=4)}
    return [
        Request(probe, "builtin:pre-ln", text, sweep.get(probe), output=tmp_path)
        for probe in ("angular", "variance", "gradnorm", "prune-sweep")
    ]


def refusing(monkeypatch, error, only=None):
    def refuse(request, watch, session):
        if only in (None, request.probe):
            raise error
        return run(request, watch, session)

    monkeypatch.setattr(one_model, "run", refuse)


def test_every_missing_run_is_measured_with_one_model_and_gives_the_numbers_of_the_single_command(
    wanted, tmp_path, monkeypatch
):
    loaded = []
    load = session.load_model
    monkeypatch.setattr(session, "load_model", lambda *a, **o: loaded.append(1) or load(*a, **o))
    runs = measure_all(wanted).runs
    assert [found.manifest["probe"] for found in runs] == ["angular", "variance", "gradnorm", "prune-sweep"]
    assert loaded == [1]

    # After angular and variance on the same model, gradnorm's numbers are those of a model of its own.
    alone = run(replace(wanted[2], output=tmp_path / "b"))
    assert alone.tables["gradnorm"].equals(runs[2].tables["gradnorm"])

    told = Told()
    again = measure_all(wanted, told).runs
    assert [found.directory for found in again] == [found.directory for found in runs]
    assert len(loaded) == 2  # only the single command loaded one
    assert sum("Already measured" in news for news in told.news) == 4


def test_a_measurement_that_fails_is_told_and_the_others_go_on(wanted, monkeypatch):
    refusing(monkeypatch, LoadError("This is an encoder.", "Choose a decoder."), only="prune-sweep")
    told = Told()
    measured = measure_all(wanted, told)
    assert [found.manifest["probe"] for found in measured.runs] == ["angular", "variance", "gradnorm"]
    assert "The report goes on without prune-sweep: This is an encoder. Choose a decoder." in told.news
    assert measured.failure is None  # nothing is wrong with the machine: this model has no such number


def test_a_full_disk_is_a_failure_though_the_others_go_on(wanted, monkeypatch):
    full = MachineError("Cannot write: the disk is full.")
    refusing(monkeypatch, full, only="gradnorm")
    measured = measure_all(wanted)
    assert len(measured.runs) == 3 and measured.failure is full


def test_where_nothing_can_be_measured_the_error_comes_through(wanted, monkeypatch):
    refusing(monkeypatch, MeasureError("The stream holds NaN."))
    with pytest.raises(MeasureError, match="The stream holds NaN"):
        measure_all(wanted)


def test_an_unknown_task_is_told_before_anything_is_measured(wanted, tmp_path):
    unknown = replace(wanted[3], options=SweepOptions(("nosuch_task",)))
    with pytest.raises(OptionError, match="nosuch_task"):
        measure_all([*wanted[:3], unknown])
    assert not list(tmp_path.iterdir())


def test_several_processes_are_refused_with_what_to_do(wanted, monkeypatch):
    launched = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
    for name, value in launched.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(OptionError, match="with torchrun first, then report without it"):
        measure_all(wanted)
