import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from depthprobe.errors import RunError
from depthprobe.findings.captions import Caption, asked_words, dataset_words, limit_words, task_words
from depthprobe.findings.drops import CALIBRATION
from depthprobe.findings.findings import read_findings
from depthprobe.findings.scores import proxies
from depthprobe.findings.study import read_study
from depthprobe.render.report.contents import report_of
from depthprobe.render.report.markdown import markdown
from depthprobe.render.report.snippets import snippets_of
from depthprobe.render.report.tables import ReportTable, tables_of
from depthprobe.results.runs import read_run
from support.edits import edit_manifest, edit_table
from support.made_up_runs import (
    age,
    angular_frame,
    sweep_frame,
    sweep_rows,
    write_angular,
    write_model,
    write_run,
    write_sweep,
)
from support.profile_frames import falling
from support.readings import findings_in


@pytest.fixture
def output(tmp_path):
    return tmp_path / "reports"


def test_a_models_directory_and_its_runs_one_by_one_give_the_same_study(output):
    directory = write_model(output, 6)
    whole = read_study([directory])
    assert (whole.model, whole.layers, whole.notes) == ("owner/name", 6, ())
    assert [run.directory.name for run in whole.all_runs] == [
        "angular",
        "variance",
        "gradnorm",
        "prune-sweep-mmlu",
    ]
    runs = [run.directory for run in reversed(whole.all_runs)]
    again = read_study([*runs, runs[0], directory])
    assert [run.directory for run in again.all_runs] == [run.directory for run in whole.all_runs]
    pd.testing.assert_frame_equal(read_findings(again).by_layer, read_findings(whole).by_layer)


def test_the_layer_table_holds_what_each_runs_table_says_of_a_layer(output):
    study = read_study([write_model(output, 5, ("mmlu", "wikitext"))])
    table = read_findings(study).by_layer
    assert set(proxies()) <= set(table.columns)
    assert table["layer"].tolist() == list(range(5))
    distances = study.runs["angular"].tables["angular"]
    stream = (
        study.runs["variance"]
        .tables["variance"]
        .query("point == 'stream'")
        .set_index("layer")["variance_median"]
    )
    norms = study.runs["gradnorm"].tables["gradnorm"].query("part == 'all'").set_index("layer")["grad_norm"]
    influence = study.runs["variance"].tables["influence"].set_index("layer")
    rows = study.sweeps[0].tables["prune_sweep"].set_index(["task", "layer"])
    for layer in range(5):
        here = table.iloc[layer]
        assert here["angular_distance"] == distances.query(f"layer == {layer} and n == 1")["distance"].item()
        assert here["variance_growth"] == pytest.approx(np.log(stream[layer + 1] / stream[layer]))
        assert here["grad_norm"] == norms[layer]
        for name in ("block_influence", "contribution_ratio"):
            assert here[name] == influence.loc[layer, name]
        for task in ("mmlu", "wikitext", "calibration"):
            for name in ("drop", "ci_low", "ci_high", "p_adjusted"):
                assert here[f"{name}_{task}"] == rows.loc[(task, layer), name]


def test_a_table_says_that_it_holds_the_logarithm_of_the_variance_growth(output):
    table = tables_of(findings_in(write_model(output, 4)))[0]
    (head,) = (head for head in table.head_texts if "growth" in head)
    assert head == "log of variance growth"
    assert "Variance growth is given as the natural logarithm of Var(x^(l+1)) / Var(x^l)." in table.caption
    assert "logarithm" not in tables_of(findings_in(output / "owner--name" / "angular"))[0].caption


def test_layers_a_sweep_left_out_are_unknown(output):
    write_sweep(output, 6, frame=sweep_rows("mmlu", [-0.1, -0.2], layers=[1, 4]))
    column = findings_in(output / "owner--name").by_layer["drop_mmlu"]
    assert column.dropna().to_dict() == {1: -0.1, 4: -0.2}


def test_sweeps_of_blocks_are_in_the_study_and_not_in_the_layer_table(output):
    write_sweep(output, 6, block=2, frame=sweep_frame(5))
    study = read_study([output / "owner--name"])
    assert len(study.sweeps) == 1
    findings = read_findings(study)
    assert findings.drops == () and list(findings.by_layer) == ["layer"]


