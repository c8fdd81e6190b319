"""Runs side by side: what stands in the tables, and what is refused."""

import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from depthprobe.comparing.compare import compare
from depthprobe.comparing.item_scores import combined
from depthprobe.comparing.subjects import find_subjects, labelled, probes_to_compare
from depthprobe.errors import DepthprobeError, OptionError, RunError
from support import compared_runs
from support.edits import edit_manifest

PROBES = ("angular", "variance", "gradnorm", "prune-sweep")


@pytest.fixture
def save_run(tmp_path):
    return lambda *given, **options: compared_runs.save_run(tmp_path / "runs", *given, **options)


def side_by_side(tmp_path, runs, **options):
    subjects = find_subjects([str(run.directory) for run in runs], None)
    return compare(subjects, probes_to_compare(subjects, None), output=tmp_path / "out", **options)


@pytest.mark.parametrize(
    ("probe", "stem", "quantity", "keys"),
    [
        ("angular", "angular", "distance", ["layer", "n"]),
        ("variance", "variance", "variance", ["layer", "point"]),
        ("variance", "influence", "block_influence", ["layer"]),
        ("gradnorm", "gradnorm", "grad_norm", ["layer", "part"]),
        ("prune-sweep", "prune_sweep", "drop", ["task", "metric", "filter", "layer"]),
    ],
)
def test_every_row_has_its_difference_to_the_first_model(tmp_path, save_run, probe, stem, quantity, keys):
    runs = [save_run(f"org/m{seed}", probe, seed=seed) for seed in range(3)]
    found = side_by_side(tmp_path, runs).tables[f"compare_{stem}"]
    # Independently: looked up row by row in the runs' own tables.
    values = [{tuple(row[keys]): row[quantity] for _, row in run.tables[stem].iterrows()} for run in runs]
    assert found.model.drop_duplicates().tolist() == ["org/m0", "org/m1", "org/m2"]
    for _, row in found.iterrows():
        key, which = tuple(row[keys]), int(row.model[-1])
        assert row[quantity] == values[which][key]
        assert row.difference == values[which][key] - values[0][key]
        assert row.relative_depth == row.layer / 4


def test_models_of_other_depth_have_relative_depth_and_no_difference(tmp_path, save_run):
    runs = [save_run("a/four", "variance", 4), save_run("b/six", "variance", 6)]
    news = []
    found = side_by_side(tmp_path, runs, say=news.append).tables["compare_variance"]
    assert "difference" not in found
    stream = found[found.point == "stream"]
    assert stream.groupby("model").relative_depth.agg(["min", "max"]).to_numpy().tolist() == [[0, 1]] * 2
    assert not any("depth" in line for line in news)  # the reading of the result says it


def test_drops_of_the_same_items_are_paired_item_by_item(tmp_path, save_run):
    runs = [save_run(f"org/m{seed}", "prune-sweep", seed=seed) for seed in range(2)]
    found = side_by_side(tmp_path, runs).tables["compare_prune_sweep"]
    other = found[found.model == "org/m1"].reset_index(drop=True)
    assert set(other.pairing) == {"paired items"}
    scores = [np.load(run.directory / "items.npz")["quiz/acc/none.scores"] for run in runs]
    for layer, row in other.iterrows():
        change = (scores[1][layer + 1] - scores[1][0]) - (scores[0][layer + 1] - scores[0][0])
        assert row.difference == pytest.approx(change.mean(), abs=1e-12)
        normal = 1.96 * change.std(ddof=1) / np.sqrt(len(change))
        width = (row.difference_high - row.difference_low) / 2
        assert normal < width < 1.15 * normal  # a t interval, a little wider for changes not seen


def test_drops_without_items_are_combined_as_independent(tmp_path, save_run):
    runs = [save_run(f"org/m{seed}", "prune-sweep", seed=seed, items=False) for seed in range(2)]
    found = side_by_side(tmp_path, runs).tables["compare_prune_sweep"]
    first, other = (found[found.model == f"org/m{seed}"].reset_index(drop=True) for seed in range(2))
    assert set(other.pairing) == {"independent"} and set(first.pairing) == {"itself"}
    low = np.sqrt((other["drop"] - other.ci_low) ** 2 + (first.ci_high - first["drop"]) ** 2)
    assert np.allclose(other.difference - other.difference_low, low)


