import numpy as np
import pandas as pd
import pytest

from support import made_up_runs
from support.made_up_runs import (
    importance,
    sweep_frame,
    sweep_rows,
    write_angular,
    write_model,
    write_run,
    write_sweep,
)
from support.profile_frames import falling, rising
from support.readings import findings_in

CURSE = "The curse of depth (deep layers do less than shallow ones; Sun et al. 2025, arXiv:2502.05795)"


def said_of(*directories):
    found = findings_in(*directories).verdict
    return "\n".join([*found.lines, *found.readings])


def quoted(*directories):
    return findings_in(*directories).verdict.sentence


def sweep_of(tmp_path, frame, *, layers=None, tasks=("mmlu",), **more):
    """A run of a sweep whose drops have these rows."""
    return write_sweep(tmp_path, layers or int(frame["layer"].max()) + 1, tasks, frame=frame, **more)


# The sentence to quote.


def test_it_says_which_layers_cost_little_and_which_are_needed(tmp_path):
    drops = [-0.2, -0.09, -0.03, 0.001]
    assert quoted(sweep_of(tmp_path, sweep_rows("mmlu", drops))) == (
        "On mmlu, removing any one of layers 2-3 (2 of 4) is shown to cost less than 0.05 in accuracy (joint "
        "95% intervals), and removing any one of layers 0-2 (3 of 4) makes the model detectably worse."
    )


def test_where_the_items_cannot_tell_it_begins_with_that_and_claims_nothing(tmp_path):
    frame = sweep_rows("mmlu", [-0.06, 0.0, 0.06], half=0.4, baseline=0.44, docs=16)
    sentence = quoted(sweep_of(tmp_path, frame))
    assert sentence.startswith("The 16 items of mmlu cannot tell whether any of the 3 layers matters: ")
    assert "items would show a drop of 0.05" in sentence
    assert "shown to cost" not in sentence and "can be removed" not in sentence


def test_of_several_tasks_it_names_what_holds_on_each(tmp_path):
    frame = pd.concat([sweep_rows("mmlu", [-0.2, -0.2, 0.0]), sweep_rows("arc_easy", [-0.2, 0.0, 0.01])])
    assert quoted(sweep_of(tmp_path, frame, tasks=("mmlu", "arc_easy"))) == (
        "On mmlu and arc_easy, removing layer 2 (1 of 3) is shown to cost less than 0.05 on each (joint 95% "
        "intervals), and removing layer 0 (1 of 3) makes the model detectably worse on each of them."
    )


def test_a_task_whose_items_are_too_few_is_named_before_the_one_that_tells(tmp_path):
    few = sweep_rows("arc_easy", [0.0, 0.0, 0.0], half=0.4, baseline=0.44, docs=16)
    frame = pd.concat([sweep_rows("mmlu", [-0.2, -0.2, 0.0]), few])
    assert quoted(sweep_of(tmp_path, frame, tasks=("mmlu", "arc_easy"))).startswith(
        "The items of arc_easy are too few to tell; on mmlu, removing layer 2 (1 of 3) is shown to cost "
    )
    both = sweep_of(tmp_path / "b", pd.concat([few, few.assign(task="mmlu")]), tasks=("mmlu", "arc_easy"))
    assert quoted(both).startswith(
        "The items of mmlu and arc_easy cannot tell whether any of the 3 layers matters: on mmlu a"
    )


def test_the_calibration_loss_alone_is_quoted_in_nats(tmp_path):
    frame = sweep_rows("calibration", [0.5, 0.02], baseline=3.0, docs=64)
    assert quoted(sweep_of(tmp_path, frame, tasks=())) == (
        "On calibration text, removing any one of the 2 layers raises the loss detectably, and removing "
        "layer 1 (1 of 2) is shown to raise it by less than 0.05 nats a token (joint 95% intervals)."
    )