def test_a_variance_of_zero_has_no_growth(output):
    frame = pd.DataFrame({"layer": range(4), "point": "stream", "variance": [0.0, 1.0, 1.0, 2.0]})
    write_run(output, "variance", {"variance": frame.assign(rms=1.0, tokens=9)}, 3)
    growth = findings_in(output / "owner--name").by_layer["variance_growth"]
    assert np.isnan(growth[0])
    assert growth[1:].tolist() == pytest.approx([0, np.log(2)])


def test_the_newest_run_of_a_probe_counts_and_a_note_says_so(output):
    age(write_angular(output, 4), 100)
    write_angular(output, 4, name="angular-more")
    study = read_study([output / "owner--name"])
    assert study.runs["angular"].directory.name == "angular-more"
    (note,) = study.notes
    assert note == (
        "Several runs of angular: angular-more counts, angular is left out. "
        "To choose another one, give run directories."
    )
    age(output / "owner--name" / "angular-more", 100)
    # Copies have one time: the default name comes first.
    assert read_study([output / "owner--name"]).runs["angular"].directory.name == "angular"


def test_sweeps_of_different_tasks_count_together_and_the_calibration_loss_comes_last(output):
    write_sweep(output, 4, ("mmlu",))
    write_sweep(output, 4, ("arc_easy",))
    study = read_study([output / "owner--name"])
    assert [drops.task for drops in read_findings(study).drops] == ["arc_easy", "mmlu", "calibration"]
    assert study.notes == ()


def test_of_two_sweeps_of_one_task_the_one_with_more_layers_counts(output):
    age(write_sweep(output, 6), 100)
    write_sweep(output, 6, name="prune-sweep-mmlu-few", frame=sweep_rows("mmlu", [-0.9], layers=[2]))
    study = read_study([output / "owner--name"])
    assert [run.directory.name for run in study.sweeps] == ["prune-sweep-mmlu"]
    assert "prune-sweep-mmlu-few is left out" in study.notes[0]


def test_runs_on_fresh_weights_are_left_out_where_there_are_trained_ones(output):
    write_angular(output, 4)
    write_angular(output, 4, name="angular-init", facts={"initial_seed": 0})
    study = read_study([output / "owner--name"])
    assert study.runs["angular"].directory.name == "angular"
    assert study.notes == ("angular-init is left out, measured on freshly initialised weights.",)
    assert read_study([output / "owner--name" / "angular-init"]).model_facts["initial_seed"] == 0


def test_runs_with_an_adapter_are_left_out_of_the_base_models_report(output):
    home = output / "owner--name"
    facts = {"adapter": {"id": "/disk/my-lora", "base": "owner/name"}}
    write_angular(output, 4, facts={"adapter": None})
    write_angular(output, 4, name="angular-lora", facts=facts)
    study = read_study([home])
    assert study.adapter is None and study.runs["angular"].directory.name == "angular"
    assert study.notes == (
        "angular-lora is left out, measured with the adapter /disk/my-lora. To report them, give the "
        "directory of this run.",
    )
    assert read_study([home / "angular-lora"]).adapter == "/disk/my-lora"
    with pytest.raises(
        RunError, match="do not belong in one report: they were measured with different adapters"
    ):
        read_study([home / "angular", home / "angular-lora"])


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"commit": "f" * 40}, f"they are of different commits ({'0' * 40} and {'f' * 40})"),
        ({"dtype": "bfloat16"}, "the models were loaded in different dtypes (float32 and bfloat16)"),
        ({"adapter": {"id": "who/lora"}}, "they were measured with different adapters (none and who/lora)"),
        ({"layers": 5}, "the models have different numbers of layers (4 and 5)"),
        ({"quantisation": "bitsandbytes 4 bit"}, "the models are quantised differently (none and bits"),
    ],
)
def test_runs_that_are_not_of_one_model_in_one_form_are_refused(output, facts, told):
    first = write_angular(output, 4, facts={"adapter": None, "quantisation": None})
    other = write_run(output, "gradnorm", {"gradnorm": falling(4)}, 4, facts=facts)
    with pytest.raises(RunError, match=re.escape(told)) as caught:
        read_study([first, other])
    assert str(first) in caught.value.problem and str(other) in caught.value.problem


def test_different_models_are_refused_and_one_model_under_two_names_is_not(output):
    unsealed = {"commit": None}
    here = write_angular(output, 4, model="a/x", facts=unsealed)
    there = write_sweep(output, 4, model="b/y", facts=unsealed)
    with pytest.raises(RunError, match=r"they are of different models \(a/x and b/y\)"):
        read_study([here, there])
    sealed = {"commit": None, "fingerprint": "ab" * 32}
    here = write_angular(output, 4, model="c/x", facts=sealed)
    there = write_sweep(output, 4, model="d/y", facts=sealed)
    assert len(read_study([here, there]).all_runs) == 2


