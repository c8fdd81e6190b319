import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from depthprobe.errors import RunError
from depthprobe.findings.variance import growth_by_layer
from support.profile_frames import gradnorm, influence, rising, robust, variance
from support.readings import gradnorm_findings, variance_findings

OPTIONS = {"objective": "next token", "loss_nats": 3.0901, "predicted_tokens": 32640}


def gradnorm_reading(frame, facts=None):
    (sentences,) = gradnorm_findings(frame, facts).sentences
    return sentences


def variance_reading(frame, influence=None, options=None):
    (sentences,) = variance_findings(frame, influence, options).sentences
    return sentences


@pytest.mark.parametrize(
    ("norms", "options", "sentences"),
    [
        (
            [0.9, 0.3, 0.2, 0.1, 0.0125, 0.025],
            OPTIONS,
            "Loss: 3.090 nats, mean over 32,640 predicted tokens. The gradient norm is largest in layer 0 "
            "(0.900) and smallest in layer 4 (0.0125): a factor of 72, 1.9 decades.",
        ),
        (
            [0.1, 0.2, 0.3, 0.4],
            {},
            "The gradient norm is largest in layer 3 (0.400) and smallest in layer 0 (0.100): a factor "
            "of 4.0.",
        ),
        (
            [0.5, 0.25],
            {},
            "The gradient norm is largest in layer 0 (0.500) and smallest in layer 1 (0.250): a factor "
            "of 2.0.",
        ),
        ([0.5], {"loss_nats": 2.0}, "Loss: 2.000 nats. The gradient norm of layer 0 is 0.500."),
        (
            [0.5, 0.0, 0.25],
            {},
            "No gradient reaches layer 1. The gradient norm is largest in layer 0 (0.500) and smallest "
            "in layer 2 "
            "(0.250): a factor of 2.0.",
        ),
        (
            [0.4] * 4 + [0.3] * 4 + [0.2] * 4,
            {},
            "The gradient norm is largest in layer 0 (0.400) and smallest in layer 8 (0.200): a factor of "
            "2.0. The mean norm of the deep third (layers 8-11) is 0.50 times that of the shallow third "
            "(layers 0-3).",
        ),
        ([0.0, 0.0, 0.0], {}, "No gradient reaches layers 0-2: every norm is 0."),
        (
            [0.25, 0.25, 0.25],
            {},
            "The gradient norm of layers 0-2 is 0.250 each.",
        ),
    ],
)
def test_the_reading_of_gradient_norms(norms, options, sentences):
    assert gradnorm_reading(gradnorm(norms), options) == sentences


def test_layers_that_cannot_have_a_gradient_are_told_apart_from_those_that_none_reaches():
    frame = gradnorm([0.5, 0.4, 0.3, 0.2])
    assert gradnorm_reading(frame[frame["layer"] != 1]) == (
        "No parameter in layer 1 can have a gradient. The gradient norm is largest in layer 0 (0.500) and "
        "smallest in layer 3 (0.200): a factor of 2.5."
    )


DOUBLING = 0.25 * 2.0 ** np.arange(12)
GROWN = "The variance of the stream grows by a factor of"


