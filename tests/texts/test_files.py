"""Files of every usual kind are read properly; all others end in one sentence, at once."""

import bz2
import gzip
import json
import lzma
import os
import zipfile

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from depthprobe.errors import TextError
from depthprobe.texts.options import TextOptions
from depthprobe.texts.rows import open_rows
from depthprobe.texts.samples import open_text, read_samples
from support import tiny

TEXTS = tiny.sentences(12)
LINES = "".join(json.dumps({"text": text, "n": n}) + "\n" for n, text in enumerate(TEXTS)).encode()
TABLE = pd.DataFrame({"text": TEXTS, "n": range(12)})
COMMAS, TABS = TABLE.to_csv(index=False).encode(), TABLE.to_csv(index=False, sep="\t").encode()


def zstd(data):
    return pa.compress(data, codec="zstd", asbytes=True)


def written(path, what):
    """Write bytes, or what a function writes to the path; return the path as a string."""
    if isinstance(what, bytes):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(what)
    else:
        what(path)
    return str(path)


def parquet(array, **options):
    return lambda path: pq.write_table(pa.table({"text": array}), path, **options)


def arrow_file(path):
    table = pa.table({"text": TEXTS})
    with pa.ipc.new_file(str(path), table.schema) as file:
        file.write_table(table)


def with_pictures(path):
    pq.write_table(pa.table({"image": [{"bytes": b"\x89PNG", "path": None}] * 12, "text": TEXTS}), path)


def in_shards(path):
    path.mkdir()
    for n in range(3):
        TABLE.iloc[4 * n : 4 * n + 4].to_parquet(path / f"train-{n:05}-of-00003.parquet")


def saved(path):
    import datasets

    datasets.disable_progress_bars()
    datasets.Dataset.from_pandas(TABLE).save_to_disk(path)


def saved_in_splits(path):
    import datasets

    datasets.disable_progress_bars()
    whole = datasets.Dataset.from_pandas(TABLE)
    datasets.DatasetDict({"train": whole.select([0]), "test": whole}).save_to_disk(path)


READ = {
    "a.jsonl": LINES,
    "a.ndjson": LINES,
    "a.json": json.dumps(TABLE.to_dict("records"), indent=1).encode(),
    "columns.json": json.dumps(TABLE.to_dict("list"), indent=1).encode(),
    "field.json": json.dumps({"version": 1, "data": TABLE.to_dict("records")}).encode(),
    "strings.jsonl": "".join(json.dumps(text) + "\n" for text in TEXTS).encode(),
    "a.jsonl.gz": gzip.compress(LINES[:500]) + gzip.compress(LINES[500:]),
    "a.jsonl.bz2": bz2.compress(LINES),
    "a.jsonl.xz": lzma.compress(LINES),
    "a.jsonl.zst": zstd(LINES),
    "a.csv": COMMAS,
    "a.csv.gz": gzip.compress(COMMAS),
    "a.tsv": TABS,
    "A.TSV.GZ": gzip.compress(TABS),
    "bom.jsonl": b"\xef\xbb\xbf" + LINES,
    "utf16.jsonl": LINES.decode().encode("utf-16"),
    "utf16.csv": COMMAS.decode().encode("utf-16"),
    "windows.csv": COMMAS.replace(b"\n", b"\r\n"),
    "string.parquet": parquet(pa.array(TEXTS)),
    "view.parquet": parquet(pa.array(TEXTS, pa.string_view())),
    "large.parquet": parquet(pa.array(TEXTS, pa.large_string())),
    "coded.parquet": parquet(pa.array(TEXTS).dictionary_encode()),
    "pictures.parquet": with_pictures,
    "a.arrow": arrow_file,
    "shards": in_shards,
    "saved": saved,
    "splits": saved_in_splits,
    "a.hidden/a.jsonl": LINES,
}


