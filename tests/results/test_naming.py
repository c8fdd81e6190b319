import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from depthprobe.errors import OptionError
from depthprobe.results.naming import checked_name, distinct_names, run_directory_name


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("meta-llama/Llama-2-7b", "meta-llama--Llama-2-7b"),
        ("gpt2", "gpt2"),
        ("builtin:pre-ln", "builtin--pre-ln"),
        ("org/model:q8/tiny-Q8_0.gguf", "org--model--q8--tiny-Q8_0.gguf"),
        ("/data/models/my llama/", "my-llama"),
        ("./models/tiny", "tiny"),
        (r"C:\models\tiny", "tiny"),
        ("models/..", "models"),
        ("/data/.hidden", "hidden"),
        ("con", "model-con"),
        ("/data/NUL.txt", "model-NUL.txt"),
    ],
)
def test_a_model_gets_a_readable_safe_directory_name(model, name):
    assert run_directory_name(model) == name


@pytest.mark.parametrize("model", ["../..", "/", "", "/data/\x00\n", "模型"])
def test_a_name_without_a_usable_character_becomes_a_hash(model):
    assert re.fullmatch("model-[0-9a-f]{8}", run_directory_name(model))


@given(st.text(max_size=300))
def test_any_text_becomes_one_safe_component(model):
    name = run_directory_name(model)
    assert 0 < len(name) <= 96
    assert name.isascii()
    assert not name.startswith((".", "-"))
    assert not name.endswith(".")
    assert not set(name) & set('/\\:*?"<>| \0')
    assert name.split(".")[0].lower() not in {"con", "prn", "aux", "nul", "com1", "lpt1"}


def test_long_names_that_begin_alike_stay_apart():
    assert run_directory_name("a" * 200 + "b") != run_directory_name("a" * 200 + "c")


def test_another_name_is_made_of_the_settings_that_differ():
    old = {"samples": 1000, "seed": 0, "tokens": "last"}
    new = {"samples": 64, "seed": 1, "tokens": "last"}
    assert distinct_names("angular", new, old)[0] == "angular-samples-64-seed-1"


def test_nested_settings_are_named_by_their_last_key():
    old = {"data": {"seq_len": 256}, "trust": False}
    new = {"data": {"seq_len": 128}, "trust": True}
    assert distinct_names("angular", new, old)[0] == "angular-seq-len-128-trust-true"


def test_a_difference_too_long_to_say_becomes_a_hash():
    name = distinct_names("angular", {"dataset": "x" * 80}, {"dataset": "y"})[0]
    assert len(name) == len("angular-") + 8


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/abs", ".hidden", "a b", "con", "x" * 97, "a\n"])
def test_a_run_name_that_is_no_plain_directory_name_is_refused(name):
    with pytest.raises(OptionError, match="--name must be a plain directory name, got"):
        checked_name(name)
