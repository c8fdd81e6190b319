import errno
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from depthprobe.errors import MachineError, RunError
from depthprobe.measurement import Column, Measurement, Table
from depthprobe.results.store import read_run, reserve, save
from depthprobe.results.tables import read_table
from support.edits import edit_manifest

GALLERY = Path(__file__).parents[2] / "reports" / "gallery"


def names(directory):
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture
def run(tmp_path, settings, measurement):
    return save(reserve(tmp_path, "m", "angular", settings), measurement, {"model": {"id": "m"}})


def test_a_saved_run_comes_back_bit_for_bit(run, frame):
    again = read_run(run.directory)
    pd.testing.assert_frame_equal(again.tables["angular"], frame, check_exact=True)
    assert again.manifest == run.manifest
    assert again.manifest["model"] == {"id": "m"}


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_any_finite_float_survives_the_csv(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    pd.DataFrame({"x": values}).to_csv(path, index=False, lineterminator="\n")
    table = read_table(path, [{"name": "x", "type": "number"}], len(values))
    assert table["x"].tolist() == values


def test_numbers_of_any_size_survive_the_csv_by_the_hundred_thousand(tmp_path):
    random = np.random.default_rng(0)
    values = random.standard_normal(200_000) * 10.0 ** random.uniform(-12, 12, 200_000)
    path = tmp_path / "t.csv"
    pd.DataFrame({"x": values}).to_csv(path, index=False, lineterminator="\n")
    table = read_table(path, [{"name": "x", "type": "number"}], len(values))
    assert np.array_equal(table["x"].to_numpy().view("int64"), values.view("int64"))


def test_text_that_looks_like_a_missing_value_stays_text(tmp_path):
    texts = ["", "NA", "nan", "None", " null ", "1.0", "True", "line\r\nend"]
    frame = pd.DataFrame({"text": pd.Series(texts, dtype="str"), "n": range(len(texts))})
    frame.to_csv(tmp_path / "t.csv", index=False, lineterminator="\n")
    columns = [{"name": "text", "type": "text"}, {"name": "n", "type": "integer"}]
    table = read_table(tmp_path / "t.csv", columns, len(texts))
    pd.testing.assert_frame_equal(table, frame, check_exact=True)


def test_text_truth_and_whole_numbers_keep_their_types(tmp_path, settings):
    frame = pd.DataFrame({"part": ["NA", 'a,"b"\nc'], "ok": [True, False], "n": [1, 2], "x": [1.0, 2.0]})
    columns = tuple(Column(name, "", name) for name in frame.columns)
    table = Table("mixed", frame, columns)
    run = save(reserve(tmp_path, "m", "mixed", settings), Measurement("mixed", (table,)), {})
    pd.testing.assert_frame_equal(run.tables["mixed"], frame, check_exact=True)


def test_the_csv_has_no_index_and_lf(run):
    content = (run.directory / "angular.csv").read_bytes()
    assert content.startswith(b"layer,n,distance,std,samples\n0,1,0.30000000000000004,")
    assert b"\r" not in content


def test_the_manifest_declares_columns_rows_and_settings(run, settings):
    manifest = json.loads((run.directory / "manifest.json").read_text())
    assert manifest["columns"]["angular"][2] == {
        "name": "distance",
        "type": "number",
        "unit": "fraction of pi",
        "meaning": "angular distance",
    }
    assert manifest["files"]["angular"]["rows"] == 6
    assert manifest["settings"] == settings
    assert manifest["probe"] == "angular"


def test_nothing_but_the_run_is_left_after_saving(run, tmp_path):
    assert names(tmp_path / "m") == ["angular"]
    assert names(run.directory) == ["angular.csv", "manifest.json"]


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), KeyboardInterrupt()])
def test_a_failure_while_saving_leaves_nothing_behind(tmp_path, settings, measurement, monkeypatch, failure):
    place = reserve(tmp_path / "reports", "m", "angular", settings)
    calls = []

    def fail(handle):
        calls.append(handle)
        if len(calls) == 2:
            raise failure

    monkeypatch.setattr(os, "fsync", fail)
    expected = MachineError if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        save(place, measurement, {})
    assert len(calls) == 2
    assert names(tmp_path) == []


def test_a_manifest_that_cannot_be_written_leaves_nothing_behind(tmp_path, settings, measurement):
    place = reserve(tmp_path / "reports", "m", "angular", settings)
    with pytest.raises(RunError, match="manifest.elapsed_s is nan"):
        save(place, measurement, {"elapsed_s": float("nan")})
    assert names(tmp_path) == []


def test_a_name_taken_meanwhile_is_not_overwritten(tmp_path, settings, measurement):
    first = reserve(tmp_path, "m", "angular", settings)
    second = reserve(tmp_path, "m", "angular", {**settings, "seed": 1})
    assert first.directory == second.directory
    one, two = save(first, measurement, {}), save(second, measurement, {})
    assert one.directory != two.directory
    assert read_run(one.directory).manifest["settings"]["seed"] == 0
    assert read_run(two.directory).manifest["settings"]["seed"] == 1


