import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from depthprobe.errors import RunError
from depthprobe.findings.removals import best_removals, cheapest_layers, kept_ranges, mergekit_yaml
from support.made_up_runs import angular_frame, sweep_rows
from support.readings import angular_findings, sweep_findings

removals = st.integers(1, 90).flatmap(
    lambda layers: st.tuples(st.just(layers), st.sets(st.integers(0, layers - 1), max_size=layers - 1))
)


@given(removals)
def test_what_is_kept_and_what_is_removed_are_all_layers_in_order(case):
    layers, removed = case
    ranges = kept_ranges(layers, removed)
    kept = [layer for first, end in ranges for layer in range(first, end)]
    assert sorted([*kept, *removed]) == list(range(layers)) and kept == sorted(kept)
    assert all(end < first for (_, end), (first, _) in zip(ranges, ranges[1:], strict=False))


@given(removals, st.text(min_size=1), st.sampled_from([None, "bfloat16"]))
def test_the_configuration_read_back_says_what_was_meant_whatever_the_name(case, model, dtype):
    layers, removed = case
    read = yaml.safe_load(mergekit_yaml(model, layers, removed, dtype))
    assert read["merge_method"] == "passthrough" and read.get("dtype") == dtype
    sources = [source for part in read["slices"] for source in part["sources"]]
    assert {source["model"] for source in sources} == {model}
    assert [tuple(source["layer_range"]) for source in sources] == kept_ranges(layers, removed)
    assert set(read) <= {"merge_method", "slices", "dtype"}


@pytest.mark.parametrize("name", ["a: b\n- c", "x\nslices: []", "'\"#&*!|>%@`{}", "null", "😀/模型", "--- "])
def test_hostile_names_stay_names(name):
    read = yaml.safe_load(mergekit_yaml(name, 4, [1]))
    assert read["slices"][0]["sources"][0]["model"] == name and len(read["slices"]) == 2


def test_the_best_blocks_are_those_of_the_angular_table():
    findings = angular_findings(angular_frame(12))
    found, best = best_removals(findings), findings.best
    assert len(found) == 11  # all twelve leave nothing
    for removal, row in zip(found, best.iloc[:-1].itertuples(), strict=True):
        assert removal.layers == tuple(range(row.layer, row.layer + row.n))
        assert removal.value == row.distance
    assert found[2].prune_layers == ",".join(map(str, found[2].layers))


def test_the_cheapest_layer_is_the_one_whose_removal_harms_least():
    accuracy = sweep_findings(sweep_rows("mmlu", [-0.3, 0.01, -0.02])).every["mmlu"]
    loss = sweep_findings(sweep_rows("calibration", [0.3, 0.1, 2.0])).every["calibration"]
    assert [removal.layers for removal in cheapest_layers(accuracy)] == [(1,), (2,), (0,)]
    assert [removal.layers for removal in cheapest_layers(loss)] == [(1,), (0,), (2,)]
    assert cheapest_layers(accuracy)[0].value == 0.01


def test_a_layer_that_is_not_there_and_a_model_without_layers_are_refused():
    with pytest.raises(RunError, match="Layer 7 is not among the model's 4"):
        kept_ranges(4, [1, 7])
    with pytest.raises(RunError, match="leaves no model"):
        kept_ranges(2, [0, 1])
