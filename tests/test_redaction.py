"""What must never reach a file, and what must survive."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from depthprobe.redaction import redact


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("token hf_abcDEF1234567890 used", "token hf_*** used"),
        ("Authorization: Bearer xyz", "Authorization: Bearer ***"),
        ("Authorization: Basic dXNlcjpwYXNz", "Authorization: Basic ***"),
        ("https://user:pass@host/path", "https://***@host/path"),
        ("https://user:p@ss@host/path", "https://***@host/path"),
        ("git+ssh://secret@host", "git+ssh://***@host"),
        ("https://host/f?token=abc&rev=1", "https://host/f?token=***&rev=1"),
        ("https://host/f?rev=1&access_token=abc#x", "https://host/f?rev=1&access_token=***#x"),
        ("https://s3/f?X-Amz-Signature=0af&a=b", "https://s3/f?X-Amz-Signature=***&a=b"),
        ("access_token=abc", "access_token=***"),
        ("run --token=abc --samples 3", "run --token=*** --samples 3"),
        ("HF_TOKEN=abc depthprobe angular", "HF_TOKEN=*** depthprobe angular"),
        ('{"api_key": "abc"}', '{"api_key": "***"}'),
    ],
)
def test_secrets_are_replaced(text, clean):
    assert redact(text) == clean


@pytest.mark.parametrize(
    "text",
    [
        "depthprobe angular meta-llama/Llama-2-7b --tokens=all --seed 1",
        "https://huggingface.co/allenai/c4/blob/main/en@abc?rev=1",
        "hf-internal-testing/tiny-random-gpt2",
        "pad_token=<pad>",
        "somebody@example.org wrote /data/models/my llama",
        "",
    ],
)
def test_harmless_text_survives(text):
    assert redact(text) == text


@pytest.mark.parametrize("name", ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"])
def test_the_value_of_a_token_variable_is_replaced_wherever_it_stands(monkeypatch, name):
    monkeypatch.setenv(name, "opaque-value")
    assert redact("path/opaque-value/x") == "path/***/x"


def test_an_empty_token_variable_changes_nothing(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", " ")
    assert redact("two words") == "two words"


_PIECES = st.sampled_from(
    [
        "hf_abcdefgh1",
        "Bearer ",
        "https://",
        "a:b@",
        "?token=",
        "&",
        "=",
        " ",
        "x",
        "***",
        "authorization: ",
        '"',
    ]
)


@given(st.lists(_PIECES, max_size=8).map("".join))
def test_redacting_twice_changes_nothing_more(text):
    once = redact(text)
    assert redact(once) == once
    assert "abcdefgh1" not in once