def test_what_differs_without_harm_is_a_note(output):
    write_angular(output, 4)
    write_sweep(output, 4, versions={"depthprobe": "0.2.0"}, data={"dataset": "builtin"})
    assert read_study([output / "owner--name"]).notes == (
        "The runs were measured on different texts (allenai/c4: angular; builtin: prune-sweep-mmlu).",
        "The runs were made by different versions of depthprobe (0.1.0: angular; 0.2.0: prune-sweep-mmlu).",
    )


def test_a_place_without_runs_and_a_run_of_something_else_are_refused(output, tmp_path):
    with pytest.raises(RunError, match="no run to report"):
        read_study([])
    with pytest.raises(RunError, match="does not exist"):
        read_study([tmp_path / "nowhere"])
    write_angular(output, 4)
    with pytest.raises(RunError, match="It holds the runs .*angular"):
        read_study([output])
    other = write_run(output, "pretrain", {"pretrain": angular_frame(2)}, 2)
    with pytest.raises(RunError, match="run of 'pretrain', which a report cannot use"):
        read_study([other])


def test_a_truncated_table_is_refused_by_name(output):
    directory = write_model(output, 4)
    path = directory / "angular" / "angular.csv"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RunError, match=r"angular\.csv is cut short"):
        read_study([directory / "angular"])


def test_a_table_of_a_deeper_model_than_the_manifest_says_is_refused(output):
    directory = write_angular(output, 6)
    edit_manifest(directory, lambda manifest: manifest["model"].update(layers=4))
    with pytest.raises(RunError, match="has layer 4, and the model's layers are 0 to 3"):
        findings_in(directory)


