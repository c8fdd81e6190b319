"""``depthprobe report``: one model's runs as a page, figures, tables and lists."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from depthprobe import interruption
from depthprobe.commands import options as shared
from depthprobe.commands.choice import choose_model
from depthprobe.commands.show import Watch, guarded, importing, result_console, uncollected
from depthprobe.errors import OptionError

MEASURE = "What a MODEL is measured with"


@guarded
def command(
    targets: Annotated[
        Optional[list[str]],
        typer.Argument(
            metavar="[MODEL | RUN_DIRS...]",
            help="A model, as for the other commands: what is missing is measured first. Or the directory of "
            "a model's runs, or single runs: nothing is measured.",
            show_default=False,
        ),
    ] = None,
    task: Annotated[
        Optional[list[str]],
        typer.Option(
            "--task",
            "--tasks",
            help="Tasks of prune-sweep, comma separated or repeated.",
            rich_help_panel=MEASURE,
            show_default="stdlib_mc",
        ),
    ] = None,
    num_fewshot: Annotated[
        Optional[int],
        typer.Option(help="Examples in the prompt.", rich_help_panel=MEASURE, show_default="the task's own"),
    ] = None,
    limit: Annotated[
        Optional[float],
        typer.Option(help="Documents a task, or their share below 1.", rich_help_panel=MEASURE),
    ] = None,
    revision: shared.Revision = None,
    dtype: shared.Dtype = "auto",
    device: shared.Device = "auto",
    trust_remote_code: shared.TrustRemoteCode = False,
    adapter: shared.Adapter = None,
    device_map: shared.DeviceMap = None,
    dataset: shared.Dataset = None,
    dataset_config: shared.DatasetConfig = None,
    split: shared.Split = None,
    column: shared.Column = None,
    samples: shared.SampleCount = None,
    seq_len: shared.SeqLen = None,
    seed: shared.Seed = 0,
    output: Annotated[
        Optional[Path],
        typer.Option(
            "--output",
            "-o",
            help="Directory of runs and report: OUTPUT/MODEL/report/.",
            rich_help_panel=shared.OUTPUT,
            show_default="beside the runs; reports for a MODEL",
        ),
    ] = None,
    style: shared.Style = "auto",
    quiet: shared.Quiet = False,
    verbose: shared.Verbose = False,
) -> None:
    """One report of a model: verdict, figures, tables, how far the cheap measurements can be trusted.

    Of a MODEL, whatever of angular, variance, gradnorm and prune-sweep is missing under OUTPUT is measured,
    with the model loaded once. Of RUN_DIRS, nothing is measured and no model is needed. Writes report.html,
    which needs no other file, report.md, and folders with every figure (PDF, PNG, SVG, caption), table (CSV,
    LaTeX) and list.
    """
    given: dict[str, Any] = dict(locals())
    from depthprobe.commands.targets import refuse_measuring, runs_named

    watch = Watch(quiet, verbose)
    check_style(style)
    directories = runs_named(targets or [])
    if directories is None:
        chosen, why = choose_model(targets[0] if targets else None, None)
        watch.say(f"Model: {chosen} ({why}).")
        output = output or Path("reports")
        with importing():
            from depthprobe.commands.reporting import measure_missing
        directories = measure_missing(chosen, given | {"output": output}, watch)
        if not directories:
            return  # another process has the runs
    else:
        refuse_measuring(command, given)
    # A quarter of the time, which is to be short, would go into looking for garbage.
    with uncollected():
        from depthprobe.findings.study import read_study
        from depthprobe.render.report.write import FIGURES, FOLDER, LISTS, PAGE, TABLES, TEXT, write_report
        from depthprobe.render.terminal.trust import trust_table
        from depthprobe.results.naming import run_directory_name

        study = read_study(directories)
        home = study.all_runs[0].directory.parent
        if output is not None:
            home = output / run_directory_name(str(study.facts.get("id") or study.model))
        untouched = f"Interrupted: the runs are as they were, and so is {home / FOLDER}."
        with interruption.told(untouched):
            report = write_report(study, home / FOLDER, style)
    console = result_console()
    for sentence in report.verdict:
        console.print(sentence, markup=False, soft_wrap=not console.is_terminal)
    if len(report.correlations):
        console.print(trust_table(report.correlations))
    for note in report.notes:
        watch.say(note)
    for name in (PAGE, TEXT, FIGURES, TABLES, *([LISTS] if report.snippets else [])):
        console.print(str(home / FOLDER / name), soft_wrap=True)


def check_style(style: str) -> None:
    """Raise an OptionError where there is no such style, before anything is measured.

    Raises:
        OptionError: if there is no such style.
    """
    if style not in shared.STYLES:
        raise OptionError(f"--style is {style!r}.", f"Use one of: {', '.join(shared.STYLES)}.")
