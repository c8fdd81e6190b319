"""Which column is the text, and which never is."""

import json

import pytest

from depthprobe.errors import TextError
from depthprobe.texts.columns import choose, kind_of, no_text
from depthprobe.texts.options import TextOptions
from depthprobe.texts.samples import read_samples
from support import tiny

TALK = [{"role": "user", "content": "the model"}, {"role": "assistant", "content": "turns the stream"}]
SHARED = [{"from": "human", "value": "the model"}, {"from": "gpt", "value": "turns the stream"}]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


IDS = [f"{number * 7919:08x}" for number in range(30)]


@pytest.mark.parametrize(
    ("values", "seems"),
    [
        (IDS, "ids or single words"),
        ([f"https://example.org/page/{n}?a=b" for n in range(30)], "addresses"),
        ([f"somebody{n}@example.org" for n in range(30)], "addresses"),
        ([f"data/part/{n}.png" for n in range(30)], "paths"),
        ([f"2024-01-{n:02d}T10:00:00" for n in range(1, 30)], "dates"),
        ([f"12 Mar 2024 at {n}:00" for n in range(30)], "ids or single words"),
        (["not an answer at all", "an answer to the question"] * 20, "labels"),
        (["positive", "negative"] * 2, "ids or single words"),
        ([json.dumps(TALK)] * 3, "JSON"),
        (tiny.sentences(30), None),
        (["def parse(line):\n    return line.split()[0]"] * 3, None),
        (["这一层几乎不改变残差流的方向。", "更深的层学到的东西更少。"], None),
        (["ชั้นลึกของแบบจำลองภาษาเรียนรู้น้อยลง"], None),
        (["", " "], None),
    ],
)
def test_values_that_are_not_plainly_text_are_known_for_what_they_are(values, seems):
    assert no_text(values) == seems


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            lambda n: {"id": IDS[n], "messages": TALK},
            "no column that is plainly text: 'id' seems to hold ids or single words, such as '00000000'. Its "
            "columns: id (text), messages (conversations). Name one with --column; conversations are written",
        ),
        (
            lambda n: {"conversations": SHARED, "n": n},
            "no column of text. Its columns: conversations (conversations), n (numbers). Name one with",
        ),
        (lambda n: {"page": "a b c d", "title": "e"}, "no column named text, but several of strings"),
        (lambda n: {"text": ["a", "b"]}, "The column 'text' of .* holds lists of text"),
        (lambda n: {"text": None}, "The column 'text' of .* holds no values. Its columns: text .no values"),
        (lambda n: {"n": n, "good": True}, "no column of text. Its columns: n .numbers., good .truth values"),
        (lambda n: {}, "no column of text. It has no columns at all"),
    ],
)
def test_a_lone_column_that_is_not_plainly_text_is_never_taken(tmp_path, row, message):
    path = write(tmp_path / "rows.jsonl", [row(n) for n in range(30)])
    with pytest.raises(TextError, match=message.replace("(", ".").replace(")", ".")):
        read_samples(TextOptions(path), tiny.tokenizer())


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("page", "has no column 'page'. Its columns: text .text., n .numbers., parts .lists of text."),
        ("n", "The column 'n' of .* holds numbers, not text. Its columns: text"),
        ("parts", "The column 'parts' of .* holds lists of text, not text"),
        ("when", "The column 'when' of .* holds objects, not text"),
    ],
)
def test_a_named_column_of_something_else_is_told_with_those_that_are_there(tmp_path, column, message):
    rows = [{"text": "a b c", "n": 1, "parts": ["a", "b"], "when": {"year": 1}}]
    with pytest.raises(TextError, match=message):
        read_samples(TextOptions(write(tmp_path / "a.jsonl", rows), column=column), tiny.tokenizer())


def test_the_column_that_was_taken_is_said_and_recorded_unless_it_was_named(tmp_path):
    path = write(
        tmp_path / "a.jsonl", [{"id": IDS[n], "page": text} for n, text in enumerate(tiny.sentences(9))]
    )
    samples = read_samples(TextOptions(path, column="page"), tiny.tokenizer())
    assert samples.facts["column"] == "page" and samples.notes == ()
    path = write(tmp_path / "b.jsonl", [{"page": text} for text in tiny.sentences(9)])
    samples = read_samples(TextOptions(path), tiny.tokenizer())
    assert samples.notes == (f"The text of {path} is its column 'page'.",)


def test_a_usual_name_needs_no_look_and_a_named_column_may_hold_anything_written(tmp_path):
    assert choose({"content": "text"}, {"content": IDS}, None, "rows") == "content"
    path = write(tmp_path / "a.jsonl", [{"id": each} for each in IDS])
    assert read_samples(TextOptions(path, column="id"), tiny.tokenizer()).facts["samples"] == 30


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (TALK, "conversations"),
        (SHARED, "conversations"),
        ({"role": ["user"], "content": ["a b"]}, "conversations"),
        ([{"role": "user"}], "lists of objects"),
        ([[1.0], None], "lists of lists of numbers"),
        ([], "empty lists"),
        (b"a", "bytes"),
        (None, "no values"),
    ],
)
def test_values_are_told_in_words(value, kind):
    assert kind_of(value) == kind
