"""Runs that somebody has edited or that were damaged: one sentence that names the file, never a traceback."""

import copy
import json
import os
import shutil

import pandas as pd
import pytest
from typer.testing import CliRunner

from depthprobe.catalogue import PROBES
from depthprobe.commands.app import app
from depthprobe.comparing.compare import compare
from depthprobe.comparing.subjects import find_subjects
from depthprobe.errors import DepthprobeError, RunError
from depthprobe.findings.captions import measured_words
from depthprobe.findings.comparison import read_comparison
from depthprobe.render.charts.figures import figure_of
from depthprobe.render.report.contents import provenance
from depthprobe.render.terminal.listing import lines_of
from depthprobe.results.places import reserve
from depthprobe.results.store import read_run
from support.edits import edit_manifest, edit_table
from support.made_up_runs import write_model, write_run

LAYERS = 3
RUNS = ("angular", "variance", "gradnorm", "prune-sweep-quiz", "training", "comparison")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A whole run of every kind, by its name."""
    place = tmp_path_factory.mktemp("made")
    models = [write_model(place, LAYERS, ("quiz",), model=f"owner/{name}") for name in ("one", "two")]
    steps = [(step, layer, 1.0 + layer, 0.5 + step) for step in (0, 1, 5) for layer in range(LAYERS)]
    losses = [(step, data, 3.0 - step / 10) for step in (0, 1, 5) for data in ("train", "heldout")]
    log = {
        "training": pd.DataFrame(steps, columns=["step", "layer", "variance", "grad_norm"]),
        "loss": pd.DataFrame(losses, columns=["step", "data", "loss_nats"]),
    }
    write_run(place, "training", log, LAYERS, model="owner/one")
    subjects = find_subjects(list(map(str, models)), None)
    compared = compare(subjects, list(PROBES), output=place, name="comparison")
    return {name: models[0] / name for name in RUNS} | {"comparison": compared.directory}


@pytest.fixture
def run(made, tmp_path):
    """A copy of a run that may be damaged."""
    return lambda name: shutil.copytree(made[name], tmp_path / "owner--one" / name, dirs_exist_ok=True)


def look_at(directory):
    """What plot, report and the terminal read of a run."""
    found = read_run(directory)
    provenance(found), measured_words([found])
    if found.manifest["probe"] in PROBES:
        lines_of(found)
    elif found.manifest["probe"] == "compare":
        read_comparison(found)
    return found


def told(directory):
    """What is said of a run that cannot be used, on one line that names a file or its directory, or None."""
    try:
        look_at(directory)
    except DepthprobeError as error:
        assert str(error).startswith(str(directory)), error
        assert str(error).isprintable() and error.hint, error
        assert len(str(error).replace(str(directory), "")) < 400
        return error.problem.replace(str(directory), "")
    return None


def unhashed(manifest):
    """Without the hashes that earlier versions did not write, or that somebody took out."""
    for name in ("sha256", "format"):
        manifest.pop(name, None)
    for file in manifest.get("files") or {} if isinstance(manifest.get("files"), dict) else ():
        if isinstance(manifest["files"][file], dict):
            manifest["files"][file].pop("sha256", None)


def places_in(value, above=()):
    """The path of everything in a JSON value; of a list its first item stands for all."""
    if above:
        yield above
    inner = (
        value.items() if isinstance(value, dict) else enumerate(value[:1] if isinstance(value, list) else ())
    )
    for key, each in inner:
        yield from places_in(each, (*above, key))


GONE = object()
STRANGE = [GONE, None, "\x1b[31m text", 3, -1, 10**18, 1.5, 1e308, True, [], {}, [1], {"a": 1}, "a" * 5000]


@pytest.mark.parametrize("name", RUNS)
def test_whatever_stands_in_a_manifest_it_is_read_or_told(run, name):
    directory = run(name)
    edit_manifest(directory, unhashed)
    whole = json.loads((directory / "manifest.json").read_text())
    # A part of all, another one for each kind of run: what they share is tried often enough.
    cases = [(place, value) for place in places_in(whole) for value in STRANGE]
    answers = []
    for place, value in cases[RUNS.index(name) :: 17]:
        manifest = copy.deepcopy(whole)
        holder = manifest
        for key in place[:-1]:
            holder = holder[key]
        if value is GONE:
            del holder[place[-1]]
        else:
            holder[place[-1]] = value
        (directory / "manifest.json").write_text(json.dumps(manifest))
        answers.append(told(directory))
    assert any(answers) and not all(answers)


CELLS = [
    "1e308",
    "1e149",
    "1e-320",
    "-5",
    "1" + "0" * 18,
    "nan",
    "",
    "text",
    "0",
    "2",
    "9" * 5000,
    "\x1b[31m",
]


@pytest.mark.parametrize("name", RUNS)
def test_whatever_stands_in_a_cell_it_is_read_or_told(run, made, name):
    directory = run(name)
    answers = []
    cases = [
        (table.stem, column, cell)
        for table in made[name].glob("*.csv")
        for column in range(len(table.read_text().splitlines()[0].split(",")))
        for cell in CELLS
    ]
    for stem, column, cell in cases[:: max(1, len(cases) // 35)]:
        shutil.copyfile(made[name] / f"{stem}.csv", directory / f"{stem}.csv")

        def change(text, column=column, cell=cell):
            lines = text.splitlines()
            cells = lines[2].split(",")
            cells[column] = cell
            return "\n".join([*lines[:2], ",".join(cells), *lines[3:]]) + "\n"

        edit_table(directory, stem, change)
        answers.append(told(directory))
        edit_table(directory, stem, lambda text, stem=stem: (made[name] / f"{stem}.csv").read_text())
    assert any(answers)


def without_line(number):
    return lambda text: "".join(line for at, line in enumerate(text.splitlines(True)) if at != number)


def cell(line, column, value):
    def change(text):
        lines = [each.split(",") for each in text.splitlines()]
        lines[line][column] = value
        return "\n".join(map(",".join, lines)) + "\n"

    return change


@pytest.mark.parametrize(
    ("name", "stem", "change", "sentence"),
    [
        (
            "angular",
            "angular",
            cell(1, 0, "10" + "0" * 17),
            "line 2 has 1000000000000000000 for layer, which",
        ),
        ("angular", "angular", cell(1, 0, "-1"), "line 2 has -1 for layer, which is less than 0"),
        ("angular", "angular", cell(1, 0, "3"), "line 2 has layer 3, and the model's layers are 0 to 2"),
        ("angular", "angular", cell(3, 1, "9"), "has a block up to layer 8 of a model of 3 layers"),
        ("angular", "angular", cell(2, 2, "1.5"), "line 3 has 1.5 for distance, which is more than 1"),
        ("angular", "angular", cell(2, 1, "1"), "line 3 repeats an earlier row (n 1, layer 0)"),
        ("angular", "angular", lambda text: text.splitlines(True)[0], "it has no rows"),
        ("variance", "variance", cell(2, 2, "1e308"), "has 1e+308 for variance, which is more than 1e+150"),
        ("variance", "variance", cell(2, 2, "1e-320"), "for variance, which is closer to 0 than 1e-150"),
        ("variance", "variance", without_line(2), "the table of variances lacks the stream at boundary 1"),
        ("variance", "influence", without_line(2), "block influences is not one of the layers 0 to 2"),
        ("gradnorm", "gradnorm", cell(3, 2, "-1.0"), "line 4 has -1.0 for grad_norm, which is less than 0"),
        ("gradnorm", "gradnorm", cell(3, 1, "tail"), "has the part 'tail'"),
        ("prune-sweep-quiz", "prune_sweep", cell(1, 6, "1e308"), "for drop, which is more than 1e+300"),
        ("prune-sweep-quiz", "prune_sweep", cell(1, 10, "2.0"), "2.0 for p_adjusted, which is more than 1"),
        (
            "prune-sweep-quiz",
            "prune_sweep",
            cell(1, 3, "2"),
            'repeats an earlier row (task "quiz", metric "acc"',
        ),
        ("training", "training", cell(1, 0, "1"), "repeats an earlier row (step 1, layer 0)"),
        ("comparison", "compare_angular", cell(1, 1, "-7"), "line 2 has -7 for layer"),
    ],
)
def test_a_table_that_cannot_be_one_of_its_probe_is_named_with_the_line(run, name, stem, change, sentence):
    directory = run(name)
    edit_table(directory, stem, change)
    assert f"cannot be used: {sentence}" in told(directory) or sentence in told(directory)


def undeclare(stem, column):
    def change(manifest):
        manifest["columns"][stem] = [each for each in manifest["columns"][stem] if each["name"] != column]

    return change


def put(value, *place):
    def change(manifest):
        for key in place[:-1]:
            manifest = manifest[key]
        manifest[place[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (put([], "columns"), "columns is [], not an object"),
        (put({}, "columns"), "columns names no table"),
        (put(None, "files"), "files is null, not an object"),
        (put({}, "files"), "files does not say how many rows prune_sweep.csv has"),
        (put("all well", "results"), 'results is "all well", not an object'),
        (put(7, "probe"), "probe is 7, not the name of a probe"),
        (put([1], "settings"), "settings is [1], not an object"),
        (put("12", "model", "layers"), 'model.layers is "12", not a whole number from 1 to 10000'),
        (put(10**18, "model", "layers"), "model.layers is 1000000000000000000, not a whole number"),
        (put(["m"], "model", "id"), 'model.id is ["m"], not text'),
        (put("yes", "options", "higher_is_better"), 'options.higher_is_better is "yes", not an object'),
        (put(0, "options", "block"), "options.block is 0, not a whole number from 1 to 10000"),
        (put("yesterday", "elapsed_s"), 'elapsed_s is "yesterday", not a number of at least 0'),
        (put("me", "command"), 'command is "me", not a list'),
        (put([1, 2], "versions"), "versions is [1, 2], not an object"),
        (put("\x1b[2J" * 900, "data", "samples"), 'data.samples is "\\u001b[2J'),
    ],
)
def test_an_entry_of_another_form_is_named_with_its_value(run, change, sentence):
    directory = run("prune-sweep-quiz")
    edit_manifest(directory, change)
    assert told(directory).startswith(f"/manifest.json cannot be used: {sentence}")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "it is empty"),
        (b"{", "it is not JSON from line 1, column 2 on"),
        (b"\x89PNG\r\n\x1a\n\0\0\xff", "it is not UTF-8 text"),
        ("{}".encode("utf-16"), "it is not UTF-8 text"),
        (b"[1]", "it holds a list, not an object"),
        (b"null", "it holds null, not an object"),
        (b'{"a": NaN}', "it holds NaN, which is not a number"),
        (b'{"a": 1e999}', "it holds a number that is too large"),
        (b'{"a": ' + b"9" * 9000 + b"}", "it holds a number that is too large"),
        (b'{"a": 1, "a": 2}', "it says 'a' twice"),
        (b'{"a":' * 500 + b"1" + b"}" * 500, "it is nested more than 40 levels deep"),
        (b"[" * 200_000, "it is nested more than 40 levels deep"),
    ],
    ids=lambda value: str(value)[:12],
)
def test_what_is_no_manifest_is_told_in_plain_words(run, content, sentence):
    directory = run("angular")
    (directory / "manifest.json").write_bytes(content)
    assert told(directory) == f"/manifest.json is not a manifest: {sentence}."


def test_a_manifest_saved_by_an_editor_with_a_byte_order_mark_is_read(run):
    path = run("angular") / "manifest.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_run(path.parent).tables


def test_a_manifest_of_a_later_version_is_told_apart_from_a_damaged_one(run):
    directory = run("angular")
    edit_manifest(directory, lambda manifest: manifest.update(format=3, columns="as of 2031"))
    with pytest.raises(RunError, match="written by a later version of depthprobe: its format is 3.*Upgrade"):
        read_run(directory)


@pytest.mark.parametrize(
    "change",
    [
        put(False, "options", "higher_is_better", "quiz/acc/none"),
        put(0.9, "options", "chance", "quiz/acc/none"),
        put("owner/other", "model", "id"),
        put({"seed": 1}, "settings"),
        put("bfloat16", "model", "dtype"),
        lambda manifest: manifest.pop("sha256"),
        lambda manifest: manifest.pop("format"),
        lambda manifest: manifest["files"]["prune_sweep"].pop("sha256"),
    ],
)
def test_a_manifest_changed_by_hand_is_refused(run, change):
    directory = run("prune-sweep-quiz")
    edit_manifest(directory, change, sealed=False)
    assert told(directory).startswith("/manifest.json was changed after the run")


def test_what_was_typed_and_what_it_cost_may_be_taken_out_before_runs_are_shared(run):
    directory = run("angular")

    def anonymous(manifest):
        manifest |= {"command": [], "elapsed_s": None, "peak_memory_bytes": None}

    edit_manifest(directory, anonymous, sealed=False)
    assert look_at(directory).manifest["command"] == []


@pytest.mark.parametrize("name", RUNS)
def test_a_run_of_an_earlier_version_has_no_hash_of_its_manifest_and_is_read(run, name):
    directory = run(name)
    edit_manifest(directory, unhashed)
    assert figure_of(look_at(directory)).axes


def test_a_pipe_in_the_place_of_a_table_does_not_hang(run, tmp_path):
    directory = run("angular")
    (directory / "angular.csv").unlink()
    os.mkfifo(directory / "angular.csv")
    assert told(directory) == "/angular.csv is not a file."


@pytest.mark.parametrize("settings", [3, None, [], {"text": "x"}, {"a": 1e999}, {"a": {"b": [1]}}])
def test_a_new_run_goes_beside_one_with_strange_settings(tmp_path, run, settings):
    directory = run("angular")
    edit_manifest(directory, put(settings, "settings"), sealed=False)
    place = reserve(tmp_path, "owner/one", "angular", {"model": "owner/one"})
    assert place.finished is None and place.directory != directory and str(directory) in place.note


@pytest.mark.parametrize("command", ["plot", "report", "compare"])
def test_the_commands_that_read_runs_end_with_a_sentence_and_a_status(run, tmp_path, command):
    directory = run("angular")
    edit_manifest(directory, put(None, "files"))
    # The report of a model whose runs are all damaged.
    given = [directory.parent if command == "report" else directory]
    given += [run("variance")] if command == "compare" else []
    done = CliRunner().invoke(app, [command, *map(str, given), "-o", str(tmp_path / "out")])
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        f"Error: {directory / 'manifest.json'} cannot be used: files is null, not an object."
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", os.fsdecode(b"\xff\xfe"), "a/" * 3000])
def test_a_name_that_no_directory_can_have_is_told_in_one_sentence(name):
    with pytest.raises(RunError, match="does not exist"):
        read_run(name)