@given(
    st.lists(st.floats(-1, 1), min_size=2, max_size=2),
    st.lists(st.floats(1e-3, 1), min_size=4, max_size=4),
)
def test_the_combined_interval_leaves_out_zero_just_where_p_is_below_5_percent(drops, reach):
    from types import SimpleNamespace as Row

    mine = Row(drop=drops[0], ci_low=drops[0] - reach[0], ci_high=drops[0] + reach[1])
    its = Row(drop=drops[1], ci_low=drops[1] - reach[2], ci_high=drops[1] + reach[3])
    low, high, p_value = combined(mine, its)
    assert low <= its.drop - mine.drop <= high
    if abs(p_value - 0.05) > 1e-6:
        assert (p_value < 0.05) == (low > 0 or high < 0)
    back = combined(its, mine)
    assert back == pytest.approx((-high, -low, p_value))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"text": compared_runs.TEXT | {"samples": 9}, "tokens": "u"}, "samples 8 and 9"),
        ({"text": compared_runs.TEXT | {"dataset": "c4"}, "tokens": "u"}, "dataset builtin and c4"),
        ({"tokens_compared": "all"}, "tokens compared not recorded and all"),
        (
            {"text": compared_runs.TEXT | {"seq_len": 32, "sha256": 16 * "e370"}, "tokens": "u"},
            "tokens in a sample 64 and 32; hash of the text not recorded and e370e370e370[.]$",
        ),
    ],
)
def test_runs_of_other_data_or_options_are_refused(tmp_path, save_run, changed, message):
    runs = [save_run("a/one", "angular"), save_run("b/two", "angular", **changed)]
    with pytest.raises(RunError) as caught:
        side_by_side(tmp_path, runs)
    told = f"The angular runs of a/one and b/two differ: .*{message}"
    assert re.search(told, caught.value.problem)
    assert not (tmp_path / "out").exists()


COMMIT = compared_runs.TEXT | {"revision": "c0ffee"}


@pytest.mark.parametrize(
    "here, there, told",
    [
        ({"revision": "a"}, {"revision": "b"}, "revisions a and b of the data set"),
        (
            {"tokenizer_sha256": "x"},
            {"tokenizer_sha256": "x"},
            "the same tokenizer made different tokens of it, so it has changed in between",
        ),
    ],
)
def test_a_text_that_changed_is_not_taken_for_another_tokenizer(tmp_path, save_run, here, there, told):
    runs = [save_run("a/one", "angular"), save_run("b/two", "angular", tokens="u")]
    subjects = find_subjects([str(run.directory) for run in runs], None)
    for subject, facts in zip(subjects, (here, there), strict=True):
        subject.runs["angular"].manifest["data"].update(facts)
    with pytest.raises(RunError) as caught:
        compare(subjects, ["angular"], output=tmp_path / "out")
    assert caught.value.problem == f"The angular runs of a/one and b/two are on different texts: {told}."


def test_runs_that_do_not_say_what_changed_leave_both_open(tmp_path, save_run):
    runs, news = [save_run("a/one", "angular"), save_run("b/two", "angular", tokens="u")], []
    side_by_side(tmp_path, runs, say=news.append)
    assert news == [
        "b/two and a/one were measured on different tokens (angular): their tokenizers differ, or the text "
        "has changed between the runs."
    ]


def test_other_tokens_of_the_same_text_are_told_and_not_refused(tmp_path, save_run):
    for probe in PROBES:
        save_run("a/one", probe, text=COMMIT)
        save_run("b/two", probe, text=COMMIT, tokens="u")
    subjects = find_subjects([str(tmp_path / "runs" / name) for name in ("a--one", "b--two")], None)
    news = []
    compare(subjects, PROBES, output=tmp_path / "out", say=news.append)
    # Once for all probes, and without numbers that are the same.
    split = "b/two and a/one split the same text into different tokens"
    assert news == [f"{split}."]
    data = subjects[1].runs["variance"].manifest["data"]
    data["tokens"] = 1500
    compare(subjects, PROBES, output=tmp_path / "out", name="some", say=news.append)
    assert news[1:] == [f"{split} (1,500 tokens and 512 tokens for variance)."]
    compare(subjects, ["variance"], output=tmp_path / "out", name="one", say=news.append)
    assert news[2:] == [
        "b/two and a/one split the same text into different tokens (1,500 tokens and 512 tokens)."
    ]


