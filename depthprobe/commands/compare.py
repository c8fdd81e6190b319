"""``depthprobe compare``: models or finished runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

from depthprobe import interruption
from depthprobe.catalogue import PROBES
from depthprobe.commands import options as shared
from depthprobe.commands.arguments import MODEL, OUTPUT, TEXT, Asked, OptionGroup
from depthprobe.commands.measuring import count_asked, drawn, options_for
from depthprobe.commands.show import Watch, importing, result_console
from depthprobe.declaring import Option, Probe
from depthprobe.errors import OptionError
from depthprobe.evaluation.harness.options import SweepOptions, TaskOptions, listed
from depthprobe.models.loading.options import LoadOptions
from depthprobe.texts.options import TextOptions

if TYPE_CHECKING:
    from depthprobe.comparing.subjects import Subject
    from depthprobe.results.runs import Run


@dataclass(frozen=True)
class CompareOptions:
    """What is put side by side."""

    compared: Annotated[
        tuple[str, ...],
        Option(
            "Two or more: models as for the other commands, also MODEL+ADAPTER; runs such as "
            "reports/builtin--pre-ln/angular; or directories with a model's runs such as "
            "reports/builtin--pre-ln.",
            positional=True,
            metavar="A B ...",
        ),
    ] = ()
    probe: Annotated[
        tuple[str, ...] | None,
        Option(
            f"What to compare, comma separated or repeated: {', '.join(PROBES)}.",
            default="angular and variance for models; for finished runs all that they share",
            parse=listed,
        ),
    ] = None


_NAME = Option("Name of the comparison's directory.", default="compare- and the models' names")
EXAMPLE = "depthprobe compare builtin:pre-ln builtin:lns"
GROUPS = (
    OptionGroup(CompareOptions),
    OptionGroup(SweepOptions),
    OptionGroup(
        LoadOptions, MODEL, only=("dtype", "device", "trust_remote_code", "device_map", "attn_implementation")
    ),
    shared.OF_TEXT,
    *shared.counts_of(PROBES.values()),
    OptionGroup(shared.BatchOptions, TEXT),
    OptionGroup(shared.OutputOptions, OUTPUT, other={"name": _NAME}),
    shared.OF_TERMINAL,
)


def command(asked: Asked) -> None:
    """Put models, or finished runs, side by side: same probes, same text, one scale, differences by layer.

    Models are measured as the single commands would, all on the same text; runs that are already there are
    used again. Finished runs need no model; runs with different text or options are refused. If all have the
    same number of layers, every row has its difference from the first model; otherwise every row has its
    relative depth l/L, over which curves and drops are drawn. Writes compare_PROBE.csv and a figure for each
    probe, and manifest.json, to OUTPUT/compare-NAMES/.
    """
    output = asked.options(shared.OutputOptions)
    formats = shared.formats_of(output.format)
    watch = Watch(**asked.values(shared.TerminalOptions))
    wanted = asked.options(CompareOptions)
    from depthprobe.commands.targets import refuse_measuring
    from depthprobe.comparing.compare import compare
    from depthprobe.comparing.subjects import find_subjects, probes_to_compare
    from depthprobe.results.naming import checked_name

    if output.name is not None:
        checked_name(output.name)
    subjects = find_subjects(wanted.compared, wanted.probe)
    probes = [PROBES[name] for name in probes_to_compare(subjects, wanted.probe)]
    if not any(issubclass(probe.options, TaskOptions) for probe in probes):
        counts = [group.options for group in shared.counts_of(PROBES.values())]
        for flag, group, name in asked.given:
            if group in (SweepOptions, *counts) and name != "seeds":
                raise OptionError(f"{flag} needs --probe prune-sweep.", "Add it, or leave out the option.")
    if any(subject.is_model for subject in subjects):
        measured = _measured(subjects, probes, asked, watch)
        if measured is None:
            return
        subjects = measured
    else:
        refuse_measuring(asked)
    with (
        watch.stage("Comparing", None, ""),
        interruption.told("Interrupted: the runs are unchanged, and no comparison was written."),
    ):
        names = [probe.name for probe in probes]
        run = compare(subjects, names, output=output.output, name=output.name, say=watch.say)
    _show(run, formats)


def _measured(
    subjects: Sequence[Subject], probes: Sequence[Probe], asked: Asked, watch: Watch
) -> list[Subject] | None:
    """Return the subjects with a run of every probe; None where another process has them."""
    load = asked.options(LoadOptions)
    with importing():
        from depthprobe.machine.batches import parse_batch_size
        from depthprobe.pipeline.many_models import check_asked, check_models, measure_subjects, shared_text
        from depthprobe.pipeline.request import Request

    requests = []
    for probe in probes:
        options = options_for(probe, asked)
        given = {"seed": asked.options(SweepOptions).text_seed(), **asked.values(TextOptions)}
        count = None if probe.text is None else count_asked(probe, asked)
        if probe.text is not None and probe.text.count != "samples":
            given["samples"] = probe.text.samples if count is None else count
        requests.append(
            Request(
                probe=probe.name,
                model="",
                text=None if count == 0 else shared_text(subjects, probe.name, given),
                options=options,
                load=load,
                batch_size=parse_batch_size(asked.options(shared.BatchOptions).batch_size),
                output=asked.options(shared.OutputOptions).output,
            )
        )
    check_asked(requests, watch)
    text = next((each.text for each in requests if each.text is not None), None)
    if text is not None:
        watch.say(f"All models are measured on {text.dataset}; --dataset chooses another text.")
    length = check_models(subjects, text, load, watch)
    if length is not None:
        requests = [
            each if each.text is None else replace(each, text=replace(each.text, seq_len=length))
            for each in requests
        ]
    return measure_subjects(subjects, requests, watch)


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
        console.print(str(path), soft_wrap=True, markup=False)
