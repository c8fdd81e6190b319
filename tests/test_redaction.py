"""What must never reach a file, and what must survive."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from depthprobe.errors import TextError
from depthprobe.redaction import message, printable, redact


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


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("over\rwritten", "over\\rwritten"),
        ("\x9b2J", "\\x9b2J"),
        ("name-\udcff", "name-\\udcff"),
        ("user\u202egpj.exe", "user\\u202egpj.exe"),
        ("tab\tand\nline", "tab\tand\nline"),
        ("Überschrift 模型 🤗 a\u200db", "Überschrift 模型 🤗 a\u200db"),
    ],
)
def test_what_a_terminal_would_obey_is_shown_as_an_escape(text, shown):
    assert printable(text) == shown == printable(shown)


def test_a_message_keeps_both_ends_of_what_is_too_long_to_read():
    shown = message(f"There is no file /{'a' * 9_000}.jsonl in {'word ' * 3_000}.")
    assert shown.startswith("There is no file /aaa") and ".jsonl in word word" in shown
    assert "characters...]" in shown and len(shown) <= 4_000 and message(shown) == shown


def test_every_error_of_ours_is_fit_to_print():
    error = TextError("There is no file \x1b[2J.", "Look into \udcff.")
    assert (error.problem, error.hint) == ("There is no file \\x1b[2J.", "Look into \\udcff.")
    assert str(error) == f"{error.problem} {error.hint}"


def test_results_and_news_are_printed_and_never_obeyed(capsys):
    from rich.table import Table

    from depthprobe.commands.show import Watch, plain_text, print_lines, result_console

    table = Table("task")
    table.add_row("\x1b[2Jmine")
    print_lines(result_console(), [table, "of \x1b[31m\udcff"])
    Watch().say("news of \x1b]0;x\x07")
    printed = capsys.readouterr()
    assert "\\x1b[2Jmine" in printed.out and "of \\x1b[31m\\udcff" in printed.out
    assert "\\x1b[2Jmine" in plain_text([table]) and "\x1b" not in printed.out + printed.err
    assert printed.err == "news of \\x1b]0;x\\x07\n"
