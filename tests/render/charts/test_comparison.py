"""Figures and tables of a comparison: common scales, names above panels, nothing clipped."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest

from depthprobe.comparing.compare import compare
from depthprobe.comparing.subjects import find_subjects, probes_to_compare
from depthprobe.errors import OptionError
from depthprobe.findings.comparison import read_comparison
from depthprobe.render.charts.comparison import COMPARISONS
from depthprobe.render.charts.figures import draw_run, figure_of
from depthprobe.render.terminal.comparison import layer_tables, summary_tables
from depthprobe.results.store import read_run
from support import compared_runs
from support.legibility import check_text, printed

PROBES = ("angular", "variance", "gradnorm", "prune-sweep")
LONG = "some-organisation/A-Rather-Long-Model-Name-8B-instruct-preview-2025-01-20"


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    made = {}

    def make(*models):
        if models not in made:
            root = tmp_path_factory.mktemp("compared")
            for seed, (model, layers) in enumerate(models):
                for probe in PROBES:
                    compared_runs.save_run(root, model, probe, layers, seed)
            names = [str(root / model.replace("/", "--")) for model, _ in models]
            subjects = find_subjects(names, None)
            made[models] = compare(subjects, probes_to_compare(subjects, None), output=root / "out", name="c")
        return made[models]

    return make


TWO = (("a/one", 12), (LONG, 12))
FIVE = tuple((f"org/model-{layers}-{index}", layers) for index, layers in enumerate((4, 6, 12, 12, 24)))
DEEP = (("a/one", 80), (LONG, 126), ("b/three", 32))


@pytest.mark.parametrize("models", [TWO, FIVE, DEEP], ids=["two", "five", "deep"])
@pytest.mark.parametrize("stem", COMPARISONS)
def test_no_text_of_a_comparison_is_clipped_or_overlaps(compared, models, stem):
    check_text(COMPARISONS[stem](compared(*models)))


@pytest.mark.parametrize("stem", ["compare_variance", "compare_gradnorm", "compare_prune_sweep"])
@pytest.mark.parametrize("models", [TWO, FIVE], ids=["two", "five"])
def test_panels_share_their_axes(compared, models, stem):
    axes = COMPARISONS[stem](compared(*models)).axes
    assert len(axes) == len(models)
    assert len({each.get_ylim() for each in axes}) == len({each.get_xlim() for each in axes}) == 1
    boxes = [each.get_position().size for each in axes]
    assert np.allclose(boxes, boxes[0])


def test_maps_share_one_scale_that_holds_every_distance(compared):
    run = compared(*FIVE)
    figure = COMPARISONS["compare_angular"](run)
    limits = {mesh.get_clim() for axes in figure.axes[:5] for mesh in axes.collections[:1]}
    distances = run.tables["compare_angular"].distance
    assert limits == {(distances.min(), distances.max())}
    assert len(figure.axes) == 6  # five maps, one colour bar


def test_where_depths_differ_profiles_run_from_0_to_1(compared):
    axes = COMPARISONS["compare_variance"](compared(*FIVE)).axes
    for each in axes:
        x = each.lines[0].get_xdata()
        assert x[0] == 0 and x[-1] == 1
    drops = COMPARISONS["compare_prune_sweep"](compared(*FIVE)).axes
    for each, (_, layers) in zip(drops, FIVE, strict=True):
        middles = [bar.get_x() + bar.get_width() / 2 for bar in each.patches]
        assert np.allclose(middles, np.arange(layers) / layers)


def test_a_saved_comparison_is_drawn_again_from_its_csv(compared, tmp_path):
    run = read_run(compared(*TWO).directory)
    paths = draw_run(run, formats=("png",), output=tmp_path)
    assert [path.stem for path in paths] == list(COMPARISONS)
    assert [path.name for path in draw_run(run, formats=("png",), normalize="row", output=tmp_path)] == [
        "compare_angular-row.png"
    ]
    assert len(figure_of(run).axes) == 3


def test_what_is_not_rescaled_is_refused(tmp_path):
    for seed in range(2):
        compared_runs.save_run(tmp_path, f"org/m{seed}", "variance", seed=seed)
    subjects = find_subjects([str(tmp_path / f"org--m{seed}") for seed in range(2)], None)
    run = compare(subjects, ["variance"], output=tmp_path)
    with pytest.raises(
        OptionError, match="--normalize has no effect: .* compares only what is drawn as measured"
    ):
        draw_run(run, normalize="row", output=tmp_path)


def test_models_of_few_layers_have_no_thirds_and_the_table_says_so(compared):
    six = (("org/small", 6), ("org/smaller", 4))
    profiles = [printed(table) for table in summary_tables(read_comparison(compared(*six)))]
    assert len(profiles) == 1 and "shallow" not in profiles[0]  # of drops there are only thirds
    assert "too few layers to compare thirds (12 are needed): these models" in " ".join(profiles[0].split())
    mixed = [
        printed(table) for table in summary_tables(read_comparison(compared(*six[:1], ("org/deep", 12))))
    ]
    (small,) = (line.split() for line in mixed[1].splitlines() if line.strip().startswith("org/small"))
    assert small[1:] == ["6", "-", "-"]
    assert "(12 are needed): org/small" in " ".join(mixed[1].split())


def test_the_tables_have_a_row_a_model_and_a_row_a_layer(compared):
    run = compared(*TWO)
    profiles, drops = (printed(table) for table in summary_tables(read_comparison(run)))
    assert "a/one" in profiles and "a/one" in drops
    assert "\N{HORIZONTAL ELLIPSIS}" not in profiles + drops  # nothing is cut at 80 columns
    tables = [printed(table) for table in layer_tables(read_comparison(run))]
    assert len(tables) == 4
    frame = run.tables["compare_prune_sweep"]
    first, other = (frame[frame.model == name].set_index("layer") for name, _ in TWO)
    row = next(line for line in tables[-1].splitlines() if line.split()[:1] == ["7"])
    assert f"{first['drop'][7]:+.3f}".replace("+0.000", "0.000") in row
    assert f"{other.difference_low[7]:+.3f}" in row and f"{other.difference_high[7]:+.3f}" in row
    (said,) = read_comparison(run).sentences
    reach = np.abs(other[["difference_low", "difference_high"]].to_numpy()).max()
    # Told apart nowhere, it says how large a difference may be hidden.
    assert said.startswith("quiz: these 200 items do not tell the drops of ")
    assert said.endswith(f"the 95% intervals of the differences reach as far as {reach:.3f}.")


def test_models_of_other_depth_have_no_rows_by_layer(compared):
    assert not layer_tables(read_comparison(compared(*FIVE)))


def test_of_other_depths_it_is_said_once_how_each_figure_shows_them(compared, tmp_path):
    models = (("a/four", 4), ("b/six", 6))
    runs = compared(*models).directory.parents[1]
    subjects = find_subjects([str(runs / name) for name in ("a--four", "b--six")], None)
    depth, maps = "over the relative depth l/L", "each map of angular distances over its own model's layers"
    expected = {"angular": (False, True), "variance": (True, False)}
    for probe, (relative, own) in expected.items():
        said = " ".join(read_comparison(compare(subjects, [probe], output=tmp_path, name=probe)).sentences)
        assert said.count("The depths differ (a/four 4, b/six 6 layers)") == 1
        assert (depth in said, maps in said) == (relative, own)
    said = " ".join(read_comparison(compared(*models)).sentences)
    assert said.count("depths differ") == said.count(depth) == said.count(maps) == 1


def test_a_subtitle_of_drops_says_how_the_tasks_were_asked_and_that_the_text_is_for_calibration(compared):
    run = compared(*TWO)
    changed = deepcopy(run.manifest)
    for entry in changed["compared"]:
        entry["runs"]["prune-sweep"]["options"] |= {"num_fewshot": 5, "documents": {"quiz": [0, 1]}}
    figure = COMPARISONS["compare_prune_sweep"](replace(run, manifest=changed))
    said = " ".join(" ".join(text.get_text() for text in figure.texts).split())
    assert "5-shot" in said and "items 0-1 picked by number" in said
    assert "calibration: Python's standard library, 8 samples" in said


def test_the_notes_above_a_panel_are_kept_apart(compared):
    run = compared(*TWO)
    frame = run.tables["compare_prune_sweep"].copy()
    frame.loc[frame["layer"] == 0, ["drop", "ci_low", "ci_high"]] = (-9.0, -9.1, -8.9)
    cut = replace(run, tables={"compare_prune_sweep": frame})
    said = " ".join(text.get_text() for text in COMPARISONS["compare_prune_sweep"](cut).texts)
    assert "200 items (too few); axis cut: layer 0 at" in " ".join(said.split())