def test_a_directory_of_runs_gives_every_probe_that_all_share(tmp_path, save_run):
    for probe in PROBES:
        save_run("a/one", probe)
    for probe in PROBES[:2]:
        save_run("b/two", probe, seed=1)
    subjects = find_subjects([str(tmp_path / "runs" / name) for name in ("a--one", "b--two")], None)
    assert probes_to_compare(subjects, None) == ["angular", "variance"]
    with pytest.raises(RunError, match="b--two holds no run of gradnorm"):
        probes_to_compare(subjects, ["gradnorm"])


def test_the_same_comparison_again_is_found(tmp_path, save_run):
    runs = [save_run(f"org/m{seed}", "angular", seed=seed) for seed in range(2)]
    first, news = side_by_side(tmp_path, runs), []
    assert first.directory.name == "compare-m0-m1"
    assert side_by_side(tmp_path, runs, say=news.append).directory == first.directory
    assert any("Already compared" in line for line in news)
    assert side_by_side(tmp_path, runs, name="again").directory.name == "again"


def test_two_runs_of_one_model_are_told_apart_by_what_differs(tmp_path, save_run):
    runs = [compared_runs.save_run(tmp_path / str(i), "a/one", "angular", seed=i) for i in range(2)]
    runs[1].manifest["model"]["dtype"] = "bfloat16"
    subjects = find_subjects([str(run.directory) for run in runs], None)
    assert [subject.label for subject in labelled(subjects)] == [
        "a/one (0/a--one/angular)",
        "a/one (1/a--one/angular)",
    ]
    subjects[1].runs["angular"].manifest["model"]["dtype"] = "bfloat16"
    assert [subject.label for subject in labelled(subjects)] == ["a/one (float32)", "a/one (bfloat16)"]


def test_what_cannot_be_compared_is_one_clear_line(tmp_path, save_run):
    run = str(save_run("a/one", "angular").directory)
    empty = tmp_path / "empty"
    empty.mkdir()
    wrong = [
        ([run], "nothing to compare .* with"),
        ([run, run], "is named twice"),
        ([run, str(empty)], "neither a run, nor a directory of runs, nor a model"),
        ([run, str(save_run("b/two", "variance").directory)], "share no probe"),
    ]
    for arguments, message in wrong:
        with pytest.raises(DepthprobeError) as caught:
            probes_to_compare(find_subjects(arguments, None), None)
        assert re.search(message, caught.value.problem) and caught.value.hint
    with pytest.raises(OptionError, match="--probe must be one or more of angular, .*, got foo"):
        probes_to_compare(find_subjects([run, "org/model"], None), ["foo"])


def test_finished_runs_are_compared_and_drawn_without_torch(tmp_path, save_run):
    runs = [str(save_run(f"org/m{seed}", "angular", seed=seed).directory) for seed in range(2)]
    code = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name in ('torch', 'transformers'): raise ImportError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from depthprobe.__main__ import main\n"
        f"sys.argv = ['depthprobe', 'compare', *{runs!r}, '-o', {str(tmp_path / 'out')!r}]\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in (tmp_path / "out" / "compare-m0-m1").iterdir())
    assert names == ["compare_angular.csv", "compare_angular.pdf", "compare_angular.png", "manifest.json"]
    assert "Side by side" in done.stdout and "org/m1" in done.stdout


def test_tasks_of_other_contents_are_refused_and_those_not_recorded_are_noted(tmp_path, save_run):
    tasks = [{"task_sha256": {"quiz": hash * 64}} for hash in "ab"] + [{}]
    one, other, older = (save_run(f"org/m{n}", "prune-sweep", **each) for n, each in enumerate(tasks))
    with pytest.raises(RunError, match="contents of the task quiz aaaaaaaaaaaa and bbbbbbbbbbbb"):
        side_by_side(tmp_path, [one, other])
    news = []
    side_by_side(tmp_path, [one, older], say=news.append)
    assert any("org/m2 was measured by an earlier version" in each for each in news)


