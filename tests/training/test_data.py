"""Text for training: what is held out is never trained on, streams repeat, short texts are refused."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from depthprobe.errors import TextError
from depthprobe.texts.rows import Rows
from depthprobe.training.data import HELDOUT_WINDOWS, read_training_data, windows
from depthprobe.training.recipe import PRESETS, Recipe
from support import tiny

SMALL = replace(Recipe(), vocab_size=300, context_tokens=16)


def trained_on(data):
    return np.array([row["input_ids"].tolist() for row in data.train])


def test_windows_are_consecutive_text_behind_a_bos():
    tokenizer, texts = tiny.tokenizer(), tiny.sentences(150)
    cut = windows(texts, tokenizer, 16)
    assert cut.shape[1] == 16 and (cut[:, 0] == tokenizer.bos_token_id).all()
    stream = [t for text in texts for t in [*tokenizer(text, add_special_tokens=False)["input_ids"], 1]]
    assert cut[:, 1:].flatten().tolist() == stream[: len(cut) * 15] and len(stream) - cut[:, 1:].size < 15


@pytest.mark.parametrize("kind", ["jsonl", "txt"])
def test_a_tenth_of_a_file_is_held_out_and_the_rest_is_trained_on(tmp_path, kind):
    texts = tiny.sentences(200)
    path = tmp_path / f"text.{kind}"
    rows = "\n".join(json.dumps({"text": text}) for text in texts) if kind == "jsonl" else "\n".join(texts)
    path.write_text(rows)
    data = read_training_data(replace(SMALL, dataset=str(path)))
    train = trained_on(data)
    assert len(data.heldout) == (len(train) + len(data.heldout)) // 10
    again = read_training_data(replace(SMALL, dataset=str(path), seed=5))
    assert (again.heldout == data.heldout).all()  # whatever the seed
    assert data.facts["train_tokens"] == train.size and data.baseline > 0


def test_a_hub_data_set_is_streamed_and_its_first_rows_held_out(monkeypatch):
    texts = [f"{number} {text}" for number, text in enumerate(tiny.sentences(3000))]
    opened = []

    def open_rows(dataset, config, split, seed):
        opened.append((dataset, config, split, seed))
        return Rows([{"text": text} for text in texts], config, "train", "abc")

    monkeypatch.setattr("depthprobe.training.data.open_rows", open_rows)
    data = read_training_data(replace(SMALL, dataset="org/set", config="en"))
    assert len(data.heldout) == HELDOUT_WINDOWS and data.baseline is None
    train = trained_on(data)
    assert (train == trained_on(data)).all()  # every pass opens the stream anew
    skipped = int(data.facts["heldout_split"].split()[2])
    # A window's end may cut a number: its parts are smaller ones, so only the largest tells.
    numbers = [
        {int(word) for row in rows for word in re.findall(r"\d+", data.tokenizer.decode(row[1:]))}
        for rows in (data.heldout, train)
    ]
    assert {0, 1, 2} <= numbers[0] and max(numbers[0]) < skipped
    assert len(numbers[1] & set(range(skipped, 3000))) > 2000
    first = data.tokenizer.decode(train[0], skip_special_tokens=True)
    assert first.startswith(f"{skipped} ")
    assert {seed for *_, seed in opened} == {0}


def test_a_validation_split_is_held_out_where_there_is_one(monkeypatch):
    def open_rows(dataset, config, split, seed):
        split = split or "validation"
        return Rows([{"text": f"{split} {text}"} for text in tiny.sentences(400)], config, split, None)

    monkeypatch.setattr("depthprobe.training.data.open_rows", open_rows)
    data = read_training_data(replace(SMALL, dataset="org/set"))
    assert data.facts["heldout_split"] == "validation"
    assert "train" not in data.tokenizer.decode(data.heldout[0])
    assert data.tokenizer.decode(trained_on(data)[0], skip_special_tokens=True).startswith("train")


def test_a_short_text_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("too short")
    with pytest.raises(TextError, match="too few"):
        read_training_data(replace(SMALL, dataset=str(tmp_path / "a.txt")))


@pytest.mark.parametrize(
    ("name", "millions"), [("9m", 9), ("35m", 35), ("60m", 58), ("130m", 134), ("250m", 247)]
)
def test_a_preset_has_the_size_that_its_name_says(name, millions):
    import torch

    from depthprobe.models.own.building import build_model

    with torch.device("meta"):
        model = build_model(PRESETS[name].model_config(32_000), "post")
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.7)
    recipe = PRESETS[name]
    assert (recipe.batch_samples, recipe.context_tokens, recipe.learning_rate) == (512, 256, 1e-3)
    assert recipe.warmup_steps * 10 == recipe.steps and recipe.precision == "bfloat16"


@pytest.mark.parametrize(
    ("row", "column", "message"),
    [
        ({"id": "0a1b2c", "n": 1}, None, "no column that is plainly text: 'id' seems to hold"),
        (
            {"id": "0a1b2c", "messages": [{"role": "user", "content": "a b"}]},
            "messages",
            "holds conversations, and pretrain reads text",
        ),
    ],
)
def test_ids_and_conversations_are_not_trained_on(tmp_path, row, column, message):
    path = tmp_path / "rows.jsonl"
    path.write_text(20 * (json.dumps(row) + "\n"))
    with pytest.raises(TextError, match=message):
        read_training_data(replace(SMALL, dataset=str(path), column=column))


def test_the_column_that_is_trained_on_is_said_and_recorded(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"page": text}) + "\n" for text in tiny.sentences(200)))
    data = read_training_data(replace(SMALL, dataset=str(path)))
    assert data.facts["text_column"] == "page" and data.notes == (
        f"The text of {path} is its column 'page'.",
    )


def test_a_text_too_long_to_be_encoded_at_once_is_cut_at_line_ends(monkeypatch):
    texts = ["\n".join(tiny.sentences(40)), "a short one"]
    whole = windows(texts, tiny.tokenizer(), 16)
    monkeypatch.setattr("depthprobe.training.data.LONGEST_AT_ONCE", 500)
    decoded = [
        tiny.tokenizer().decode(np.concatenate(w[:, 1:]))
        for w in (whole, windows(texts, tiny.tokenizer(), 16))
    ]
    assert decoded[0][:2000] == decoded[1][:2000]