def test_a_sweep_of_blocks_alone_is_quoted_by_its_blocks(tmp_path):
    run = sweep_of(tmp_path, sweep_rows("mmlu", [-0.2, 0.0, 0.0]), layers=4, block=2)
    assert "removing any one of the blocks of 2 layers beginning at 1-2 (2 of 3)" in quoted(run)


@pytest.mark.parametrize(
    ("tables", "probe", "begins"),
    [
        ({"angular": made_up_runs.angular_frame(12)}, "angular", "Quiet stretch: layer"),
        ({"variance": rising(12)}, "variance", "The variance of the stream grows by"),
        ({"gradnorm": falling(12)}, "gradnorm", "The gradient norm is largest in layer"),
    ],
)
def test_without_a_sweep_what_was_measured_is_quoted_and_said_once(tmp_path, tables, probe, begins):
    verdict = findings_in(write_run(tmp_path, probe, tables, 12)).verdict
    assert verdict.sentence.startswith(begins) and verdict.sentence not in verdict.points


def test_a_sweep_of_some_layers_names_them(tmp_path):
    few = sweep_rows("mmlu", [-0.06, 0.0, 0.06], half=0.4, baseline=0.44, docs=16, layers=[3, 5, 7])
    assert quoted(sweep_of(tmp_path / "a", few, layers=12)).startswith(
        "The 16 items of mmlu cannot tell whether any of layers 3, 5, 7 (3 of 12 were removed) matters: "
    )
    one = sweep_rows("mmlu", [0.0], half=0.4, baseline=0.44, docs=16, layers=[0])
    assert "cannot tell whether layer 0 (1 of 12 was removed) matters: " in quoted(
        sweep_of(tmp_path / "b", one, layers=12)
    )
    drops = sweep_rows("mmlu", [-0.2, -0.1, 0.0], layers=[3, 5, 7])
    assert quoted(sweep_of(tmp_path / "c", drops, layers=12)) == (
        "On mmlu, removing layer 7 (1 of the 3 removed, of 12) is shown to cost less than 0.05 in accuracy "
        "(joint 95% intervals), and removing any one of layers 3, 5 (2 of the 3 removed, of 12) makes the "
        "model detectably worse."
    )
    every = sweep_rows("mmlu", [-0.2, -0.1], layers=[3, 5])
    assert quoted(sweep_of(tmp_path / "d", every, layers=12)) == (
        "On mmlu, no removal of layers 3, 5 (2 of 12 were removed) is shown to cost less than 0.05 in "
        "accuracy (joint 95% intervals), and removing any one of layers 3, 5 (2 of 12 were removed) makes "
        "the model detectably worse."
    )
    single = sweep_rows("mmlu", [-0.2], layers=[3])
    assert "removing layer 3 (1 of 12 was removed) makes the model" in said_of(
        sweep_of(tmp_path / "e", single, layers=12)
    )
    assert "mmlu (accuracy, layer 3 of 12): " in said_of(sweep_of(tmp_path / "f", single, layers=12))
    blocks = sweep_rows("mmlu", [-0.2, 0.0], layers=[3, 5])
    said = said_of(sweep_of(tmp_path / "g", blocks, layers=12, block=2))
    assert "mmlu (accuracy, the blocks of 2 layers beginning at 3, 5 of 12 layers): " in said
    assert "the block of 2 layers beginning at 5 (1 of the 2 removed, of 11)" in said
    assert "any of the 1 layer" not in said_of(sweep_of(tmp_path / "h", one, layers=1))


def test_where_one_thing_was_compared_the_pattern_shows_by_that(tmp_path):
    said = said_of(write_angular(tmp_path, 30, turns=0.4 * importance(30)))
    assert f"{CURSE} shows by angular distance, with and without the end layers." in said


# The points.


