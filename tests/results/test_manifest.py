import datetime
import json

import numpy as np
import pytest

from depthprobe.errors import RunError
from depthprobe.results.manifest import canonical, current_settings, plain, read_manifest, write_manifest


def test_a_manifest_comes_back_as_it_was_written(tmp_path):
    manifest = {"b": [1, 2.5, None, True], "a": {"name": "Llama", "ü": "模"}}
    write_manifest(tmp_path / "manifest.json", manifest)
    assert read_manifest(tmp_path / "manifest.json").items() >= manifest.items()


def test_keys_are_sorted_and_lines_end_with_lf(tmp_path):
    write_manifest(tmp_path / "m.json", {"b": 1, "a": (1,)})
    content = (tmp_path / "m.json").read_bytes()
    assert content.startswith(b'{\n  "a": [\n    1\n  ],\n  "b": 1,\n') and content.endswith(b"\n}\n")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), np.float64("nan")])
def test_nan_and_infinity_are_refused_and_named(tmp_path, value):
    with pytest.raises(RunError, match=r"manifest\.a\[0\] is .*, which a manifest cannot hold"):
        write_manifest(tmp_path / "m.json", {"a": [value]})
    assert not (tmp_path / "m.json").exists()


@pytest.mark.parametrize("value", [np.int64(1), datetime.date(2026, 1, 1), {1, 2}, b"x", object()])
def test_unknown_types_are_refused_and_never_become_strings(value):
    with pytest.raises(RunError, match=f"manifest.a is a {type(value).__name__}"):
        plain({"a": value})


def test_a_key_that_is_no_text_is_refused():
    with pytest.raises(RunError, match="has the key 1"):
        plain({1: "x"})


def test_every_string_is_redacted_at_any_depth(tmp_path):
    manifest = {"command": ["depthprobe", "https://me:pw@host"], "a": {"b": [{"c": "hf_abcdefghijkl"}]}}
    write_manifest(tmp_path / "m.json", manifest)
    text = (tmp_path / "m.json").read_text("utf-8")
    assert "pw" not in text
    assert "abcdefghijkl" not in text


def test_text_that_is_no_valid_unicode_is_written_escaped(tmp_path):
    write_manifest(tmp_path / "m.json", {"path": "a\udcff"})
    assert read_manifest(tmp_path / "m.json")["path"] == "a\udcff"


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1]", '{"a": NaN}', '{"a": Infinity}', "\xff", "[" * 100_000],
    ids=lambda text: text[:5],
)
def test_what_is_no_strict_json_object_is_refused(tmp_path, text):
    (tmp_path / "m.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(RunError, match="is not a manifest"):
        read_manifest(tmp_path / "m.json")


def test_settings_compare_by_value_and_type_but_not_by_order():
    assert canonical({"a": 1, "b": 2}) == canonical({"b": 2, "a": 1})
    assert len({canonical({"a": value}) for value in (1, 1.0, True, "1")}) == 4


def test_settings_read_back_compare_equal_to_those_given():
    settings = plain({"a": (1, 2), "b": 0.1 + 0.2})
    assert canonical(json.loads(json.dumps(settings))) == canonical(settings)


def test_a_run_that_recorded_a_number_of_documents_with_a_point_is_known_again():
    of_old = {"probe_version": 1, "tasks": {"limit": 25.0, "tasks": ["t"]}}
    assert canonical(current_settings(of_old)) == canonical(of_old | {"tasks": {"limit": 25, "tasks": ["t"]}})
    share = {"probe_version": 1, "tasks": {"limit": 0.5}}
    assert current_settings(share) == share
