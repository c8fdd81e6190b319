"""LaTeX tables: whole environments that compile in one column and in two, whatever the names in them."""

import re
import shutil
import subprocess

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from depthprobe.findings.words import plain
from depthprobe.render.charts.kit.page_sizes import PAGE_SIZES
from depthprobe.render.report.escapes import in_code, in_latex, in_markdown, sentences_in_latex
from depthprobe.render.report.latex import latex_figure
from depthprobe.render.report.latex import latex_table as table_with_label
from depthprobe.render.report.page import page_environment

HOSTILE = [
    "<script>alert(1)</script>",
    "$\\alpha_1^2$ & 100% of #1 ~ {x}",
    "a\\input{/etc/passwd}\\end{document}",
    "line\n| - [x](y) `code` ![i]",
    "[opens] the row, \N{CJK UNIFIED IDEOGRAPH-6A21} \N{GREEK SMALL LETTER ALPHA} \x00\x1b[31m",
    "\xe9\xe0\xfc\xdf\xf8\xe5\xe6\xd0\xf0\xde\xfe\xd7\xf7\xff --- ?` !` '' \" \N{MINUS SIGN}1 \N{EN DASH}",
]
# Where a table of each style is to be set.
DOCUMENTS = [
    ("auto", "article", ""),
    ("auto", "article", "twocolumn"),
    ("paper-single", "article", "twocolumn"),
    ("paper-double", "article", "twocolumn"),
    ("appendix", "article", ""),
    ("slides", "article", ""),
]


def latex_table(heads, rows, numeric, caption, style="auto"):
    return table_with_label(heads, rows, numeric, caption, "made-up", style)


def compiled(table, folder, options="", kind="article"):
    """The log of a document that is nothing but a preamble and a table."""
    preamble = (
        f"\\documentclass[{options}]{{{kind}}}\n\\usepackage{{booktabs,longtable}}\n\\begin{{document}}\n"
    )
    (folder / "table.tex").write_text(f"{preamble}{table}\\end{{document}}\n", encoding="utf-8")
    for _ in range(2):  # the second time with the numbers of its references
        done = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "table.tex"],
            cwd=folder,
            capture_output=True,
            timeout=120,
        )
    assert done.returncode == 0, done.stdout[-2000:]
    assert (folder / "table.pdf").stat().st_size > 1000
    return (folder / "table.log").read_text(encoding="utf-8", errors="replace")


needs_latex = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here")


@needs_latex
@pytest.mark.parametrize(("style", "kind", "options"), DOCUMENTS)
def test_a_table_of_hostile_names_compiles(tmp_path, style, kind, options):
    rows = [[name, name] for name in HOSTILE]
    table = latex_table(["[l]", "*{2}{c}"], rows, [False, True], "\n".join(HOSTILE), style)
    log = compiled(table, tmp_path, options, kind)
    assert "Missing character" not in log and "LaTeX Warning" not in log


def test_a_table_has_caption_label_booktabs_rules_and_none_that_are_vertical():
    heads, rows = ["layer", "drop"], [["0", "\N{MINUS SIGN}0.3"], ["1", "0.0"]]
    table = latex_table(heads, rows, [True, True], "What\nit_is of x^(l+1), p < 0.05.")
    assert table == (
        "% \\usepackage{booktabs}\n\n"
        "\\begin{table}[tbp]\n\\centering\n"
        "\\caption{What it\\_is of $x^{l+1}$, p $<$ 0.05.}\\label{tab:made-up}\n\\smallskip\n"
        "{\\setlength{\\tabcolsep}{6pt}%\n"
        "\\begin{tabular}{rr}\n\\toprule\nlayer & drop \\\\\n\\midrule\n"
        "0 & $-$0.3 \\\\\n1 & 0.0 \\\\\n\\bottomrule\n\\end{tabular}}\n\\end{table}\n"
    )


@pytest.mark.parametrize("style", PAGE_SIZES)
def test_every_environment_is_closed_and_has_one_caption_and_a_label_of_its_own(style):
    heads, rows, numeric = wide_table(["hellaswag", "calibration"])
    text = latex_table(heads, rows * 60, numeric, "What it is.", style)
    name = {"paper-double": "table*", "auto": "table*", "appendix": "longtable"}.get(style, "table")
    parts = text.count(f"\\begin{{{name}}}")
    assert parts == text.count(f"\\end{{{name}}}") == text.count("\\caption{") > 1
    labels = re.findall(r"\\label\{(.+?)\}", text)
    assert len(set(labels)) == parts and labels[0] == "tab:made-up"
    assert (
        text.count("What it is.") == 1 and text.count(r"Continued from Table~\ref{tab:made-up}") == parts - 1
    )
    for opened, closed in (("{", "}"), ("\\begin{", "\\end{")):
        assert text.count(opened) == text.count(closed)


