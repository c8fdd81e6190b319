"""``report MODEL``: what is missing is measured, with one model in memory; what fails leaves the rest."""

import pytest
from depthprobe.battery import Battery, measure_all

from depthprobe import battery, workbench
from depthprobe.errors import LoadError, MeasureError, OptionError
from depthprobe.evaluation.harness import TaskOptions
from depthprobe.pipeline import Request, run
from depthprobe.texts import TextOptions


class Told:
    """Takes the news."""

    def __init__(self):
        self.news = []

    def say(self, news):
        self.news.append(news)

    def stage(self, what, total, unit, already=0):
        from depthprobe.pipeline import Silent

        return Silent().stage(what, total, unit, already)


@pytest.fixture
def wanted(tmp_path):
    text = TextOptions(samples=4, seq_len=32)
    request = Request(probe="", model="builtin:pre-ln", text=text, output=tmp_path)
    return Battery(request, TaskOptions(tasks=("stdlib_mc",), limit=4), text)


def test_every_missing_run_is_measured_with_one_model_and_gives_the_numbers_of_the_single_command(
    wanted, tmp_path, monkeypatch
):
    loaded = []
    load = workbench.load_model
    monkeypatch.setattr(workbench, "load_model", lambda *a, **o: loaded.append(1) or load(*a, **o))
    runs = measure_all(wanted)
    assert [found.manifest["probe"] for found in runs] == ["angular", "variance", "gradnorm", "prune-sweep"]
    assert loaded == [1]

    # After angular and variance on the same model, gradnorm's numbers are those of a model of its own.
    alone = run(
        Request("gradnorm", "builtin:pre-ln", wanted.model.text, {"per_batch": None}, output=tmp_path / "b")
    )
    assert alone.tables["gradnorm"].equals(runs[2].tables["gradnorm"])

    told = Told()
    again = measure_all(wanted, told)
    assert [found.directory for found in again] == [found.directory for found in runs]
    assert len(loaded) == 2  # only the single command loaded one
    assert sum("Already measured" in news for news in told.news) == 4


def test_a_measurement_that_fails_is_told_and_the_others_go_on(wanted, monkeypatch):
    def refuse(request, watch, bench):
        raise LoadError("This is an encoder.", "Choose a decoder.")

    monkeypatch.setattr(battery, "run_sweep", refuse)
    told = Told()
    runs = measure_all(wanted, told)
    assert [found.manifest["probe"] for found in runs] == ["angular", "variance", "gradnorm"]
    assert "The report goes on without prune-sweep: This is an encoder. Choose a decoder." in told.news


def test_where_nothing_can_be_measured_the_error_comes_through(wanted, monkeypatch):
    def refuse(*asked):
        raise MeasureError("The stream holds NaN.")

    monkeypatch.setattr(battery, "run", refuse)
    monkeypatch.setattr(battery, "run_sweep", refuse)
    with pytest.raises(MeasureError, match="The stream holds NaN"):
        measure_all(wanted)


def test_an_unknown_task_is_told_before_anything_is_measured(wanted, tmp_path):
    from dataclasses import replace

    with pytest.raises(OptionError, match="nosuch_task"):
        measure_all(replace(wanted, tasks=TaskOptions(tasks=("nosuch_task",))))
    assert not list(tmp_path.iterdir())


def test_several_processes_are_refused_with_what_to_do(wanted, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(OptionError, match="with torchrun first, then report alone"):
        measure_all(wanted)
