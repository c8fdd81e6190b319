"""The command of every probe: from its declared options to a saved run, printed and drawn."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depthprobe import interruption
from depthprobe.commands import options as shared
from depthprobe.commands.arguments import MODEL, OUTPUT, TEXT, Asked, OptionGroup
from depthprobe.commands.choice import choose_model
from depthprobe.commands.show import (
    Watch,
    already_measured,
    importing,
    lacking_told,
    plain_text,
    print_lines,
    result_console,
)
from depthprobe.declaring import Option, Options, Probe, fields_of
from depthprobe.errors import OptionError
from depthprobe.evaluation.harness.options import SweepOptions, TaskOptions
from depthprobe.models.loading.options import LoadOptions
from depthprobe.texts.options import TextOptions

if TYPE_CHECKING:
    from depthprobe.pipeline.again import Again
    from depthprobe.pipeline.request import Request
    from depthprobe.results.runs import Run


def groups_of(probe: Probe) -> tuple[OptionGroup, ...]:
    """Return the options of a probe's command, in the order of its help."""
    own = [field.name for field in fields_of(probe.options) if field.option.role != "figure"]
    figure = [field.name for field in fields_of(probe.options) if field.option.role == "figure"]
    return (
        *shared.OF_MODEL,
        *([OptionGroup(shared.InitialOptions, MODEL)] if probe.initial else []),
        OptionGroup(probe.options, "Measurement", only=own),
        *_groups_of_text(probe),
        OptionGroup(shared.BatchOptions, TEXT, other={"batch_size": Option(probe.batch, role="means")}),
        OptionGroup(probe.options, OUTPUT, only=figure),
        shared.OF_OUTPUT,
        shared.OF_TERMINAL,
    )


def _groups_of_text(probe: Probe) -> list[OptionGroup]:
    if probe.text is None:
        return []
    if probe.text.count == "samples":
        return [shared.OF_TEXT]
    return [shared.OF_CALIBRATION, *shared.counts_of([probe])]


@dataclass(frozen=True)
class Wanted:
    """A request as it was typed, and how its run is to be shown."""

    request: Request
    watch: Watch
    formats: tuple[str, ...]
    figure: dict[str, Any]


def measure(probe: Probe, asked: Asked) -> None:
    """Measure what a probe's command asks for, unless the run is there already, and show it."""
    wanted = wanted_of(probe, asked)
    from depthprobe.pipeline.again import Again
    from depthprobe.pipeline.request import before_measuring

    again = Again.of(wanted.request, wanted.formats, wanted.figure)
    if shown_again(again, wanted.watch):
        return
    with interruption.told(lambda: before_measuring(wanted.request)), importing():
        from depthprobe.pipeline.run import run
    found = run(wanted.request, wanted.watch, None, again.rests_on)
    if found is None:
        return  # another process has it

    from depthprobe.render.terminal.listing import lines_of

    show(found, lines_of(found), wanted.formats, again, **wanted.figure)


def wanted_of(probe: Probe, asked: Asked) -> Wanted:
    """Return the request that was typed, checked as far as the values alone allow."""
    output = asked.options(shared.OutputOptions)
    formats = shared.formats_of(output.format)
    options = asked.options(probe.options)
    chosen, why = choose_model(**asked.values(shared.ModelOptions))
    watch = Watch(**asked.values(shared.TerminalOptions))
    watch.say(f"Model: {chosen} ({why}).")

    from depthprobe.machine.batches import parse_batch_size
    from depthprobe.pipeline.request import Request

    initial = asked.values(shared.InitialOptions).get("initial", False)
    seed = asked.values(TextOptions).get("seed")
    request = Request(
        probe=probe.name,
        model=chosen,
        text=text_asked(probe, options, asked, embedded=chosen.startswith("builtin:")),
        options=options,
        load=asked.options(LoadOptions, **({"initial_seed": seed} if initial else {})),
        batch_size=parse_batch_size(asked.options(shared.BatchOptions).batch_size),
        output=output.output,
        name=output.name,
    )
    return Wanted(request, watch, formats, options.of_role("figure"))