@pytest.mark.parametrize("name", READ)
def test_files_of_every_usual_kind_give_the_same_texts(tmp_path, name):
    path = written(tmp_path / name, READ[name])
    found = read_samples(TextOptions(path), tiny.tokenizer())
    wanted = sorted(map(tuple, tiny.tokenizer()(TEXTS)["input_ids"]))
    assert sorted(map(tuple, found.tokens)) == wanted and found.facts["column"] == "text"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.txt", " ".join(TEXTS).encode()),
        ("bom.txt", b"\xef\xbb\xbf" + " ".join(TEXTS).encode()),
        ("utf16.txt", " ".join(TEXTS).encode("utf-16")),
        ("a.txt.gz", gzip.compress(" ".join(TEXTS).encode())),
        ("a.txt.zst", zstd(" ".join(TEXTS).encode())),
    ],
)
def test_text_files_are_unpacked_and_decoded(tmp_path, name, data):
    samples = read_samples(TextOptions(written(tmp_path / name, data), seq_len=16), tiny.tokenizer())
    (tmp_path / "plain.txt").write_text(" ".join(TEXTS))
    plain = read_samples(TextOptions(str(tmp_path / "plain.txt"), seq_len=16), tiny.tokenizer())
    assert samples.facts["tokens_sha256"] == plain.facts["tokens_sha256"]


def folder(**files):
    def make(path):
        path.mkdir()
        for name, data in files.items():
            written(path / name.replace("__", "."), data)

    return make


def pictures_only(path):
    pq.write_table(pa.table({"image": [b"\x89PNG"], "label": [1]}), path)


def zipped(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.jsonl", LINES)


SCRIPT = b"import datasets\nclass Mine(datasets.GeneratorBasedBuilder):\n    pass\n"

REFUSED = [
    ("empty.jsonl", b"", "empty.jsonl is empty"),
    ("blank.jsonl", b"\n \n", "blank.jsonl is empty"),
    ("empty.csv", b"\n", "empty.csv is empty"),
    ("empty.jsonl.gz", gzip.compress(b""), "empty.jsonl.gz is empty"),
    ("rest.jsonl.gz", gzip.compress(LINES)[:-20], "rest.jsonl.gz cannot be unpacked"),
    ("plain.jsonl.gz", LINES, "plain.jsonl.gz cannot be read: Not a gzipped file"),
    ("plain.jsonl.zst", LINES, "plain.jsonl.zst cannot be read"),
    ("latin.jsonl", b'{"text": "caf\xe9 and more of it"}\n', "latin.jsonl is not UTF-8 text"),
    ("a.txt", b"abc\0def", "a.txt is not text: null characters stand in it"),
    ("half.jsonl", LINES + b'{"text": "a', "Line 13 of .*half.jsonl cannot be read as JSON .Unterminated"),
    ("numbers.jsonl", b"1\n2\n", "holds a int where a row should stand"),
    (
        "number.jsonl",
        b'{"n": ' + b"9" * 5000 + b"}\n",
        "Line 1 of .* cannot be read as JSON .Exceeds the limit",
    ),
    ("deep.jsonl", b'{"x": ' + b"[" * 99_999 + b"]" * 99_999 + b"}\n", "nested too deeply"),
    ("deep.json", b"[" * 99_999 + b"]" * 99_999, "nested too deeply"),
    ("ragged.csv", b'text,n\n"a b c",1\na,b,c,d,e\n', "ragged.csv cannot be read .*tokenizing"),
    ("not.parquet", LINES, "not.parquet cannot be read"),
    ("not.arrow", LINES, "not.arrow cannot be read"),
    ("bytes.parquet", parquet(pa.array([b"a b"])), "The column 'text' of .* holds bytes"),
    ("pictures.parquet", pictures_only, "no column of text. Its columns: label .numbers., image .bytes."),
    ("a.zip", zipped, "a.zip is not a file that can be read as text. Unpack it"),
    ("a.jsonl.zip", zipped, "a.jsonl.zip is not a file that can be read as text. Unpack it"),
    ("pipe.jsonl", os.mkfifo, "pipe.jsonl is a pipe, which can be read only once"),
    ("pipe.txt", os.mkfifo, "pipe.txt is a pipe, which can be read only once"),
    ("pipe", os.mkfifo, "pipe is a pipe, which can be read only once"),
    ("script", folder(script__py=SCRIPT), "made by a script of its own, which is not run"),
    ("nothing", folder(), "nothing cannot be opened: The directory at .* doesn't contain any data files"),
    ("saved", folder(state__json=b"{}"), "state.json is not what save_to_disk writes"),
    ("unsaved", folder(dataset_dict__json=b"[["), "dataset_dict.json is not what save_to_disk writes"),
    ("gone", folder(dataset_dict__json=b'{"splits": ["train"]}'), "There is no file .*state.json"),
]


@pytest.mark.parametrize(("name", "what", "message"), REFUSED, ids=[case[0] for case in REFUSED])
def test_a_file_that_cannot_be_read_ends_in_a_sentence(tmp_path, name, what, message):
    path = written(tmp_path / name, what)
    with pytest.raises(TextError, match=message):
        options = TextOptions(path)
        read_samples(options, tiny.tokenizer(), rows=open_text(options))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/dev/zero", "/dev/zero is a device or a socket, not a file"),
        ("x" * 300 + ".jsonl", "There is no file x"),
        ("./" + "x" * 300, "There is no file ./x"),
        ("none-\udcff.jsonl", r"There is no file none-\\udcff.jsonl"),
        ("none-\ud800.txt", r"There is no file none-\\ud800.txt"),
        ("none\0.csv", r"There is no file none\\x00.csv"),
        ("\x1b[2J.jsonl", r"There is no file \\x1b\[2J.jsonl"),
    ],
)
def test_names_that_no_file_has_are_told_at_once(name, message):
    options = TextOptions(name)
    with pytest.raises(TextError, match=message):
        open_text(options)


