"""``depthprobe report``: one model's runs as a page, figures, tables and lists."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from depthprobe import interruption
from depthprobe.catalogue import PROBES
from depthprobe.commands import options as shared
from depthprobe.commands.arguments import MODEL, OUTPUT, TEXT, Asked, OptionGroup
from depthprobe.commands.choice import choose_model
from depthprobe.commands.measuring import requests_for
from depthprobe.commands.show import Watch, importing, lacking_told, result_console, uncollected
from depthprobe.declaring import Option
from depthprobe.evaluation.harness.options import SweepOptions
from depthprobe.models.loading.options import LoadOptions


@dataclass(frozen=True)
class ReportOptions:
    """What a report is made of."""

    targets: Annotated[
        tuple[str, ...],
        Option(
            "A model, as for the other commands: missing measurements are made first. Or the directory of a "
            "model's runs, or single runs: nothing is measured.",
            positional=True,
            metavar="[MODEL | RUN_DIRS...]",
        ),
    ] = ()


@dataclass(frozen=True)
class ReportOutput:
    """Where a report goes."""

    output: Annotated[
        Path | None,
        Option(
            "Where runs and report are saved: OUTPUT/MODEL/report/.",
            flags=("--output", "-o"),
            metavar="PATH",
            default="beside the runs; for a MODEL, reports",
            parse=shared.folder_of,
        ),
    ] = None


EXAMPLE = "depthprobe report builtin:pre-ln --limit 50"
GROUPS = (
    OptionGroup(ReportOptions),
    OptionGroup(SweepOptions),
    OptionGroup(LoadOptions, MODEL),
    shared.OF_TEXT,
    *shared.counts_of(PROBES.values()),
    OptionGroup(shared.BatchOptions, TEXT),
    OptionGroup(ReportOutput, OUTPUT),
    OptionGroup(shared.StyleOptions, OUTPUT),
    shared.OF_TERMINAL,
)


def command(asked: Asked) -> None:
    """One report on a model: verdict, figures, tables, how far the cheap measurements can be trusted.

    Given a MODEL, the measurements missing under OUTPUT (angular, variance, gradnorm, prune-sweep) are made,
    with the model loaded once. Given RUN_DIRS, nothing is measured and no model is needed. Writes
    report.html, which needs no other file, report.md, and directories with every figure (PDF, PNG, SVG,
    caption), table (CSV, LaTeX) and list.
    """
    from depthprobe.commands.targets import refuse_measuring, runs_named

    targets, output = asked.options(ReportOptions).targets, asked.options(ReportOutput).output
    watch = Watch(**asked.values(shared.TerminalOptions))
    drawing = asked.options(shared.StyleOptions)
    style = shared.style_of(drawing.style)
    failure = None
    directories = runs_named(targets)
    if directories is None:
        chosen, why = choose_model(targets[0] if targets else None, None)
        watch.say(f"Model: {chosen} ({why}).")
        output = output or Path("reports")
        probes = [probe for probe in PROBES.values() if probe.reported]
        requests = requests_for(chosen, probes, asked, output)
        with importing():
            from depthprobe.pipeline.one_model import measure_all
        measured = measure_all(requests, watch)
        directories, failure = [run.directory for run in measured.runs], measured.failure
    else:
        refuse_measuring(asked)
    # Looking for garbage would take a quarter of the time.
    with uncollected():
        from depthprobe.findings.study import read_study
        from depthprobe.render.report.write import FIGURES, FOLDER, LISTS, PAGE, TABLES, TEXT, write_report
        from depthprobe.render.terminal.trust import trust_table
        from depthprobe.results.naming import run_directory_name

        study = read_study(directories)
        home = study.all_runs[0].directory.parent
        if output is not None:
            home = output / run_directory_name(str(study.model_facts.get("id") or study.model))
        # Beside the report on the model without it.
        folder = home / "-".join([FOLDER, *([run_directory_name(study.adapter)] if study.adapter else [])])
        untouched = f"Interrupted: the runs are unchanged, and so is {folder}."
        with interruption.told(untouched), lacking_told():
            report = write_report(study, folder, style, subtitle=not drawing.no_subtitle)
    console = result_console()
    findings = report.findings
    for sentence in findings.verdict.lines:
        console.print(sentence, markup=False, soft_wrap=not console.is_terminal)
    if len(findings.trust.correlations):
        console.print(trust_table(findings.trust.correlations))
    for note in study.notes:
        watch.say(note)
    for name in (PAGE, TEXT, FIGURES, TABLES, *([LISTS] if report.snippets else [])):
        console.print(str(folder / name), soft_wrap=True, markup=False)
    if failure is not None:
        raise failure  # the report is written, but part of it is missing
