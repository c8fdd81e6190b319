import numpy as np
import pandas as pd
import pytest

from depthprobe.errors import RunError
from depthprobe.render.charts import training as training_chart
from support.legibility import check_text


def draw_training(layers, losses, **options):
    return training_chart.draw({"training": layers, "loss": losses}, **options)


LONG = "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B-some-very-long-suffix-for-testing-2026"
STEPS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 300)


def log(layers, steps=STEPS, scale=1.0):
    rows = [
        (step, layer, scale * (1 + layer) * (1 + step / 50), scale / (1 + layer + step))
        for step in steps
        for layer in range(layers)
    ]
    losses = [(step, "heldout", 8 - step / 100) for step in steps]
    losses += [(step, "train", 7.9 - step / 100) for step in steps[1:]]
    names = ["step", "layer", "variance", "grad_norm"]
    return pd.DataFrame(rows, columns=names), pd.DataFrame(losses, columns=["step", "data", "loss_nats"])


def test_the_panels_hold_the_numbers_of_the_log():
    layers, losses = log(4)
    figure = draw_training(layers.sample(frac=1, random_state=0), losses)
    loss, variance, norm, _ = figure.axes
    drawn = {line.get_label(): line for line in loss.lines}
    assert drawn["held out"].get_ydata().tolist() == losses[losses.data == "heldout"].loss_nats.tolist()
    for layer, line in enumerate(variance.lines):
        assert line.get_ydata().tolist() == layers[layers.layer == layer].variance.tolist()
    assert [line.get_label() for line in norm.lines] == ["step 0", "step 20", "step 100", "step 300"]
    assert norm.lines[1].get_ydata().tolist() == layers[layers.step == 20].grad_norm.tolist()


def test_deeper_layers_are_lighter_also_in_grey():
    figure = draw_training(*log(12))
    greys = [np.dot(line.get_color()[:3], [0.299, 0.587, 0.114]) for line in figure.axes[1].lines]
    assert greys == sorted(greys) and greys[-1] < 0.85


@pytest.mark.parametrize("layers", [1, 12, 32, 126])
@pytest.mark.parametrize("steps", [(0,), STEPS, (0, 10_000, 20_000, 120_000)])
def test_no_text_is_clipped_or_overlaps(layers, steps):
    check_text(draw_training(*log(layers, steps, 1e-6), title=LONG, caption="C4, " * 40))


def test_a_gradient_of_zero_leaves_a_gap():
    layers, losses = log(3)
    layers.loc[layers.layer == 1, "grad_norm"] = 0.0
    line = draw_training(layers, losses).axes[2].lines[0]
    assert np.isnan(line.get_ydata()[1]) and np.isfinite(line.get_ydata()[[0, 2]]).all()


def test_a_table_that_is_not_a_log_is_refused():
    layers, losses = log(3)
    with pytest.raises(RunError, match="lacks: grad_norm"):
        draw_training(layers.drop(columns="grad_norm"), losses)
    with pytest.raises(RunError, match="no rows"):
        draw_training(layers[:0], losses)