def test_a_narrow_table_stands_in_a_column_and_a_wide_one_across_both():
    narrow = (["layer", "drop"], [["0", "0.1"]], [True, True], "What it is.")
    assert r"\begin{table}[tbp]" in latex_table(*narrow)
    assert r"\begin{table*}[tbp]" in latex_table(*narrow, "paper-double")
    heads, rows, numeric = wide_table(["arc"])
    assert r"\begin{table*}" in latex_table(heads, rows, numeric, "What it is.")
    assert r"\begin{table}" in latex_table(heads, rows, numeric, "What it is.", "paper-single")


def test_a_longtable_is_one_whatever_its_length_and_repeats_its_heads():
    rows = [[str(layer), "0.1"] for layer in range(126)]
    text = latex_table(["layer", "drop"], rows, [True, True], "What it is.", "appendix")
    assert text.count(r"\begin{longtable}") == 1 and text.count("layer & drop") == 2
    assert r"\endfirsthead" in text and r"\endlastfoot" in text and "longtable" in text.splitlines()[0]


def test_a_figure_is_one_environment_across_both_columns_where_it_is_wide():
    text = latex_figure("variance.pdf", 3.3, "Var(x^(l+1)) of a_b & x^0.", "variance")
    assert r"\caption{Var($x^{l+1}$) of a\_b \& $x^{0}$.}\label{fig:variance}" in text
    assert (
        r"\begin{figure}[tbp]" in text
        and r"\includegraphics[width=\linewidth,height=0.95\textheight,keepaspectratio]{variance.pdf}" in text
    )
    assert r"\begin{figure*}[tbp]" in latex_figure("a.pdf", 6.9, "", "a")


@given(st.text())
def test_captions_are_the_escaped_text_where_no_boundary_is_named(text):
    if "x^" not in text and "'" not in text:
        assert sentences_in_latex(text) == in_latex(text)


def wide_table(tasks):
    """As the table of all quantities of a layer, with so many tasks."""
    cheap = ["angular distance (n = 1)", "Block Influence", "contribution ratio", "gradient norm"]
    heads = ["layer", *cheap]
    for task in tasks:
        heads += [f"drop, {task}", f"95% from, {task}", f"95% to, {task}", f"p (Holm), {task}"]
    row = [
        "11",
        *["0.0123"] * len(cheap),
        *["\N{MINUS SIGN}0.0661", "\N{MINUS SIGN}0.08", "0.02", "<0.001"] * len(tasks),
    ]
    return heads, [row] * 3, [True] * len(heads)


@needs_latex
@pytest.mark.parametrize(
    "tasks", [[], ["arc"], ["hellaswag", "calibration"], [f"mmlu_high_school_physics_{n}" for n in range(4)]]
)
@pytest.mark.parametrize(("style", "kind", "options"), DOCUMENTS)
def test_no_table_is_wider_than_its_place(tmp_path, tasks, style, kind, options):
    table = latex_table(*wide_table(tasks), "What it is.", style)
    assert "Overfull" not in compiled(table, tmp_path, options, kind)


@needs_latex
@pytest.mark.parametrize("columns", [3, 14])
@pytest.mark.parametrize(("style", "kind", "options"), DOCUMENTS)
def test_no_table_is_higher_than_a_page(tmp_path, columns, style, kind, options):
    rows = [[f"{layer}.{column}" for column in range(columns)] for layer in range(126)]
    table = latex_table(
        [f"head {column}" for column in range(columns)], rows, [True] * columns, "What it is. " * 30, style
    )
    log = compiled(table, tmp_path, options, kind)
    assert "Overfull" not in log and "too large" not in log


@pytest.mark.parametrize("style", PAGE_SIZES)
@pytest.mark.parametrize("columns", [3, 14])
def test_every_row_of_a_long_table_is_in_it(columns, style):
    rows = [[f"{layer}.{column}" for column in range(columns)] for layer in range(126)]
    table = latex_table([f"head {column}" for column in range(columns)], rows, [True] * columns, "", style)
    cells = re.findall(r"\d+\.\d+", "".join(line for line in table.splitlines() if "&" in line))
    assert set(cells) == {cell for row in rows for cell in row}