def test_a_study_is_read_where_neither_torch_nor_matplotlib_nor_rich_can_be_imported(output):
    directory = write_model(output, 4)
    code = f"""
import sys
for name in ("torch", "transformers", "lm_eval", "datasets", "matplotlib", "rich"):
    sys.modules[name] = None
from pathlib import Path
from depthprobe.findings.findings import read_findings
from depthprobe.findings.study import read_study
print(len(read_findings(read_study([Path({str(directory)!r})])).by_layer))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "4"


def test_hidden_directories_are_not_runs(output):
    directory = write_model(output, 4)
    shutil.copytree(directory / "angular", directory / ".angular.half")
    assert read_study([directory]).notes == ()


def test_other_runs_beside_those_of_a_model_are_passed_over_unless_named(tmp_path):
    directory = write_model(tmp_path, 12)
    log = pd.DataFrame({"step": [0], "layer": [0], "variance": [1.0], "grad_norm": [1.0]})
    other = write_run(tmp_path, "training", {"training": log}, 12)
    assert other.parent == directory and "training" not in read_study([directory]).runs
    with pytest.raises(RunError, match="'training', which a report cannot use"):
        read_study([directory, other])


def test_a_run_that_lost_its_manifest_is_left_out_with_a_word(output):
    directory = write_model(output, 6)
    (directory / "angular" / "manifest.json").unlink()
    study = read_study([directory])
    assert "angular" not in study.runs
    assert study.notes == (f"{directory / 'angular'} holds tables but no manifest.json, so it is left out.",)


def test_a_damaged_run_among_those_of_a_model_is_named_and_left_out(output):
    directory = write_model(output, 4)
    table = directory / "variance" / "variance.csv"
    table.write_text(table.read_text().replace("stream", "steam"))
    (directory / "gradnorm" / "manifest.json").write_text("{")
    study = read_study([directory])
    assert list(study.runs) == ["angular"] and len(study.sweeps) == 1
    notes = [note for note in study.notes if note.startswith("Left out: ")]
    assert len(notes) == 2
    assert f"{directory / 'gradnorm' / 'manifest.json'} is not a manifest" in notes[0]
    assert f"{table} was changed after the run" in notes[1]
    assert all("remove or rename" in note for note in notes)


def test_a_damaged_run_that_was_named_itself_is_an_error(output):
    directory = write_model(output, 4)
    (directory / "variance" / "variance.csv").write_text("")
    with pytest.raises(RunError, match="variance.csv is empty"):
        read_study([directory / "angular", directory / "variance"])


def test_where_every_run_of_a_model_is_damaged_there_is_no_report(output):
    directory = write_angular(output, 4).parent
    (directory / "angular" / "angular.csv").write_text("")
    with pytest.raises(RunError, match="angular.csv is empty"):
        read_study([directory])


def test_what_the_findings_refuse_is_left_out_too(output):
    directory = write_model(output, 4)
    edit_table(
        directory / "variance", "variance", lambda text: re.sub("^1,stream.*\n", "", text, flags=re.MULTILINE)
    )
    (note,) = read_study([directory]).notes
    assert note.startswith(f"Left out: {directory / 'variance'}")
    assert "cannot be used: the table of variances lacks the stream at boundary 1" in note


def test_a_caption_that_stands_alone_names_model_and_text_and_one_on_a_page_does_not(output):
    study = read_study([write_angular(output, 12)])
    caption = study.caption("Distances.", study.all_runs[0], rescaled="nothing")
    assert caption.startswith("Distances. Model: owner/name, ") and caption.endswith("Rescaled: nothing.")
    assert caption.on_page == "Distances."
    assert study.caption("A.", rescaled="the colours").on_page == "A. Rescaled: the colours."


def test_a_page_says_once_how_everything_on_it_was_measured(output):
    report = report_of(findings_in(write_model(output, 12)))
    text = markdown(report)
    assert text.count("samples of up to 256 tokens") == 1 + len(report.findings.study.all_runs)
    of_tasks = {f"drops-{drops.task}" for drops in report.findings.drops if drops.task != CALIBRATION}
    for each in (*report.figures, *report.tables):
        of_a_text = each in report.figures or each.name not in of_tasks
        assert ("samples of up to 256 tokens" in each.caption) == of_a_text


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"dataset": "builtin", "python": "3.11.7"}, "Python 3.11.7's standard library"),
        ({"dataset": "builtin"}, "Python's standard library"),
        ({"dataset": "allenai/c4"}, "allenai/c4"),
        ({"dataset": "/home/me/texts/mine.txt"}, "mine.txt"),
    ],
)
def test_a_reader_of_a_paper_learns_what_the_text_is(data, words):
    assert dataset_words(data) == words


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (25, "the first 25 items of each task"),
        (25.0, "the first 25 items of each task"),
        (2_000_000, "the first 2,000,000 items of each task"),
        (1, "the first item of each task"),
        (0.125, "the first 12.5% of each task's items"),
    ],
)
def test_a_limit_is_told_in_words_and_a_count_as_a_whole_number(limit, words):
    assert limit_words(limit) == words
    assert limit_words(limit, tasks=1) == words.replace("each task's", "the").replace(" of each task", "")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"samples": {"mmlu": [1, 0]}}, ["items 0-1 picked by number"]),
        ({"samples": {"mmlu": [7]}}, ["item 7 picked by number"]),
        ({"samples": {"mmlu": list(range(0, 80, 2))}}, ["40 items picked by number"]),
        ({"apply_chat_template": True}, ["chat template"]),
        ({"apply_chat_template": "tool_use"}, ["chat template tool_use"]),
        ({"system_instruction": "Be\nbrief."}, ['system instruction "Be brief."']),
        ({"samples": None, "apply_chat_template": False, "system_instruction": None}, []),
    ],
)
def test_a_caption_says_which_items_were_picked_and_how_they_were_put(output, asked, words):
    run = read_run(write_sweep(output, 4))
    run.manifest["settings"] = {"tasks": asked}
    assert task_words(run) == "; ".join(["mmlu", *words])
    study = read_study([run.directory])
    assert study.caption("A.", run, task="mmlu") == "A. " + study.measured.partition(" Tasks:")[0] + (
        f" Task: {'; '.join(['mmlu', *words])}."
    )
    assert "mmlu" not in study.caption("A.", run, task=CALIBRATION)


def test_picked_items_of_several_tasks_are_told_task_by_task_and_of_many_counted():
    few = {"documents": {"a": [0, 3], "b": [5]}}
    assert asked_words(few, ["a", "b"]) == [
        "items 0, 3 of a picked by number",
        "item 5 of b picked by number",
    ]
    many = {"documents": {name: [0, 1] for name in "abcd"}}
    assert asked_words(many, list("abcd")) == ["8 items of 4 tasks picked by number"]


def test_a_group_of_tasks_is_limited_in_each_of_its_members(output):
    frame = pd.concat([sweep_rows(name, [0.0, -0.1]) for name in ("mmlu", "mmlu_law", "mmlu_art")])
    run = read_run(write_sweep(output, 2, frame=frame))
    run.manifest["options"]["limit"] = 25
    assert task_words(run) == "mmlu; the first 25 items of each task"
    assert task_words(run, "mmlu_law") == "mmlu_law; the first 25 items"


def test_nothing_is_called_unscaled_on_a_page_without_a_rescaled_figure(output):
    swept = report_of(findings_in(write_sweep(output / "a", 4)))
    assert swept.figures and not any("Rescaled" in figure.caption for figure in swept.figures)
    both = report_of(findings_in(write_model(output / "b", 4)))
    assert all("Rescaled: " in figure.caption for figure in both.figures)


def test_intervals_are_not_told_to_be_adjusted_and_p_values_are(output):
    report = report_of(findings_in(write_model(output, 12)))
    table = next(table for table in report.tables if table.name == "drops-mmlu")
    assert "paired 95% intervals, each for one layer alone, and p-values adjusted over 12 layers (Holm)" in (
        table.caption
    )
    for figure in report.figures:
        if figure.name.startswith(("drops", "trust", "overview")):
            assert "paired 95% intervals, each for one layer alone; filled: detectable (p < 0.05" in (
                figure.caption
            )
            assert "adjusted over 12 layers, Holm)" in figure.caption


def test_captions_of_a_sweep_of_some_layers_name_them(output):
    rows = sweep_rows("mmlu", [-0.1, 0.0, -0.1], layers=[3, 5, 7])
    report = report_of(findings_in(write_sweep(output, 12, frame=rows)))
    (figure,) = (figure for figure in report.figures if figure.name == "drops")
    (table,) = (table for table in report.tables if table.name == "drops-mmlu")
    assert "without each of layers 3, 5, 7 of 12" in figure.caption
    assert "without each of layers 3, 5, 7 of 12 in turn" in table.caption
    assert "adjusted over 3 layers" in figure.caption and "adjusted over 3 layers" in table.caption


def test_a_drop_and_its_ends_share_their_decimals_and_scores_have_as_many(output):
    frame = sweep_rows("mmlu", [-0.2, -0.0004, 0.012, -0.03], half=0.01)
    tables = tables_of(findings_in(write_sweep(output, 4, frame=frame)))
    of_layers, of_task = (next(t for t in tables if t.name == name) for name in ("layers", "drops-mmlu"))
    heads = of_task.head_texts
    first = dict(zip(heads, of_task.texts[0], strict=True))
    for name in ("whole model", "without", "drop", "95% from", "95% to"):
        assert len(first[name].partition(".")[2]) == 4, name
    cells = [cell for cell in of_layers.texts[0][1:] if "." in cell and "<" not in cell]
    assert {len(cell.partition(".")[2]) for cell in cells[:3]} == {4}


def test_the_whole_model_is_no_best_block_of_a_report(output):
    findings = findings_in(write_angular(output, 6))
    table = next(table for table in tables_of(findings) if table.name == "best-blocks")
    assert table.frame["n"].tolist() == [1, 2, 3, 4, 5]
    only = next(t for t in tables_of(findings_in(write_angular(output / "b", 1))) if t.name == "best-blocks")
    assert only.frame["n"].tolist() == [1]


def test_what_is_the_same_in_every_row_of_a_papers_table_stands_in_its_caption():
    frame = pd.DataFrame(
        {"task": ["mmlu"] * 3, "layer": [0, 1, 2], "drop": [0.0] * 3, "detectable": [True] * 3}
    )
    paper = ReportTable("a", "A", Caption("What.", "How."), frame).for_paper()
    assert list(paper.frame.columns) == ["layer", "drop"]
    assert paper.caption.endswith("In every row: task mmlu, detectable yes.")


def test_a_list_of_cheapest_layers_says_where_its_order_is_noise(output):
    few = sweep_rows("mmlu", [-0.06, 0.0, 0.06], half=0.4, baseline=0.44, docs=16)
    said = snippets_of(findings_in(write_sweep(output, 3, frame=few)))[0].note
    assert "The order is mostly noise: a drop of 0.4" in said
    many = write_sweep(output / "b", 3, frame=sweep_rows("mmlu", [-0.2, 0.0, 0.0]))
    assert "noise" not in snippets_of(findings_in(many))[0].note
