"""Words that can go stale: the README's outputs, options and Python are held against the program."""

import re
import tomllib
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
GALLERY = README.parent / "reports" / "gallery" / "builtin--pre-ln" / "angular"

pytestmark = pytest.mark.skipif(not README.is_file(), reason="tests run apart from the repository")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)


def output_of(command):
    found = re.search(
        rf"<!-- output of: {re.escape(command)} -->\n```text\n(.*?)```", README.read_text(), flags=re.DOTALL
    )
    return found[1]


@pytest.mark.parametrize("command", ["angular", "prune-sweep", "gradnorm", "variance"])
def test_what_is_printed_are_the_committed_runs(command, capsys):
    from depthprobe.commands.show import result_console
    from depthprobe.render.terminal.listing import lines_of
    from depthprobe.results.store import read_run

    console = result_console()
    for line in lines_of(read_run(next(GALLERY.parent.glob(f"{command}*")))):
        console.print(line, soft_wrap=isinstance(line, str))
    strip = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    printed = [line.rstrip() for line in output_of(f"depthprobe {command}").splitlines()]
    assert strip and strip == printed[: len(strip)]


@pytest.mark.parametrize("probe", ["gradnorm", "variance"])
def test_the_committed_profile_is_what_the_program_measures_today(probe):
    import platform

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
    import platform

    import depthprobe
    from depthprobe.results.store import read_run

    run = read_run(GALLERY)
    if run.manifest["data"]["python"] != platform.python_version():
        pytest.skip("this Python's standard library is another text")
    found = depthprobe.angular("builtin:pre-ln")
    assert found.frame[["layer", "n", "samples"]].equals(run.tables["angular"][["layer", "n", "samples"]])
    assert (found.frame.distance - run.tables["angular"].distance).abs().max() < 1e-5


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch):
    (tmp_path / "reports").symlink_to(README.parent / "reports")
    monkeypatch.chdir(tmp_path)
    for code in blocks("python"):
        exec(compile(code, str(README), "exec"), {})
    assert (tmp_path / "angular.png").stat().st_size > 10_000


def test_every_option_of_the_command_stands_in_the_readme():
    import typer

    from depthprobe.commands.app import app

    text = README.read_text(encoding="utf-8")
    commands = typer.main.get_command(app).commands
    options = {
        name
        for command in commands
        for parameter in commands[command].params
        for name in parameter.opts
        if name.startswith("--")
    }
    assert {name for name in options if f"`{name}`" not in text} <= {"--help"}
    assert not {name for name in re.findall(r"`(--[a-z-]+)`", text) if name not in options}


def test_the_probe_table_is_the_registry():
    from depthprobe.probes.registry import PROBES

    rows = re.findall(r"^\| `([\w-]+)` \| (.+?) \|", README.read_text(), flags=re.MULTILINE)
    assert [row for row in rows if row[0] in PROBES] == [(p.name, p.question) for p in PROBES.values()]


def test_what_the_embedded_model_reached_is_its_own_record():
    import json

    import depthprobe.builtin as builtin

    folder = builtin.embedded_models()["builtin:pre-ln"]
    record = json.loads((folder / "training.json").read_text())
    printed = output_of("depthprobe pretrain --output runs/pre-ln")
    assert f"held-out loss {record['heldout_loss_nats']:.3f} nats a token" in printed
    assert f"bigram baseline {record['bigram_loss_nats']:.3f}" in printed
    assert record["heldout_loss_nats"] < record["bigram_loss_nats"] - 1
    everything = (builtin.embedded_models()["builtin:pre-ln"].parent).rglob("*")
    assert sum(path.stat().st_size for path in everything if path.is_file()) < 40_000_000


SISTERS = ("pre-ln", "lns", "post-ln", "deepnorm")


