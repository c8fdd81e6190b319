"""The one way of a measurement: what every probe gets from it, and what of earlier versions still counts."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from depthprobe.catalogue import PROBES
from depthprobe.errors import OptionError, RunError
from depthprobe.evaluation.harness.options import SweepOptions
from depthprobe.machine.processes import Processes
from depthprobe.pipeline.request import Request
from depthprobe.pipeline.run import run
from depthprobe.results.manifest import MANIFEST_NAME
from depthprobe.texts.options import TextOptions
from support import tiny
from support.edits import edit_manifest
from support.sweep_tasks import write_tasks
from support.watching import Told


@pytest.fixture
def request_of(tmp_path):
    tiny.save(tmp_path / "model")
    (tmp_path / "text.txt").write_text(" ".join(tiny.sentences(12)))
    tasks = write_tasks(tmp_path / "tasks")

    def made(probe, **more):
        text = TextOptions(str(tmp_path / "text.txt"), samples=99, seq_len=16)
        options = None
        if probe == "prune-sweep":
            options = SweepOptions(("mine_mc",), include_path=(tasks,), limit=2, layers=(1,))
        model = str(tmp_path / "model")
        return Request(probe, model, text, options, output=tmp_path / "reports", **more)

    return made


@pytest.mark.parametrize("probe", PROBES)
def test_every_probe_tells_a_text_that_gave_less_and_keeps_numbers_found_under_results(request_of, probe):
    told = Told()
    found = run(request_of(probe), told)
    (news,) = [news for news in told.news if "of the 99 samples asked for" in news]
    assert news.startswith(str(request_of(probe).text.dataset))
    assert found.manifest["settings"]["probe_version"] == PROBES[probe].version
    asked, results = found.manifest["options"], found.manifest["results"]
    assert not set(asked) & set(results)
    assert set(asked) <= {"tokens", "per_batch", "tasks", "num_fewshot", "limit", "block"}
    assert {"angular": "vectors", "gradnorm": "loss_nats", "variance": "tokens"}.get(
        probe, "requests"
    ) in results
    assert found.facts == {**asked, **results}


@pytest.mark.parametrize("probe", ["angular", "prune-sweep"])
@pytest.mark.parametrize("ends", ["early", "finished"])
def test_the_group_of_processes_is_left_however_a_run_ends(request_of, monkeypatch, probe, ends):
    request = request_of(probe)
    if ends == "finished":
        run(request)
    left = []
    monkeypatch.setattr(Processes, "part", lambda self: left.append(self))
    if ends == "early":
        Path("blocked.txt").unlink(missing_ok=True)
        blocked = replace(request, output=Path(request.text.dataset))
        with pytest.raises(RunError):
            run(blocked)
    else:
        assert run(request) is not None
    assert len(left) == 1


def as_of_an_earlier_version(directory):
    """Give a run the manifest that version 0.1.0 wrote of it."""

    def older(manifest):
        manifest["options"] |= manifest.pop("results")
        del manifest["settings"]["probe_version"], manifest["format"], manifest["sha256"]
        manifest["settings"]["depthprobe"] = "0.1.0"
        manifest["files"].pop("items.npz", None)

    edit_manifest(directory, older)
    (directory / ".again.json").unlink(missing_ok=True)


@pytest.mark.parametrize("probe", PROBES)
def test_runs_of_earlier_versions_are_found_and_read(request_of, probe, monkeypatch):
    # They are those of a probe's first version.
    monkeypatch.setitem(PROBES, probe, replace(PROBES[probe], version=1))
    first = run(request_of(probe))
    as_of_an_earlier_version(first.directory)
    told = Told()
    again = run(request_of(probe), told)
    assert again.directory == first.directory and again.facts == first.facts
    assert any("Already measured" in news for news in told.news)


def test_a_probe_whose_numbers_changed_is_measured_again_and_the_package_version_does_not_count(
    request_of, monkeypatch
):
    first = run(request_of("angular"))
    monkeypatch.setattr("depthprobe.__version__", "9.9.9")
    assert run(request_of("angular")).directory == first.directory
    monkeypatch.setitem(PROBES, "angular", replace(PROBES["angular"], version=99))
    told = Told()
    second = run(request_of("angular"), told)
    assert second.directory != first.directory
    assert second.manifest["settings"]["probe_version"] == 99


def test_the_journal_of_a_release_is_that_of_the_next(request_of, monkeypatch):
    import importlib.metadata

    from depthprobe.pipeline import run as way

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(way, "save", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        run(request_of("gradnorm"))
    version = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "9.9.9" if name == "depthprobe" else version(name)
    )
    told = Told()
    assert run(request_of("gradnorm"), told) is not None
    assert any(news.startswith("Continuing an interrupted run: ") for news in told.news)


def test_a_run_by_its_manifest_says_the_memory_and_time_of_its_own(request_of):
    found = run(request_of("angular")).manifest
    assert found["elapsed_s"] > 0 and found["peak_memory_bytes"]["host"] > 0


def test_requests_of_nothing_are_refused():
    text = TextOptions()
    with pytest.raises(OptionError, match="There is no probe ''. The probes are angular, variance"):
        Request("", "model", text)
    with pytest.raises(OptionError, match="angular does not take SweepOptions"):
        Request("angular", "model", text, SweepOptions())
    with pytest.raises(OptionError, match="angular needs a text"):
        Request("angular", "model", None)
    assert Request("prune-sweep", "model", None).usual_name == "prune-sweep-stdlib_mc"


def test_a_copied_gallery_is_measured_already(tmp_path):
    gallery = Path(__file__).parents[2] / "reports" / "gallery" / "builtin--pre-ln" / "angular"
    settings = json.loads((gallery / MANIFEST_NAME).read_text())["settings"]
    import platform

    if settings["text"]["python"] != platform.python_version():
        pytest.skip("the gallery was made on another Python, whose standard library is another text")
    shutil.copytree(gallery, tmp_path / "builtin--pre-ln" / "angular")
    found = run(Request("angular", "builtin:pre-ln", TextOptions(samples=128), output=tmp_path))
    assert found.directory == tmp_path / "builtin--pre-ln" / "angular"


def test_a_sweep_keeps_the_scores_of_every_item_and_on_request_its_sample_rows(request_of):
    request = request_of("prune-sweep")
    assert (run(request).directory / "items.npz").stat().st_size > 100
    logging = replace(request, options=replace(request.options, log_samples=True), name="logged")
    names = {path.name for path in run(logging).directory.iterdir()}
    assert any(name.startswith("samples") for name in names), names


def test_a_damaged_run_is_called_that_and_stays(request_of):
    first = run(request_of("angular"))
    (first.directory / "angular.csv").unlink()
    told = Told()
    again = run(request_of("angular"), told)
    assert again.directory != first.directory and first.directory.is_dir()
    assert any(f"{first.directory} holds this run, but damaged" in news for news in told.news)