@pytest.mark.parametrize(
    ("values", "sentences"),
    [
        (
            [0.01, *DOUBLING],
            f"{GROWN} 2,048 from x^1 to x^12 (0.250 to 512). Growth rate of log variance: +0.6931 a "
            "layer (95% "
            "interval +0.6931 to +0.6931); closer to exponential (off by less than 0.1% typically, R^2 "
            "1.000) "
            "than to linear (off by a factor of 4.4 typically, R^2 0.617). Half of that growth of log "
            "variance "
            "takes 6 of 11 layers: layers 1-6 multiply the variance by 64.",
        ),
        (
            [0.01, 1, 2, 3, 4, 5, 6],
            f"{GROWN} 6.0 from x^1 to x^6 (1.00 to 6.00). Growth rate of log variance: +0.343 a layer (95% "
            "interval +0.219 to +0.467); closer to linear (off by less than 0.1% typically, R^2 1.000) "
            "than to "
            "exponential (off by 16% typically, R^2 0.936). Half of that growth of log variance takes 2 of 5 "
            "layers: layers 1-2 multiply the variance by 3.0.",
        ),
        (
            [0.01, 0.02, 2.0, 2.1, 2.0, 2.1, 2.0],
            f"{GROWN} 100 from x^1 to x^6 (0.0200 to 2.00). Growth rate of log variance: +0.661 a layer (95% "
            "interval -0.399 to +1.720); closer to linear (off by 67% typically, R^2 0.912) than to "
            "exponential "
            "(off by a factor of 3.7 typically, R^2 0.429), and neither fits well. Half of that growth "
            "of log "
            "variance takes 1 of 5 layers: layer 1 multiplies the variance by 100.",
        ),
        (
            [1, *np.arange(1, 13) ** 2],
            f"{GROWN} 144 from x^1 to x^12 (1.00 to 144). Growth rate of log variance: +0.397 a layer (95% "
            "interval +0.301 to +0.492); exponential (off by 60% typically, R^2 0.895) and linear (off "
            "by 48% "
            "typically, R^2 0.926) cannot be told apart. Half of that growth of log variance takes 3 of 11 "
            "layers: layers 1-3 multiply the variance by 16.",
        ),
        (
            [1.0, 1.0, 1.02, 0.99, 1.01, 1.02, 0.99],
            "The variance of the stream falls by a factor of 1.01 from x^1 to x^6 (1.00 to 0.990). "
            "Growth rate of "
            "log variance: -0.001 a layer (95% interval -0.011 to +0.009); no steady growth over the "
            "layers (R^2 "
            "0.014 of an exponential, 0.014 of a line).",
        ),
        (
            [4.0, 2.0, 1.0, 0.5, 0.25],
            "The variance of the stream falls by a factor of 8.0 from x^1 to x^4 (2.00 to 0.250). Growth "
            "rate of "
            "log variance: -0.6931 a layer (95% interval -0.6931 to -0.6931); closer to exponential (off "
            "by less "
            "than 0.1% typically, R^2 1.000) than to linear (off by 23% typically, R^2 0.931).",
        ),
        ([0.1, 1.0, 2.0], f"{GROWN} 2.0 from x^1 to x^2 (1.00 to 2.00); two layers are too few for a fit."),
        ([0.1, 1.0], "The only layer, 0, takes the variance of the stream from 0.100 to 1.00."),
        ([0.1, 1.0, 1.0, 1.0], "The variance of the stream stays the same from x^1 to x^3 (1.00 to 1.00)."),
        (
            [0.1, 1.0, 0.0, 1.0],
            "The variance of the stream goes from x^1 to x^3 (1.00 to 1.00); it is 0 at x^2, so no growth is "
            "fitted.",
        ),
    ],
)
def test_the_reading_of_variances(values, sentences):
    assert variance_reading(variance(values)) == sentences


# x^0 .. x^6 of 64 samples of 32 tokens: at x^1 .. x^3 first tokens have 9 and 1001 times the variance of
# the others; the median is below both means.
HUNG = [1.0, 1.25, 129.0, 258.0, 16.0, 32.0, 64.0]
OTHERS = [1.0, 1.0, 4.0, 8.0, 16.0, 32.0, 64.0]


def hung(tokens=64 * 32, median=0.5):
    frame = variance(HUNG, branches=(), tokens=tokens)
    rest = np.array(OTHERS) / frame["variance"]
    return robust(frame, rest, median * rest)


def test_growth_is_read_from_the_median_token_and_the_means_stand_beside_it():
    reading = variance_reading(hung(), options={"first_tokens": 64})
    assert reading.startswith(
        "The variance of the stream at the median token grows by a factor of 64 from x^1 to x^6 (0.500 to "
        "32.0). Growth rate of log variance: +0.792 a layer"
    )
    assert (
        "The mean over all tokens, as in the papers, grows by a factor of 51; without the first token of "
        "each sample, it grows by a factor of 64. These first tokens, one in 32, make 97% of the mean at "
        "x^2, so the mean depends on how long the samples are (--seq-len)."
    ) in reading