def sisters_table():
    """The rows of the README's table of the embedded models, from their records and committed runs."""
    import json

    from depthprobe.builtin import embedded_models
    from depthprobe.findings.of_runs import findings_of
    from depthprobe.findings.thirds import compared_thirds
    from depthprobe.results.store import read_run

    def run(name, probe):
        return read_run(GALLERY.parent.parent / f"builtin--{name}" / probe)

    def harm(name, task):
        found = compared_thirds(findings_of(run(name, "prune-sweep-stdlib_mc")).every[task].harm)
        interval = f"{found.difference:+.3f}, {found.low:+.3f} to {found.high:+.3f}"
        # Adding 0: what rounds to -0.000 is 0.000.
        return f"{round(found.shallow, 3) + 0:.3f}, {round(found.deep, 3) + 0:.3f} ({interval})"

    def turn(name):
        found = compared_thirds(findings_of(run(name, "angular")).turns.to_numpy())
        return f"{found.shallow:.3f}, {found.deep:.3f}"

    def growth(name):
        frame = run(name, "variance").tables["variance"]
        stream = frame[frame.point == "stream"].set_index("layer").variance
        return f"{stream[12] / stream[1]:.2f}"

    def pull(name, last):
        log = run(name, "training").tables["training"]
        rows = log[log.step == (log.step.max() if last else 0)].set_index("layer").grad_norm
        return f"{rows[0]:.3g}, {rows[6]:.3g}, {rows[11]:.3g}"

    def loss(name):
        record = json.loads((embedded_models()[f"builtin:{name}"] / "training.json").read_text())
        return f"{record['heldout_loss_nats']:.3f}"

    def accuracy(name):
        sweep = findings_of(run(name, "prune-sweep-stdlib_mc"))
        return f"{sweep.every['stdlib_mc'].baseline:.3f}"

    def fitted(name):
        losses = run(name, "training").tables["loss"]
        return f"{losses[losses.data == 'train'].loss_nats.iloc[-1]:.3f}"

    rows = {
        "held-out loss, nats a token": loss,
        "loss on the training text, mean of the last 50 steps": fitted,
        "accuracy on `stdlib_mc` (guessing: 0.25)": accuracy,
        "angular distance across one layer: shallow third, deep third": turn,
        "accuracy lost without a layer: shallow, deep third (difference, 95% interval)": lambda name: harm(
            name, "stdlib_mc"
        ),
        "loss gained without a layer: shallow, deep third (difference, 95% interval)": lambda name: harm(
            name, "calibration"
        ),
        "variance of x^L over that of x^1": growth,
        "gradient norm of layers 0, 6, 11 before training": lambda name: pull(name, last=False),
        "the same at the end": lambda name: pull(name, last=True),
    }
    return [f"| {what} | {' | '.join(number(name) for name in SISTERS)} |" for what, number in rows.items()]


def test_the_table_of_the_embedded_models_is_that_of_the_committed_runs():
    text = README.read_text(encoding="utf-8")
    assert [row for row in sisters_table() if row not in text] == []


def test_the_embedded_model_still_has_the_loss_it_was_published_with():
    import json

    from depthprobe.builtin import corpus, embedded_models
    from depthprobe.lab.data import windows
    from depthprobe.lab.pretraining import mean_loss
    from depthprobe.models.loading import load_model

    model = load_model("builtin:pre-ln", device="cpu")
    record = json.loads((embedded_models()["builtin:pre-ln"] / "training.json").read_text())
    texts = [document.text for document in corpus.documents("heldout")[::6]]
    samples = windows(texts, model.tokenizer, 256)[::4]
    # Every sixth document, on whatever Python runs this: near the whole's loss, far below the bigrams'.
    assert mean_loss(model.model, samples) == pytest.approx(record["heldout_loss_nats"], abs=0.4)


def test_torch_is_asked_for_as_the_readme_says():
    project = tomllib.loads((README.parent / "pyproject.toml").read_text())["project"]
    assert "torch>=2.6" in project["dependencies"]


def test_a_figure_shows_itself_in_a_notebook():
    import depthprobe
    from depthprobe.results.store import read_run

    assert depthprobe.draw(read_run(GALLERY))._repr_png_().startswith(b"\x89PNG")
