"""The figure of a probe that brings none: lines over the layers, or a map."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
import pytest

from depthprobe.catalogue import PROBES
from depthprobe.declaring import Option, Options, Probe, TableOf
from depthprobe.errors import OptionError, RunError
from depthprobe.measurement import Column
from depthprobe.render.charts.figures import draw_run, figure_of
from depthprobe.render.charts.kit.page_sizes import PAGE_SIZES, drawn_for
from depthprobe.results.runs import Run
from depthprobe.results.store import reserve, save
from support.legibility import check_print

LONG = "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B-some-very-long-suffix-for-testing-2026"


def declared(*names, unit="bits", **options):
    """A probe of these columns, the last of which is what it measures."""
    columns = tuple(Column(name, unit if name == names[-1] else "", name) for name in names)
    table = TableOf("toy_rank", columns, quantity=names[-1], **options)
    return Probe("toy-rank", "no.module", "What?", "What.", (table,))


@pytest.fixture
def known(monkeypatch):
    """Put a probe into the catalogue."""

    def put(probe):
        monkeypatch.setitem(PROBES, probe.name, probe)
        return probe

    return put


def measured(probe, frame):
    return probe.measurement({"toy_rank": frame})


def by_layer(layers, low=3.0):
    return pd.DataFrame({"layer": range(layers), "rank": low + np.sin(np.arange(layers))})


def by_part(layers, parts):
    rows = [(layer, part, 1.0 + layer + index) for index, part in enumerate(parts) for layer in range(layers)]
    return pd.DataFrame(rows, columns=["layer", "part", "rank"])


def over(layers, others, low=0.0):
    rows = [
        (layer, other, low + abs(layer - index))
        for layer in range(layers)
        for index, other in enumerate(others)
    ]
    return pd.DataFrame(rows, columns=["layer", "other", "rank"])


def written(figure):
    return [text.get_text() for text in figure.texts]


def test_one_row_a_layer_is_a_line_with_its_unit(known):
    probe = known(declared("layer", "rank"))
    frame = by_layer(6)
    (axes,) = figure_of(measured(probe, frame.sample(frac=1, random_state=0)), title="mine").axes
    (line,) = axes.lines
    assert line.get_ydata().tolist() == frame["rank"].tolist()
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("Rank [bits]", "Layer index $l$")
    assert not axes.figure.legends


def test_without_a_unit_the_axis_has_none(known):
    probe = known(declared("layer", "rank", unit=""))
    assert figure_of(measured(probe, by_layer(3))).axes[0].get_ylabel() == "Rank"


def test_every_key_is_a_line_in_the_key_and_rows_outside_the_layers_are_left_out(known):
    probe = known(declared("layer", "part", "rank", keys=("part",), varying="part", outside=("head",)))
    frame = pd.concat(
        [by_part(4, ["all", "attention"]), by_part(5, ["head"]), by_part(1, ["all"]).assign(layer=-1)]
    )
    figure = figure_of(measured(probe, frame))
    (axes,), (legend,) = figure.axes, figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["all", "attention"]
    assert [len(line.get_ydata()) for line in axes.lines] == [4, 4]


def test_of_more_lines_than_can_be_told_apart_the_caption_says_how_many_are_hidden(known):
    probe = known(declared("layer", "part", "rank", keys=("part",)))
    figure = figure_of(measured(probe, by_part(4, list("abcdefgh"))))
    assert len(figure.axes[0].lines) == 5
    assert written(figure) == ["3 more lines in the CSV"]


def test_an_interval_is_a_band(known):
    probe = known(declared("layer", "ci_low", "ci_high", "rank"))
    frame = by_layer(5).assign(ci_low=2.0, ci_high=5.0)[["layer", "ci_low", "ci_high", "rank"]]
    figure = figure_of(measured(probe, frame))
    assert len(figure.axes[0].collections) == 1
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["95% interval"]


def test_values_below_0_are_on_the_axis(known):
    probe = known(declared("layer", "rank"))
    low, high = figure_of(measured(probe, by_layer(9, low=-0.5))).axes[0].get_ylim()
    assert low < -1.4 and high > 0.4


def test_a_map_has_a_cell_for_every_row_and_a_bar_with_the_unit(known):
    probe = known(declared("layer", "other", "rank", keys=("other",), across="other"))
    frame = over(5, [0, 1, 2, 3, 10])
    axes, bar = figure_of(measured(probe, frame.sample(frac=1, random_state=0))).axes
    (mesh,) = axes.collections
    drawn = np.full((5, 5), np.nan)
    for path, value in zip(mesh.get_paths(), mesh.get_array(), strict=True):
        across, up = path.vertices.min(axis=0) + 0.5
        drawn[int(up) - 1, int(across)] = value
    assert drawn.tolist() == frame.pivot(index="other", columns="layer", values="rank").to_numpy().tolist()
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0", "1", "2", "3", "10"]
    assert (axes.get_ylabel(), axes.get_xlabel(), bar.get_ylabel()) == (
        "Other",
        "Layer index $l$",
        "Rank [bits]",
    )


def test_a_cell_that_was_not_measured_stays_empty(known):
    probe = known(declared("layer", "other", "rank", keys=("other",), across="other"))
    frame = over(3, ["a", "b"])[1:]
    (mesh,) = figure_of(measured(probe, frame)).axes[0].collections
    assert len(mesh.get_paths()) == 5


def test_other_keys_of_a_map_are_maps_below_each_other_on_one_scale(known):
    probe = known(declared("layer", "other", "part", "rank", keys=("other", "part"), across="other"))
    frames = [over(4, [0, 1], low=low).assign(part=part) for low, part in enumerate("abcde")]
    frame = pd.concat(frames)[["layer", "other", "part", "rank"]]
    figure = figure_of(measured(probe, frame))
    maps = [axes.collections[0] for axes in figure.axes[::2]]
    assert len(maps) == 4 and len({mesh.get_clim() for mesh in maps}) == 1
    assert written(figure) == ["1 more map in the CSV", "a", "b", "c", "d"]


@pytest.mark.parametrize("style", PAGE_SIZES)
@pytest.mark.parametrize("layers", [1, 12, 126])
@pytest.mark.parametrize("others", [2, 126])
def test_no_text_of_a_map_is_clipped_or_overlaps(known, style, layers, others):
    names = ("layer", "other", "rank_of_the_other_layer")
    probe = known(declared(*names, keys=("other",), across="other"))
    frame = over(layers, range(others)).set_axis(names, axis=1)
    with drawn_for(style):
        figure = figure_of(measured(probe, frame), title=LONG)
        check_print(figure)


def test_long_names_of_a_map_are_shortened(known):
    probe = known(declared("layer", "other", "rank", keys=("other",), across="other"))
    figure = figure_of(measured(probe, over(12, [LONG, "$x$"])), title=LONG)
    check_print(figure)
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert [name[-1] for name in names] == ["$", "\N{HORIZONTAL ELLIPSIS}"]


@pytest.mark.parametrize("style", PAGE_SIZES)
@pytest.mark.parametrize("layers", [1, 12, 126])
@pytest.mark.parametrize("parts", [["all"], list("abcdefgh"), [LONG, "$x$ of the feed-forward branch"]])
def test_no_text_of_lines_is_clipped_or_overlaps(known, style, layers, parts):
    probe = known(declared("layer", "part", "rank", keys=("part",), unit="nats a token"))
    with drawn_for(style):
        figure = figure_of(measured(probe, by_part(layers, parts)), title=LONG)
        check_print(figure)


def test_a_run_of_such_a_probe_gets_its_files_and_caption(known, tmp_path):
    probe = known(declared("layer", "rank"))
    manifest = {
        "model": {"id": "owner/name", "layers": 9},
        "data": {"dataset": "allenai/c4", "samples": 64, "tokens": 9000, "seq_len": 256},
    }
    run = save(reserve(tmp_path, "owner/name", probe.name, {}), measured(probe, by_layer(6)), manifest)
    assert [path.name for path in draw_run(run, formats=["png"])] == ["toy_rank.png"]
    figure = figure_of(run)
    assert written(figure) == ["owner/name", "allenai/c4, 64 samples of up to 256 tokens"]
    assert figure.axes[0].get_xlim()[1] > 8  # the model has nine layers, though six were measured


def test_an_option_of_the_figure_is_the_charts_and_names_the_file(known, tmp_path, monkeypatch):
    @dataclass(frozen=True)
    class ToyOptions(Options):
        scale: Annotated[Literal["even", "log"], Option("How it is drawn.", role="figure")] = "even"

    drawn = []

    def draw(findings, *, title="", caption="", scale="even"):
        drawn.append(scale)
        return figure_of(measured(plain, by_layer(6)))

    plain = known(declared("layer", "rank"))
    own = Probe(**{**vars(plain), "name": "own", "options": ToyOptions, "chart": "toy_charts:draw"})
    monkeypatch.setitem(PROBES, "own", own)
    monkeypatch.setattr("depthprobe.render.charts.figures.loaded_function", lambda place: draw)
    run = save(
        reserve(tmp_path, "m", "own", {}), own.measurement({"toy_rank": by_layer(6)}), {"model": {"id": "m"}}
    )
    assert [path.name for path in draw_run(run, formats=["png"], scale="log")] == ["toy_rank-log.png"]
    assert [path.name for path in draw_run(run, formats=["png"], scale="even")] == ["toy_rank.png"]
    assert drawn == ["log", "even"]
    with pytest.raises(OptionError, match="--scale must be even or log, got 'cubic'"):
        figure_of(run, scale="cubic")
    with pytest.raises(OptionError, match="--normalize has no effect: own is drawn as measured"):
        figure_of(run, normalize="row")


def test_a_table_that_is_not_as_declared_is_refused(known):
    probe = known(declared("layer", "rank"))
    with pytest.raises(RunError, match="no rows"):
        figure_of(measured(probe, by_layer(6)[:0]))


def compared(probe, *models):
    """A comparison of such a probe, as it is saved: by model its number of layers and its table."""
    frames, sides = [], []
    for label, layers, frame in models:
        frames.append(frame.assign(model=label, relative_depth=frame["layer"] / layers))
        kept = {"options": {}, "data": {"dataset": "builtin", "samples": 8, "seq_len": 64}}
        model = {"layers": layers, "dtype": "float32"}
        sides.append({"label": label, "model": model, "runs": {probe.name: kept}})
    tables = {"compare_toy_rank": pd.concat(frames, ignore_index=True)}
    return Run(Path("c"), {"probe": "compare", "compared": sides}, tables)


def test_compared_lines_share_their_axis_and_relative_depth(known):
    probe = known(declared("layer", "part", "rank", keys=("part",)))
    run = compared(probe, ("a", 4, by_part(4, ["all", "up"])), (LONG, 9, by_part(9, ["all", "up"])))
    figure = figure_of(run)
    first, second = figure.axes
    assert first.get_ylim() == second.get_ylim() and first.get_xlim() == second.get_xlim()
    assert [len(axes.lines) for axes in figure.axes] == [2, 3]  # the first model again, in grey
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["all", "up", "first model"]
    check_print(figure)


@pytest.mark.parametrize("layers", [(4, 9, 32), (80, 80)])
@pytest.mark.parametrize("others", [["q_proj", "k_proj", "up"], range(40)])
def test_compared_maps_share_their_colours(known, layers, others):
    probe = known(declared("layer", "other", "rank", keys=("other",), across="other"))
    models = [(f"{LONG}-{number}", count, over(count, others)) for number, count in enumerate(layers)]
    figure = figure_of(compared(probe, *models))
    maps = [axes.collections[0] for axes in figure.axes[: len(layers)]]
    assert len({cells.get_clim() for cells in maps}) == 1
    assert [len(cells.get_paths()) for cells in maps] == [count * len(others) for count in layers]
    check_print(figure)
