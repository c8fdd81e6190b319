import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from depthprobe.api import draw
from depthprobe.errors import OptionError, RunError
from depthprobe.findings.of_runs import findings_of
from depthprobe.measurement import Column, Measurement, Table
from depthprobe.render.charts.figures import draw_run, figure_of
from depthprobe.render.terminal.listing import lines_of
from depthprobe.results.store import read_run, reserve, save
from support.legibility import printed
from support.profile_frames import falling, influence, rising

FACTS = {
    "gradnorm": {
        "objective": "next token",
        "loss_nats": 3.09,
        "predicted_tokens": 8128,
        "per_batch": None,
        "gradient_batches": 1,
        "notes": [],
    },
    "variance": {"without_branches": {"The branches run in parallel.": [0, 1]}},
}
FRAMES = {
    "gradnorm": {"gradnorm": falling(6)},
    "variance": {"variance": rising(6), "influence": influence(np.linspace(0.5, 0.1, 6))},
}


def measured(probe, **facts):
    tables = [
        Table(stem, frame, tuple(Column(name, "", name) for name in frame.columns))
        for stem, frame in FRAMES[probe].items()
    ]
    return Measurement(probe, tuple(tables), {**FACTS[probe], **facts})


@pytest.fixture
def saved(tmp_path):
    def make(probe, options=(), **model):
        measurement = measured(probe, **dict(options))
        facts = {
            "model": {"id": "owner/[red]name", "layers": 6, "dtype": "bfloat16", **model},
            "data": {"dataset": "builtin", "samples": 32, "seq_len": 256},
            "options": measurement.facts,
        }
        return save(reserve(tmp_path / "reports", "owner/name", probe, {"model": "m"}), measurement, facts)

    return make


def caption(figure):
    return " ".join(text.get_text() for text in figure.texts)


each = pytest.mark.parametrize("probe", ["gradnorm", "variance"])


@each
def test_a_run_gets_its_figure_from_its_directory_and_the_same_bytes_twice(saved, probe, tmp_path):
    run = read_run(saved(probe).directory)
    paths = draw_run(run, formats=["png", "pdf", "svg"])
    assert [path.name for path in paths] == [f"{probe}.png", f"{probe}.pdf", f"{probe}.svg"]
    first = [path.read_bytes() for path in paths]
    again = draw_run(read_run(run.directory), formats=["png", "pdf", "svg"], output=tmp_path / "again")
    assert [path.read_bytes() for path in again] == first
    assert b"/Type3" not in first[1]


def test_tables_and_readings_come_from_the_run_as_well(saved):
    table, reading = lines_of(saved("gradnorm"))
    text = " ".join(printed(table).split())
    assert text.startswith("owner/[red]name: gradient norm of every layer")
    assert "over all 8,128 predicted tokens taken as one batch" in text
    assert reading.startswith("Loss: 3.090 nats, mean over 8,128 predicted tokens. The gradient")

    table, reading = lines_of(saved("variance"))
    text = printed(table)
    assert "owner/[red]name: variance of the residual stream" in text and "Influence" in text
    assert "Least Block Influence (2 of 6, least first, from 0.100): layers 5, 4." in reading
    assert reading.endswith("add is left out: The branches run in parallel.")


def test_a_title_says_that_the_weights_were_freshly_initialised(saved):
    table, _ = lines_of(saved("gradnorm", initial_seed=0))
    title = "owner/[red]name, freshly initialised: gradient norm of every layer"
    assert " ".join(printed(table).split()).startswith(title)


def test_the_caption_of_gradient_norms_states_the_loss_the_tokens_and_the_data(saved):
    assert caption(figure_of(saved("gradnorm"))) == (
        "owner/[red]name gradient of the mean next-token loss (nats) over all 8,128 predicted tokens "
        "taken as one "
        "batch; Python's standard library, 32 samples of up to 256 tokens, bfloat16"
    )
    run = saved("gradnorm", {"objective": "masked token", "per_batch": 8, "gradient_batches": 4})
    assert caption(figure_of(run, title="")) == (
        "gradient of the mean masked-token loss (nats), mean and standard deviation over 4 batches "
        "of 8 samples; "
        "Python's standard library, 32 samples of up to 256 tokens, bfloat16"
    )


