"""Words that can go stale: what README and pages say of outputs, commands, options and Python is tried."""

import importlib.metadata
import json
import platform
import re
import shutil
import tomllib

import pytest

from support import documents
from support.documents import README
from support.edits import edit_manifest

GALLERY = documents.ROOT / "reports" / "gallery" / "builtin--pre-ln" / "angular"

pytestmark = pytest.mark.skipif(not README.is_file(), reason="tests run apart from the repository")

OUTPUTS = [found for found in documents.outputs() if found[1].startswith("depthprobe ")]
# Free memory is another at every moment.
CHANGING = re.compile(r"Free on cpu: .*")


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    """A directory with the committed runs under reports/, as if made with the libraries of today."""
    directory = tmp_path_factory.mktemp("gallery")
    model = directory / "reports" / GALLERY.parent.name
    shutil.copytree(GALLERY.parent, model)
    for run in model.glob("prune-sweep-*"):
        edit_manifest(run, _as_of_today)
    return directory


def _as_of_today(manifest):
    libraries = manifest["settings"]["libraries"]
    libraries.update({name: importlib.metadata.version(name) for name in libraries})


def run(command, directory, monkeypatch):
    """(stdout, stderr) of a command in a directory, on the CPU, whatever the environment says."""
    from typer.testing import CliRunner

    from depthprobe.commands.app import app

    monkeypatch.chdir(directory)
    monkeypatch.delenv("DEPTHPROBE_MODEL", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    done = CliRunner().invoke(app, command.split()[1:])
    assert done.exit_code == 0, done.output
    return done.stdout, done.stderr


def plain(text):
    """Lines without the blanks at their ends, and without what changes from moment to moment."""
    return "".join(CHANGING.sub("Free on cpu:", line.rstrip()) + "\n" for line in text.splitlines())


def test_outputs_are_shown():
    assert OUTPUTS


@pytest.mark.parametrize(
    ("document", "command", "printed"),
    [found for found in OUTPUTS if found[1].split()[1] != "pretrain"],  # trains for most of an hour
    ids=lambda value: value if "\n" not in value else "",
)
def test_a_printed_output_is_the_whole_output(document, command, printed, gallery, monkeypatch):
    from depthprobe.results.store import read_run

    measured = read_run(GALLERY).manifest["data"]["python"]
    if command.split()[1] != "inspect" and measured != platform.python_version():
        pytest.skip("this Python's standard library is another text")
    out, news = run(command, gallery, monkeypatch)
    # Without this, the text would be held against what was measured just now, on another machine.
    assert command.split()[1] == "inspect" or "Already measured" in news
    if not documents.pattern_of(plain(printed)).fullmatch(plain(out)):
        assert plain(out) == plain(printed)


@pytest.mark.parametrize(
    ("printed", "agrees"),
    [
        ("one\ntwo\nthree\n", True),
        ("one\n[...]\nthree\n", True),
        ("[...]\nthree\n", True),
        ("one\n[...]\n", True),
        ("one\ntwo\n[...]\nthree\n", True),
        ("one\ntwo\n", False),
        ("two\nthree\n", False),
        ("one\nthree\n", False),
        ("one\ntwo\nthree\nfour\n", False),
        ("[...]\ntwo\n", False),
        ("one\n[...]\nfour\n", False),
    ],
)
def test_an_output_leaves_out_lines_only_where_it_says_so(printed, agrees):
    assert bool(documents.pattern_of(printed).fullmatch("one\ntwo\nthree\n")) == agrees


@pytest.mark.parametrize(("document", "arguments"), documents.commands(), ids=str)
def test_a_shown_command_is_one_that_the_program_takes(document, arguments):
    import typer

    from depthprobe.commands.app import app

    program = typer.main.get_command(app)
    given = [word for word in arguments if word != "..."]
    with program.make_context("depthprobe", given, resilient_parsing=False) as context:
        if not given:
            return
        name, command, rest = program.resolve_command(context, given)
        try:
            command.make_context(name, rest, parent=context).close()
        except typer.Exit as ended:  # --help and --version
            assert ended.exit_code == 0


def test_a_script_that_is_named_exists():
    named = set(
        re.findall(r"python ((?:tests|reports)/[\w/.-]+\.py)", documents.whole_text(*documents.notes()))
    )
    assert sorted(path for path in named if not (documents.ROOT / path).is_file()) == []


@pytest.mark.parametrize("probe", ["gradnorm", "variance"])
def test_the_committed_profile_is_what_the_program_measures_today(probe):
    import depthprobe
    from depthprobe.results.store import read_run

    run = read_run(GALLERY.parent / probe)
    if run.manifest["data"]["python"] != platform.python_version():
        pytest.skip("this Python's standard library is another text")
    for table in getattr(depthprobe, probe)("builtin:pre-ln").tables:
        saved, names = run.tables[table.stem], [column.name for column in table.columns]
        numbers = [name for name in names if table.frame[name].dtype == "float64"]
        labels = [name for name in names if name not in numbers]
        assert table.frame[labels].astype(str).equals(saved[labels].astype(str))
        assert ((table.frame[numbers] - saved[numbers]).abs() <= 1e-4 * saved[numbers].abs()).all().all()


def test_the_committed_run_is_what_the_program_measures_today(tmp_path):
    import depthprobe
    from depthprobe.results.store import read_run

    run = read_run(GALLERY)
    if run.manifest["data"]["python"] != platform.python_version():
        pytest.skip("this Python's standard library is another text")
    found = depthprobe.angular("builtin:pre-ln")
    assert found.frame[["layer", "n", "samples"]].equals(run.tables["angular"][["layer", "n", "samples"]])
    assert (found.frame.distance - run.tables["angular"].distance).abs().max() < 1e-5


PYTHON = [path for path in documents.documents() if documents.blocks(path, "python")]


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: path.name)
def test_shown_python_runs(path, tmp_path, monkeypatch):
    (tmp_path / "reports").symlink_to(documents.ROOT / "reports")
    monkeypatch.chdir(tmp_path)
    names = {}  # a block goes on from the one before it
    for code in documents.blocks(path, "python"):
        exec(compile(code, str(path), "exec"), names)
    figures = re.findall(r"savefig\(\"(.+?)\"", "".join(documents.blocks(path, "python")))
    assert all((tmp_path / name).stat().st_size > 10_000 for name in figures)


