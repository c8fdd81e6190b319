"""Figure files from a saved run: the right drawing for its probe, written whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from depthprobe.catalogue import PROBES
from depthprobe.declaring import Field, fields_of, loaded_function
from depthprobe.errors import OptionError, RunError
from depthprobe.findings.captions import data_caption, model_title
from depthprobe.findings.of_runs import findings_of, named
from depthprobe.measurement import Measurement
from depthprobe.render.charts import default, default_comparison, training
from depthprobe.render.charts.comparison import COMPARISONS
from depthprobe.render.charts.kit.encoding import FORMATS, render_bytes
from depthprobe.render.charts.kit.page_sizes import drawn_for
from depthprobe.results.files import replace_file
from depthprobe.results.runs import Run

# The probe in the manifest of a comparison, and in that of a training log.
COMPARE, TRAINING = "compare", "training"


def figure_of(
    what: Run | Measurement, *, title: str | None = None, findings: Any = None, **options: Any
) -> Figure:
    """Return the figure of a run or of a measurement; nothing is written.

    Args:
        what: A run as read from its directory, or what a probe gave; of a comparison its first figure.
        title: Above the figure; by default the model's id, which a measurement does not know.
        findings: What it says, where that is known already.
        options: Those of the probe that shape its figure, such as ``normalize``.

    Raises:
        OptionError: if the figure has no such option, or the option no such value.
        RunError: if there is no figure for this probe, or its table is missing or cannot be used.
    """
    if isinstance(what, Measurement):
        probe, name = what.probe, "This"
    else:
        probe, name = str(what.manifest.get("probe")), str(what.directory)
        if probe == COMPARE:
            return next(iter(_comparison(what, title, options).values()))
    drawn = [*PROBES, TRAINING]
    if probe not in drawn:
        raise RunError(
            f"{name} is a run of {probe!r}, which has no figure.", f"Figures exist for: {', '.join(drawn)}."
        )
    taken = _taken(probe, options)
    for unknown in _given(options).keys() - taken.keys():
        raise _no_effect(unknown, f"{probe} is drawn as measured")
    words = {"title": title or "", "caption": ""}
    if isinstance(what, Run):
        words["title"] = model_title(what) if title is None else title
        words["caption"] = _caption(what, probe)
        if probe == TRAINING:
            with named(what):
                return training.draw(what.tables, **words)
    own = PROBES[probe].chart
    draw = loaded_function(own) if own else default.draw
    return draw(findings_of(what) if findings is None else findings, **taken, **words)


def _caption(run: Run, probe: str) -> str:
    """Return what a run was measured on; a text that its probe can do without is only for calibration."""
    data, words = run.manifest.get("data") or {}, data_caption(run)
    if probe == TRAINING:
        texts = f"{data.get('samples')} samples of up to {data.get('seq_len')} tokens"
        return f"measured on {texts}, {data.get('dataset')}" if data else ""
    text = PROBES[probe].text
    optional = text is not None and text.optional is not None
    return f"calibration: {words}" if optional and data.get("dataset") else words


def _figure_options(probe: str) -> dict[str, Field]:
    """Return the options that shape the figure of a probe, by name."""
    fields = fields_of(PROBES[probe].options) if probe in PROBES else ()
    return {field.name: field for field in fields if field.option.role == "figure"}


def _taken(probe: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that shape the figure of a probe, with their values checked."""
    fields = _figure_options(probe)
    for name in fields.keys() & options.keys():
        fields[name].check(options[name])
    return {name: options[name] for name in fields if name in options}


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that differ from the default of some figure that has them."""
    defaults = [(name, field.default) for probe in PROBES for name, field in _figure_options(probe).items()]
    known = {name for name, _ in defaults}
    return {
        name: value
        for name, value in options.items()
        if name not in known or any(name == other and value != default for other, default in defaults)
    }


def _no_effect(name: str, why: str) -> OptionError:
    flag = f"--{name.replace('_', '-')}"
    return OptionError(f"{flag} has no effect: {why}.", f"Leave {flag} out.")


def _comparison(run: Run, title: str | None, options: Mapping[str, Any]) -> dict[str, Figure]:
    """Return the figures of a comparison, or those that the options shape, by the names of their files."""
    given = _given(options)
    figures = {}
    for probe in PROBES.values():
        taken = _taken(probe.name, options)
        stem = f"{COMPARE}_{probe.stem}"
        if stem in run.tables and given.keys() <= taken.keys():
            draw = COMPARISONS.get(stem) or partial(default_comparison.draw, probe.tables[0])
            figures[stem] = draw(run, title=title or "", **taken)
    if not figures and given:
        raise _no_effect(next(iter(given)), f"{run.directory} compares only what is drawn as measured")
    if not figures:
        raise RunError(f"{run.directory} holds no comparison.", "Compare the runs again.")
    return figures


def draw_run(
    run: Run,
    *,
    formats: Sequence[str] = ("png", "pdf"),
    title: str | None = None,
    output: Path | None = None,
    style: str = "auto",
    subtitle: bool = True,
    **options: Any,
) -> list[Path]:
    """Return the figure files drawn from a saved run, in the order of ``formats``; several for a comparison.

    Args:
        run: The run, as read from its directory.
        formats: Kinds of files: png, pdf, svg.
        title: Above the figure; the model's id if None, nothing if empty.
        output: The directory to write into; the run's own if None.
        style: What they are made for, a name of ``PAGE_SIZES``.
        subtitle: Whether what was measured on stands below the title.
        options: Those of the probe that shape its figure; files are named after values other than the
            default, as in ``angular-row.png``.

    Raises:
        OptionError: if a format or ``style`` is unknown, or the figure has no such option or value.
        RunError: if there is no figure for this run's probe, its table is missing, or ``output`` is a file.
        MachineError: if the files cannot be written.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        got = ", ".join(unknown) or "nothing"
        raise OptionError(f"--format must be one or more of {', '.join(FORMATS)}, got {got}.")
    ending = "".join(f"-{value}" for value in _given(options).values())
    directory = run.directory if output is None else Path(output)
    probe = str(run.manifest.get("probe"))
    with drawn_for(style, subtitle):
        if probe == COMPARE:
            figures = _comparison(run, title, options)
        else:
            stem = PROBES[probe].stem if probe in PROBES else probe
            figures = {stem: figure_of(run, title=title, **options)}
        # All are drawn before the first is written, so that a failure leaves no incomplete set behind.
        contents = [
            (directory / f"{stem}{ending}.{name}", render_bytes(figure, name))
            for stem, figure in figures.items()
            for name in dict.fromkeys(formats)
        ]
    for path, content in contents:
        replace_file(path, content)
    return [path for path, _ in contents]