@pytest.mark.parametrize("earlier", [False, True], ids=["with a hash", "of an earlier version"])
@pytest.mark.parametrize(
    ("seed", "docs", "layers", "why"),
    [
        (7, 200, 4, "its scores of quiz, acc, layer 0 are not those of the table"),
        (1, 100, 4, "it holds 100 items of quiz, acc, and the table says 200"),
        (1, 200, 3, "it holds other layers than the table of drops"),
    ],
)
def test_item_scores_of_another_sweep_lend_it_no_interval(
    tmp_path, save_run, earlier, seed, docs, layers, why
):
    runs = [save_run(f"org/m{seed}", "prune-sweep", seed=seed) for seed in range(2)]
    place = runs[1].directory / "items.npz"
    if earlier:
        edit_manifest(runs[1].directory, without_hashes)
    place.write_bytes(compared_runs.items_of(compared_runs.sweep(layers, seed, docs)[1]))
    told = (
        f"{place} does not belong to this run: {why}" if earlier else f"{place} is not the file that this run"
    )
    with pytest.raises(RunError, match=re.escape(told)):
        side_by_side(tmp_path, runs)
    assert not (tmp_path / "out").exists()


def test_answers_that_change_elsewhere_are_those_of_another_sweep(tmp_path, save_run):
    runs = [save_run(f"org/m{seed}", "prune-sweep", seed=seed) for seed in range(2)]
    edit_manifest(runs[1].directory, without_hashes)
    scores = compared_runs.sweep(4, 1)[1]
    # The same accuracies, with the right answers elsewhere: only the count of flips tells.
    scores[2] = np.sort(scores[2])
    (runs[1].directory / "items.npz").write_bytes(compared_runs.items_of(scores))
    with pytest.raises(RunError, match="quiz, acc, layer 1 do not change where the table says so"):
        side_by_side(tmp_path, runs)


def test_item_scores_of_an_earlier_version_that_fit_the_table_are_paired(tmp_path, save_run):
    runs = [save_run(f"org/m{seed}", "prune-sweep", seed=seed) for seed in range(2)]
    for run in runs:
        edit_manifest(run.directory, without_hashes)
    found = side_by_side(tmp_path, runs).tables["compare_prune_sweep"]
    assert set(found[found.model == "org/m1"].pairing) == {"paired items"}


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more", b"text"])
def test_item_scores_that_are_cut_short_are_told_in_plain_words(tmp_path, save_run, content):
    runs = [save_run(f"org/m{seed}", "prune-sweep", seed=seed) for seed in range(2)]
    edit_manifest(runs[1].directory, without_hashes)
    (runs[1].directory / "items.npz").write_bytes(content)
    with pytest.raises(RunError, match=r"items\.npz is not a whole file of item scores"):
        side_by_side(tmp_path, runs)


def test_item_scores_that_were_removed_leave_the_drops_unpaired(tmp_path, save_run):
    runs = [save_run(f"org/m{seed}", "prune-sweep", seed=seed) for seed in range(2)]
    (runs[1].directory / "items.npz").unlink()
    found = side_by_side(tmp_path, runs).tables["compare_prune_sweep"]
    assert set(found[found.model == "org/m1"].pairing) == {"independent"}


def test_a_file_beside_a_run_that_keeps_no_item_scores_is_not_taken_for_its_own(tmp_path, save_run):
    runs = [save_run(f"org/m{seed}", "prune-sweep", seed=seed, items=False) for seed in range(2)]
    (runs[0].directory / "items.npz").write_bytes(compared_runs.items_of(compared_runs.sweep(4, 0)[1]))
    with pytest.raises(RunError, match="it is not named in the manifest"):
        side_by_side(tmp_path, runs)


def test_a_damaged_run_in_a_directory_is_left_out_and_named_unless_it_is_asked_for(tmp_path, save_run):
    for probe in ("angular", "variance"):
        for model in ("a/one", "b/two"):
            save_run(model, probe)
    places = [str(tmp_path / "runs" / name) for name in ("a--one", "b--two")]
    table = tmp_path / "runs" / "b--two" / "variance" / "variance.csv"
    table.write_text("")
    subjects, news = find_subjects(places, None), []
    assert probes_to_compare(subjects, None) == ["angular"]
    compare(subjects, ["angular"], output=tmp_path / "out", say=news.append)
    assert news[0].startswith(f"Left out: {table} is empty.")
    with pytest.raises(RunError, match="variance.csv is empty"):
        probes_to_compare(subjects, ["variance"])


def without_hashes(manifest):
    del manifest["sha256"], manifest["format"], manifest["files"]["items.npz"]
