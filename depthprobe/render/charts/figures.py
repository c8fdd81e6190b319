"""Figure files from a saved run: the right drawing for its probe, written whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from depthprobe.catalogue import PROBES
from depthprobe.declaring import Field, Probe, fields_of, loaded_function
from depthprobe.errors import OptionError, RunError
from depthprobe.findings.captions import data_caption, model_title
from depthprobe.findings.of_runs import findings_of
from depthprobe.measurement import Measurement
from depthprobe.render.charts import default, default_comparison, training
from depthprobe.render.charts.comparison import COMPARISONS
from depthprobe.render.charts.kit.encoding import FORMATS, render_bytes
from depthprobe.render.charts.kit.page_sizes import drawn_for
from depthprobe.results.files import replace_file
from depthprobe.results.runs import Run

# What the manifest of a comparison calls its probe, and that of a training log.
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
    if probe not in (*PROBES, TRAINING):
        drawn = ", ".join((*PROBES, TRAINING))
        raise RunError(f"{name} is a run of {probe!r}, which has no figure.", f"Drawn are runs of: {drawn}.")
    taken = _taken(probe, options)
    refused = [name for name in options if name not in taken and not _is_default(name, options[name])]
    if refused:
        flag = f"--{refused[0].replace('_', '-')}"
        raise OptionError(
            f"{flag} is {options[refused[0]]!r}, and {probe} is only drawn as measured.", f"Leave {flag} out."
        )
    words = {"title": title or "", "caption": ""}
    if isinstance(what, Run):
        words["title"] = model_title(what) if title is None else title
        words["caption"] = _training_caption(what) if probe == TRAINING else _caption(what, PROBES[probe])
    if isinstance(what, Run) and probe == TRAINING:
        return training.draw(what.tables, **words)
    return _chart(probe)(findings_of(what) if findings is None else findings, **taken, **words)


def _chart(probe: str) -> Callable[..., Figure]:
    """Return what draws the findings of a probe: its own chart, else the default one."""
    own = PROBES[probe].chart
    return loaded_function(own) if own else default.draw


def _caption(run: Run, probe: Probe) -> str:
    """Return on what a run was measured; a text that it may go without is told as such."""
    words = data_caption(run)
    optional = probe.text is not None and probe.text.optional is not None
    has_text = bool((run.manifest.get("data") or {}).get("dataset"))
    return f"calibration: {words}" if optional and has_text else words


def _training_caption(run: Run) -> str:
    """Return on what a training was measured."""
    data = run.manifest.get("data") or {}
    texts = f"{data.get('samples')} samples of up to {data.get('seq_len')} tokens"
    return f"measured on {texts}, {data.get('dataset')}" if data else ""


def _figure_options(probe: str) -> dict[str, Field]:
    """Return the options that shape the figure of a probe, by name."""
    fields = fields_of(PROBES[probe].options) if probe in PROBES else ()
    return {field.name: field for field in fields if field.option.role == "figure"}


def _taken(probe: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the options that the figure of a probe has, once their values were checked."""
    fields = _figure_options(probe)
    for name in fields.keys() & options.keys():
        fields[name].check(options[name])
    return {name: options[name] for name in fields if name in options}


def _is_default(name: str, value: Any) -> bool:
    """Return whether an option is as though it was not given, for every figure that has it."""
    found = [fields[name] for fields in map(_figure_options, PROBES) if name in fields]
    return bool(found) and all(field.default == value for field in found)


def _comparison(run: Run, title: str | None, options: Mapping[str, Any]) -> dict[str, Figure]:
    """Return the figures of a comparison by the names of their files; of all its tables, or of those shaped.

    Raises:
        OptionError: if an option is given that shapes none of them.
        RunError: if none of its tables has a figure.
    """
    given = {name: value for name, value in options.items() if not _is_default(name, value)}
    figures = {}
    for probe in PROBES.values():
        taken = _taken(probe.name, options)
        stem = f"{COMPARE}_{probe.stem}"
        if stem in run.tables and given.keys() <= taken.keys():
            draw = COMPARISONS.get(stem) or partial(default_comparison.draw, probe.tables[0])
            figures[stem] = draw(run, title=title or "", **taken)
    if not figures:
        name, value = next(iter(given.items()), ("", ""))
        flag = f"--{name.replace('_', '-')}"
        raise OptionError(
            f"{flag} is {value!r}, and {run.directory} compares nothing that is rescaled.",
            f"Leave {flag} out.",
        )
    return figures


def _stem(probe: str) -> str:
    """Return how the files of a probe are called: ``prune_sweep``."""
    return PROBES[probe].stem if probe in PROBES else probe


def draw_run(
    run: Run,
    *,
    formats: Sequence[str] = ("png", "pdf"),
    title: str | None = None,
    output: Path | None = None,
    style: str = "auto",
    **options: Any,
) -> list[Path]:
    """Return the figure files drawn from a saved run, in the order of ``formats``; of a comparison several.

    Args:
        run: The run, as read from its directory.
        formats: Kinds of files, of png, pdf and svg.
        title: Above the figure; the model's id if None, nothing if empty.
        output: The directory to write into; the run's own if None.
        style: For what they are made: ``auto``, ``paper-single``, ``paper-double`` or ``slides``.
        options: Those of the probe that shape its figure; figures so shaped are named for it, as in
            ``angular-row.png``.

    Raises:
        OptionError: if a format or ``style`` is unknown, or the figure has no such option or value.
        RunError: if there is no figure for this run's probe, its table is missing, or ``output`` is a file.
        MachineError: if the files cannot be written.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        asked = ", ".join(map(repr, unknown)) or "nothing"
        raise OptionError(f"--format is {asked}.", f"Use one or more of: {', '.join(FORMATS)}.")
    ending = "".join(f"-{value}" for name, value in options.items() if not _is_default(name, value))
    directory = run.directory if output is None else Path(output)
    probe = str(run.manifest.get("probe"))
    with drawn_for(style):
        if probe == COMPARE:
            figures = _comparison(run, title, options)
        else:
            figures = {_stem(probe): figure_of(run, title=title, **options)}
        # All are drawn before the first is written: a failing one leaves no half set behind.
        contents = [
            (directory / f"{stem}{ending}.{name}", render_bytes(figure, name))
            for stem, figure in figures.items()
            for name in dict.fromkeys(formats)
        ]
    for path, content in contents:
        replace_file(path, content)
    return [path for path, _ in contents]
