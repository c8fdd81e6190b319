import json

import numpy as np
import pandas as pd
import pytest

from depthprobe.builtin import corpus
from depthprobe.errors import OptionError, TextError
from depthprobe.texts.options import TextOptions, default_options
from depthprobe.texts.samples import read_samples
from support import tiny


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))


def rows_file(path, texts, column="text"):
    path.write_text("".join(json.dumps({column: text, "number": 1}) + "\n" for text in texts))
    return str(path)


def test_a_row_gives_its_first_tokens_with_the_special_ones(tmp_path):
    texts = tiny.sentences(20)
    samples = read_samples(TextOptions(rows_file(tmp_path / "a.jsonl", texts), seq_len=9), tiny.tokenizer())
    wanted = sorted(tuple(ids[:9]) for ids in tiny.tokenizer()(texts)["input_ids"])
    assert sorted(map(tuple, samples.tokens)) == wanted
    assert samples.facts["samples"] == 20 and samples.facts["tokens"] == sum(samples.lengths)
    assert samples.facts["column"] == "text" and all(sample[0] == 0 for sample in samples.tokens)


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_every_kind_of_file_gives_the_same_samples(tmp_path, suffix):
    frame = pd.DataFrame({"page": tiny.sentences(8), "number": range(8)})
    path = tmp_path / f"rows.{suffix}"
    if suffix == "jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        getattr(frame, f"to_{suffix}")(path, index=False)
    samples = read_samples(TextOptions(str(path)), tiny.tokenizer())
    wanted = sorted(map(tuple, tiny.tokenizer()(list(frame.page))["input_ids"]))
    assert sorted(map(tuple, samples.tokens)) == wanted and samples.facts["column"] == "page"


def test_a_text_file_is_cut_into_consecutive_samples(tmp_path):
    text = " ".join(tiny.sentences(30))
    (tmp_path / "a.txt").write_text(text)
    samples = read_samples(TextOptions(str(tmp_path / "a.txt"), seq_len=16), tiny.tokenizer())
    ids = tiny.tokenizer()(text, add_special_tokens=False)["input_ids"]
    assert all(len(sample) == 16 and sample[0] == 0 for sample in samples.tokens)
    assert [token for sample in samples.tokens for token in sample[1:]] == ids[: len(ids) // 15 * 15]


def test_the_seed_draws_the_samples_and_repeats_them(tmp_path):
    path = rows_file(tmp_path / "a.jsonl", tiny.sentences(60))
    hashes = [
        read_samples(TextOptions(path, samples=10, seed=seed), tiny.tokenizer()).facts["tokens_sha256"]
        for seed in (0, 0, 1)
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_builtin_text_comes_from_modules_the_model_never_saw():
    held, trained = ({d.name for d in corpus.documents(part)} for part in corpus.PARTS)
    assert held and trained and not held & trained
    assert {name.split("/")[0].removesuffix(".py") for name in held} <= corpus.HELD_OUT
    samples = read_samples(TextOptions(samples=12, seq_len=20), tiny.tokenizer())
    assert len(samples.tokens) == 12 and set(samples.lengths) == {20}
    assert samples.facts["split"] == "heldout" and samples.facts["dataset"] == "builtin"
    one = read_samples(TextOptions(samples=5, seq_len=20, seed=3), tiny.tokenizer())
    again = read_samples(TextOptions(samples=5, seq_len=20, seed=3), tiny.tokenizer())
    assert all(np.array_equal(a, b) for a, b in zip(one.tokens, again.tokens, strict=True))


def test_rows_too_short_to_measure_are_skipped_and_counted(tmp_path):
    path = rows_file(tmp_path / "a.jsonl", ["", "a", "  ", "the stream of a model", None])
    samples = read_samples(TextOptions(path), tiny.tokenizer())
    # "a" is two tokens with BOS
    assert samples.facts["samples"] == 2 and samples.facts["samples_skipped"] == 3


def test_the_papers_text_is_the_default_of_every_model_but_the_embedded_ones():
    paper = default_options(embedded=False)
    assert (paper.dataset, paper.config, paper.split, paper.wanted) == (
        "allenai/c4",
        "en",
        "validation",
        1000,
    )
    assert (
        default_options(embedded=True).dataset == "builtin" and default_options(embedded=True).wanted == 128
    )
    assert default_options(embedded=False, dataset="builtin").wanted == 128


@pytest.mark.parametrize(
    ("write", "options", "message"),
    [
        (lambda p: None, {}, "There is no file"),
        (lambda p: p.write_text(""), {}, "is empty"),
        (
            lambda p: rows_file(p, ["x y"], "body") and rows_file(p, ["x y"]),
            {"column": "page"},
            "has no column 'page'. Its columns: text .text., number .numbers..",
        ),
        (lambda p: p.write_text('{"n": 1}\n'), {}, "has no column of text. Its columns: n .numbers.."),
        (lambda p: p.write_text('{"text": "a b c"}\n{"text": "a\n'), {}, "cannot be read"),
        (lambda p: rows_file(p, ["", " "]), {"column": "text"}, "no usable text"),
        (lambda p: rows_file(p, ["a b"]), {"seq_len": 400}, "at most the model's 128 positions, got 400"),
    ],
)
def test_text_that_cannot_be_used_ends_in_a_sentence(tmp_path, write, options, message):
    path = tmp_path / "a.jsonl"
    write(path)
    with pytest.raises(TextError, match=message):
        read_samples(TextOptions(str(path), **options), tiny.tokenizer(), context_tokens=128)


def test_a_text_file_of_other_bytes_or_none_is_refused(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"abc \xfe\xff")
    with pytest.raises(TextError, match="is not UTF-8 text"):
        read_samples(TextOptions(str(tmp_path / "a.txt")), tiny.tokenizer())
    with pytest.raises(TextError, match="There is no file"):
        read_samples(TextOptions(str(tmp_path / "b.txt")), tiny.tokenizer())
    (tmp_path / "c.txt").write_text("")
    with pytest.raises(TextError, match="c.txt is empty"):
        read_samples(TextOptions(str(tmp_path / "c.txt")), tiny.tokenizer())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"samples": 0}, "--samples must be at least 1, got 0"),
        ({"seq_len": 1}, "--seq-len must be at least 2, got 1"),
        ({"split": "dev"}, "no split 'dev'"),
    ],
)
def test_options_that_leave_nothing_are_refused_before_anything_is_read(given, message):
    with pytest.raises(OptionError, match=message):
        TextOptions(**given)


