import matplotlib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from depthprobe.errors import OptionError, RunError
from depthprobe.findings.of_runs import findings_of
from depthprobe.findings.words import spans, spoken
from depthprobe.measurement import Column, Measurement, Table
from depthprobe.render.charts import drops as drops_chart
from depthprobe.render.charts.drops import MOST_PANELS
from depthprobe.render.charts.figures import draw_run
from depthprobe.render.charts.kit.scales import CUT_GAP, cut_rows
from depthprobe.render.charts.kit.style import BAR, INK
from depthprobe.render.terminal import drops as tables
from depthprobe.render.terminal.listing import lines_of
from depthprobe.results.store import read_run, reserve, save
from support.legibility import check_text, printed
from support.readings import sweep_findings


def draw_drops(frame, options=None, layers=None, **words):
    return drops_chart.draw(sweep_findings(frame, options, layers), **words)


def drops_of(frame, task, options=None):
    return sweep_findings(frame, options).every[task]


def headline_tasks(frame, options=None):
    return sweep_findings(frame, options).names


def drop_table(frame, task, options=None, model=""):
    return tables.drop_table(drops_of(frame, task, options), model)


NAMES = (
    *("task", "metric", "filter", "layer", "baseline", "pruned", "drop"),
    *("ci_low", "ci_high", "p_value", "p_adjusted", "flips", "docs"),
)
LONG = "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B-some-very-long-suffix-for-testing-2026"
LONG_TASK = "a_very_long_task_name_of_somebody_with_many_words_2026_zero_shot_cot"
ORDINARY = {
    "tasks": ["mmlu"],
    "headline": {"mmlu": "acc/none", "calibration": "loss/none"},
    "higher_is_better": {"mmlu/acc/none": True, "calibration/loss/none": False},
    "chance": {"mmlu/acc/none": 0.25, "calibration/loss/none": None},
    "detectable": {"mmlu/acc/none": 0.0123},
    "block": 1,
}


def sweep(task, drops, p=0.001, metric="acc", filter="none", layers=None, base=0.6, half=0.01, flips=7):
    """The rows of one task; p and half may be one number or one a layer."""
    count = len(drops)
    frame = pd.DataFrame({"task": [task] * count, "metric": metric, "filter": filter})
    frame["layer"] = list(range(count)) if layers is None else list(layers)
    frame["baseline"] = base
    frame["drop"] = np.asarray(drops, dtype="float64")
    frame["pruned"] = frame["baseline"] + frame["drop"]
    frame["ci_low"], frame["ci_high"] = frame["drop"] - half, frame["drop"] + half
    frame["p_value"] = frame["p_adjusted"] = p
    return frame.assign(flips=flips, docs=14042)[list(NAMES)]


def ordinary(layers, tasks=("mmlu",), seed=0):
    """A sweep as sweeps are: the first layers matter much, the late ones are noise."""
    random = np.random.default_rng(seed)
    depth = np.arange(layers)
    frames = []
    for task in tasks:
        drops = -0.2 * np.exp(-depth / 2) + random.normal(0, 0.005, layers)
        frames.append(sweep(task, drops, p=np.where(drops < -0.02, 0.001, 1.0)))
    rise = 0.05 + 0.5 * np.exp(-depth / 2.0)
    frames.append(sweep("calibration", rise, metric="loss", base=2.3, flips=0))
    return pd.concat(frames, ignore_index=True)


