"""``depthprobe compare``: models or finished runs side by side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from depthprobe import interruption
from depthprobe.commands import options as shared
from depthprobe.commands.measuring import drawn
from depthprobe.commands.prune_sweep import CALIBRATION_SAMPLES, EMBEDDED_TASK
from depthprobe.commands.show import Watch, guarded, importing, result_console
from depthprobe.errors import OptionError

if TYPE_CHECKING:
    from depthprobe.comparing.sides import Side
    from depthprobe.results.runs import Run


@guarded
def command(
    compared: Annotated[
        list[str],
        typer.Argument(
            metavar="A B ...",
            help="Two or more: models as for the other commands, runs such as "
            "reports/builtin--pre-ln/angular, or directories of a model's runs such as "
            "reports/builtin--pre-ln.",
        ),
    ],
    probe: Annotated[
        Optional[list[str]],
        typer.Option(
            help="What is compared, comma separated or repeated: angular, variance, gradnorm, prune-sweep.",
            show_default="angular and variance of models; all that finished runs share",
        ),
    ] = None,
    task: Annotated[
        Optional[list[str]],
        typer.Option(
            "--task",
            "--tasks",
            help="Tasks of prune-sweep, comma separated or repeated.",
            rich_help_panel=shared.TASKS,
            show_default=EMBEDDED_TASK,
        ),
    ] = None,
    num_fewshot: shared.NumFewshot = None,
    limit: shared.Limit = None,
    dtype: shared.Dtype = "auto",
    device: shared.Device = "auto",
    trust_remote_code: shared.TrustRemoteCode = False,
    device_map: shared.DeviceMap = None,
    dataset: shared.Dataset = None,
    dataset_config: shared.DatasetConfig = None,
    split: shared.Split = None,
    column: shared.Column = None,
    samples: shared.SampleCount = None,
    seq_len: shared.SeqLen = None,
    seed: shared.Seed = 0,
    batch_size: shared.BatchSize = "auto",
    output: shared.Output = Path("reports"),
    name: Annotated[
        Optional[str],
        typer.Option(
            help="Name of the comparison's directory.",
            rich_help_panel=shared.OUTPUT,
            show_default="compare- and the models' names",
        ),
    ] = None,
    format: shared.Format = "png,pdf",
    quiet: shared.Quiet = False,
    verbose: shared.Verbose = False,
) -> None:
    """Put models, or finished runs, side by side: same probes, same text, one scale, differences by layer.

    Models are measured as the single commands would, all on the same text; what is measured already is
    used again. Finished runs need no model; runs of different text or options are refused. Where all have
    equally many layers, every row has its difference to the first; else every row has its relative depth
    l/L, over which curves and drops are drawn. Writes compare_PROBE.csv and a figure for each probe, and
    manifest.json, to OUTPUT/compare-NAMES/.
    """
    asked_for: dict[str, Any] = dict(locals())
    formats = shared.formats_of(format)
    watch = Watch(quiet, verbose)
    from depthprobe.commands.targets import refuse_measuring
    from depthprobe.comparing.sides import find_sides, probes_to_compare
    from depthprobe.comparing.story import compare
    from depthprobe.results.naming import checked_name

    if name is not None:
        checked_name(name)
    asked = list(shared.listed(probe)) if probe is not None else None
    sides = find_sides(compared, asked)
    probes = probes_to_compare(sides, asked)
    if "prune-sweep" not in probes:
        for option, value in (("--task", task), ("--num-fewshot", num_fewshot), ("--limit", limit)):
            if value is not None:
                raise OptionError(
                    f"{option} is given, and prune-sweep is not compared.", "Add --probe prune-sweep."
                )
    if any(side.is_model for side in sides):
        given = {
            "dataset": dataset,
            "config": dataset_config,
            "split": split,
            "column": column,
            "samples": samples,
            "seq_len": seq_len,
            "seed": seed,
        }
        load = {
            "dtype": dtype,
            "device": device,
            "device_map": device_map,
            "trust_remote_code": trust_remote_code,
        }
        sweep = {"tasks": shared.listed(task or [EMBEDDED_TASK]), "num_fewshot": num_fewshot, "limit": limit}
        measured = _measured(sides, probes, given, load, sweep, batch_size, output, watch)
        if measured is None:
            return
        sides = measured
    else:
        refuse_measuring(command, asked_for)
    with (
        watch.stage("Comparing", None, ""),
        interruption.told("Interrupted: the runs are as they were; no comparison was written."),
    ):
        run = compare(sides, probes, output=output, name=name, say=watch.say)
    _show(run, formats)


def _measured(
    sides: list[Side],
    probes: list[str],
    given: dict[str, Any],
    load: dict[str, Any],
    sweep: dict[str, Any],
    batch_size: str,
    output: Path,
    watch: Watch,
) -> list[Side] | None:
    """Return the sides with a run of every probe; None where another process has them."""
    with importing():
        from depthprobe.batches import parse_batch_size
        from depthprobe.measuring_many import check_asked, check_models, measure_sides, shared_text
        from depthprobe.models.options import LoadOptions

    options = LoadOptions(**load)
    size = parse_batch_size(batch_size)
    texts = {
        probe: shared_text(
            sides,
            probe,
            given | ({"samples": CALIBRATION_SAMPLES} if probe == "prune-sweep" else {}),
        )
        for probe in probes
    }
    check_asked(options, output, texts, sweep, watch)
    watch.say(f"Text for all: {next(iter(texts.values())).dataset} (--dataset names another).")
    length = check_models(sides, next(iter(texts.values())), options, watch)
    texts = {
        probe: text if length is None else replace(text, seq_len=length) for probe, text in texts.items()
    }
    return measure_sides(sides, texts, sweep, options, size, output, watch)


def _show(run: Run, formats: tuple[str, ...]) -> None:
    """Print the tables, draw the figures, and say where everything is."""
    from depthprobe.findings.comparison import read_comparison
    from depthprobe.render.terminal.comparison import comparison_tables

    console = result_console()
    findings = read_comparison(run)
    for line in (*comparison_tables(findings), " ".join(findings.sentences)):
        if line:
            console.print(line, markup=False, soft_wrap=isinstance(line, str) and not console.is_terminal)
    figures = drawn(run, formats)
    tables = [run.directory / f"{stem}.csv" for stem in run.tables]
    for path in (*tables, *figures, run.directory / "manifest.json"):
        console.print(str(path), soft_wrap=True)