def test_the_share_of_first_tokens_is_that_of_their_sum():
    found = variance_findings(hung(), None, {"first_tokens": 64})
    first = np.array(HUNG) * 32 - np.array(OTHERS) * 31  # the first token of a sample of 32
    np.testing.assert_allclose(found.first_share, np.maximum(first, 0) / (32 * np.array(HUNG)), atol=1e-12)
    assert variance_findings(hung()).first_share is None  # nobody said how many there are


def test_where_the_first_token_is_one_like_others_nothing_is_said_of_it():
    frame = robust(rising(12), 0.99, 0.9)
    reading = variance_reading(frame, options={"first_tokens": 320})
    assert "make" not in reading and "without the first token of each sample, it grows" in reading


def test_the_growth_of_a_layer_is_that_of_the_median_token():
    growth = growth_by_layer(hung(median=0.25))
    np.testing.assert_allclose(growth, np.diff(np.log(OTHERS)))
    np.testing.assert_allclose(growth_by_layer(variance(HUNG)), np.diff(np.log(HUNG)))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ([0.4], "Its Block Influence is 0.400."),
        ([0.4, 0.1], "Least Block Influence (1 of 2, least first, from 0.100): layer 1."),
        (
            [0.4, 0.1, 0.03, 0.03, 0.2, 0.01, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95],
            "Least Block Influence (4 of 12, least first, from 0.0100): layers 5, 2, 3, 1.",
        ),
        (
            [0.5] * 20 + [0.1] * 19 + [0.02],
            "Least Block Influence (11 of 40): layers 20-29, 39; least of all in layer 39 (0.0200).",
        ),
    ],
)
def test_the_reading_lists_about_a_quarter_of_the_layers_by_block_influence(values, sentence):
    reading = variance_reading(rising(len(values)), influence(values))
    assert reading.endswith(f" {sentence}")


def test_of_32_layers_the_nine_least_are_listed_as_shortgpt_lists_those_of_llama_2_7b():
    published = [27, 26, 25, 28, 24, 29, 23, 21, 22]
    values = np.full(32, 0.5)
    values[published] = np.linspace(0.01, 0.05, 9)
    assert variance_reading(rising(32), influence(values)).endswith(
        "layers 27, 26, 25, 28, 24, 29, 23, 21, 22."
    )


def test_the_reading_says_which_branches_are_left_out_and_why():
    options = {"without_branches": {"The branches run in parallel.": [5, 3, 4], "Not found": [9]}}
    assert variance_reading(rising(12, branches=()), options=options).endswith(
        " What the branches of layers 3-5 add is left out: The branches run in parallel. What the "
        "branches of "
        "layer 9 add is left out: Not found."
    )
    for nothing in ({}, {"without_branches": {}}, {"without_branches": None}):
        assert "left out" not in variance_reading(rising(12), options=nothing)


SIZES = st.just(0.0) | st.floats(1e-30, 1e30)


@given(st.lists(SIZES, min_size=2, max_size=40))
def test_every_table_of_variances_has_a_reading(values):
    reading = variance_reading(variance(values), influence(np.linspace(0, 1, len(values) - 1)))
    assert reading.endswith(".")
    assert "nan" not in reading and "inf" not in reading


@given(st.lists(SIZES, min_size=1, max_size=40))
def test_every_table_of_gradient_norms_has_a_reading(norms):
    reading = gradnorm_reading(gradnorm(norms))
    assert reading.endswith(".")
    assert "nan" not in reading and "inf" not in reading


def test_what_is_no_such_table_is_refused():
    with pytest.raises(RunError, match="A table of gradient norms lacks"):
        gradnorm_reading(rising(3))
    with pytest.raises(RunError, match="A table of variances lacks"):
        variance_reading(gradnorm([1.0]))
    with pytest.raises(RunError, match="The table of block influences is not one of the layers 0 to 2"):
        variance_reading(rising(3), influence([0.1]))