def bars(axes):
    return [(bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in axes.patches]


def written(figure):
    return [text.get_text() for text in figure.texts]


def rows(text):
    lines = [line.replace("|", " ").split() for line in text.splitlines()]
    return [line for line in lines if len(line) in (8, 9, 10) and line[-5] == "to"]


# The figure.


def test_there_is_one_bar_a_layer_as_high_as_its_drop_with_its_interval():
    frame = sweep("mmlu", [-0.3, 0.02, -0.01])
    (axes,) = draw_drops(frame).axes
    assert bars(axes) == [(0, -0.3), (1, 0.02), (2, -0.01)]
    (lines,) = axes.collections
    ends = [(x, low, high) for (x, low), (_, high) in lines.get_segments()]
    assert ends == list(frame[["layer", "ci_low", "ci_high"]].itertuples(index=False, name=None))
    low, high = axes.get_ylim()
    assert low < frame["ci_low"].min() and high > frame["ci_high"].max()
    assert [line.get_ydata() for line in axes.lines] == [[0, 0]]


def test_a_drop_of_0_has_a_mark_on_the_zero_line_and_a_key():
    frame = sweep("mmlu", [-0.3, 0.0, 1e-5, 0.02], p=[0.001, 1.0, 0.001, 1.0])
    figure = draw_drops(frame)
    marks = [line for line in figure.axes[0].lines if line.get_marker() == "D"]
    assert [(list(mark.get_xdata()), list(mark.get_ydata())) for mark in marks] == [([2], [0]), ([1], [0])]
    # Filled where it is detectable, as the bars are.
    assert [to_rgb(mark.get_markerfacecolor()) == (1, 1, 1) for mark in marks] == [False, True]
    assert drops_chart.UNSEEN_KEY in [text.get_text() for text in figure.findobj(Text)]
    check_text(figure)
    plain = draw_drops(sweep("mmlu", [-0.3, 0.02]))
    assert drops_chart.UNSEEN_KEY not in [text.get_text() for text in plain.findobj(Text)]


def test_bars_without_a_detectable_difference_are_hollow():
    (axes,) = draw_drops(sweep("mmlu", [-0.1] * 4, p=[0.049, 0.05, 1.0, 0.0])).axes
    assert [to_rgb(bar.get_facecolor()[:3]) == (1, 1, 1) for bar in axes.patches] == [
        False,
        True,
        True,
        False,
    ]


def test_harm_points_downward_for_every_metric():
    frame = pd.concat([sweep("mmlu", [-0.2, 0.1]), sweep("calibration", [0.2, -0.1], metric="loss")])
    figure = draw_drops(frame)
    figure.canvas.draw()
    for axes in figure.axes:
        harm, gain = (bar.get_window_extent() for bar in axes.patches)
        assert harm.y1 == pytest.approx(gain.y0)  # they meet in the zero line
        assert harm.y0 < gain.y0
    assert "downward = worse" in figure.axes[1].get_ylabel()
    # The numbers on the axis stay those of the table.
    assert bars(figure.axes[1]) == [(0, 0.2), (1, -0.1)]


@pytest.mark.parametrize(
    ("metric", "label"),
    [
        ("acc", "Performance drop ΔP (accuracy)"),
        ("exact_match", "Performance drop ΔP (exact match)"),
        ("loss", "Loss increase (nats/token) downward = worse"),
        ("word_perplexity", "Word perplexity increase downward = worse"),
        ("my_$metric$", "Performance drop ΔP (my_$metric$)"),
    ],
)
def test_axes_say_what_they_show(metric, label):
    (axes,) = draw_drops(sweep("task", [-0.1, 0.1], metric=metric)).axes
    assert " ".join(axes.get_ylabel().split()) == label
    assert axes.get_xlabel() == "Layer index $l$"


def test_each_panel_states_its_task_baseline_chance_and_items():
    texts = written(draw_drops(ordinary(12), title="model", caption="data", options=ORDINARY))
    assert texts == [
        *("model", "data", "mmlu", "whole model 0.600, chance 0.25, 14,042 items"),
        *("calibration", "whole model 2.300 nats/token, 14,042 samples"),
    ]


def test_chance_is_a_line_where_a_drop_comes_near_it():
    near = draw_drops(sweep("mmlu", [-0.36, -0.1]), options=ORDINARY).axes[0]
    assert [text.get_text() for text in near.texts] == ["chance"]
    assert near.lines[1].get_ydata() == pytest.approx([-0.35, -0.35])
    far = draw_drops(sweep("mmlu", [-0.1, -0.1]), options=ORDINARY).axes[0]
    assert not far.texts and len(far.lines) == 1


def test_a_sweep_over_some_layers_keeps_their_places():
    frame = sweep("mmlu", [-0.1] * 14, layers=[0, 5, *range(20, 32)])
    (axes,) = draw_drops(frame, layers=40).axes
    assert [x for x, _ in bars(axes)] == [0, 5, *range(20, 32)]
    low, high = axes.get_xlim()
    assert -1 < low < -0.4 and 39.4 < high < 40


def test_a_sweep_of_blocks_says_which_layers_go():
    (axes,) = draw_drops(sweep("mmlu", [-0.1] * 9), options={"block": 4}, layers=12).axes
    assert axes.get_xlabel() == "Layers $l$ to $l+3$ removed; first layer $l$"
    assert axes.get_xlim()[1] < 9
    cut = draw_drops(sweep("mmlu", [-0.5, *[-0.001] * 11], half=0.0), options={"block": 4})
    assert "axis cut: layers 0-3 at −0.50 (−0.50 to −0.50)" in " ".join(written(cut))


def test_a_bar_that_would_flatten_the_others_is_cut_and_marked_with_its_value_in_words():
    rise = [60.0, *[0.05] * 11]
    figure = draw_drops(sweep("calibration", rise, metric="loss", base=2.3, half=0.004))
    (axes,) = figure.axes
    assert max(axes.get_ylim()) < 0.2
    assert "axis cut: layer 0 at +60.00 (+60.00 to +60.00)" in " ".join(written(figure))
    assert len(axes.lines) == 4  # the zero line, a white gap and its two edges
    # An interval alone can run off the axis, at both of its ends.
    wide = draw_drops(sweep("mmlu", [-0.01] * 12, half=[0.9, *[0.01] * 11]))
    assert len(wide.axes[0].lines) == 7
    accuracy = draw_drops(sweep("mmlu", [-0.2, *[-0.02] * 11]))
    assert len(accuracy.axes[0].lines) == 1
    assert not any("cut" in text for text in written(accuracy))


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=40))
def test_few_bars_are_cut_and_each_towers_over_all_that_stay(reach):
    reach = np.array(reach)
    cut = cut_rows(reach)
    kept = np.delete(reach, cut)
    assert len(cut) <= max(1, len(reach) // 4) and len(cut) <= 6
    if cut:
        assert reach[cut].min() > CUT_GAP * kept.max() > 0


@pytest.mark.parametrize("layers", [1, 2, 12, 32, 48, 80, 126])
def test_no_text_is_clipped_or_overlaps_and_the_figure_fits_a_column_or_two(layers):
    frame = ordinary(layers, ("mmlu", LONG_TASK))
    frame.loc[frame["task"] == LONG_TASK, "filter"] = "flexible-extract"
    options = {**ORDINARY, "tasks": ["mmlu", LONG_TASK]}
    figure = draw_drops(frame, title=LONG, caption="C4, " * 25, options=options, layers=layers)
    check_text(figure)
    width, _ = figure.get_size_inches()
    assert 3.3 <= width <= 6.9
    assert layers > 48 or width == pytest.approx(3.3)


@pytest.mark.parametrize("scale", [1e-7, 1e-4, 1.0, 12345.0, 1e9])
def test_ticks_are_readable_at_every_scale(scale):
    frame = sweep("wikitext", np.linspace(0, scale, 12), metric="word_perplexity", half=scale / 9, base=11)
    figure = draw_drops(frame, title="model")
    check_text(figure)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(labels) == len(set(labels)) >= 3
    assert max(map(len, labels)) <= 8


def test_no_drop_at_all_and_intervals_wider_than_the_bars_are_drawn():
    still = draw_drops(sweep("mmlu", [0.0] * 12, p=1.0, half=0.0, flips=0))
    low, high = still.axes[0].get_ylim()
    assert low < 0 < high
    check_text(still)
    low, high = draw_drops(sweep("mmlu", [-0.01] * 12, p=1.0, half=0.4)).axes[0].get_ylim()
    assert low < -0.41 and high > 0.39


def test_outside_text_is_never_read_as_mathematics():
    figure = draw_drops(sweep("$x^2$", [-0.1], metric="$\\frac"), title="$5 \\frac", caption="_y_ $")
    figure.canvas.draw()
    assert written(figure)[:3] == ["$5 \\frac", "_y_ $", "$x^2$"]
    assert not any(text.get_parse_math() for text in figure.texts)


def test_bars_intervals_and_paper_can_be_told_apart_in_grey():
    def grey(colour):
        return float(np.dot(to_rgb(colour), [0.299, 0.587, 0.114]))

    tones = sorted([grey(INK), grey(BAR), grey("white")])
    assert min(np.diff(tones)) > 0.35


def test_drawing_leaves_the_users_style_alone():
    with matplotlib.rc_context({"axes.labelsize": 30, "ytick.left": False}):
        before = dict(matplotlib.rcParams)
        figure = draw_drops(ordinary(4))
        assert dict(matplotlib.rcParams) == before
    assert figure.axes[0].yaxis.label.get_size() <= 8


# Which tasks are shown, and by which metric.


def names(*tasks):
    return pd.concat([sweep(task, [-0.1], metric="loss") for task in tasks], ignore_index=True)


@pytest.mark.parametrize(
    ("tasks", "options", "shown"),
    [
        (["calibration", "arc", "mmlu"], {"tasks": ["mmlu", "arc"]}, ["mmlu", "arc", "calibration"]),
        (["mmlu_law", "mmlu", "calibration"], {"tasks": ["mmlu"]}, ["mmlu", "calibration"]),
        (["mmlu_law", "mmlu_stem", "mmlu", "calibration"], {}, ["mmlu", "calibration"]),
        (["mmlu_law", "mmlu"], {"tasks": ["mmlu_law", "mmlu"]}, ["mmlu_law", "mmlu"]),
        # A tag is not itself a task.
        (
            ["arc_easy", "arc_hard", "calibration"],
            {"tasks": ["arcs"]},
            ["arc_easy", "arc_hard", "calibration"],
        ),
        (["calibration"], {"tasks": []}, ["calibration"]),
    ],
)
def test_shown_are_the_tasks_asked_for_and_the_calibration_loss(tasks, options, shown):
    assert headline_tasks(names(*tasks), options) == shown
    assert [text for text in written(draw_drops(names(*tasks), options=options)) if text in tasks] == shown


def test_never_more_than_eight_panels_and_the_caption_says_so():
    tasks = [f"task{number}" for number in range(57)]
    figure = draw_drops(ordinary(2, tasks), caption="5-shot", options={"tasks": tasks})
    assert len(figure.axes) == MOST_PANELS
    assert "5-shot; 50 more tasks in the CSV" in written(figure)
    assert "calibration" in written(figure)


@pytest.mark.parametrize(
    ("pairs", "headline", "expected"),
    [
        ([("acc_norm", "none"), ("acc", "none")], {}, ("acc", "none")),
        ([("f1", "none"), ("exact_match", "a"), ("exact_match", "b")], {}, ("exact_match", "a")),
        ([("byte_perplexity", "none"), ("word_perplexity", "none")], {}, ("word_perplexity", "none")),
        ([("rouge", "none"), ("bleu", "none")], {}, ("rouge", "none")),
        ([("acc", "none"), ("acc_norm", "none")], {"t": "acc_norm/none"}, ("acc_norm", "none")),
        ([("acc", "none")], {"t": "gone/none"}, ("acc", "none")),
    ],
)
def test_the_headline_metric_is_the_named_one_or_the_usual_one(pairs, headline, expected):
    frame = pd.concat([sweep("t", [-0.1, 0.0], metric=metric, filter=name) for metric, name in pairs])
    drops = drops_of(frame.iloc[[1, 0, *range(2, len(frame))]], "t", {"headline": headline})
    assert (drops.metric, drops.filter) == expected
    assert drops.rows["layer"].tolist() == [0, 1]


def test_whether_more_is_better_is_as_the_manifest_says_and_else_as_usual():
    frame = sweep("t", [-0.1], metric="odd")
    assert drops_of(frame, "t").higher_is_better
    assert not drops_of(frame, "t", {"higher_is_better": {"t/odd/none": False}}).higher_is_better
    assert not drops_of(sweep("t", [0.1], metric="bits_per_byte"), "t").higher_is_better


# Numbers in words.


@given(st.floats(0.01, 1), st.floats(0, 0.99), st.lists(st.floats(-1, 1), min_size=1, max_size=9))
def test_relevance_is_what_goes_of_the_accuracy_above_chance(base, chance, drops):
    frame = sweep("t", drops, base=base)
    found = drops_of(frame, "t", {"chance": {"t/acc/none": chance}}).relevance
    if base <= chance:
        assert found is None
        return
    plain = [1 - max(base + drop - chance, 0) / max(base - chance, 0) for drop in drops]
    np.testing.assert_allclose(found, plain, rtol=1e-6, atol=1e-9)


def test_relevance_is_undefined_without_a_chance_level_and_for_losses():
    assert drops_of(sweep("t", [-0.1]), "t").relevance is None
    loss = sweep("t", [0.1], metric="loss", base=2.0)
    assert drops_of(loss, "t", {"chance": {"t/loss/none": 1.0}}).relevance is None


@given(st.sets(st.integers(0, 40)))
def test_spans_name_each_layer_once(layers):
    found = []
    for part in spans(sorted(layers)).split(", ") if layers else []:
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    assert found == sorted(layers)


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        (-0.0001, 3, "0.000"),
        (0.0, 2, "0.00"),
        (-0.25, 3, "-0.250"),
        (0.25, 1, "+0.2"),
        (-1.5e6, 2, "-1.50e+06"),
    ],
)
def test_numbers_never_say_minus_zero_or_run_on(value, decimals, text):
    assert spoken(value, decimals, signed=True) == text


