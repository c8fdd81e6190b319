"""The probes as Python functions: measure a model by name or in memory, get a frame, save the run, draw it.

There is a function for every probe in the catalogue, ``depthprobe.angular`` and so on; each takes the options
of its command, with the same defaults.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depthprobe.catalogue import PROBES
from depthprobe.declaring import Field, Options, Probe, fields_of
from depthprobe.errors import OptionError
from depthprobe.evaluation.harness.options import TaskOptions
from depthprobe.measurement import Measurement

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from depthprobe.models.loading.loading import LoadedModel
    from depthprobe.models.loading.options import LoadOptions
    from depthprobe.notebook import Found, SavedRun
    from depthprobe.pipeline.request import Request
    from depthprobe.pipeline.session import Session
    from depthprobe.results.runs import Run
    from depthprobe.texts.samples import TokenText

_MEASURE = """
Args:
    model: A name or path, as the command takes it, what ``load_model`` returned, or an ``nn.Module``.
    tokenizer: That of an ``nn.Module``; not needed with ``token_ids`` unless there are tasks.
    texts: What to measure on instead of a data set: strings, each a sample of its first ``seq_len`` tokens.
    token_ids: The same as sequences of ids.
    output: The directory of runs to save this one in; None leaves nothing on disk.
    name: The name of the run's directory.
    batch_size: Samples in a batch; None fits the device.
    per_sample: Whether every sample is measured alone as well, for ``.per_sample``; takes as long again.
    options: Those below; for a model given by name also how to load it (``dtype``, ``device``, ...).

Returns:
    The measurement, or the saved run if ``output`` is given. Both have ``.frame``, the table, and
    ``.draw(style=)``, and show themselves in a notebook; ``.save(output)`` saves a measurement later. Under
    torchrun, the first process gets the run, the others None.

Raises:
    OptionError: if an option is unknown or has a value that cannot be used.
    DepthprobeError: as the command's errors.
"""


def measure(
    probe: str,
    model: str | Path | LoadedModel | nn.Module,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    texts: Sequence[str] | None = None,
    token_ids: Sequence[Sequence[int]] | None = None,
    output: str | Path | None = None,
    name: str | None = None,
    batch_size: int | None = None,
    per_sample: bool = False,
    **options: Any,
) -> Found | SavedRun:
    """Return what a probe finds in a model, saved if an ``output`` is named.

    For the arguments see the probe's own function, such as ``depthprobe.angular``.
    """
    from depthprobe.notebook import Found, SavedRun
    from depthprobe.pipeline import run as way
    from depthprobe.pipeline.request import Request

    if probe not in PROBES:
        raise OptionError(f"There is no probe {probe!r}.", f"The probes are {', '.join(PROBES)}.")
    if per_sample and output is not None:
        raise OptionError(
            "per_sample and output cannot be combined: a run holds no single samples.",
            "Leave out output, and save() what is returned.",
        )
    kind = PROBES[probe]
    own = {field.name: field for field in fields_of(kind.options)}
    if "documents" in own and isinstance(options.get("samples"), Mapping):
        warnings.warn("samples with documents by number is documents now.", DeprecationWarning, stacklevel=3)
        options["documents"] = options.pop("samples")
    asked = kind.options(**{key: _value(own[key], options.pop(key)) for key in own.keys() & options.keys()})
    reads = token_ids is None or issubclass(kind.options, TaskOptions)
    with _session_of(model, tokenizer, options, reads) as (session, called, load):
        given = _given(session, called, load, texts, token_ids, options)
        request = Request(
            probe=probe,
            model=called,
            text=_text_of(kind, asked, called, given, options),
            options=asked,
            load=load,
            batch_size=batch_size,
            output=Path("reports" if output is None else output),
            name=name,
        )
        _refuse_unknown(probe, request, options)
        if output is None:
            return Found.of(way.measure(request, session=session, per_sample=per_sample))
        run = way.run(request, session=session)
        return run and SavedRun.of(run)  # type: ignore[return-value]  # only the first of several processes has it


def _value(field: Field, value: Any) -> Any:
    """Return the value of an option, which may be written as on the command line."""
    parse = field.option.parse
    return parse(value) if parse is not None and isinstance(value, str) else value


def function_of(probe: Probe) -> Callable[..., Found | SavedRun]:
    """Return the Python function of a probe: :func:`measure` with the options of its command."""

    def function(model: str | Path | LoadedModel | nn.Module, **options: Any) -> Found | SavedRun:
        return measure(probe.name, model, **options)

    function.__name__ = function.__qualname__ = probe.name.replace("-", "_")
    told = [
        f"    {field.name} (default {field.option.default or repr(field.default)}): {field.option.help}"
        for field in _told(probe)
    ]
    function.__doc__ = "\n".join([probe.help, _MEASURE, "Options:", *told])
    return function


def _told(probe: Probe) -> Iterator[Any]:
    from depthprobe.texts.options import TextOptions

    own = [field for field in fields_of(probe.options) if field.option.role != "figure"]
    named = {field.name for field in own}
    yield from own
    if probe.text is not None:
        yield from (field for field in fields_of(TextOptions) if field.name not in named)


def _given(
    session: Session,
    model: str,
    load: LoadOptions,
    texts: Sequence[str] | None,
    token_ids: Sequence[Sequence[int]] | None,
    options: dict[str, Any],
) -> TokenText | None:
    """Return what is measured on instead of a data set; takes ``seq_len`` out of the options."""
    from depthprobe.texts.samples import TokenText, tokens_of

    if texts is None:
        return None if token_ids is None else TokenText.of(token_ids)
    if token_ids is not None:
        raise OptionError("texts and token_ids cannot be combined.", "Leave one of them out.")
    checkpoint = session.checkpoint(session.source(model, load), load)
    return tokens_of(texts, checkpoint.tokenizer, options.pop("seq_len", None), checkpoint.context_tokens)


def _text_of(
    probe: Probe, options: Options, model: str, instead: TokenText | None, given: dict[str, Any]
) -> Any:
    """Take the text's options out of those given; return the text, None if the probe goes without."""
    from depthprobe.pipeline.request import text_for
    from depthprobe.texts.options import TextOptions

    names = {field.name for field in fields_of(TextOptions)} - {"samples"}
    fields = {key: given.pop(key) for key in names & given.keys()}
    if probe.text is None:
        return None
    count = given.pop(probe.text.count, None)
    if probe.text.optional and given.pop(probe.text.optional, False):
        count = 0
    if instead is not None:
        if fields or count is not None:
            raise OptionError(
                f"{instead.dataset} cannot be combined with options of a data set.", "Leave one of them out."
            )
        return instead
    if "dataset" in fields:
        fields["dataset"] = str(fields["dataset"])
    return text_for(probe, options, embedded=model.startswith("builtin:"), count=count, **fields)


