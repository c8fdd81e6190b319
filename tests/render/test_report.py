"""A report made from finished runs: what is in it, that it is whole, and that names stay names."""

import base64
import csv
import io
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import pandas as pd
import pytest
import yaml

from depthprobe.errors import OptionError, RunError
from depthprobe.findings import angular, drops, gradnorm, variance
from depthprobe.findings.study import read_study
from depthprobe.render.charts.kit import encoding
from depthprobe.render.charts.kit.page_sizes import drawn_for
from depthprobe.render.report.write import write_report
from support.edits import edit_manifest
from support.gallery_runs import GALLERY, Page, copied

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "$\\alpha_1^2$ & 100% of #1 ~ {x}",
    "a\\input{/etc/passwd}\\end{document}",
    "line one\nline two\r| - [x](javascript:alert(1)) `code` ![i](http://example.org/x.png)",
    "../../../etc/passwd",
    "yes: [no, *anchor, &ref] # '\" !!python/object",
    "\N{CJK UNIFIED IDEOGRAPH-6A21}\N{GREEK SMALL LETTER ALPHA}\N{RIGHT-TO-LEFT OVERRIDE}\x00\x1b[31m",
]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The report of the gallery's runs."""
    folder = tmp_path_factory.mktemp("report") / "report"
    write_report(read_study([GALLERY]), folder)
    return folder


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_figure_has_three_formats_and_a_caption_that_says_what_a_paper_needs(report):
    manifest = json.loads((GALLERY / "angular" / "manifest.json").read_text(encoding="utf-8"))
    weights = manifest["model"]["fingerprint"][:12]
    names = {path.stem for path in (report / "figures").iterdir()}
    assert {"angular", "angular-row", "drops", "gradnorm", "variance"} <= names
    for name in names:
        for kind in ("pdf", "png", "svg"):
            assert (report / "figures" / f"{name}.{kind}").stat().st_size > 1000
        caption = (report / "figures" / f"{name}.txt").read_text()
        for fact in (
            "builtin:pre-ln",
            f"weights hash {weights}",
            "12 layers",
            "float32",
            "samples of up to 256",
        ):
            assert fact in caption
        rescaled = "the colours, row by row" if name == "angular-row" else "nothing"
        assert f"Rescaled: {rescaled}" in caption


def test_a_csv_holds_the_numbers_of_the_run_and_a_page_shows_them(report):
    gallery = pd.read_csv(GALLERY / "prune-sweep-stdlib_mc" / "prune_sweep.csv", float_precision="round_trip")
    gallery = gallery[(gallery["task"] == "stdlib_mc") & (gallery["metric"] == "acc")]
    made = pd.read_csv(report / "tables" / "drops-stdlib_mc.csv", float_precision="round_trip")
    assert made["drop"].tolist() == gallery["drop"].tolist()
    assert made["detectable"].tolist() == (gallery["p_adjusted"] < 0.05).tolist()
    shown = f"{gallery['drop'].min():.3f}".replace("-", "\N{MINUS SIGN}")
    assert shown in (report / "report.html").read_text(encoding="utf-8")


def test_the_page_needs_nothing_and_asks_for_nothing(report):
    content = (report / "report.html").read_text(encoding="utf-8")
    page = Page(content)
    policy = next(meta["content"] for meta in page.of("meta") if "http-equiv" in meta)
    assert policy.startswith("default-src 'none'")
    addressed = [
        attributes[name]
        for _, attributes in page.elements
        for name in ("src", "href", "xlink:href", "action", "srcset", "data")
        if name in attributes
    ]
    assert addressed
    own = ("#", "figures/", "tables/", "data:image/svg+xml;base64,")
    assert all(address.startswith(own) for address in addressed)
    # Every link beside the page leads to a file that is there; every link inside leads to an id.
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    for address in addressed:
        if address.startswith("#"):
            assert address[1:] in ids
        elif not address.startswith("data:"):
            assert (report / address).is_file()
    assert not re.search(r"@import|url\((?!#)", content)


def test_no_id_of_a_page_stands_there_twice(report):
    page = Page((report / "report.html").read_text(encoding="utf-8"))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids)) > 15


def test_every_figure_stands_on_the_page_as_the_svg_beside_it(report):
    page = Page((report / "report.html").read_text(encoding="utf-8"))
    shown = [
        base64.b64decode(picture["src"].removeprefix("data:image/svg+xml;base64,"))
        for picture in page.of("img")
    ]
    names = [figure["id"].removeprefix("figure-") for figure in page.of("figure")]
    assert shown == [(report / "figures" / f"{name}.svg").read_bytes() for name in names]
    assert len(shown) == len(list((report / "figures").glob("*.svg"))) > 5