def test_an_empty_folder_made_meanwhile_is_not_replaced(tmp_path, settings, measurement):
    place = reserve(tmp_path, "m", "angular", settings)
    place.directory.mkdir()
    assert save(place, measurement, {}).directory != place.directory
    assert names(place.directory) == []


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_other_line_ends_and_a_byte_order_mark_are_no_change(run, frame, mark):
    path = run.directory / "angular.csv"
    path.write_bytes(mark + path.read_bytes().replace(b"\n", b"\r\n"))
    again = read_run(run.directory).tables["angular"]
    pd.testing.assert_frame_equal(again, frame, check_exact=True)


def test_a_value_changed_by_hand_is_refused_by_name(run):
    damage(run.directory / "angular.csv", "0.3333333333333333,", "0.3333333333333334,")
    with pytest.raises(RunError, match=r"angular\.csv was changed after the run"):
        read_run(run.directory)


def test_a_manifest_without_a_hash_takes_the_table_as_it_is(run):
    edit_manifest(run.directory, lambda manifest: manifest["files"]["angular"].pop("sha256"))
    damage(run.directory / "angular.csv", "0.3333333333333333,", "0.5,")
    assert read_run(run.directory).tables["angular"]["distance"].iloc[1] == 0.5


def test_every_run_of_the_gallery_is_what_its_manifest_says():
    runs = [path.parent for path in GALLERY.rglob("manifest.json")]
    assert runs and all(read_run(run).tables for run in runs)


def damage(path, old, new):
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("layer,n,", "layer,size,", "has the columns layer, size, .*; its manifest says layer, n, "),
        ("\n0,2,", "\n0,2,0,", "line 3, has 6 values instead of 5"),
        ("0,2,0.3333333333333333,", "0,0.3333333333333333,", "line 3, has '0.3333333333333333' for n, which"),
        ("0.3333333333333333,", "1e999,", "a number in distance that is too large"),
        (
            "0.3333333333333333,",
            '"0.3333333333333333,',
            "is not a CSV: .*quote that opens in line 3 is not closed",
        ),
        ("0.3333333333333333,", "nan,", "line 3, has 'nan' for distance, which is not a finite number"),
        ("0.3333333333333333,", "near,", "line 3, has 'near' for distance, which is not a finite number"),
        ("0.3333333333333333,", ",", "line 3, has '' for distance"),
        ("\n2,1,", "\n2.5,1,", "line 7, has '2.5' for layer, which is not of type integer"),
        ("\n2,1,", "\n99999999999999999999,1,", "a number in layer that is too large"),
    ],
)
def test_a_damaged_table_is_one_clear_line(run, old, new, sentence):
    damage(run.directory / "angular.csv", old, new)
    with pytest.raises(RunError, match=sentence):
        read_run(run.directory)


@pytest.mark.parametrize(
    ("kept", "sentence"), [(-3, "is cut short"), (0, "is empty"), (-30, "is cut short|rows")]
)
def test_a_truncated_table_is_refused(run, kept, sentence):
    path = run.directory / "angular.csv"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(RunError, match=sentence):
        read_run(run.directory)


def test_a_lost_line_is_refused(run):
    path = run.directory / "angular.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(RunError, match="has 5 rows; its manifest says 6"):
        read_run(run.directory)


def test_a_table_that_is_gone_or_binary_is_refused(run):
    path = run.directory / "angular.csv"
    path.write_bytes(b"\xff\xfe\n")
    with pytest.raises(RunError, match="is not UTF-8 text"):
        read_run(run.directory)
    path.unlink()
    with pytest.raises(RunError, match="angular.csv is missing"):
        read_run(run.directory)


@pytest.mark.parametrize(
    ("old", "new", "wrong"),
    [
        ('"columns"', '"kolumns"', "columns is missing"),
        ('"rows": 6', '"rows": "6"', 'files.angular.rows is "6", not a whole number of at least 0'),
        ('"type": "number"', '"type": "date"', r'columns.angular\[2\].type is "date", not a type of column'),
        ('"angular": [', '"../angular": [', r"columns names '\.\./angular', which is no table"),
    ],
)
def test_a_manifest_of_another_shape_is_refused(run, old, new, wrong):
    damage(run.directory / "manifest.json", old, new)
    with pytest.raises(RunError, match=f"manifest.json cannot be used: {wrong}"):
        read_run(run.directory)


def test_a_path_that_does_not_exist_or_is_a_file_is_refused(run, tmp_path):
    with pytest.raises(RunError, match="nowhere does not exist"):
        read_run(tmp_path / "nowhere")
    with pytest.raises(RunError, match=r"angular\.csv is a file\. .*such as .*angular\."):
        read_run(run.directory / "angular.csv")


def test_a_directory_above_runs_lists_them(run, tmp_path):
    with pytest.raises(RunError, match="is not a run: it has no manifest.json") as caught:
        read_run(tmp_path)
    assert caught.value.hint == f"It holds the runs {run.directory}."
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="The directory of a run is written by a measurement"):
        read_run(tmp_path / "empty")