@pytest.mark.parametrize("layers", [1, 2, 3, 6, 12, 80])
def test_there_are_at_most_five_points_of_plain_sentences(tmp_path, layers):
    verdict = findings_in(write_model(tmp_path, layers, tasks=("mmlu", "arc_easy"))).verdict
    assert 1 <= len(verdict.points) <= 5 and verdict.points[-1].startswith("Left open: ")
    for sentence in (verdict.sentence, *verdict.points, *verdict.readings):
        assert sentence[0].isupper() or sentence.startswith(("mmlu", "arc_easy", "calibration"))
        assert sentence.endswith(".") and "nan" not in sentence and ".." not in sentence


def test_the_points_name_the_largest_harm_the_quiet_stretch_the_pattern_and_the_variance(tmp_path):
    largest, quiet, pattern, grown, left_open = findings_in(write_model(tmp_path, 30)).verdict.points
    assert largest.startswith("Largest harm: layer 0, -0.") and "On calibration text, " in largest
    assert quiet.startswith("Quiet stretch: ") and grown.startswith("The variance of the stream ")
    assert pattern.startswith(CURSE) and "do not add up" in left_open


def test_a_model_whose_deep_layers_do_less_is_said_to_have_the_pattern(tmp_path):
    said = said_of(write_model(tmp_path, 30))
    measures = "angular distance, measured harm on mmlu and measured harm on calibration loss"
    assert f"{CURSE} shows by all that was compared ({measures}), with and without the end layers." in said
    assert "Mean angular distance across one layer" in said and "over layers 20-29 against" in said
    assert "without the first and the last layer" in said and "over layers 1-9, difference -" in said
    assert "Mean harm of removing one layer (mmlu, accuracy)" in said


def test_the_reverse_and_the_undecided_are_said_as_they_are(tmp_path):
    reverse = write_angular(tmp_path / "a", 30, turns=0.4 * importance(30)[::-1])
    assert f"{CURSE} does not show: the deep third does more by angular distance." in said_of(reverse)
    flat = write_angular(tmp_path / "b", 30, turns=0.1 + 0.05 * np.random.default_rng(0).random(30))
    assert f"{CURSE} is left open by angular distance." in said_of(flat)


def test_measures_that_disagree_are_not_averaged_away(tmp_path):
    write_angular(tmp_path, 30, turns=0.4 * importance(30))
    frame = sweep_rows("mmlu", -0.3 * importance(30)[::-1])
    directory = write_sweep(tmp_path, 30, frame=frame)
    said = said_of(directory.parent)
    assert "shows by angular distance; reversed by measured harm on mmlu." in said


def test_a_measure_that_decides_nothing_is_named(tmp_path):
    write_angular(tmp_path, 30, turns=0.4 * importance(30))
    noise = 0.1 * np.random.default_rng(0).random(30)
    directory = write_sweep(tmp_path, 30, frame=sweep_rows("mmlu", -noise))
    said = said_of(directory.parent)
    assert "shows by angular distance; not clear by measured harm on mmlu." in said


def test_what_was_not_measured_is_not_spoken_of(tmp_path):
    said = said_of(write_angular(tmp_path, 30))
    assert "harm" not in said and "variance of the stream grows" not in said and "add up" not in said
    assert "prune-sweep measures that" in said


def test_a_sweep_of_some_layers_gives_no_thirds(tmp_path):
    frame = sweep_frame(30)
    frame = frame[frame.layer.isin([0, 5, 20])]
    said = said_of(write_sweep(tmp_path, 30, frame=frame))
    assert "curse of depth" not in said and "Mean harm" not in said and "mmlu (accuracy, " in said


@pytest.mark.parametrize("layers", [4, 6, 11])
def test_few_layers_have_no_thirds_in_any_sentence(tmp_path, layers):
    said = said_of(write_model(tmp_path, layers))
    assert (
        f"cannot be looked for in {layers} layers: thirds of fewer than 12 layers are not compared." in said
    )
    assert "deep third" not in said and "Mean " not in said
