import io

import pytest
from rich.console import Console

from depthprobe.errors import RunError
from depthprobe.render.terminal import angular
from depthprobe.render.terminal.listing import lines_of
from support.readings import angular_findings


def angular_table(frame, *title):
    return angular.listing(angular_findings(frame), *title)[0]


def printed(table, width=80, encoding="utf-8"):
    """What a user sees who sends the table into a file."""
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding=encoding) as file:
        Console(file=file, width=width).print(table)
        file.flush()
        return raw.getvalue().decode(encoding)


def rows(text):
    lines = [line.replace("|", " ").split() for line in text.splitlines()]
    return [line for line in lines if len(line) == 4 and line[0].isdigit()]


def test_there_is_one_row_for_each_block_size_with_the_layers_to_remove(make_frame):
    frame = make_frame(6)
    found = rows(printed(angular_table(frame)))
    best = angular_findings(frame).best.iloc[:-1]  # the whole model is no block to remove
    assert [row[:2] for row in found] == [
        [str(n), removed] for n, removed in zip(best["n"], best["removed"], strict=True)
    ]
    assert [row[2] for row in found] == [f"{distance:.4f}" for distance in best["distance"]]


def test_the_head_says_what_the_layers_are(make_frame):
    text = printed(angular_table(make_frame(3)))
    assert "block size n" in text
    assert "best block (layers removed, 0-based)" in text


@pytest.mark.parametrize("layers", [1, 12, 126])
def test_the_table_fits_80_columns_as_plain_text(make_frame, layers):
    text = printed(angular_table(make_frame(layers), "a title"))
    assert "\x1b" not in text
    assert "…" not in text
    assert all(len(line) <= 80 for line in text.splitlines())


def test_a_terminal_without_unicode_gets_ascii(make_frame):
    text = printed(angular_table(make_frame(3)), encoding="ascii")
    assert rows(text)


def test_up_to_41_layers_all_sizes_are_shown_and_beyond_a_thinning_that_says_so(make_frame):
    assert len(rows(printed(angular_table(make_frame(40))))) == 39
    text = printed(angular_table(make_frame(80)))
    sizes = [int(row[0]) for row in rows(text)]
    assert sizes == [*range(1, 33), *range(36, 80, 4), 79]
    assert "35 of 79 block sizes are not shown; angular.csv has all." in text


def test_the_title_names_the_model_without_reading_markup_in_it(make_run):
    table, _ = lines_of(make_run(model="[red]m"))
    assert "[red]m: best block of each size to remove" in printed(table)


def test_small_distances_keep_their_digits(make_frame):
    text = printed(angular_table(make_frame(3, lambda layer, n: 0.00042 * n)))
    assert "0.00042" in text


def test_a_frame_of_something_else_is_refused(make_frame):
    with pytest.raises(RunError, match="lacks: n, distance"):
        angular_table(make_frame(2)[["layer", "std", "samples"]])