def test_the_caption_of_variances_states_what_is_averaged_and_the_data(saved):
    assert caption(figure_of(saved("variance"))) == (
        "owner/[red]name variance over the hidden dimension, mean over 32,640 tokens, before the final norm; "
        "Python's standard library, 32 samples of up to 256 tokens, bfloat16"
    )


@each
@pytest.mark.parametrize("seed", [0, 7])
def test_captions_say_that_the_weights_were_freshly_initialised(saved, probe, seed):
    assert caption(figure_of(saved(probe, initial_seed=seed))).endswith(
        f"bfloat16, freshly initialised, seed {seed}"
    )
    assert "initialised" not in caption(figure_of(saved(probe, initial_seed=None)))


@each
def test_a_manifest_that_says_little_is_enough(saved, probe):
    run = saved(probe)
    run.manifest.update(options=None, data={}, model={})
    assert draw_run(run, formats=["svg"])[0].exists()
    assert findings_of(run).sentences


@each
def test_profiles_are_not_rescaled(saved, probe):
    with pytest.raises(OptionError) as caught:
        draw_run(saved(probe), normalize="row")
    assert str(caught.value) == (
        f"--normalize has no effect: {probe} is drawn as measured. Leave --normalize out."
    )


def test_a_run_that_lacks_its_table_is_refused(saved):
    run = saved("variance")
    run.tables.pop("variance")
    with pytest.raises(RunError, match=r"holds no table variance\.csv\. Restore the file"):
        findings_of(run)


# In notebooks.


@each
def test_a_notebook_draws_measurements_and_runs_by_their_probe(saved, probe):
    figure = draw(saved(probe))
    assert caption(figure).startswith("owner/[red]name ")
    assert figure._repr_png_() == draw(saved(probe))._repr_png_()
    figure = draw(measured(probe), title="mine")
    assert caption(figure).startswith("mine ")
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert len(draw(measured(probe), title="").axes[0].lines) == len(figure.axes[0].lines)


def test_a_measurement_is_captioned_by_what_it_knows():
    assert caption(draw(measured("gradnorm"))).startswith(
        "gradient of the mean next-token loss (nats) over all 8,128"
    )


def test_a_notebook_still_draws_maps_and_drops(make_run, make_frame):
    run = make_run(layers=3)
    assert caption(draw(run, normalize="row")).startswith("owner/name Python's standard")
    table = Table("angular", make_frame(3), tuple(Column(name, "", name) for name in make_frame(3).columns))
    assert (
        draw(Measurement("angular", (table,)), title="t", normalize="row")
        .axes[1]
        .get_ylabel()
        .endswith("(0–1)")
    )
    drops = pd.DataFrame(
        {"task": "t", "metric": "acc", "filter": "none", "layer": [0, 1], "baseline": 0.5, "drop": -0.1}
    ).assign(ci_low=-0.2, ci_high=0.0, p_adjusted=0.01, flips=1, docs=9)
    columns = tuple(Column(name, "", name) for name in drops.columns)
    assert len(draw(Measurement("prune-sweep", (Table("prune_sweep", drops, columns),))).axes[0].patches) == 2


def test_a_notebook_refuses_what_has_no_figure(make_run):
    with pytest.raises(
        RunError, match="is a run of 'other', which has no figure. Figures exist for: angular"
    ):
        draw(make_run(probe="other"))
    with pytest.raises(OptionError, match="variance is drawn as measured"):
        draw(measured("variance"), normalize="row")


@each
def test_a_run_is_drawn_and_told_where_torch_cannot_be_imported(saved, probe):
    code = """
import sys
from pathlib import Path
for name in ("torch", "transformers", "datasets", "matplotlib.pyplot"):
    sys.modules[name] = None
from depthprobe.render.charts.figures import draw_run
from depthprobe.render.terminal.listing import lines_of
from depthprobe.results.store import read_run
run = read_run(Path(sys.argv[1]))
draw_run(run, formats=["png", "pdf", "svg"])
assert lines_of(run)
for part in ("models", "probes", "pipeline", "texts"):
    assert f"depthprobe.{part}" not in sys.modules, part
"""
    run = saved(probe)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(run.directory)], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (run.directory / f"{probe}.svg").exists()