# The table.


def test_the_table_has_every_layer_with_drop_interval_p_flips_and_whether_it_is_noise():
    frame = sweep("mmlu", [-0.3, 0.05, -0.004], p=[0.0001, 0.04996, 0.4], flips=[4000, 700, 12])
    text = printed(drop_table(frame.iloc[::-1], "mmlu", ORDINARY))
    assert rows(text) == [
        ["0", "0.600", "0.300", "-0.300", "-0.310", "to", "-0.290", "<0.001", "4,000", "worse"],
        ["1", "0.600", "0.650", "+0.050", "+0.040", "to", "+0.060", "0.04996", "700", "better"],
        ["2", "0.600", "0.596", "-0.004", "-0.014", "to", "+0.006", "0.400", "12", "no"],
    ]
    assert "mmlu: accuracy without a layer (whole model 0.600, chance 0.25)" in text
    assert "lower is worse; detectable: p < 0.05 (Holm over 3); 14,042 items" in text
    assert "(0-based)" in text


def test_losses_have_no_flips_and_say_that_higher_is_worse():
    frame = ordinary(3)
    frame.loc[frame["task"] == "calibration", "flips"] = 64  # whose score changed
    text = printed(drop_table(frame, "calibration", ORDINARY))
    assert [row[-2:] for row in rows(text)] == [["-", "worse"]] * 3
    assert "increase" in text and "higher is worse" in text