def test_a_figure_is_shown_larger_than_printed_and_no_wider_than_the_page(report):
    page = Page((report / "report.html").read_text(encoding="utf-8"))
    for figure, picture in zip(page.of("figure"), page.of("img"), strict=True):
        svg = (report / "figures" / f"{figure['id'].removeprefix('figure-')}.svg").read_text("utf-8")
        printed_pt = float(re.search(r'width="([\d.]+)pt"', svg)[1])
        shown_pt = float(re.fullmatch(r"width:([\d.]+)pt", picture["style"])[1])
        assert shown_pt == pytest.approx(1.4 * printed_pt, rel=1e-3)
        assert figure["class"] == ("wide" if printed_pt > 330 else "narrow")
    assert "figure > img { display: block; max-width: 100%; height: auto;" in "".join(page.inside["style"])


def test_the_page_is_ordered_for_those_who_do_not_see_it(report):
    page = Page((report / "report.html").read_text(encoding="utf-8"))
    assert page.of("html") == [{"lang": "en"}]
    assert len(page.of("h1")) == len(page.of("main")) == len(page.of("nav")) == 1
    drawings = page.of("img")
    assert drawings and all(drawing["alt"] for drawing in drawings)
    assert len(page.of("figcaption")) == len(drawings)
    heads = [th for th in page.of("th") if "scope" in th]
    assert len(heads) == len(page.of("th"))
    # A table sorts by a button, which a keyboard reaches.
    assert sum(button.get("type") == "button" for button in page.of("button")) >= len(
        [th for th in heads if th["scope"] == "col"]
    )


def test_the_same_runs_give_the_same_bytes_in_place_of_the_report_before(tmp_path, report):
    folder = tmp_path / "report"
    write_report(read_study([GALLERY]), folder)
    write_report(read_study([GALLERY]), folder)
    assert files_of(folder) == files_of(report)
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_something_else_in_the_reports_place_is_left_alone(tmp_path):
    folder = tmp_path / "report"
    folder.mkdir()
    (folder / "thesis.tex").write_text("mine")
    with pytest.raises(RunError, match="holds thesis.tex, which is not part of a report"):
        write_report(read_study([GALLERY]), folder)
    assert (folder / "thesis.tex").read_text() == "mine"


def test_somebodys_file_among_those_of_a_report_is_left_alone(tmp_path):
    folder = tmp_path / "report"
    write_report(read_study([GALLERY]), folder)
    mine = folder / "tables" / "layers-edited.tex"
    mine.write_text("mine")
    before = files_of(folder)
    with pytest.raises(RunError, match=r"holds tables/layers-edited\.tex, which is not part of a report"):
        write_report(read_study([GALLERY]), folder)
    assert files_of(folder) == before


def test_a_report_of_fewer_runs_takes_the_place_of_a_fuller_one(tmp_path):
    folder = tmp_path / "report"
    write_report(read_study([GALLERY]), folder)
    write_report(read_study([GALLERY / "angular"]), folder)
    assert not list(folder.rglob("trust*")) and (folder / "figures" / "angular.pdf").is_file()


