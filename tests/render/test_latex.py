"""LaTeX tables: they compile with the three-line preamble, whatever the names in them."""

import shutil
import subprocess

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from depthprobe.render.escapes import in_code, in_html, in_latex, in_markdown, plain
from depthprobe.render.latex import latex_table

HOSTILE = [
    "<script>alert(1)</script>",
    "$\\alpha_1^2$ & 100% of #1 ~ {x}",
    "a\\input{/etc/passwd}\\end{document}",
    "line\n| - [x](y) `code` ![i]",
    "[opens] the row, \N{CJK UNIFIED IDEOGRAPH-6A21} \N{GREEK SMALL LETTER ALPHA} \x00\x1b[31m",
    "\xe9\xe0\xfc\xdf\xf8\xe5\xe6\xd0\xf0\xde\xfe\xd7\xf7\xff --- ?` !` '' \" \N{MINUS SIGN}1 \N{EN DASH}",
]
PREAMBLE = "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here")
def test_a_table_of_hostile_names_compiles_with_three_lines_before_it(tmp_path):
    rows = [[name, name] for name in HOSTILE]
    table = latex_table(["[l]", "*{2}{c}"], rows, [False, True], "\n".join(HOSTILE))
    (tmp_path / "table.tex").write_text(f"{PREAMBLE}{table}\\end{{document}}\n", encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "table.tex"],
        cwd=tmp_path,
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "table.pdf").stat().st_size > 1000
    log = (tmp_path / "table.log").read_text(encoding="utf-8", errors="replace")
    assert "Missing character" not in log and "LaTeX Warning" not in log


def test_a_table_has_booktabs_rules_and_none_that_are_vertical():
    table = latex_table(
        ["layer", "drop"], [["0", "\N{MINUS SIGN}0.3"], ["1", "0.0"]], [True, True], "What\nit is."
    )
    assert table == (
        "% What it is.\n"
        "\\begin{tabular}{rr}\n\\toprule\nlayer & drop \\\\\n\\midrule\n"
        "0 & $-$0.3 \\\\\n1 & 0.0 \\\\\n\\bottomrule\n\\end{tabular}\n"
    )


@given(st.text())
def test_escaped_text_is_one_line_and_holds_no_bare_sign_of_its_language(text):
    html = in_html(text)
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
