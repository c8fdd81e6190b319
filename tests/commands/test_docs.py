"""``depthprobe docs`` and the pages it shows: listed, readable, true to the program, and all within reach."""

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from depthprobe.commands import docs
from depthprobe.commands.app import app
from depthprobe.docs import markdown_table, pages, text_of, titles
from depthprobe.errors import OptionError
from support import doc_tables

ROOT = Path(docs.__file__).parents[2]
README = ROOT / "README.md"

in_the_repository = pytest.mark.skipif(not README.is_file(), reason="tests run apart from the repository")


def run(*arguments):
    return CliRunner().invoke(app, ["docs", *arguments])


def test_without_a_page_every_page_is_listed_with_its_heading():
    printed = run().stdout
    assert all(re.search(rf"^{re.escape(name)}  ", printed, re.MULTILINE) for name in pages())
    assert "angular          how far the residual stream turns between any two layers\n" in printed
    assert "depthprobe docs PAGE shows one of them." in printed


def test_into_a_pipe_a_page_goes_as_it_is_written():
    assert run("angular").stdout == pages()["angular"].read_text(encoding="utf-8")


def test_an_unknown_page_is_answered_with_the_pages_there_are():
    done = run("nosuch")
    assert done.exit_code == 2
    assert done.stderr == f"Error: There is no page 'nosuch'. The pages are {', '.join(pages())}.\n"
    with pytest.raises(OptionError):
        text_of("../secrets")


@pytest.mark.parametrize("name", pages())
def test_on_a_terminal_of_80_columns_a_page_has_no_marks_left_and_no_longer_line(name, monkeypatch):
    from rich.console import Console

    shown = Console(
        file=io.StringIO(), force_terminal=True, width=80, color_system=None, legacy_windows=False
    )
    monkeypatch.setattr(docs, "result_console", lambda: shown)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    docs.command(name)
    text = re.sub(r"\x1b(\[[0-9;]*m|\]8;.*?\x1b\\)", "", shown.file.getvalue())
    assert max(map(len, text.splitlines())) <= 80
    assert not re.search(r"<!--|<img|^#|^```|\*\*|\]\(|🌆", text, re.MULTILINE)
    assert titles()[name].split()[0] in text


@pytest.mark.parametrize("name", pages())
def test_the_tables_of_a_page_are_those_of_the_program(name):
    text = pages()[name].read_text(encoding="utf-8")
    assert text == doc_tables.filled(text), "python tests/support/doc_tables.py writes them"


def test_every_command_but_this_one_has_a_page_of_its_own_with_its_options():
    import typer

    for name in set(typer.main.get_command(app).commands) - {"docs"}:
        text = text_of(name)
        assert text.startswith(f"# depthprobe {name}: ")
        assert f"<!-- options: {name}" in text


def test_every_probe_shows_its_columns():
    for stem in doc_tables.COLUMNS:
        assert sum(f"<!-- columns: {stem} -->" in path.read_text("utf-8") for path in pages().values()) == 1


def test_a_table_escapes_bars_and_names_options_as_code():
    row = markdown_table(("head",), [("|x| as --samples says, co-operate",)]).splitlines()[-1]
    assert row == r"| \|x\| as `--samples` says, co-operate |"


def test_the_page_names_the_size_of_a_chunk_as_the_engine_has_it():
    from depthprobe.evaluation.scoring.engine import LARGEST_CPU_CHUNK_TOKENS

    assert f"at most {LARGEST_CPU_CHUNK_TOKENS:,} different tokens" in text_of("prune-sweep")


@in_the_repository
def test_every_link_leads_somewhere():
    more = [README, ROOT / ".github" / "CONTRIBUTING.md", *ROOT.glob("*/*/README.md")]
    for page in [*more, *pages().values()]:
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)|src=\"([^\"]+)\"", text):
            assert (page.parent / "".join(target)).exists(), f"{page.name}: {target}"


@in_the_repository
def test_the_readme_is_a_door_with_every_page_behind_it():
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert [name for name in pages() if f"](depthprobe/docs/{name}.md)" not in text] == []


def test_a_page_is_shown_without_importing_anything_heavy():
    heavy = ("torch", "transformers", "datasets", "matplotlib", "pandas", "numpy", "lm_eval")
    code = (
        "import sys; from depthprobe.__main__ import main\n"
        "sys.argv = ['depthprobe', 'docs', 'angular']\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        f"print(sorted(set({heavy!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")
