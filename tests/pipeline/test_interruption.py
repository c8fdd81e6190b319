"""What is told of a measurement that is interrupted: what is really on disk, at every stage of it."""

import pytest

from depthprobe import interruption
from depthprobe.pipeline.request import Request
from depthprobe.pipeline.run import run
from depthprobe.texts.options import TextOptions
from support import tiny


@pytest.fixture
def request_for(tmp_path):
    tiny.save(tmp_path / "model")

    def made(probe):
        text = TextOptions(samples=4, seq_len=16)
        return Request(probe, str(tmp_path / "model"), text, output=tmp_path / "reports")

    return made


def interrupt_at(monkeypatch, where):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"depthprobe.{where}", interrupted)


def said_of(request):
    with pytest.raises(KeyboardInterrupt) as caught:
        run(request)
    return interruption.sentence(caught.value)


@pytest.mark.parametrize("where", ["resolve_model", "read_samples", "load_model"])
def test_before_the_measurement_nothing_is_kept(request_for, tmp_path, monkeypatch, where):
    interrupt_at(monkeypatch, f"pipeline.session.{where}")
    assert said_of(request_for("angular")) == interruption.NOTHING
    assert not (tmp_path / "reports").exists()


def test_a_probe_that_keeps_no_journal_says_so(request_for, tmp_path, monkeypatch):
    said = "Interrupted: nothing was saved; start the same command again."
    for where in ("pipeline.run.save", "probes.forward.run_batches"):
        interrupt_at(monkeypatch, where)
        assert said_of(request_for("angular")) == said
        assert not (tmp_path / "reports").exists()


def test_gradnorm_names_its_journal_also_before_it_is_open(request_for, tmp_path, monkeypatch):
    unfinished = tmp_path / "reports" / "model" / ".gradnorm.unfinished"
    with monkeypatch.context() as patch:
        interrupt_at(patch, "pipeline.run.save")
        said = said_of(request_for("gradnorm"))
    assert said.startswith("Interrupted: ") and f"on disk in {unfinished}; the same command continues" in said
    interrupt_at(monkeypatch, "pipeline.session.load_model")
    assert said_of(request_for("gradnorm")) == (
        f"Interrupted before anything new was measured; the work of an earlier start stays in {unfinished}."
    )