def test_every_option_of_the_commands_is_documented():
    import typer

    from depthprobe.commands.app import app

    text = documents.whole_text()
    commands = typer.main.get_command(app).commands
    options = {
        name
        for command in commands
        for parameter in commands[command].params
        for name in (*parameter.opts, *parameter.secondary_opts)
        if name.startswith("--")
    }
    assert {name for name in options if f"`{name}`" not in text} <= {"--help"}
    assert {name for name in re.findall(r"`(--[a-z-]+)`", text) if name not in options} <= {"--help"}


def test_every_probe_stands_with_its_question():
    from depthprobe.catalogue import PROBES

    rows = re.findall(r"^\| `([\w-]+)` \| (.+?) \|", README.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert [row for row in rows if row[0] in PROBES] == [(p.name, p.question) for p in PROBES.values()]


def test_what_the_embedded_model_reached_is_its_own_record():
    import depthprobe.builtin as builtin

    folder = builtin.embedded_models()["builtin:pre-ln"]
    record = json.loads((folder / "training.json").read_text())
    for _, command, printed in OUTPUTS:
        if command.startswith("depthprobe pretrain"):
            assert f"held-out loss {record['heldout_loss_nats']:.3f} nats a token" in printed
            assert f"bigram baseline {record['bigram_loss_nats']:.3f}" in printed
    assert record["heldout_loss_nats"] < record["bigram_loss_nats"] - 1
    everything = (builtin.embedded_models()["builtin:pre-ln"].parent).rglob("*")
    assert sum(path.stat().st_size for path in everything if path.is_file()) < 40_000_000


def test_the_table_of_the_embedded_models_is_that_of_the_committed_runs():
    from support.embedded_models_table import rows

    text = documents.whole_text(*documents.notes())
    assert [row for row in rows() if row not in text] == []


def test_the_embedded_model_still_has_the_loss_it_was_published_with():
    from depthprobe.builtin import corpus, embedded_models
    from depthprobe.models.loading.loading import load_model
    from depthprobe.training.data import windows
    from depthprobe.training.pretraining import mean_loss

    model = load_model("builtin:pre-ln", device="cpu")
    record = json.loads((embedded_models()["builtin:pre-ln"] / "training.json").read_text())
    texts = [document.text for document in corpus.documents("heldout")[::6]]
    samples = windows(texts, model.tokenizer, 256)[::4]
    # Every sixth document, on whatever Python runs this: near the whole's loss, far below the bigrams'.
    assert mean_loss(model.model, samples) == pytest.approx(record["heldout_loss_nats"], abs=0.4)


def test_torch_is_asked_for_as_the_readme_says():
    project = tomllib.loads((documents.ROOT / "pyproject.toml").read_text())["project"]
    assert "torch>=2.6" in project["dependencies"]


def test_a_figure_shows_itself_in_a_notebook():
    import depthprobe
    from depthprobe.results.store import read_run

    assert depthprobe.draw(read_run(GALLERY))._repr_png_().startswith(b"\x89PNG")