@needs_latex
@pytest.mark.parametrize("task", ["stdlib_mc", "mmlu_high_school_physics"])
def test_no_table_of_words_is_wider_than_a_page(tmp_path, task):
    heads = [
        "task",
        "metric",
        "measurement",
        "Spearman",
        "95% from",
        "95% to",
        "Kendall",
        "95% from",
        "95% to",
    ]
    row = [task, "acc_norm", "calibration-loss increase", *["\N{MINUS SIGN}0.897"] * 6]
    table = latex_table(heads, [row] * 5, [False] * 3 + [True] * 6, "What it is.")
    assert "Overfull" not in compiled(table, tmp_path)


def test_every_word_of_a_head_that_is_broken_is_there():
    table = latex_table(
        ["a", "drop, mmlu_high_school_physics", "b (n = 1)"], [["0", "1", "2"]], [True] * 3, ""
    )
    assert "mmlu\\_high\\_school\\_physics" in re.sub(r"(?<=_) \\\\ ", "", table)
    wide = [f"drop, mmlu_high_school_physics ({n} = 1)" for n in range(9)]
    table = latex_table(["a", *wide], [["0"] * 10], [True] * 10, "")
    head = re.sub(r" \\\\ |\\end\{tabular\}|\\begin\{tabular\}\[b\]\{@\{\}r@\{\}\}", "", table)
    assert head.count("mmlu\\_high\\_school\\_physics") == 9 and "5 = 1" in head


def test_what_does_not_fit_stands_in_a_table_below_with_its_interval_and_the_names_of_its_rows():
    heads, rows, numeric = wide_table(["hellaswag", "calibration"])
    tables = latex_table(heads, rows, numeric, "What it is.").split("\\begin{table*}")[1:]
    assert len(tables) == 3
    assert all("layer" in table and table.count("\n11 & ") == 3 for table in tables)
    for task in ("hellaswag", "calibration"):
        assert sorted(table.count(task) for table in tables) == [0, 0, 4]


@given(st.text())
def test_escaped_text_is_one_line_and_holds_no_bare_sign_of_its_language(text):
    html = page_environment().from_string("{{ text }}").render(text=text)
    assert not set(html) & set("<>\"'\n") and html.count("&") == html.count(";") - text_semicolons(text)
    latex = in_latex(text)
    assert "\n" not in latex and all(ord(sign) < 256 for sign in latex)
    assert latex.count("{") == latex.count("}") or "\\{" in latex or "\\}" in latex
    assert "\n" not in in_markdown(text) and "|" not in in_markdown(text).replace("\\|", "")


SIGNS = "\\`*_{}[]<>()#+-.!|~&$^=:/@1a9w \n\t;\"'"


@given(st.one_of(st.text(SIGNS, max_size=12), st.text(max_size=12), st.sampled_from(HOSTILE)))
@example("1. a")
@example("12) a")
@example("- a")
@example("--- a")
@example("===")
@example("> a")
@example("_a_ b_c __d__")
@example("&amp; &#35;")
@example("+")
def test_escaped_markdown_is_read_as_the_text_that_it_was(text):
    reader = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    shown = in_markdown(text)
    for before, after in (("", ""), ("- ", ""), ("### ", ""), ("| a | b |\n| --- | --- |\n| x | ", " |")):
        *_, said = [
            token for token in reader.parse(f"{before}{shown}{after}\n") if token.type == "inline"
        ] or [None]
        pieces = said.children if said else []
        assert {piece.type for piece in pieces} <= {"text", "text_special"}
        assert "".join(piece.content for piece in pieces) == plain(text)


def test_escaped_markdown_can_be_read_as_it_is():
    sentence = "stdlib_mc: 3.5 of 12 layers (95%, -0.2 to +0.1) cost nothing - see layer-by-layer."
    assert in_markdown(sentence) == sentence


def text_semicolons(text):
    """The semicolons that were in the text itself, which stay."""
    return text.count(";")


@given(st.text(alphabet="a` |\n"))
def test_a_piece_of_code_ends_only_where_its_fence_does(text):
    code = in_code(text)
    fence = code[: len(code) - len(code.lstrip("`"))]
    assert fence and code.endswith(fence) and fence not in code[len(fence) : -len(fence)].strip().split(" ")


def test_later_parts_of_a_wide_table_repeat_no_more_than_what_names_a_row():
    heads = [
        "task",
        "metric",
        "measurement",
        "would remove",
        *(f"a number of some kind {n}" for n in range(12)),
    ]
    rows = [
        [task, "acc", f"proxy {n}", "5-7", *["0.123456789"] * 12]
        for task in ("mmlu", "arc")
        for n in range(4)
    ]
    text = latex_table(heads, rows, [False] * 4 + [True] * 12, "What it is.")
    assert text.count("task & metric & measurement") + text.count("task & metric & measure-") <= 1
    assert text.count("measurement") > 1 and text.count("remove") == text.count("metric") == 1