def test_a_file_without_permission_is_told(tmp_path, monkeypatch):
    path = written(tmp_path / "a.jsonl", LINES)
    real = open
    denied = PermissionError(13, "Permission denied")

    def refuse(name, *arguments, **options):  # permissions do not bind root, who may run the tests
        if str(name) == path:
            raise denied
        return real(name, *arguments, **options)

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(TextError, match="a.jsonl cannot be read: Permission denied"):
        open_text(TextOptions(path))


def test_a_directory_of_several_formats_says_which_one_is_read(tmp_path):
    written(tmp_path / "a.csv", COMMAS)
    written(tmp_path / "b.jsonl", LINES)
    written(tmp_path / "dataset_info.json", b"{}")
    options = TextOptions(str(tmp_path))
    samples = read_samples(options, tiny.tokenizer())
    assert samples.facts["samples"] == 12
    assert samples.notes[0] in (
        f"Of {tmp_path} only the .csv files are read; those ending in .jsonl are left out.",
        f"Of {tmp_path} only the .jsonl files are read; those ending in .csv are left out.",
    )


def test_the_order_drawn_from_a_file_is_that_of_the_datasets_library(tmp_path):
    import datasets

    path = written(tmp_path / "a.jsonl", LINES)
    whole = datasets.load_dataset(
        "json", data_files=path, split="train", streaming=True, cache_dir=str(tmp_path / "cache")
    )
    for seed in (0, 1):
        theirs = [row["n"] for row in whole.shuffle(seed=seed, buffer_size=10_000)]
        assert [row["n"] for row in open_rows(path, None, None, seed).rows] == theirs


def test_half_characters_in_json_become_replacement_characters(tmp_path):
    path = written(tmp_path / "a.jsonl", b'{"text": "the \\ud83d stream of a model"}\n')
    (sample,) = read_samples(TextOptions(path), tiny.tokenizer()).tokens
    assert tiny.tokenizer().decode(sample, skip_special_tokens=True) == "the \ufffd stream of a model"


def test_a_name_that_is_not_utf8_decides_a_run_like_any_other(tmp_path):
    path = written(tmp_path / os.fsdecode(b"caf\xe9.jsonl"), LINES)
    options = TextOptions(path)
    assert options.settings()["dataset"] == "caf\udce9.jsonl"
    assert read_samples(options, tiny.tokenizer()).facts["samples"] == 12
