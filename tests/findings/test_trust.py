import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from depthprobe.findings.findings import read_findings
from depthprobe.findings.scores import proxies
from depthprobe.findings.study import read_study
from depthprobe.findings.trust import COLUMNS, FEWEST_LAYERS, RESAMPLES, _intervals
from support.made_up_runs import importance, sweep_rows, write_angular, write_model, write_sweep
from support.readings import findings_in


def findings_with(tmp_path, turns, drops, task="mmlu"):
    directory = write_angular(tmp_path, len(turns), turns=turns)
    write_sweep(tmp_path, len(turns), (task,), frame=sweep_rows(task, drops))
    return findings_in(directory.parent)


def test_correlations_are_scipys_and_harm_is_the_drop_turned_round(tmp_path):
    findings = findings_in(write_model(tmp_path, 20, tasks=("mmlu", "wikitext")))
    found, layers = findings.trust.correlations, findings.by_layer
    assert set(found.task) == {"mmlu", "wikitext", "calibration"}
    for row in found.itertuples():
        harm = layers[f"drop_{row.task}"] * (-1 if row.task == "mmlu" else 1)
        assert row.spearman == pytest.approx(stats.spearmanr(layers[row.proxy], harm).statistic)
        assert row.kendall == pytest.approx(stats.kendalltau(layers[row.proxy], harm).statistic)
        assert row.layers == 20
        assert row.spearman_low <= row.spearman_high and row.kendall_low <= row.kendall_high
    assert not ((found.task == "calibration") & (found.proxy == "drop_calibration")).any()
    assert set(found.proxy) == set(proxies())


def test_within_a_task_the_best_proxy_stands_first(tmp_path):
    found = read_findings(
        read_study([write_model(tmp_path, 20, tasks=("mmlu", "arc_easy"))])
    ).trust.correlations
    assert list(dict.fromkeys(found.task)) == ["mmlu", "arc_easy", "calibration"]
    for _, rows in found.groupby("task"):
        assert rows.spearman.is_monotonic_decreasing


def test_the_intervals_are_those_of_a_plain_bootstrap():
    generator = np.random.default_rng(3)
    x = generator.normal(size=15)
    y = np.round(x + generator.normal(size=15), 1)  # with ties
    low, high = _intervals(x, y)
    chosen = np.random.default_rng(0).integers(0, 15, (RESAMPLES, 15))
    rho = [stats.spearmanr(x[rows], y[rows]).statistic for rows in chosen]
    tau = [stats.kendalltau(x[rows], y[rows]).statistic for rows in chosen]
    for place, values in enumerate((rho, tau)):
        assert [low[place], high[place]] == pytest.approx(np.nanpercentile(values, [2.5, 97.5]), abs=1e-9)


@pytest.mark.filterwarnings("error")
@given(st.lists(st.integers(0, 2), min_size=6, max_size=12), st.integers(0, 99))
def test_ties_and_constant_resamples_give_no_nan(x, seed):
    x = np.array(x, dtype="float64")
    y = np.random.default_rng(seed).normal(size=len(x))
    if np.ptp(x) == 0:
        return
    low, high = _intervals(x, y)
    assert np.isfinite([*low, *high]).all() and -1 - 1e-9 <= min(low) and max(high) <= 1 + 1e-9


def test_draws_without_a_correlation_make_an_interval_wider_and_not_narrower():
    # One layer of ten differs: in a third of the draws it is missing, and nothing is known of these.
    x = np.array([1.0] + [0.0] * 9)
    low, high = _intervals(x, np.arange(10.0)[::-1].copy())
    assert low == [-1, -1] and high == [1, 1]


def test_a_perfect_proxy_has_one_and_a_reversed_one_minus_one(tmp_path):
    turns = np.linspace(0.3, 0.05, 12)
    perfect = findings_with(tmp_path / "a", turns, -turns).trust.correlations.iloc[0]
    assert (perfect.spearman, perfect.spearman_low, perfect.kendall_high) == pytest.approx((1, 1, 1))
    reverse = findings_with(tmp_path / "b", turns, -turns[::-1]).trust.correlations.iloc[0]
    assert reverse.spearman == pytest.approx(-1) and reverse.kendall_high == pytest.approx(-1)


def test_what_cannot_be_correlated_is_left_out_instead_of_nan(tmp_path):
    few = findings_with(tmp_path / "a", np.linspace(0.3, 0.1, FEWEST_LAYERS - 1), -np.arange(5.0))
    assert few.trust.correlations.empty
    assert list(few.trust.sentences) == [
        "mmlu: no rank correlation with angular distance (n = 1), as only 5 layers have both (6 are needed)."
    ]
    constant = findings_with(tmp_path / "b", np.full(12, 0.1), -np.arange(12.0))
    assert constant.trust.correlations.empty and constant.trust.picks == ()
    assert list(constant.trust.sentences) == [
        "mmlu: no rank correlation with angular distance (n = 1), as the measurement is the same in every "
        "layer."
    ]
    level = findings_with(tmp_path / "d", np.linspace(0.3, 0.1, 12), np.full(12, -0.1))
    assert level.trust.correlations.empty
    assert level.trust.sentences[0].endswith("as the measured drop is the same in every layer.")
    alone = findings_in(write_angular(tmp_path / "c", 12))
    assert alone.trust.sentences == ()
    assert alone.trust.correlations.empty and list(alone.trust.correlations) == list(COLUMNS)


def test_a_sweep_of_some_layers_correlates_those(tmp_path):
    turns = 0.4 * importance(20)
    directory = write_angular(tmp_path, 20, turns=turns)
    frame = sweep_rows("mmlu", -turns[::2], layers=range(0, 20, 2))
    write_sweep(tmp_path, 20, frame=frame)
    row = findings_in(directory.parent).trust.correlations.iloc[0]
    assert row.layers == 10 and row.spearman == pytest.approx(1)


def test_what_a_proxy_picks_is_told_with_what_it_really_costs(tmp_path):
    turns = np.array([0.5, 0.4, 0.3, 0.2, 0.1, 0.11, 0.12, 0.25, 0.3, 0.35, 0.4, 0.45])
    drops = -np.array([0.5, 0.01, 0.02, 0.03, 0.2, 0.2, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1])
    findings = findings_with(tmp_path, turns, drops)
    (pick,) = findings.trust.picks
    assert pick.layers == (4, 5, 6) and pick.cost == pytest.approx(0.2)
    assert pick.best == (1, 2, 3) and pick.best_cost == pytest.approx(0.02)
    assert pick.mean_cost == pytest.approx(-drops.mean())
    (said,) = findings.trust.sentences
    assert "cheapest by measurement are layers 1-3 (0.020 each" in said
    assert "Angular distance (n = 1) would remove layers 4-6, 0.200 each" in said


def test_the_same_runs_give_the_same_table(tmp_path):
    directory = write_model(tmp_path, 32)
    first, second = (findings_in(directory).trust for _ in range(2))
    pd.testing.assert_frame_equal(first.correlations, second.correlations)