@pytest.mark.parametrize("flips", [[-1, -1], ["", ""]])
def test_flips_that_were_not_counted_are_a_dash(flips):
    assert [row[-2] for row in rows(printed(drop_table(sweep("t", [-0.1, 0], flips=flips), "t")))] == [
        "-",
        "-",
    ]


def test_a_sweep_of_blocks_lists_the_removed_layers():
    text = printed(drop_table(ordinary(5), "mmlu", {**ORDINARY, "block": 3}))
    assert [row[0] for row in rows(text)] == ["0-2", "1-3", "2-4", "3-5", "4-6"]
    assert "without 3 layers" in text


@pytest.mark.parametrize("layers", [1, 12, 126])
def test_the_table_shows_all_rows_in_80_columns_of_plain_text(layers):
    drops = np.geomspace(3e6, 0.1, layers)
    frame = sweep("wikitext", drops, metric="word_perplexity", base=11.2, half=drops / 9, p=0.3, flips=0)
    text = printed(drop_table(frame, "wikitext", {"block": 100}, LONG), encoding="ascii")
    assert len(rows(text)) == layers
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "\x1b" not in text and "…" not in text and "?" not in text


def test_what_other_metrics_a_task_has_is_said_below_its_table():
    frame = pd.concat([sweep("arc", [-0.1, 0.1]), sweep("arc", [0.02, -0.25], metric="acc_norm", base=0.5)])
    others = tables.listing(sweep_findings(frame, {"tasks": ["arc"]}))[2]
    assert others == (
        "arc, by other metrics in prune_sweep.csv: acc_norm (whole model 0.500, largest drop -0.250, layer "
        "1)."
    )