def test_a_disk_that_fails_leaves_the_report_before(tmp_path, report, monkeypatch):
    from pathlib import Path

    from depthprobe.errors import MachineError

    folder = tmp_path / "report"
    shutil.copytree(report, folder)
    write = Path.write_bytes

    def full(path, content):
        if path.name == "report.md":
            raise OSError(28, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(MachineError, match="no space left"):
        write_report(read_study([GALLERY]), folder)
    monkeypatch.undo()
    assert files_of(folder) == files_of(report)
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_text_everywhere_and_changes_no_structure(name, tmp_path, report, monkeypatch):
    monkeypatch.setattr(encoding, "FORMATS", ("svg",))  # the others say nothing about escaping, and cost most
    runs = copied(tmp_path / "runs", model=name, dataset=name, task=name)
    folder = tmp_path / "deep" / "down" / "report"
    write_report(read_study([runs]), folder)

    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    plain = Page((report / "report.html").read_text(encoding="utf-8"))
    kinds = ("script", "img", "a", "th", "td", "meta", "section")
    found, expected = ([tag for tag, _ in read.elements if tag in kinds] for read in (page, plain))
    assert found == expected
    assert not any(key.startswith("on") for _, attributes in page.elements for key in attributes)
    line = " ".join(name.split())
    visible = "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in line)
    tail = visible.rpartition("/")[2] if name.startswith(".") else visible
    assert page.inside["h1"] == [tail]

    # Every file lies where it should, with a name that any system takes.
    for path in tmp_path.rglob("*"):
        assert path.is_relative_to(folder) or path.is_relative_to(runs) or path in folder.parents
    assert all(re.fullmatch(r"[\w./-]+", path) for path in files_of(folder))

    for path in (folder / "lists").glob("*.yaml"):
        slices = yaml.safe_load(path.read_text(encoding="utf-8"))["slices"]
        (named,) = {source["model"] for piece in slices for source in piece["sources"]}
        readable = "".join(s if s.isprintable() else "\N{REPLACEMENT CHARACTER}" for s in named)
        assert " ".join(readable.split()).endswith(visible.rpartition("/")[2])
    for path in (folder / "tables").glob("*.tex"):
        check_latex(path.read_text(encoding="utf-8"))
    check_markdown((folder / "report.md").read_text(encoding="utf-8"))


def check_latex(text):
    r"""Floats of caption, label and a tabular of rows with one & fewer than columns; no command but ours."""
    shape = (
        r"\\begin\{(?P<kind>table\*?)\}\[tbp\]\n\\centering\n\\caption\{(?P<caption>.*)\}"
        r"\\label\{tab:[\w-]+\}\n\\smallskip\n\{(?:\\\w+size)?\\setlength\{\\tabcolsep\}\{\dpt\}%\n"
        r"\\begin\{tabular\}\{(?P<columns>[lr]+)\}\n\\toprule\n(?P<head>.*)\n\\midrule\n(?P<rows>(?s:.*))\n"
        r"\\bottomrule\n\\end\{tabular\}\}\n\\end\{(?P=kind)\}"
    )
    first, *tables = text.strip("\n").split("\n\n")
    assert first == r"% \usepackage{booktabs}" and tables
    for table in tables:
        found = re.fullmatch(shape, table)
        assert found, table
        continued = r"Continued from Table~\\ref\{tab:[\w-]+\}\."
        check_latex_text(re.sub(continued + r"|\$x\^\{[^{}]*\}\$", "", found["caption"]))
        for row in [found["head"], *found["rows"].split("\n")]:
            check_latex_row(row, len(found["columns"]))


def check_latex_row(row, columns):
    assert row.endswith(r" \\")
    # A cell of several lines is a tabular of one column.
    stacked = r"\\begin\{tabular\}\[[bt]\]\{@\{\}[lr]@\{\}\}(.*?)\\end\{tabular\}"
    body = re.sub(stacked, lambda cell: cell[1].replace(r" \\ ", " "), row.removesuffix(r" \\"))
    assert len(re.findall(r"(?<!\\)&", body)) == columns - 1
    check_latex_text(re.sub(r"(?<!\\)&", "", body))


def check_latex_text(body):
    body = re.sub(r"\$x\^\{[^{}]*\}\$", "", body)
    known = r"\\(textbackslash|textasciitilde|textasciicircum|textendash|ttfamily|char|times|Delta|[{}$&%#_])"
    assert not re.sub(known, "", body).count("\\")
    assert not re.search(r"(?<!\\)[%#_^~&]", body.replace("-{}-", "--"))


def check_markdown(text):
    """Tables keep their columns, and no link or picture is there but ours."""
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1
    without_code = re.sub(r"^(`{3,}).*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    without_code = re.sub(r"(`+).*?\1", "", without_code)
    links = re.findall(r"(?<!\\)\[[^\n]*?(?<!\\)\]\(([^)]*)\)", without_code)
    assert links and all(link.startswith("figures/") for link in links)
    assert not re.search(r"(?<!\\)<", without_code)


def test_mathematics_in_a_name_is_drawn_as_it_is_written(tmp_path):
    runs = copied(tmp_path / "runs", model="$x^2$ \\frac{", probes=["angular"])
    report = write_report(read_study([runs]), tmp_path / "report")
    texts = [
        text.get_text()
        for text in next(figure for figure in report.figures if figure.name == "angular").draw().texts
    ]
    assert "$x^2$ \\frac{" in texts


def test_a_csv_with_a_hostile_task_is_read_back_as_it_was(tmp_path):
    task = 'a,"b"\nc'
    runs = copied(tmp_path / "runs", task=task)
    write_report(read_study([runs]), tmp_path / "report")
    header = next(
        csv.reader(io.StringIO((tmp_path / "report" / "tables" / "layers.csv").read_text("utf-8"), ""))
    )
    assert f"drop_{task}" in header


WITHOUT_TORCH = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "lm_eval", "datasets", "accelerate"):
            raise ImportError(name + " is not there")
sys.meta_path.insert(0, Refuse())
sys.argv = ["depthprobe", *sys.argv[1:]]
from depthprobe.__main__ import main
main()
"""


def depthprobe(*arguments):
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *map(str, arguments)], capture_output=True, text=True
    )


def test_runs_are_reported_where_torch_cannot_be_imported(tmp_path, report):
    done = depthprobe("report", GALLERY, "-o", tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "builtin--pre-ln" / "report"
    assert done.stdout.splitlines()[-1].startswith(str(folder))
    assert files_of(folder) == files_of(report)


def test_a_report_lies_beside_its_runs_and_is_none_of_them(tmp_path):
    runs = copied(tmp_path / "runs", probes=["gradnorm"])
    for _ in range(2):
        done = depthprobe("report", runs)
        assert done.returncode == 0, done.stderr
    assert (runs / "report" / "report.html").is_file()
    assert sorted(path.name for path in runs.iterdir()) == ["gradnorm", "report"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (
            ["{runs}", "--style", "poster"],
            "--style must be one of auto, paper-single, paper-double, appendix, slides, got poster.",
        ),
        (["{empty}"], "{empty} holds neither a run nor a model."),
        (["{runs}", "{empty}"], "{empty} holds no run."),
        (["{runs}", "nosuch"], "nosuch does not exist."),
        (["{cut}"], "{cut}/angular/angular.csv is cut short: its last line does not end."),
    ],
)
def test_bad_input_is_one_line(arguments, problem, tmp_path):
    places = {name: tmp_path / name for name in ("runs", "empty", "cut")}
    places["empty"].mkdir()
    copied(places["runs"], probes=["angular"])
    copied(places["cut"], probes=["angular"])
    table = places["cut"] / "angular" / "angular.csv"
    table.write_bytes(table.read_bytes()[:-9])
    done = depthprobe("report", *(argument.format(**places) for argument in arguments))
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"Error: {problem.format(**places)}")


def test_runs_of_two_models_are_not_mixed(tmp_path):
    one = copied(tmp_path / "one", probes=["angular"])
    other = copied(tmp_path / "other", model="owner/other", probes=["variance"])

    def of_other_weights(manifest):
        manifest["model"]["fingerprint"] = manifest["settings"]["fingerprint"] = "0" * 64

    edit_manifest(other / "variance", of_other_weights)
    with pytest.raises(RunError):
        read_study([one, other])


def test_a_style_reaches_every_figure(tmp_path):
    runs = copied(tmp_path / "runs", probes=["gradnorm", "angular"])
    for style, drawing, width_in in (
        ("paper-single", "gradnorm", 3.25),
        ("paper-single", "angular", 3.25),
        ("slides", "gradnorm", 13.33),
    ):
        write_report(read_study([runs]), tmp_path / style, style)
        svg = (tmp_path / style / "figures" / f"{drawing}.svg").read_text(encoding="utf-8")
        assert float(re.search(r'width="([\d.]+)pt"', svg)[1]) / 72 == pytest.approx(width_in, abs=0.01)
    with pytest.raises(OptionError, match="--style must be one of .*, got poster"):
        write_report(read_study([runs]), tmp_path / "other", "poster")


def test_each_table_of_a_run_is_looked_through_once_for_a_whole_report(tmp_path, monkeypatch):
    looked_through = []

    def counting(module):
        check = module.check_table

        def check_and_count(frame, what, *columns, **form):
            looked_through.append(what)
            return check(frame, what, *columns, **form)

        monkeypatch.setattr(module, "check_table", check_and_count)

    for module in (angular, drops, gradnorm, variance):
        counting(module)
    write_report(read_study([GALLERY]), tmp_path / "report")
    tables = ["angular distances", "block influences", "drops", "gradient norms", "variances"]
    assert sorted(looked_through) == tables


def made_up_study(output, layers, tasks, **options):
    from support.made_up_runs import write_model

    return read_study([write_model(output, layers, tasks, **options)])


def test_of_many_tasks_the_first_are_shown_and_the_others_on_demand(tmp_path, monkeypatch):
    monkeypatch.setattr(encoding, "FORMATS", ("svg",))
    tasks = tuple(f"task_{number}" for number in range(12))
    report = write_report(made_up_study(tmp_path, 8, tasks), tmp_path / "report")
    names = [table.name for table in report.tables if table.name.startswith("drops")]
    assert names == ["drops-task_0", "drops-task_1", "drops-task_2", "drops-calibration", "drops-other-tasks"]
    scatters = [figure.name for figure in report.figures if figure.name.startswith("trust")]
    assert scatters == ["trust-task_0", "trust-task_1", "trust-task_2", "trust-calibration"]
    others = pd.read_csv(tmp_path / "report" / "tables" / "drops-other-tasks.csv")
    assert list(others) == ["layer", *tasks[3:]]
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert page.count("<details>") == page.count("</details>") == 1
    text = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert "[drops-other-tasks.csv](tables/drops-other-tasks.csv)" in text


def test_groups_come_before_other_tasks_and_their_members_on_demand(tmp_path):
    from depthprobe.findings.findings import read_findings

    tasks = tuple(f"task_{number}" for number in range(10))
    study = made_up_study(tmp_path, 8, tasks)
    (sweep,) = study.swept
    facts = {**sweep.facts, "requests": {"groups": {"task_7": {}}}}
    grouped = replace(study, swept=(replace(sweep, facts=facts),))
    findings = read_findings(grouped)
    assert [drops.task for drops in findings.drops] == ["task_7", "task_0", "task_1", "calibration"]
    assert [drops.task for drops in findings.others] == [f"task_{n}" for n in (2, 3, 4, 5, 6, 8, 9)]


def test_numbers_of_other_tasks_are_those_of_the_sweep(tmp_path):
    tasks = tuple(f"task_{number}" for number in range(9))
    study = made_up_study(tmp_path, 8, tasks)
    report = write_report(study, tmp_path / "report")
    table = next(table for table in report.tables if table.name == "drops-other-tasks")
    rows = study.sweeps[0].frame.query("task == 'task_8'")
    assert table.frame["task_8"].tolist() == rows["drop"].tolist()


def test_lists_of_measured_choices_name_the_layers_and_where_the_model_is(tmp_path):
    facts = {"location": "/models/of_somebody/checkpoint"}
    runs = tmp_path / "runs"
    report = write_report(made_up_study(runs, 12, ("mmlu",), facts=facts), tmp_path / "report")
    lists = {snippet.name: snippet for snippet in report.snippets}
    cheapest = next(d for d in report.findings.drops if d.task == "mmlu").harm.argsort(kind="stable")
    for count in (1, 3):
        text = lists[f"mergekit-measured-mmlu-{count}.yaml"].text
        assert text.startswith("# owner/name was loaded from: /models/of_somebody/checkpoint\n")
        kept = [
            layer
            for piece in yaml.safe_load(text)["slices"]
            for layer in range(*piece["sources"][0]["layer_range"])
        ]
        assert sorted(set(range(12)) - set(kept)) == sorted(cheapest[:count])
    assert "what they cost together was not measured" in lists["mergekit-measured-mmlu-3.yaml"].note


@pytest.mark.parametrize("architecture", ["BertForMaskedLM", "BertModel", "T5EncoderModel"])
def test_no_lists_for_decoders_are_written_of_an_encoder(tmp_path, architecture):
    study = made_up_study(tmp_path, 6, (), facts={"architecture": architecture})
    names = [snippet.name for snippet in write_report(study, tmp_path / "report").snippets]
    assert "best-blocks.txt" in names and not any(n.startswith(("mergekit", "llama")) for n in names)


def test_figures_go_without_their_subtitles_on_request(report, tmp_path):
    study = read_study([copied(tmp_path / "runs", probes=["angular"])])
    for subtitle in (True, False):
        made = write_report(study, tmp_path / str(subtitle), subtitle=subtitle)
        (figure,) = (each for each in made.figures if each.name == "angular")
        with drawn_for("auto", subtitle):
            texts = [text.get_text() for text in figure.draw().texts]
        assert any("samples of up to" in text for text in texts) == subtitle
        caption = (tmp_path / str(subtitle) / "figures" / "angular.txt").read_text(encoding="utf-8")
        assert "samples of up to" in caption
