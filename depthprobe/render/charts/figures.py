"""Figure files from a saved run: the right drawing for its probe, written whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from depthprobe.catalogue import PROBES
from depthprobe.errors import OptionError, RunError
from depthprobe.findings.captions import data_caption, model_title
from depthprobe.findings.of_runs import findings_of
from depthprobe.render.charts import training
from depthprobe.render.charts.angular import NORMALIZATIONS, draw_angular
from depthprobe.render.charts.comparison import COMPARISONS
from depthprobe.render.charts.drops import draw_drops
from depthprobe.render.charts.kit.encoding import FORMATS, render_bytes
from depthprobe.render.charts.kit.presets import drawn_for
from depthprobe.render.charts.profiles import draw_gradnorm, draw_variance
from depthprobe.render.charts.training import draw_training
from depthprobe.results.files import replace_file
from depthprobe.results.runs import Run

# What a comparison's manifest calls its probe; it has a figure for each of its tables.
COMPARE = "compare"


def _angular(run: Run, findings: Any, normalize: str, title: str) -> Figure:
    return draw_angular(findings, normalize=normalize, title=title, caption=data_caption(run))


def _drops(run: Run, findings: Any, normalize: str, title: str) -> Figure:
    _as_measured(normalize, "drops")
    shots, limit, data = run.facts.get("num_fewshot"), run.facts.get("limit"), data_caption(run)
    words = [f"{shots}-shot"] if shots is not None else []
    words += [f"limit {limit}"] if limit is not None else []
    calibrated = bool((run.manifest.get("data") or {}).get("dataset"))
    words += [f"calibration: {data}" if calibrated else data] if data else []
    return draw_drops(findings, title=title, caption="; ".join(words))


def _gradnorm(run: Run, findings: Any, normalize: str, title: str) -> Figure:
    _as_measured(normalize, "gradient norms")
    return draw_gradnorm(findings, title=title, caption=_joined(findings.quantity, data_caption(run)))


def _variance(run: Run, findings: Any, normalize: str, title: str) -> Figure:
    _as_measured(normalize, "variances")
    return draw_variance(findings, title=title, caption=_joined(findings.quantity, data_caption(run)))


def _training(run: Run, findings: Any, normalize: str, title: str) -> Figure:
    _as_measured(normalize, training.WHAT)
    data = run.manifest.get("data") or {}
    texts = f"{data.get('samples')} samples of up to {data.get('seq_len')} tokens"
    words = f"measured on {texts}, {data.get('dataset')}"
    return draw_training(
        run.tables[training.STEM],
        run.tables.get(training.LOSS_STEM, run.tables[training.STEM]),
        title=title,
        caption=words if data else "",
    )


def _as_measured(normalize: str, what: str) -> None:
    """Refuse to rescale what no paper rescales."""
    if normalize != "none":
        raise OptionError(
            f"--normalize is {normalize!r}, and {what} are only drawn as measured.", "Leave --normalize out."
        )


def _joined(*captions: str) -> str:
    return "; ".join(filter(None, captions))


# One line a probe: what draws its run.
DRAWINGS: dict[str, Callable[[Run, Any, str, str], Figure]] = {
    "angular": _angular,
    "prune-sweep": _drops,
    "gradnorm": _gradnorm,
    "variance": _variance,
    "training": _training,
}


def figure_of(run: Run, *, normalize: str = "none", title: str | None = None, findings: Any = None) -> Figure:
    """The figure of a run; nothing is written.

    Args:
        run: The run, as read from its directory.
        normalize: ``none`` or ``row``.
        title: Above the figure; the model's id if None, nothing if empty.
        findings: What the run says, if that is known already.

    Raises:
        OptionError: if ``normalize`` is unknown, or the probe's figure is not rescaled.
        RunError: if there is no figure for this run's probe, or its table is missing.
    """
    if normalize not in NORMALIZATIONS:
        raise OptionError(f"--normalize is {normalize!r}.", f"Use one of: {', '.join(NORMALIZATIONS)}.")
    probe = str(run.manifest.get("probe"))
    if probe == COMPARE:
        return next(iter(_comparison(run, normalize, title).values()))
    if probe not in DRAWINGS or _stem(run) not in run.tables:
        drawn = ", ".join(DRAWINGS)
        raise RunError(
            f"{run.directory} is a run of {probe!r}, which has no figure.", f"Drawn are runs of: {drawn}."
        )
    if findings is None and probe in PROBES:
        findings = findings_of(run)
    return DRAWINGS[probe](run, findings, normalize, model_title(run) if title is None else title)


def _comparison(run: Run, normalize: str, title: str | None) -> dict[str, Figure]:
    """The figures of a comparison by the names of their files; of all its tables, or of those rescaled."""
    stems = [stem for stem in COMPARISONS if stem in run.tables]
    if normalize != "none":
        stems = [stem for stem in stems if stem == "compare_angular"]
    if not stems:
        raise OptionError(
            f"--normalize is {normalize!r}, and {run.directory} compares nothing that is rescaled.",
            "Leave --normalize out.",
        )
    return {stem: COMPARISONS[stem](run, normalize, title or "") for stem in stems}


def _stem(run: Run) -> str:
    """How the files of a run's probe are called: ``prune_sweep``."""
    return str(run.manifest.get("probe")).replace("-", "_")


def draw_run(
    run: Run,
    *,
    formats: Sequence[str] = ("png", "pdf"),
    normalize: str = "none",
    title: str | None = None,
    output: Path | None = None,
    style: str = "auto",
) -> list[Path]:
    """The figure files drawn from a saved run, in the order of ``formats``; of a comparison several figures.

    Args:
        run: The run, as read from its directory.
        formats: Kinds of files, of png, pdf and svg.
        normalize: ``none`` or ``row``; rescaled figures are named so, as in ``angular-row.png``.
        title: Above the figure; the model's id if None, nothing if empty.
        output: The directory to write into; the run's own if None.
        style: For what they are made: ``auto``, ``paper-single``, ``paper-double`` or ``slides``.

    Raises:
        OptionError: if a format, ``style`` or ``normalize`` is unknown, or the figure is not rescaled.
        RunError: if there is no figure for this run's probe, its table is missing, or ``output`` is a file.
        MachineError: if the files cannot be written.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        asked = ", ".join(map(repr, unknown)) or "nothing"
        raise OptionError(f"--format is {asked}.", f"Use one or more of: {', '.join(FORMATS)}.")
    ending = "" if normalize == "none" else f"-{normalize}"
    directory = run.directory if output is None else Path(output)
    with drawn_for(style):
        if run.manifest.get("probe") == COMPARE and normalize in NORMALIZATIONS:
            figures = _comparison(run, normalize, title)
        else:
            figures = {_stem(run): figure_of(run, normalize=normalize, title=title)}
        # All are drawn before the first is written: a failing one leaves no half set behind.
        contents = [
            (directory / f"{stem}{ending}.{name}", render_bytes(figure, name))
            for stem, figure in figures.items()
            for name in dict.fromkeys(formats)
        ]
    for path, content in contents:
        replace_file(path, content)
    return [path for path, _ in contents]