# Saved runs, and what is none.


@pytest.fixture
def saved(tmp_path):
    def make(**manifest):
        table = Table("prune_sweep", ordinary(6), tuple(Column(name, "", name) for name in NAMES))
        facts = {
            "model": {"id": "owner/[red]name", "layers": 6},
            "data": {"dataset": "builtin", "samples": 64, "seq_len": 256},
            "options": {**ORDINARY, "num_fewshot": 5, "limit": 200},
        }
        place = reserve(tmp_path / "reports", "owner/name", "prune_sweep", {"model": "m"})
        return save(place, Measurement("prune-sweep", (table,)), {**facts, **manifest})

    return make


def test_a_run_gets_its_figure_table_and_reading_from_its_directory(saved):
    run = read_run(saved().directory)
    paths = draw_run(run)
    assert [path.name for path in paths] == ["prune_sweep.png", "prune_sweep.pdf"]
    first = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in draw_run(run)] == first
    assert b"/Type3" not in first[1]
    table, reading, _, _ = lines_of(run)
    assert "owner/[red]name, mmlu: accuracy without a layer" in " ".join(printed(table).split())
    assert reading.startswith("mmlu (accuracy): ")
    assert findings_of(run).names == ["mmlu", "calibration"]


def test_a_manifest_without_options_or_data_is_enough(saved):
    run = saved(options=None, data={})
    assert draw_run(run, formats=["svg"])[0].exists()
    assert rows(printed(lines_of(run)[0]))


def test_drops_are_not_rescaled(saved):
    with pytest.raises(OptionError) as caught:
        draw_run(saved(), normalize="row")
    assert str(caught.value) == (
        "--normalize has no effect: prune-sweep is drawn as measured. Leave --normalize out."
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda frame: frame.drop(columns=["ci_low", "flips"]), "A table of drops lacks: ci_low, flips"),
        (lambda frame: frame.iloc[:0], "has no rows"),
        (lambda frame: frame.assign(drop=np.nan), "holds NaN or infinite values"),
        (lambda frame: frame.assign(layer=frame["layer"] - 1), "has a layer below 0"),
        (lambda frame: frame.assign(layer=0), "has mmlu, acc, layer 0 twice"),
    ],
)
def test_a_table_that_is_not_of_drops_is_refused(change, sentence):
    with pytest.raises(RunError, match=sentence):
        sweep_findings(change(ordinary(3)))


def test_a_run_without_its_table_is_refused(saved):
    run = saved()
    run.tables.clear()
    with pytest.raises(RunError, match=r"holds no table prune_sweep\.csv\. Restore the file, or remove"):
        findings_of(run)
