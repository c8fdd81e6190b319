import numpy as np
import pytest

from depthprobe.errors import RunError
from depthprobe.render.terminal.profiles import list_gradnorm, list_variance
from support.legibility import printed
from support.profile_frames import falling, gradnorm, influence, rising, robust, variance
from support.readings import gradnorm_findings, variance_findings


def gradnorm_table(frame, model="", options=None):
    return list_gradnorm(gradnorm_findings(frame, options), model)[0]


def variance_table(frame, model="", influence=None):
    return list_variance(variance_findings(frame, influence), model)[0]


OPTIONS = {"objective": "next token", "loss_nats": 3.09, "predicted_tokens": 32640, "per_batch": None}
LONG = "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B-some-very-long-suffix-for-testing-2026"

GRADNORM = """\
             Gradient norm of every layer
 ─────────────────────────────────────────────────────
      layer                             feed-
  (0-based)   norm  share  attention  forward    norms
 ─────────────────────────────────────────────────────
          0  0.900  89.0%     0.450    0.720   0.0450
          1  0.300   9.9%     0.150    0.240   0.0150
          2  0.100   1.1%     0.0500   0.0800  0.00500
 ─────────────────────────────────────────────────────
  embedding  2.00
 final norm  0.250
       head  0.250
 ─────────────────────────────────────────────────────
 Norm: L2, gradient of the mean next-token loss (nats)
 over all 32,640 predicted tokens taken as one batch.
  Share: a block's squared norm in the sum of squared
                norms over the blocks."""

VARIANCE = """\
                   Variance of the residual stream
 ───────────────────────────────────────────────────────────────────
                                        added by             contri-
     layer                    added by     feed-      Block   bution
 (0-based)  variance    RMS  attention   forward  Influence    ratio
 ───────────────────────────────────────────────────────────────────
 embedding    0.0100  0.100
 ───────────────────────────────────────────────────────────────────
         0    0.500   0.707    0.00100   0.00100     0.400     0.632
         1    2.00    1.41     0.0500    0.0500      0.100     0.316
         2   31.0     5.57     0.200     0.200       0.0200    0.141
 ───────────────────────────────────────────────────────────────────
   The stream behind each layer, x^(l+1): variance over the hidden
     dimension, mean over 32,640 tokens, before the final norm."""


def stripped(text):
    return "\n".join(line.rstrip() for line in text.splitlines())


def rows(text):
    """The cells of the rows of layers."""
    lines = [line.replace("|", " ").split() for line in text.splitlines()]
    return [line for line in lines if len(line) > 2 and line[0].isdigit() and line[1][0].isdigit()]


def layers_in(text):
    return [int(row[0]) for row in rows(text)]


def test_the_table_of_gradient_norms_as_it_is_printed():
    frame = gradnorm([0.9, 0.3, 0.1], outside=("embedding", "final_norm", "head"))
    assert stripped(printed(gradnorm_table(frame, options=OPTIONS))) == GRADNORM
    mixed = frame.sample(frac=1, random_state=1)
    assert stripped(printed(gradnorm_table(mixed, options=OPTIONS))) == GRADNORM


def test_the_table_of_variances_as_it_is_printed():
    frame, other = variance([0.01, 0.5, 2.0, 31.0]), influence([0.4, 0.1, 0.02])
    assert stripped(printed(variance_table(frame, influence=other))) == VARIANCE
    mixed = frame.sample(frac=1, random_state=1), other.iloc[::-1]
    assert stripped(printed(variance_table(mixed[0], influence=mixed[1]))) == VARIANCE


def test_median_and_mean_without_first_tokens_stand_beside_the_mean_within_the_width_of_a_terminal():
    frame = robust(variance([0.01, 0.5, 2.0, 31.0]), 0.5, 0.25)
    text = printed(variance_table(frame, influence=influence([0.4, 0.1, 0.02])))
    assert [row[1:4] for row in rows(text)] == [
        ["0.500", "0.250", "0.125"],
        ["2.00", "1.00", "0.500"],
        ["31.0", "15.5", "7.75"],
    ]
    assert max(map(len, stripped(text).splitlines())) <= 80


def test_norms_over_batches_have_their_deviation_beside_them():
    text = printed(gradnorm_table(gradnorm([0.5, 0.25], ("attention",), std=0.1), options={"per_batch": 8}))
    assert rows(text) == [
        ["0", "0.500", "0.0500", "80.0%", "0.250"],
        ["1", "0.250", "0.0250", "20.0%", "0.125"],
    ]
    assert "mean and standard deviation over batches of 8 samples." in " ".join(text.split())
    assert any(line.split() == ["embedding", "2.00", "0.200"] for line in text.splitlines())


