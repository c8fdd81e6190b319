"""The probes as Python functions, on models by name, loaded, and in memory."""

import copy
import json

import numpy as np
import pytest
import torch

import depthprobe
from depthprobe.catalogue import PROBES
from depthprobe.errors import OptionError, TextError
from depthprobe.measurement import Measurement
from support import tiny
from support.sweep_tasks import write_tasks


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("api")
    tiny.save(place / "model")
    (place / "text.txt").write_text(" ".join(tiny.sentences(12)))
    write_tasks(place / "tasks")
    return place


@pytest.fixture
def asked(place):
    text = {"dataset": str(place / "text.txt"), "seq_len": 16}
    sweep = {"tasks": ("mine_mc",), "include_path": (place / "tasks",), "limit": 2, "layers": (1,)}
    return {
        name: text | (sweep | {"calibration_samples": 3} if name == "prune-sweep" else {"samples": 5})
        for name in PROBES
    }


def function(probe):
    return getattr(depthprobe, probe.replace("-", "_"))


@pytest.mark.parametrize("probe", PROBES)
def test_a_model_by_name_loaded_or_in_memory_gives_the_same_numbers(place, asked, probe, tmp_path):
    found = function(probe)(str(place / "model"), **asked[probe])
    names = tuple(column.name for column in PROBES[probe].tables[0].columns)
    assert isinstance(found, Measurement) and tuple(found.frame) == names
    loaded = depthprobe.load_model(str(place / "model"), device="cpu")
    assert function(probe)(loaded, **asked[probe]).frame.equals(found.frame)
    model = loaded.model.train()
    inside = function(probe)(model, tokenizer=loaded.tokenizer, **asked[probe])
    assert inside.frame.equals(found.frame)
    assert all(module.training for module in model.modules())  # as it was


@pytest.mark.parametrize("probe", PROBES)
def test_a_run_that_python_saves_is_that_of_the_command(place, asked, probe, tmp_path):
    run = function(probe)(str(place / "model"), output=tmp_path, **asked[probe])
    assert run.directory.parent == tmp_path / "model" and run.frame.equals(run.tables[PROBES[probe].stem])
    again = function(probe)(str(place / "model"), output=tmp_path, **asked[probe])
    assert again.directory == run.directory
    assert depthprobe.draw(run)._repr_png_().startswith(b"\x89PNG")


def test_token_ids_are_measured_as_the_text_that_they_come_from(place, asked, tmp_path):
    from depthprobe.texts.options import TextOptions
    from depthprobe.texts.samples import read_samples

    text = TextOptions(str(place / "text.txt"), samples=5, seq_len=16)
    tokens = read_samples(text, tiny.tokenizer()).tokens
    model = tiny.build("llama")
    found = depthprobe.angular(model, token_ids=[list(map(int, sample)) for sample in tokens])
    assert found.frame.equals(depthprobe.angular(str(place / "model"), **asked["angular"]).frame)

    # Two models in memory have nothing but their weights to be told apart by.
    one = depthprobe.angular(model, token_ids=tokens, output=tmp_path)
    other = tiny.build("llama")
    other.get_input_embeddings().weight.data.mul_(1.5)
    two = depthprobe.angular(other, token_ids=tokens, output=tmp_path)
    assert one.directory != two.directory and not one.frame.equals(two.frame)
    assert (
        depthprobe.angular(tiny.build("llama"), token_ids=tokens, output=tmp_path).directory == one.directory
    )


def test_a_model_in_memory_is_what_it_is_now(place, asked, tmp_path):
    def run(model, **more):
        return depthprobe.angular(model, output=tmp_path, **asked["angular"], **more).directory

    loaded = depthprobe.load_model(str(place / "model"), device="cpu")
    named = run(str(place / "model"))
    assert run(loaded) == named
    loaded.model.get_input_embeddings().weight.data.mul_(1.5)
    changed = run(loaded)
    assert changed != named and run(loaded) == changed
    tokenizer = copy.deepcopy(loaded.tokenizer)
    same = run(loaded.model, tokenizer=tokenizer)
    tokenizer.chat_template = "{{ messages }}"
    assert run(loaded.model, tokenizer=tokenizer) != same
    loaded.model.config.rms_norm_eps *= 2
    assert run(loaded.model, tokenizer=loaded.tokenizer) not in (same, changed)


def test_what_cannot_be_is_one_sentence(place, asked):
    model = str(place / "model")
    with pytest.raises(OptionError, match="angular does not take nosuch, tokns. Its own options: tokens"):
        depthprobe.angular(model, tokns="all", nosuch=1, **asked["angular"])
    with pytest.raises(OptionError, match="--tokens must be last or all, got 'some'"):
        depthprobe.angular(model, tokens="some", **asked["angular"])
    with pytest.raises(OptionError, match="There is no probe 'nosuch'"):
        depthprobe.measure("nosuch", model)
    with pytest.raises(OptionError, match="token ids cannot be combined with options of a data set"):
        depthprobe.variance(model, token_ids=[[1, 2]], samples=3)
    with pytest.raises(TextError, match="at least 2 token ids, got one with 1"):
        depthprobe.variance(model, token_ids=[np.array([1])])


