import pytest

from depthprobe.render.terminal.trust import trust_table
from support.legibility import printed
from support.made_up_runs import write_model
from support.readings import findings_in


@pytest.fixture
def frame(tmp_path):
    return findings_in(write_model(tmp_path, 20, tasks=("mmlu", "wikitext"))).trust.correlations


def test_every_correlation_stands_in_the_section_of_its_task_with_its_interval(frame):
    text = printed(trust_table(frame))
    assert max(map(len, text.splitlines())) <= 80
    tasks = ["mmlu", "wikitext", "calibration"]
    lines = [" ".join(line.split()) for line in text.splitlines()]
    # A long head of a section folds.
    heads = [next(i for i, line in enumerate(lines) if line.split(" ")[0] == task) for task in tasks]
    assert heads == sorted(heads)
    numbers = [line for line in lines if line.count("(") in (2, 3) and line[-1].isdigit()]
    assert len(numbers) == len(frame)
    for line, row in zip(numbers, frame.itertuples(), strict=True):
        for value in (row.spearman, row.spearman_low, row.spearman_high, row.kendall_high):
            assert f"{value:.2f}" in line
        assert line.endswith(f" {row.layers}")
    assert "not independent draws" in " ".join(lines)


def test_names_of_outside_tasks_are_no_markup_and_long_ones_fold(frame):
    name = "[red]a_very_long_task_name_of_somebody_2026"
    text = printed(trust_table(frame.assign(task=name)))
    assert max(map(len, text.splitlines())) <= 80
    assert name in "".join(line.strip() for line in text.splitlines())