@pytest.mark.parametrize(
    ("options", "std", "words"),
    [
        ({}, 0.0, "gradient of the mean loss (nats) over all predicted tokens taken as one batch."),
        (
            {"objective": "masked token", "predicted_tokens": 1234},
            0.0,
            "gradient of the mean masked-token loss (nats) over all 1,234 predicted tokens taken as one "
            "batch.",
        ),
        (
            {**OPTIONS, "per_batch": 1, "gradient_batches": 16},
            0.1,
            "gradient of the mean next-token loss (nats), mean and standard deviation over 16 batches of "
            "1 sample.",
        ),
        ({}, 0.1, "gradient of the mean loss (nats), mean and standard deviation over batches."),
        # All samples were fewer than a batch.
        (
            {**OPTIONS, "per_batch": 64, "gradient_batches": 1},
            0.0,
            "gradient of the mean next-token loss (nats) over all 32,640 predicted tokens taken as one "
            "batch.",
        ),
    ],
)
def test_the_table_says_whose_gradient_it_is(options, std, words):
    text = " ".join(printed(gradnorm_table(gradnorm([0.5, 0.3], std=std), options=options)).split())
    assert f"Norm: L2, {words} Share: " in text


def test_layers_and_parts_that_are_missing_are_a_dash():
    frame = gradnorm([0.5, 0.4, 0.3], parts=("attention", "other"))
    frame = frame[(frame["layer"] != 1) & ((frame["part"] != "other") | (frame["layer"] == 0))]
    text = printed(gradnorm_table(frame))
    lines = [line.split() for line in text.splitlines() if line.split()[:1] in (["0"], ["1"], ["2"])]
    assert [line[1:] for line in lines] == [
        ["0.500", "73.5%", "0.250", "0.0100"],
        ["-", "-", "-", "-"],
        ["0.300", "26.5%", "0.150", "-"],
    ]


def test_shares_add_up_to_the_whole_however_small_the_norms():
    for unit in (1e-200, 1.0, 1e200):
        frame = gradnorm(unit * np.array([3.0, 4.0]), parts=(), outside=())
        assert [row[2] for row in rows(printed(gradnorm_table(frame)))] == ["36.0%", "64.0%"]
    assert [row[2] for row in rows(printed(gradnorm_table(gradnorm([0.0, 0.0]))))] == ["0.0%", "0.0%"]


def test_without_influence_and_branches_the_table_of_variances_is_short():
    text = printed(variance_table(variance([0.01, 0.5, 2.0], branches=())))
    assert rows(text) == [["0", "0.500", "0.707"], ["1", "2.00", "1.41"]]


def test_a_branch_that_is_not_known_is_a_dash():
    frame = variance([0.01, 0.5, 2.0])
    frame = frame[(frame["point"] != "feedforward") | (frame["layer"] == 1)]
    assert [row[-1] for row in rows(printed(variance_table(frame)))] == ["-", "0.0500"]


def test_up_to_40_layers_all_are_shown():
    assert layers_in(printed(gradnorm_table(falling(40)))) == list(range(40))
    assert layers_in(printed(variance_table(rising(40)))) == list(range(40))


def test_beyond_40_layers_both_ends_a_thinning_and_the_extremes_are_shown_and_the_caption_says_so():
    norms = np.linspace(1, 0.5, 126)
    norms[33], norms[61] = 2.0, 0.01
    text = printed(gradnorm_table(gradnorm(norms)))
    thinning = {*range(8), *range(8, 118, 7), *range(118, 126)}
    assert layers_in(text) == sorted(thinning | {33, 61})
    assert f"{126 - len(thinning) - 2} of 126 layers are not shown; gradnorm.csv has all." in " ".join(
        text.split()
    )

    least = influence(np.where(np.arange(126) == 62, 0.001, 0.1))
    text = printed(variance_table(rising(126), influence=least))
    assert 62 in layers_in(text)
    assert "layers are not shown; variance.csv has all." in " ".join(text.split())


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("layers", [1, 2, 12, 126])
@pytest.mark.parametrize("unit", [1e-12, 1.0, 1e9])
def test_tables_fit_80_columns_as_plain_text(layers, unit, encoding):
    norms = falling(layers, parts=("attention", "feedforward", "norm", "other"), std=0.1)
    norms[["grad_norm", "std"]] *= unit * np.geomspace(1, 1e-7, len(norms))[:, None]
    stream = rising(layers)
    stream[["variance", "rms"]] *= unit * np.geomspace(1e-6, 1, len(stream))[:, None]
    tables = (
        gradnorm_table(norms, LONG, OPTIONS),
        variance_table(stream, LONG, influence(np.geomspace(0.5, 1e-9, layers))),
    )
    for table in tables:
        text = printed(table, encoding)
        assert all(len(line) <= 80 for line in text.splitlines())
        assert "\x1b" not in text and "…" not in text and "?" not in text
        assert len(rows(text)) == len(layers_in(text)) >= min(layers, 32)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda table: table.drop(columns=["contribution_ratio"]), "lacks: contribution_ratio"),
        (lambda table: table.assign(block_influence=np.nan), "holds NaN"),
        (lambda table: table.iloc[1:], "is not one of the layers 0 to 2"),
    ],
)
def test_what_is_no_table_of_block_influences_is_refused(change, sentence):
    with pytest.raises(RunError, match=f"table of block influences {sentence}"):
        variance_table(rising(3), influence=change(influence([0.1, 0.2, 0.3])))
