"""Several models measured for a comparison: one text, all checked first, each as its own command would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from depthprobe.comparing.agreement import settings_that_differ
from depthprobe.comparing.subjects import Subject
from depthprobe.errors import OptionError
from depthprobe.interruption import several_told
from depthprobe.models.loading.checkpoint import open_checkpoint
from depthprobe.models.loading.options import LoadOptions
from depthprobe.models.loading.sources import resolve_model
from depthprobe.pipeline.checks import check_request
from depthprobe.pipeline.request import Request
from depthprobe.pipeline.run import run
from depthprobe.pipeline.session import Session
from depthprobe.pipeline.watch import Watcher
from depthprobe.probes.preparation import prepare
from depthprobe.texts.options import TextOptions, default_options
from depthprobe.texts.samples import open_text


def shared_text(subjects: Sequence[Subject], probe: str, given: Mapping[str, Any]) -> TextOptions:
    """Return the text for all: the one named, else that of finished runs, else a default.

    The default is the built-in text if one of the models is embedded, since those read nothing else.

    Raises:
        OptionError: if a finished run was measured on another text.
    """
    finished = [subject for subject in subjects if not subject.is_model]
    wanted = dict(given)
    known = (finished[0].runs[probe].manifest["settings"].get("text") or {}) if finished else {}
    if wanted.get("dataset") is None and known:
        if "sha256" in known:
            raise OptionError(
                f"{finished[0].argument} was measured on the local text {known.get('dataset')}.",
                "Name that text with --dataset, so that the models are measured on it too.",
            )
        wanted |= {key: known.get(key) for key in ("dataset", "config", "split", "column", "seed")}
        wanted |= {key: known.get(key) for key in ("samples", "seq_len") if wanted.get(key) is None}
    embedded = any(subject.argument.startswith("builtin:") for subject in subjects if subject.is_model)
    text = default_options(embedded=embedded, **wanted)
    for subject in finished:
        differing = settings_that_differ(subject.runs[probe].manifest["settings"], text.settings())
        if differing:
            raise OptionError(
                f"{subject.argument} was measured on a different text: {'; '.join(differing)}.",
                "Ask for the same text, or measure it again.",
            )
    return text


def check_models(
    subjects: Sequence[Subject], text: TextOptions | None, load: LoadOptions, watch: Watcher
) -> int | None:
    """Return the tokens per sample that all models can take if one takes fewer than the others, else None.

    None too if there is no text.

    Every model is looked up, and its configuration and tokenizer read, before the first is measured.

    Raises:
        LoadError: if a model cannot be found or used.
        TextError: if ``--seq-len`` is too long for one of them.
    """
    limits = {}
    for subject in subjects:
        if subject.is_model:
            with watch.stage(f"Looking up {subject.argument}", None, ""):
                checkpoint = open_checkpoint(resolve_model(subject.argument, None, None), load)
            if text is not None:
                limits[subject.argument] = text.length(checkpoint.context_tokens)
    # If all take the same, each cuts its samples there by itself, and its runs stay what they are.
    if len(set(limits.values())) < 2:
        return None
    shortest = min(limits, key=lambda name: limits[name])
    watch.say(
        f"{shortest} reads at most {limits[shortest]} tokens, so all models are measured on samples of that "
        "length."
    )
    return limits[shortest]


def check_asked(requests: Sequence[Request], watch: Watcher) -> None:
    """Raise if anything is wrong with a comparison that shows before a model is looked at."""
    for request in requests:
        check_request(request.load, request.output, None)
        if request.text is not None and not request.text.is_on_hub:
            open_text(request.text)
        prepare(request.probe, request.asked).look(watch.stage)


def measure_subjects(
    subjects: Sequence[Subject], requests: Sequence[Request], watch: Watcher
) -> list[Subject] | None:
    """Return the subjects with a run of every probe, measured or found; None if another process has them.

    Each model is loaded once, whatever is measured of it.

    Args:
        subjects: Models, which are measured, and finished runs.
        requests: What to measure of each, one request for each probe; their model does not count.
        watch: Shows how it is going.
    """
    measured: list[Subject] = []
    for subject in subjects:
        if not subject.is_model:
            measured.append(subject)
            continue
        watch.say(f"Model: {subject.argument}.")
        runs, session = {}, Session()
        for request in requests:
            with several_told([each.directory for subject in measured for each in subject.runs.values()]):
                found = run(replace(request, model=subject.argument), watch, session)
            if found is not None:
                runs[request.probe] = found
        measured.append(replace(subject, runs=runs))
    return measured if all(not subject.is_model for subject in measured) else None
