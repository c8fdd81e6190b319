"""A comparison from end to end: subjects -> do they agree -> tables -> reserve a place -> save."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from depthprobe.catalogue import PRUNE_SWEEP
from depthprobe.comparing.agreement import check_agreement
from depthprobe.comparing.item_scores import ITEMS_NAME
from depthprobe.comparing.subjects import Subject, labelled
from depthprobe.comparing.tables import comparison_tables, layers_of
from depthprobe.machine.provenance import versions
from depthprobe.measurement import Measurement
from depthprobe.results.naming import comparison_name
from depthprobe.results.runs import Run
from depthprobe.results.store import reserve, save

# What the figures and tables of drops need to know of each sweep.
_SWEEP_FACTS = (
    *("tasks", "headline", "higher_is_better", "chance", "detectable", "block"),
    *("num_fewshot", "limit", "documents", "apply_chat_template", "system_instruction"),
)

# Of the tables of a comparison: raised when their numbers change.
VERSION = 1


def compare(
    subjects: Sequence[Subject],
    probes: Sequence[str],
    *,
    output: Path = Path("reports"),
    name: str | None = None,
    say: Callable[[str], None] = lambda news: None,
) -> Run:
    """Return the saved comparison of finished runs, or the one that is already there.

    Args:
        subjects: What is compared, each with a run of every probe; the first is what the others differ from.
        probes: The probes compared.
        output: Where ``compare-NAMES/`` goes.
        name: Its name instead of that.
        say: Called with one line of news at a time.

    Raises:
        RunError: if the runs were measured with different options, or lack a table.
    """
    subjects = labelled(subjects)
    for error in (error for subject in subjects for error in subject.damaged):
        say(f"Left out: {error}")
    for note in check_agreement(subjects, probes):
        say(note)
    # Made before the place is reserved: what cannot be compared leaves nothing behind.
    tables = tuple(table for probe in probes for table in comparison_tables(subjects, probe))
    default = comparison_name([subject.label for subject in subjects])
    place = reserve(output, None, name or default, _settings(subjects, probes), name)
    if place.finished is not None:
        say(f"Already compared: {place.finished.directory} (--name compares again).")
        return place.finished
    if place.note:
        say(place.note)
    try:
        return save(place, Measurement("compare", tables), _manifest(subjects, probes))
    except BaseException:
        place.abandon()
        raise


def _settings(subjects: Sequence[Subject], probes: Sequence[str]) -> dict[str, Any]:
    """What decides the tables: the tables of the runs, in their order."""
    runs = [
        {"model": subject.label, **{probe: _hashes(subject.runs[probe]) for probe in probes}}
        for subject in subjects
    ]
    return {"probes": list(probes), "runs": runs, "probe_version": VERSION}


def _hashes(run: Run) -> dict[str, str | None]:
    """The hash of each of a run's tables, by stem, and of the scores that its drops are paired by."""
    kept = {*run.tables, ITEMS_NAME}
    return {name: file.get("sha256") for name, file in run.manifest["files"].items() if name in kept}


def _manifest(subjects: Sequence[Subject], probes: Sequence[str]) -> dict[str, Any]:
    compared = []
    for subject in subjects:
        runs = {}
        for probe in probes:
            run = subject.runs[probe]
            kept = _SWEEP_FACTS if probe == PRUNE_SWEEP.name else run.facts
            facts = {key: value for key, value in run.facts.items() if key in kept}
            data = run.manifest.get("data") or {}
            runs[probe] = {"run": run.directory.name, "data": data, "options": facts}
        first = next(iter(subject.runs.values()))
        model = {**(first.manifest.get("model") or {}), "layers": layers_of(first)}
        compared.append({"label": subject.label, "model": model, "runs": runs})
    return {
        "compared": compared,
        "options": {"probes": list(probes)},
        "command": ["depthprobe", *sys.argv[1:]],
        "versions": versions(),
    }
