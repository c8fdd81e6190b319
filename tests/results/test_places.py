import errno
import os
import time

import pytest

from depthprobe.errors import MachineError, OptionError, RunError
from depthprobe.results.store import reserve, save


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_the_default_place_is_output_model_probe(tmp_path, settings):
    place = reserve(tmp_path / "reports", "meta-llama/Llama-2-7b", "angular", settings)
    assert place.directory == tmp_path / "reports" / "meta-llama--Llama-2-7b" / "angular"
    assert (place.finished, place.note) == (None, "")
    assert not place.directory.exists()


def test_an_equal_run_is_found_and_nothing_needs_to_be_done(tmp_path, settings, measurement):
    run = save(reserve(tmp_path, "m", "angular", settings), measurement, {})
    reordered = dict(reversed(settings.items()))
    assert reserve(tmp_path, "m", "angular", reordered).finished.directory == run.directory


def test_an_equal_run_is_found_under_any_name_of_the_probe(tmp_path, settings, measurement):
    save(reserve(tmp_path, "m", "angular", settings, name="angular-mine"), measurement, {})
    place = reserve(tmp_path, "m", "angular", settings)
    assert place.directory.name == "angular-mine"
    assert place.finished is not None


def test_a_finished_run_is_found_where_nothing_can_be_written(tmp_path, settings, measurement, monkeypatch):
    save(reserve(tmp_path, "m", "angular", settings), measurement, {})
    monkeypatch.setattr(os, "fsync", lambda handle: pytest.fail("wrote something"))
    assert reserve(tmp_path, "m", "angular", settings).finished is not None


def test_settings_with_a_secret_in_them_still_find_their_run(tmp_path, measurement):
    settings = {"dataset": "https://me:pw@host/data.jsonl"}
    save(reserve(tmp_path, "m", "angular", settings), measurement, {})
    assert reserve(tmp_path, "m", "angular", settings).finished is not None


def test_other_settings_go_beside_and_the_note_says_so(tmp_path, settings, measurement):
    first = save(reserve(tmp_path, "m", "angular", settings), measurement, {})
    other = {**settings, "seed": 1, "data": {"dataset": "builtin", "samples": 64}}
    place = reserve(tmp_path, "m", "angular", other)
    assert place.finished is None
    assert place.directory.name == "angular-samples-64-seed-1"
    assert place.note == (
        f"{first.directory} holds a run with other settings (data.samples 128, seed 0), "
        f"so this one goes to {place.directory}."
    )
    save(place, measurement, {})
    assert reserve(tmp_path, "m", "angular", other).finished is not None
    assert names(tmp_path / "m") == ["angular", "angular-samples-64-seed-1"]


def test_a_folder_of_the_users_own_is_left_alone(tmp_path, settings, measurement):
    mine = tmp_path / "m" / "angular"
    mine.mkdir(parents=True)
    (mine / "thesis.tex").write_text("years of work")
    place = reserve(tmp_path, "m", "angular", settings)
    run = save(place, measurement, {})
    assert run.directory != mine
    assert "exists but holds no finished run" in place.note
    assert names(mine) == ["thesis.tex"]


@pytest.mark.parametrize("make", ["mkdir", "touch", "dangling"])
def test_an_empty_folder_a_file_and_a_dangling_link_are_left_alone(tmp_path, settings, make):
    (tmp_path / "m").mkdir()
    taken = tmp_path / "m" / "angular"
    taken.symlink_to("nowhere") if make == "dangling" else getattr(taken, make)()
    assert reserve(tmp_path, "m", "angular", settings).directory != taken


def test_a_damaged_run_with_equal_settings_is_measured_again_beside_it(tmp_path, settings, measurement):
    run = save(reserve(tmp_path, "m", "angular", settings), measurement, {})
    (run.directory / "angular.csv").unlink()
    place = reserve(tmp_path, "m", "angular", settings)
    assert place.finished is None
    assert place.directory != run.directory


def test_a_chosen_name_taken_by_other_settings_is_refused(tmp_path, settings, measurement):
    save(reserve(tmp_path, "m", "angular", settings, name="mine"), measurement, {})
    assert reserve(tmp_path, "m", "angular", settings, name="mine").finished is not None
    with pytest.raises(
        RunError, match=r"mine holds a run with other settings \(seed 0\)\. Choose another --name"
    ):
        reserve(tmp_path, "m", "angular", {**settings, "seed": 5}, name="mine")


def test_a_chosen_name_cannot_leave_the_output_directory(tmp_path, settings):
    with pytest.raises(OptionError):
        reserve(tmp_path, "m", "angular", settings, name="../../elsewhere")


def test_a_run_of_another_probe_is_not_taken_for_this_one(tmp_path, settings, measurement):
    save(reserve(tmp_path, "m", "angular", settings), measurement, {})
    place = reserve(tmp_path, "m", "angular-other", settings, name="angular")
    assert place.finished is not None  # `prune-sweep-mmlu` is a name of runs of `prune-sweep`
    with pytest.raises(RunError, match="holds no finished run"):
        reserve(tmp_path, "m", "variance", settings, name="angular")


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_an_output_that_is_a_file_is_refused(tmp_path, settings, below):
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match=r"file is not a directory\. Choose a directory with --output"):
        reserve(tmp_path / "file" / below, "m", "angular", settings)


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.EROFS, "read-only file system. Choose a place that you may write in"),
        (errno.EACCES, "permission denied. Choose a place that you may write in"),
        (errno.ENOSPC, "no space left on device. Free some space"),
    ],
)
def test_a_place_that_cannot_be_written_fails_now_and_leaves_nothing(
    tmp_path, settings, monkeypatch, number, sentence
):
    def refuse(handle):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(MachineError, match=sentence) as caught:
        reserve(tmp_path / "new" / "reports", "m", "angular", settings)
    assert caught.value.exit_status == 1
    assert names(tmp_path) == []


def test_abandoning_removes_what_was_made_and_nothing_else(tmp_path, settings):
    (tmp_path / "reports").mkdir()
    place = reserve(tmp_path / "reports" / "new", "m", "angular", settings)
    place.abandon()
    assert names(tmp_path / "reports") == []
    place.abandon()
    assert names(tmp_path) == ["reports"]


def test_abandoning_keeps_a_directory_that_others_use_by_now(tmp_path, settings):
    place = reserve(tmp_path / "reports", "m", "angular", settings)
    (tmp_path / "reports" / "notes.txt").write_text("x")
    place.abandon()
    assert names(tmp_path / "reports") == ["notes.txt"]


def test_what_was_written_aside_a_day_ago_is_removed_and_todays_is_not(tmp_path, settings):
    for name in (".angular.partial-1-a", ".angular.partial-2-b"):
        (tmp_path / "m" / name).mkdir(parents=True)
    yesterday = time.time() - 100_000
    os.utime(tmp_path / "m" / ".angular.partial-1-a", (yesterday, yesterday))
    reserve(tmp_path, "m", "angular", settings)
    assert names(tmp_path / "m") == [".angular.partial-2-b"]