def test_every_function_says_what_it_takes():
    for name, probe in PROBES.items():
        told = function(name).__doc__
        assert probe.help.split("\n")[0] in told and "output:" in told and "dataset" in told


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: depthprobe.angular(3), "An int cannot be measured"),
        (
            lambda: depthprobe.angular(torch.nn.Linear(2, 2), token_ids=[[1, 2]]),
            "A Linear cannot be",
        ),
        (
            lambda: depthprobe.angular(tiny.build("llama"), dataset="builtin"),
            "cannot read a text",
        ),
        (lambda: depthprobe.angular(tiny.build("llama"), token_ids="abc"), "Token ids must be whole numbers"),
        (lambda: depthprobe.draw("reports/model/angular"), "A str cannot be drawn"),
        (lambda: depthprobe.prune_sweep("x", layers="3-1"), "--layers must be a list such as"),
    ],
)
def test_what_python_makes_easy_to_mistake_is_one_sentence_too(call, message):
    with pytest.raises(depthprobe.DepthprobeError, match=message):
        call()


def test_names_may_be_written_as_on_the_command_line(place, asked):
    named = asked["prune-sweep"] | {"tasks": "mine_mc", "layers": "1"}
    found = depthprobe.prune_sweep(str(place / "model"), **named)
    assert found.frame.equals(depthprobe.prune_sweep(str(place / "model"), **asked["prune-sweep"]).frame)


def test_a_path_is_a_model(place, asked):
    assert depthprobe.angular(place / "model", **asked["angular"]).frame.equals(
        depthprobe.angular(str(place / "model"), **asked["angular"]).frame
    )
    assert depthprobe.load_model(place / "model", device="cpu").source.name == str(place / "model")


def test_strings_are_measured_as_the_rows_of_a_file(place, tmp_path):
    texts = tiny.sentences(6)
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    options = {"samples": 6, "seq_len": 9}
    from_file = depthprobe.variance(place / "model", dataset=file, **options)
    given = depthprobe.variance(place / "model", texts=texts, seq_len=9)
    # Not to the last bit: rows of a file are taken in another order.
    np.testing.assert_allclose(given.frame["variance"], from_file.frame["variance"], rtol=1e-12)
    assert given.manifest["data"]["tokens"] == from_file.manifest["data"]["tokens"]


@pytest.mark.parametrize(
    ("asked_for", "message"),
    [
        ({"texts": []}, "There are no texts"),
        ({"texts": ["ok then", 3]}, "Texts must be strings, got one of type int"),
        (
            {"texts": ["one two three", ""]},
            r"1 of the 2 texts has fewer than 2 tokens; the first is texts\[1\]",
        ),
        ({"texts": ["one two"], "token_ids": [[1, 2]]}, "texts and token_ids cannot be combined"),
        ({"texts": ["one two"], "dataset": "builtin"}, "texts cannot be combined with options of a data set"),
        ({"texts": ["one two"], "seq_len": 1}, "--seq-len must be at least 2"),
        ({"token_ids": [[1, 2]], "per_sample": True, "output": "x"}, "per_sample and output"),
    ],
)
def test_texts_that_cannot_be_are_one_sentence(place, asked_for, message):
    with pytest.raises(depthprobe.DepthprobeError, match=message):
        depthprobe.angular(place / "model", **asked_for)


@pytest.mark.parametrize("probe", PROBES)
def test_a_measurement_shows_itself_and_is_saved_as_its_command_would(place, asked, probe, tmp_path):
    found = function(probe)(place / "model", **asked[probe])
    told = repr(found)
    assert told.startswith(f"{probe}. Model: model, weights hash ") and "\nText: " not in told
    assert "4 layers" in told and found.frame.columns[-1] in told
    shown = found._repr_html_()
    assert "<table" in shown and "weights hash" in shown
    run = found.save(tmp_path)
    assert run.frame.equals(found.frame) and run.directory.parent == tmp_path / "model"
    assert found.save(tmp_path).directory == run.directory
    measured = function(probe)(place / "model", output=tmp_path, **asked[probe])
    assert measured.directory == run.directory  # nothing is measured again
    assert repr(run).startswith(f"{run.directory}: {probe}. Model: model")
    figures = [each.draw(style="paper-single") for each in (found, run, depthprobe.read_run(run.directory))]
    assert len({figure._repr_png_() for figure in figures}) == 1
    with pytest.raises(OptionError, match="--name must be a plain directory name"):
        found.save(tmp_path, name="a/b")


@pytest.mark.parametrize("probe", ["angular", "variance", "gradnorm"])
def test_single_samples_on_request_are_the_measurement_of_each_alone(place, asked, probe):
    found = function(probe)(place / "model", per_sample=True, **asked[probe])
    quantity = PROBES[probe].tables[0].quantity
    arrays = found.per_sample[PROBES[probe].stem]
    assert arrays.shape == (5, len(found.frame))
    if probe == "angular":
        np.testing.assert_allclose(arrays.mean(axis=0), found.frame["distance"], rtol=1e-12)
        np.testing.assert_allclose(arrays.std(axis=0, ddof=1), found.frame["std"], atol=1e-12)
    text = asked[probe] | {"samples": 1}
    alone = function(probe)(place / "model", **text)
    assert np.isfinite(arrays).all() and len(alone.frame) == len(found.frame)
    with pytest.raises(OptionError, match="Measure with per_sample=True"):
        _ = alone.per_sample
    assert quantity in found.frame


def test_single_items_of_a_sweep_are_its_scores(place, asked):
    found = depthprobe.prune_sweep(place / "model", per_sample=True, **asked["prune-sweep"])
    scores = found.per_sample["mine_mc/acc/none"]
    row = found.frame.query("task == 'mine_mc' and metric == 'acc'").iloc[0]
    assert scores.shape == (2, 2)
    assert scores[:, 0].mean() == row["baseline"] and scores[:, 1].mean() == row["pruned"]
