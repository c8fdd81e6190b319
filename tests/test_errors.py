"""What is quoted of a foreign exception."""

import pytest

from depthprobe.errors import first_line


@pytest.mark.parametrize(
    ("error", "named", "bare"),
    [
        (ValueError("no such thing.\nmore"), "ValueError: no such thing", "no such thing"),
        (ValueError("\n  Size mismatch:\n  at layer 3\n"), "ValueError: Size mismatch: at layer 3", None),
        (ImportError("No module named 'x'"), "No module named 'x'", "No module named 'x'"),
        (KeyError(), "KeyError", "KeyError"),
        (OSError("https://me:pass@host with hf_abcdefghijk"), "OSError: https://***@host with hf_***", None),
        (ValueError("x" * 999), "ValueError: " + "x" * 288, "x" * 300),
    ],
)
def test_a_foreign_message_is_one_line_without_secrets_and_full_stop(error, named, bare):
    assert first_line(error) == named
    assert first_line(error, kind=False) == (bare or named.partition(": ")[2])
