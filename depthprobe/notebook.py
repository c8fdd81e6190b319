"""The commands as functions, for notebooks: measure a loaded model, get a frame, draw it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from depthprobe.measurement import Measurement

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from depthprobe.models.loading import LoadedModel
    from depthprobe.results.runs import Run


def angular(
    model: LoadedModel | str,
    *,
    tokens: Literal["last", "all"] = "last",
    batch_size: int | None = None,
    **text: Any,
) -> Measurement:
    """Return the angular distances of a model; ``.frame`` has layer, n, distance, std, samples.

    Args:
        model: What ``load_model`` gave, or a name that it takes.
        tokens: ``last`` compares each sample's last token as the papers do, ``all`` every token.
        batch_size: Samples a batch; None fits batches to the device.
        text: Fields of :class:`depthprobe.texts.TextOptions`: dataset, config, split, column, samples,
            seq_len, seed. The defaults are the command line's.
    """
    return _measure("angular", model, text, tokens=tokens, batch_size=batch_size)


def gradnorm(
    model: LoadedModel | str,
    *,
    per_batch: int | None = None,
    memory: str | int = "auto",
    batch_size: int | None = None,
    **text: Any,
) -> Measurement:
    """Return the gradient norms of a model; ``.frame`` has layer, part, grad_norm, parameters, grad_rms, std.

    Args:
        model: What ``load_model`` gave (with ``initial_seed`` freshly initialised), or a name that it takes.
        per_batch: Samples a batch whose norms are averaged; None takes all samples as one batch.
        memory: ``auto``, ``whole``, or how many blocks' gradients are held at a time.
        batch_size: Samples a micro-batch; None fits them to the memory.
        text: As :func:`angular`.
    """
    return _measure("gradnorm", model, text, per_batch=per_batch, memory=memory, batch_size=batch_size)


def variance(model: LoadedModel | str, *, batch_size: int | None = None, **text: Any) -> Measurement:
    """Return the variance of a model's stream; ``.frame`` has layer, point, variance, rms, tokens.

    The second of ``.tables`` holds layer, block_influence, contribution_ratio.

    Args:
        model: What ``load_model`` gave (with ``initial_seed`` freshly initialised), or a name that it takes.
        batch_size: Samples a batch; None fits batches to the device.
        text: As :func:`angular`.
    """
    return _measure("variance", model, text, batch_size=batch_size)


def _measure(probe: str, model: LoadedModel | str, text: dict[str, Any], **options: Any) -> Measurement:
    from depthprobe.models.anatomy import describe_anatomy
    from depthprobe.models.loading import load_model
    from depthprobe.probes.registry import PROBES
    from depthprobe.texts import default_options, read_samples

    loaded = load_model(model) if isinstance(model, str) else model
    wanted = default_options(embedded=loaded.source.name.startswith("builtin:"), **text)
    samples = read_samples(wanted, loaded.tokenizer, loaded.context_tokens)
    samples.check_fits(loaded.context_tokens, loaded.vocabulary)
    return PROBES[probe].measure(loaded, describe_anatomy(loaded.model, loaded.tower), samples, **options)


def draw(what: Measurement | Run, *, normalize: str = "none", title: str | None = None) -> Figure:
    """Return the figure of a measurement or of a saved run, the one that ``depthprobe plot`` writes.

    Args:
        what: What a probe or ``read_run`` gave.
        normalize: ``none``, or ``row`` for the map of angular distances rescaled row by row.
        title: Above the figure, nothing if empty. By default a run's model; a measurement does not know its
            model.
    """
    from depthprobe.render.charts.figures import figure_of
    from depthprobe.render.charts.kit.encoding import render_bytes

    figure = figure_of(what, normalize=normalize, title=title)
    # Figures made without pyplot have no display of their own; notebooks ask for this one.
    figure._repr_png_ = partial(render_bytes, figure, "png")  # type: ignore[attr-defined]
    return figure
