"""What the hub may answer, and the sentence it becomes; the hub itself is played by exceptions."""

import pytest
from datasets.exceptions import DatasetNotFoundError
from huggingface_hub import HfApi
from huggingface_hub.errors import HTTPError

from depthprobe.errors import MachineError, TextError
from depthprobe.texts import rows


@pytest.fixture
def answer(monkeypatch):
    """Let the hub know the data set, and load_dataset raise or return what is given."""
    import datasets

    class Info:
        sha = "c" * 40

    monkeypatch.setattr(HfApi, "dataset_info", lambda self, name, timeout: Info())

    def set_answer(what):
        def load(*args, **kwargs):
            if isinstance(what, Exception):
                raise what
            return what

        monkeypatch.setattr(datasets, "load_dataset", load)

    return set_answer


CONFIGS = (
    "Config name is missing.\nPlease pick one among the available configs: ['en', 'de']\nExample of usage"
)


@pytest.mark.parametrize(
    ("error", "config", "message"),
    [
        (DatasetNotFoundError("gone"), None, "no data set org/text that you can read on the hub"),
        (ValueError(CONFIGS), None, "has several configurations. Name one with --dataset-config: en, de"),
        (
            ValueError("BuilderConfig 'x' not found. Available: ['en']"),
            "x",
            "has no configuration 'x'.*: en",
        ),
        (ValueError("Couldn't infer the format"), None, "cannot be opened: Couldn't infer the format"),
        (OSError("disk"), None, "cannot be opened: disk"),
    ],
)
def test_a_data_set_that_cannot_be_opened_is_one_sentence(answer, error, config, message):
    answer(error)
    with pytest.raises(TextError, match=message):
        rows.open_rows("org/text", config, None, 0)


@pytest.mark.parametrize("error", [HTTPError("refused"), ConnectionError("refused"), TimeoutError()])
def test_a_hub_that_is_not_reached_is_the_machines_failure(answer, error):
    answer(error)
    with pytest.raises(MachineError, match="cannot be reached to look for org/text"):
        rows.open_rows("org/text", None, None, 0)


def test_a_full_disk_is_the_machines_failure(answer):
    answer(OSError(28, "No space left on device"))
    with pytest.raises(MachineError, match="The disk is full: org/text could not be stored"):
        rows.open_rows("org/text", None, None, 0)


@pytest.mark.parametrize("name", ["no.txt", "no.TXT", "no.jsonl", "a/no.txt", "./no", "../no", "/no", "~/no"])
def test_a_missing_file_is_told_as_such_and_the_hub_is_not_asked(answer, name):
    answer(HTTPError("refused"))
    with pytest.raises(TextError, match=f"There is no file {name}") as caught:
        rows.open_rows(name, None, None, 0)
    assert "--dataset" in caught.value.hint


def test_the_best_split_is_chosen_and_the_commit_recorded(answer):
    from datasets import Dataset, DatasetDict

    whole = Dataset.from_dict({"text": ["a b", "c d"]}).to_iterable_dataset()
    answer(DatasetDict({"train": whole, "test": whole}))
    found = rows.open_rows("org/text", None, None, 0)
    assert (found.split, found.revision) == ("test", "c" * 40)
    assert sorted(row["text"] for row in found.rows) == ["a b", "c d"]
    with pytest.raises(TextError, match=r"no split 'dev'. Its splits: train, test"):
        rows.open_rows("org/text", None, "dev", 0)


def test_a_connection_that_breaks_in_the_middle_of_a_stream_is_told(answer):
    def broken():
        yield {"text": "a b"}
        raise HTTPError("reset by peer")

    column, first = rows.text_column(rows.Rows(broken(), None, None, None), None, "org/text")
    assert column.name == "text" and next(first) == {"text": "a b"}
    with pytest.raises(MachineError, match="org/text"):
        next(first)
