"""A probe that is an entry of the catalogue and nothing else: page, terminal and comparison show it."""

import numpy as np
import pandas as pd
import pytest

from depthprobe.catalogue import PROBES
from depthprobe.comparing.compare import compare
from depthprobe.comparing.subjects import compared_probes, find_subjects, probes_to_compare
from depthprobe.declaring import Probe, Score, TableOf
from depthprobe.findings.comparison import read_comparison
from depthprobe.findings.study import read_study
from depthprobe.measurement import Column
from depthprobe.render.charts.figures import draw_run, figure_of
from depthprobe.render.report.write import write_report
from depthprobe.render.terminal.comparison import comparison_tables
from depthprobe.render.terminal.listing import lines_of
from depthprobe.results.runs import read_run
from support.gallery_runs import Page
from support.legibility import printed
from support.made_up_runs import importance, write_model, write_run
from support.readings import findings_in

LAYERS = 12
# Large where a layer matters little.
SPARE_RANK = 8.5 - importance(LAYERS, 7)


@pytest.fixture
def probe(monkeypatch):
    table = TableOf(
        "spare_rank",
        (Column("layer", "", "0-based index"), Column("spare_rank", "bits", "how much could go")),
        quantity="spare_rank",
    )
    score = Score("spare_rank", "spare rank", "spare_rank", "spare_rank", spared="large")
    made = Probe("spare-rank", "no.module", "How much could go?", "Help.", (table,), scores=(score,))
    monkeypatch.setitem(PROBES, made.name, made)
    return made


def write(output, model="owner/name", add=0.0):
    frame = pd.DataFrame({"layer": range(LAYERS), "spare_rank": SPARE_RANK + add})
    data = {"dataset": "builtin", "samples": 8, "seq_len": 64, "tokens_sha256": "t"}
    return write_run(output, "spare-rank", {"spare_rank": frame}, LAYERS, model=model, data=data)


def test_the_terminal_shows_its_table_and_its_extremes(probe, tmp_path):
    table, sentence = lines_of(read_run(write(tmp_path)))
    text = " ".join(printed(table).split())
    assert text.startswith("owner/name: spare rank of every layer")
    assert f"11 {SPARE_RANK[11]:.2f}" in text and "How much could go [bits]." in text
    most, least = SPARE_RANK.argmax(), SPARE_RANK.argmin()
    assert sentence == (
        f"Spare rank: highest in layer {most} ({SPARE_RANK[most]:.2f}), lowest in layer {least} "
        f"({SPARE_RANK[least]:.2f})."
    )


def test_a_report_has_its_figure_its_table_its_sentence_and_its_place_among_the_scores(probe, tmp_path):
    write(tmp_path / "runs")
    directory = write_model(tmp_path / "runs", LAYERS)
    folder = tmp_path / "report"
    findings = write_report(read_study([directory]), folder).findings
    assert findings.by_layer["spare_rank"].tolist() == SPARE_RANK.tolist()
    assert any(sentence.startswith("Spare rank: highest") for sentence in findings.verdict.readings)

    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert {"figure-spare_rank", "table-spare_rank"} <= set(ids)
    assert (folder / "figures" / "spare_rank.pdf").stat().st_size > 1000
    saved = pd.read_csv(folder / "tables" / "spare_rank.csv", float_precision="round_trip")
    assert saved["spare_rank"].tolist() == SPARE_RANK.tolist()
    assert "| spare rank |" in (folder / "report.md").read_text(encoding="utf-8")


def test_a_score_whose_large_values_can_be_spared_is_trusted_the_other_way_round(probe, tmp_path):
    write(tmp_path)
    found = findings_in(write_model(tmp_path, LAYERS))
    rows = found.trust.rows("mmlu").set_index("proxy")
    harm = next(drops.harm for drops in found.drops if drops.task == "mmlu")
    expected = pd.Series(-SPARE_RANK).corr(pd.Series(harm), method="spearman")
    assert expected > 0.8 and rows.loc["spare_rank", "spearman"] == pytest.approx(expected)
    pick = next(pick for pick in found.trust.picks if (pick.task, pick.proxy) == ("mmlu", "spare_rank"))
    assert set(pick.layers) == set(np.argsort(-SPARE_RANK)[:3].tolist())


def test_a_comparison_has_its_values_and_differences(probe, tmp_path):
    write(tmp_path, "org/m0")
    write(tmp_path, "org/m1", add=0.25)
    subjects = find_subjects([str(tmp_path / f"org--m{number}") for number in range(2)], None)
    assert compared_probes()[-1] == "spare-rank" and probes_to_compare(subjects, None) == ["spare-rank"]
    run = compare(subjects, ["spare-rank"], output=tmp_path / "out")
    table = run.tables["compare_spare_rank"]
    assert table.groupby("model")["difference"].mean().to_dict() == pytest.approx(
        {"org/m0": 0.0, "org/m1": 0.25}
    )
    summary, by_layer = map(printed, comparison_tables(read_comparison(read_run(run.directory))))
    assert "spare rank" in summary and "org/m1" in summary
    assert "spare rank of each layer" in by_layer and by_layer.count("+0.250") == LAYERS
    (figure,) = draw_run(run, formats=["svg"])
    assert figure.name == "compare_spare_rank.svg" and figure.stat().st_size > 1000
    assert len(figure_of(run).axes) == 2