def test_the_first_tokens_are_taken_whatever_side_the_tokenizer_truncates(tmp_path):
    import copy

    left = copy.deepcopy(tiny.tokenizer())
    left.truncation_side = "left"
    path = rows_file(tmp_path / "a.jsonl", tiny.sentences(6))
    found = [
        read_samples(TextOptions(path, seq_len=8), each).facts["tokens_sha256"]
        for each in (tiny.tokenizer(), left)
    ]
    assert found[0] == found[1] and left.truncation_side == "left"


@pytest.mark.parametrize("seed", range(6))
def test_rows_without_a_value_do_not_decide_what_a_column_holds(tmp_path, seed):
    texts = [text if i % 2 else None for i, text in enumerate(tiny.sentences(20))]
    samples = read_samples(TextOptions(rows_file(tmp_path / "a.jsonl", texts), seed=seed), tiny.tokenizer())
    assert samples.facts["samples"] == 10 and samples.facts["samples_skipped"] == 10


def test_a_column_of_something_else_is_named_for_what_it_is(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": ["a", "b"]}\n')
    with pytest.raises(TextError, match=r"The column 'text' of .*a.jsonl holds lists of text"):
        read_samples(TextOptions(str(tmp_path / "a.jsonl")), tiny.tokenizer())


def test_a_long_text_is_cut_in_pieces_and_loses_no_token(tmp_path, monkeypatch):
    text = "\n".join(tiny.sentences(50))
    (tmp_path / "a.txt").write_text(text)
    options = TextOptions(str(tmp_path / "a.txt"), seq_len=16)
    monkeypatch.setattr("depthprobe.texts.samples.PIECE_CHARACTERS", 300)
    found = [t for sample in read_samples(options, tiny.tokenizer()).tokens for t in sample[1:]]
    whole = tiny.tokenizer()(text, add_special_tokens=False)["input_ids"]
    assert (
        tiny.tokenizer().decode(found)
        == tiny.tokenizer().decode(whole)[: len(tiny.tokenizer().decode(found))]
    )
    assert len(found) > 0.95 * len(whole)


def test_a_name_with_wildcards_is_a_name(tmp_path):
    path = rows_file(tmp_path / "a b [1]*.jsonl", tiny.sentences(3))
    assert read_samples(TextOptions(path), tiny.tokenizer()).facts["samples"] == 3


def test_a_file_of_another_kind_is_not_looked_for_on_the_hub(tmp_path):
    (tmp_path / "rows.xyz").write_text("a\tb\n")
    with pytest.raises(
        TextError, match=r"rows.xyz is not a file that can be read as text. Its name must end in .jsonl"
    ):
        read_samples(TextOptions(str(tmp_path / "rows.xyz")), tiny.tokenizer())


def test_local_text_is_known_by_its_contents(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = rows_file(tmp_path / "a.jsonl", tiny.sentences(3))
    known = TextOptions(path).settings()
    assert TextOptions("./a.jsonl").settings() == known
    folder = TextOptions(str(tmp_path)).settings()
    rows_file(tmp_path / "a.jsonl", tiny.sentences(4))
    assert TextOptions(path).settings() != known and TextOptions(str(tmp_path)).settings() != folder


@pytest.mark.parametrize(
    "given",
    [{"dataset": " "}, {"seed": -1}, {"column": "a"}, {"dataset": "x.txt", "split": "test"}],
)
def test_options_that_would_be_ignored_or_mean_nothing_are_refused(given):
    with pytest.raises(OptionError):
        TextOptions(**given)


def test_ids_beyond_the_embedding_are_told_before_they_are_looked_up():
    samples = read_samples(TextOptions(samples=2, seq_len=8), tiny.tokenizer())
    samples.check_fits(8, 300)
    with pytest.raises(TextError, match="the model's embedding has 100 rows"):
        samples.check_fits(None, 100)
    with pytest.raises(TextError, match="do not fit the model's 7 positions"):
        samples.check_fits(7, 300)
