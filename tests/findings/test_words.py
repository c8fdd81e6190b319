import pytest
from hypothesis import given
from hypothesis import strategies as st

from depthprobe.findings.words import aligned, counted, layers_named, significant
from depthprobe.render.charts.kit.ticks import log_ticks


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.031249, "0.0312"),
        (0.09996, "0.100"),
        (0.9999, "1.00"),
        (12.345, "12.3"),
        (1234.5, "1,234"),
        (999_999.6, "1.00e+06"),
        (1.23456e-5, "1.23e-05"),
        (-0.5, "-0.500"),
    ],
)
def test_numbers_keep_the_digits_that_count(value, text):
    assert significant(value) == text


@given(st.floats(1e-12, 1e12), st.integers(1, 5))
def test_a_number_as_text_is_that_number_but_for_its_last_digit(value, digits):
    assert float(significant(value, digits).replace(",", "")) == pytest.approx(
        value, rel=0.51 * 10 ** (1 - digits)
    )


def test_decimal_points_stand_below_each_other():
    assert aligned([0.0312, 1.0, 250.0, None, 0.0]) == [
        "  0.0312",
        "  1.00  ",
        "250     ",
        "  -     ",
        "  0     ",
    ]


def test_a_column_that_would_be_too_wide_writes_its_smallest_numbers_in_powers_of_ten():
    assert aligned([5e-5, 0.01, 31.2]) == ["5.00e-05", "  0.0100", " 31.2   "]
    assert aligned([5e-9, 2e7]) == ["5.00e-09", "2.00e+07"]
    assert aligned([]) == []


@given(st.lists(st.none() | st.just(0.0) | st.floats(1e-15, 1e15), max_size=20))
def test_every_column_is_narrow_and_even_and_says_its_numbers(values):
    column = aligned(values)
    assert len({len(text) for text in column}) <= 1
    assert all(len(text) <= 9 for text in column)
    for value, text in zip(values, column, strict=True):
        if value is None:
            assert text.strip() == "-"
        else:
            assert float(text.replace(",", "")) == pytest.approx(value, rel=0.0051)
    points = {text.index(".") for text in column if "." in text and "e" not in text}
    assert len(points) <= 1


def test_layers_and_counts_have_their_noun_in_the_right_number():
    assert [layers_named(layers) for layers in ([5], [0, 1, 2, 7])] == ["layer 5", "layers 0-2, 7"]
    assert [counted(count, "sample") for count in (1, 1000)] == ["1 sample", "1,000 samples"]


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0.5, 2000, ["1", "10", "100", "1,000"]),
        (0.02, 3, ["0.03", "0.1", "0.3", "1", "3"]),
        (0.4, 6, ["0.5", "1", "2", "5"]),
        (1e-5, 1e-2, ["$10^{-5}$", "$10^{-4}$", "$10^{-3}$", "$10^{-2}$"]),
        (2e-8, 8e-7, [r"$3\!\times\!10^{-8}$", "$10^{-7}$", r"$3\!\times\!10^{-7}$"]),
        (1e-9, 1e3, ["$10^{-9}$", "$10^{-6}$", "$10^{-3}$", "$10^{0}$", "$10^{3}$"]),
        (0.93, 1.07, ["0.95", "1.00", "1.05"]),
    ],
)
def test_logarithmic_ticks_are_powers_of_ten_and_few_between(low, high, labels):
    assert log_ticks(low, high).labels == labels


@given(st.floats(-30, 30), st.floats(0.08, 40))
def test_logarithmic_ticks_lie_on_the_axis_and_are_few_and_different(exponent, decades):
    low, high = 10.0**exponent, 10.0 ** (exponent + decades)
    found = log_ticks(low, high)
    assert 2 <= len(found.places) == len(found.labels) == len(set(found.labels)) <= 9
    for place in (*found.places, *found.small):
        assert low <= place <= high
    assert not set(found.places) & set(found.small)