def _refuse_unknown(probe: str, request: Request, options: dict[str, Any]) -> None:
    if options:
        known = [field.name for field in fields_of(type(request.asked))]
        raise OptionError(
            f"{probe} does not take {', '.join(sorted(options))}.",
            f"Its own options: {', '.join(known) or 'none'}; see help(depthprobe.{probe.replace('-', '_')}).",
        )


@contextmanager
def _session_of(
    model: Any, tokenizer: Any, options: dict[str, Any], reads: bool
) -> Iterator[tuple[Session, str, Any]]:
    """Yield a session that has the model, the model's name, and how it is loaded.

    A model in memory is in evaluation mode meanwhile, so that nothing is dropped out.
    """
    from depthprobe.models.loading.options import LoadOptions
    from depthprobe.pipeline.session import Session, SessionOfLoaded

    if isinstance(model, str | Path):
        names = {field.name for field in fields(LoadOptions)}
        load = LoadOptions(**{key: options.pop(key) for key in names & options.keys()})
        yield Session(), str(model), load
        return
    from depthprobe.models.loading.loading import LoadedModel, already_loaded

    if not isinstance(model, LoadedModel) and not hasattr(model, "config"):
        raise OptionError(
            f"{_a(model)} cannot be measured.",
            "Give a name, what load_model gave, or a model of transformers.",
        )
    loaded = model if isinstance(model, LoadedModel) else already_loaded(model, tokenizer)
    if reads and loaded.tokenizer is None:
        raise OptionError(
            "A model in memory cannot read a text without its tokenizer.", "Give tokenizer=, or token_ids=."
        )
    training = [module for module in loaded.model.modules() if module.training]
    loaded.model.eval()
    try:
        session = SessionOfLoaded(loaded, fingerprint=True)
        yield session, loaded.source.name, loaded.as_options()
    finally:
        for module in training:
            module.training = True


def draw(what: Measurement | Run, *, title: str | None = None, style: str = "auto", **options: Any) -> Figure:
    """Return the figure of a measurement or of a saved run, as ``depthprobe plot`` writes it.

    Args:
        what: What a probe or ``read_run`` returned.
        title: Title of the figure, empty for none; by default the model's name.
        style: What it is for: ``auto``, ``paper-single``, ``paper-double``, ``appendix`` or ``slides``.
        options: Options of the figure, such as ``normalize="row"`` for the map of angular distances.
    """
    from depthprobe.results.runs import Run

    if not isinstance(what, Measurement | Run):
        raise OptionError(
            f"{_a(what)} cannot be drawn.",
            "Give a measurement, or what read_run returns.",
        )
    from depthprobe.notebook import figure

    return figure(what, title=title, style=style, **options)


def _a(thing: Any) -> str:
    """The type of a thing in words: ``An int``."""
    name = type(thing).__name__
    return f"{'An' if name[0] in 'aeiouAEIOU' else 'A'} {name}"
