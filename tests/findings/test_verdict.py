import numpy as np

from support import made_up_runs
from support.made_up_runs import importance, sweep_frame, sweep_rows, write_angular, write_model, write_sweep
from support.readings import findings_in


def said_of(*directories):
    return "\n".join(findings_in(*directories).verdict)


def test_a_model_whose_deep_layers_do_less_is_said_to_have_the_pattern(tmp_path):
    said = said_of(write_model(tmp_path, 30))
    measures = "angular distance, measured harm on mmlu, measured harm on calibration loss"
    assert f"The curse-of-depth pattern holds here by all that was compared ({measures})" in said
    assert "Mean angular distance across one layer" in said and "over layers 20-29 against" in said
    assert "without the first and the last layer" in said and "over layers 1-9, difference -" in said
    assert "Mean harm of removing one layer (mmlu, accuracy)" in said
    assert "drops do not add up" in said


def test_the_reverse_and_the_undecided_are_said_as_they_are(tmp_path):
    reverse = write_angular(tmp_path / "a", 30, turns=0.4 * importance(30)[::-1])
    assert "does not hold here: the deep third does more by angular distance." in said_of(reverse)
    flat = write_angular(tmp_path / "b", 30, turns=0.1 + 0.05 * np.random.default_rng(0).random(30))
    assert "is not decided by these runs" in said_of(flat)


def test_measures_that_disagree_are_not_averaged_away(tmp_path):
    write_angular(tmp_path, 30, turns=0.4 * importance(30))
    frame = sweep_rows("mmlu", -0.3 * importance(30)[::-1])
    directory = write_sweep(tmp_path, 30, frame=frame)
    said = said_of(directory.parent)
    assert "pattern holds by angular distance; it is reversed by measured harm on mmlu." in said


def test_a_measure_that_decides_nothing_is_named(tmp_path):
    write_angular(tmp_path, 30, turns=0.4 * importance(30))
    noise = 0.1 * np.random.default_rng(0).random(30)
    directory = write_sweep(tmp_path, 30, frame=sweep_rows("mmlu", -noise))
    said = said_of(directory.parent)
    assert "pattern holds by angular distance; it is not clear by measured harm on mmlu." in said


def test_what_was_not_measured_is_not_spoken_of(tmp_path):
    said = said_of(write_angular(tmp_path, 30))
    assert "harm" not in said and "variance of the stream grows" not in said and "add up" not in said
    assert "that is what prune-sweep measures" in said


def test_a_sweep_of_some_layers_gives_no_thirds(tmp_path):
    frame = sweep_frame(30)
    frame = frame[frame.layer.isin([0, 5, 20])]
    said = said_of(write_sweep(tmp_path, 30, frame=frame))
    assert "pattern" not in said and "mmlu (accuracy)" in said


def test_few_layers_are_told(tmp_path):
    assert "With 4 layers, deep and shallow thirds are too small" in said_of(write_model(tmp_path, 4))


def test_the_lines_are_plain_sentences(tmp_path):
    for sentence in findings_in(made_up_runs.write_model(tmp_path, 80, tasks=("mmlu", "arc_easy"))).verdict:
        assert sentence[0].isupper() or sentence.startswith(("mmlu", "arc_easy", "calibration"))
        assert sentence.endswith(".") and "nan" not in sentence