def options_for(probe: Probe, asked: Asked) -> Options:
    """Return a probe's options when several are measured: its defaults, with the tasks that were typed."""
    if not issubclass(probe.options, TaskOptions):
        return probe.options()
    return probe.options(**asked.values(SweepOptions))


def count_asked(probe: Probe, asked: Asked) -> int | None:
    """Return the samples of a probe's text that were asked for: 0 for none, None for the default."""
    assert probe.text is not None, "asked where there is one"
    if probe.text.count == "samples":
        return asked.values(TextOptions).get("samples")
    counts = asked.values(shared.own_count(probe))
    return 0 if counts.get(str(probe.text.optional)) else counts.get(probe.text.count)


def requests_for(model: str, probes: Sequence[Probe], asked: Asked, output: Path) -> list[Request]:
    """Return the requests for one model that several probes measure, each as its own command would."""
    from depthprobe.machine.batches import parse_batch_size
    from depthprobe.pipeline.request import Request, text_for

    load = asked.options(LoadOptions)
    batch_size = parse_batch_size(asked.options(shared.BatchOptions).batch_size)
    fields = {"seed": asked.options(SweepOptions).text_seed(), **asked.values(TextOptions)}
    fields.pop("samples", None)
    requests = []
    for probe in probes:
        options = options_for(probe, asked)
        embedded = model.startswith("builtin:")
        count = None if probe.text is None else count_asked(probe, asked)
        text = text_for(probe, options, embedded=embedded, count=count, **fields)
        requests.append(Request(probe.name, model, text, options, load, batch_size, output))
    return requests


def text_asked(probe: Probe, options: Options, asked: Asked, embedded: bool) -> TextOptions | None:
    """Return the text that was asked for; None where the probe goes without.

    Raises:
        OptionError: if the text is both described and left out.
    """
    from depthprobe.pipeline.request import text_for

    fields = asked.values(TextOptions)
    fields.pop("samples", None)
    count = count_asked(probe, asked)
    if count == 0 and probe.text is not None and probe.text.optional:
        own, without = shared.own_count(probe), probe.text.optional.replace("_", "-")
        for flag, group, name in asked.given:
            value = asked.values(group).get(name)
            if group is TextOptions or (group is own and name == probe.text.count and value):
                raise OptionError(
                    f"{flag} {value} describes the calibration text, which --{without} leaves out.",
                    "Leave out one of them.",
                )
    return text_for(probe, options, embedded=embedded, count=count, **fields)


def show(
    run: Run, lines: Sequence[Any], formats: tuple[str, ...], again: Again | None = None, **figure: Any
) -> None:
    """Print results, draw the figure, say where everything is, and remember it for the next time.

    Args:
        run: The saved run.
        lines: Tables and sentences.
        formats: The figure's formats.
        again: What was asked; None where nothing is to be remembered.
        figure: Options of the figure.
    """
    console = result_console()
    print_lines(console, lines)
    figures = drawn(run, formats, **figure)
    tables = [run.directory / f"{stem}.csv" for stem in run.tables]
    for path in (*tables, *figures, run.directory / "manifest.json"):
        console.print(str(path), soft_wrap=True, markup=False)
    if again is not None:
        again.remember(run.directory, plain_text(lines), figures)


def shown_again(again: Again, watch: Watch) -> bool:
    """Print a run that is already there as before; return whether there is one."""
    found = again.find()
    if found is None:
        return False
    watch.say(already_measured(found.directory))
    if found.note:
        watch.say(found.note)
    encoding = sys.stdout.encoding or "utf-8"
    for text in (found.printed, *(f"{path}\n" for path in found.files)):
        sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()
    return True


def drawn(run: Run, formats: tuple[str, ...], **figure: Any) -> list[Path]:
    """Draw a saved run's figure and return its files: a full disk or Ctrl-C now costs only the picture."""
    saved = f"the run is saved, and depthprobe plot {run.directory} draws it"
    with interruption.told(f"Interrupted while the figure was drawn: {saved}."):
        from depthprobe.render.charts.figures import draw_run

        with lacking_told():
            return draw_run(run, formats=formats, **figure)
