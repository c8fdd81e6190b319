"""The lists of a report to copy into other programs: layers, mergekit, llama.cpp."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from depthprobe.builtin import PREFIX
from depthprobe.catalogue import ANGULAR
from depthprobe.findings.captions import is_encoder
from depthprobe.findings.drop_sentences import why_too_few
from depthprobe.findings.drops import Drops
from depthprobe.findings.findings import Findings
from depthprobe.findings.removals import (
    Removal,
    best_removals,
    cheapest_layers,
    measured_removals,
    mergekit_yaml,
)
from depthprobe.findings.words import layers_named, plain, significant
from depthprobe.render.report.names import unique_names


@dataclass(frozen=True)
class Snippet:
    """A list to copy: the name of its file, what it is, its text, and whether the page shows it."""

    name: str
    heading: str
    note: str
    text: str
    shown: bool = True


# Blocks larger than this share of a model are not candidates; the tables have all.
_LARGEST = 0.5
# The shares of a model whose mergekit configurations stand on the page; the folder has all.
_SHOWN = (0.1, 0.25)
_MERGEKIT = (
    "A passthrough merge that keeps all other layers; layer_range ends before its second number. A first "
    "line with # says what mergekit can load where the name is none."
)


def snippets_of(findings: Findings) -> list[Snippet]:
    """Return the lists that the runs give; configurations of mergekit and llama.cpp for decoders only."""
    found: list[Snippet] = []
    decoder = not is_encoder(findings.study.model_facts)
    if ANGULAR.name in findings.study.found:
        most = max(1, findings.layers * _LARGEST)
        best = best_removals(findings.study.found[ANGULAR.name])
        removals = [removal for removal in best if len(removal.layers) <= most]
        if removals:
            found += [_layers(removals)]
            found += [_llama(removals), *_mergekit(findings, removals)] if decoder else []
    names = unique_names(f"cheapest-layers-{drops.task}" for drops in findings.drops)
    found += [_cheapest(drops, name) for drops, name in zip(findings.drops, names, strict=True)]
    return [*found, *_mergekit_measured(findings)] if decoder else found


def _layers(removals: Sequence[Removal]) -> Snippet:
    lines = [
        f"n = {len(best.layers)}: {', '.join(map(str, best.layers))} (distance {significant(best.value)})"
        for best in removals
    ]
    note = (
        "The layers of the best block of each size by angular distance, 0-based. It is a proxy, not a "
        "measured drop."
    )
    return Snippet("best-blocks.txt", "Best block of each size", note, _text(lines))


def _llama(removals: Sequence[Removal]) -> Snippet:
    lines = [f"--prune-layers {removal.prune_layers}" for removal in removals]
    note = "For llama-quantize of llama.cpp, one line for each block size; it counts layers from 0 as well."
    return Snippet("llama-cpp.txt", "llama.cpp", note, _text(lines))


def _mergekit(findings: Findings, removals: Sequence[Removal]) -> list[Snippet]:
    """A configuration for every size by angular distance; only a few stand on the page."""
    digits = len(str(len(removals)))
    return [
        Snippet(
            f"mergekit-{len(removal.layers):0{digits}}.yaml",
            f"mergekit, without {layers_named(removal.layers)}",
            f"By angular distance, a proxy. {_MERGEKIT}",
            _configuration(findings, removal),
            shown=len(removal.layers) in _sizes(findings),
        )
        for removal in removals
    ]


def _mergekit_measured(findings: Findings) -> list[Snippet]:
    """Configurations of what costs least by measurement; the page shows those of the first task."""
    study, found = findings.study, []
    known = {drops.task for drops in findings.drops}
    measured = [
        drops for sweep in study.swept for drops in sweep.tasks if sweep.block > 1 or drops.task in known
    ]
    pairs = [(drops, removal) for drops in measured for removal in measured_removals(drops, _sizes(findings))]
    names = unique_names(f"mergekit-measured-{drops.task}-{len(removal.layers)}" for drops, removal in pairs)
    for (drops, removal), name in zip(pairs, names, strict=True):
        task, count = plain(drops.task), len(removal.layers)
        if drops.block > 1:
            how = f"The block of {count} layers with the smallest measured {drops.change} on {task}."
        elif count == 1:
            how = f"The layer with the smallest measured {drops.change} on {task}."
        else:
            how = (
                f"The {count} layers with the smallest measured {drops.change} on {task}, each removed "
                "alone: what they cost together was not measured."
            )
        how += _noise(drops)
        heading = f"mergekit, without {layers_named(removal.layers)} ({task})"
        text, shown = _configuration(findings, removal), drops is measured[0]
        found.append(Snippet(f"{name}.yaml", heading, f"{how} {_MERGEKIT}", text, shown=shown))
    return found


def _configuration(findings: Findings, removal: Removal) -> str:
    location, comment = str(findings.study.model_facts.get("location") or ""), ""
    if findings.model.startswith(PREFIX):
        comment = f"depthprobe convert {findings.model} DIR writes what mergekit can load: put DIR below."
    elif location and location != findings.model:
        comment = f"{findings.model} was loaded from: {location}"
    return mergekit_yaml(findings.model, findings.layers, removal.layers, comment=comment)


def _sizes(findings: Findings) -> set[int]:
    return {1, *(max(1, round(findings.layers * share)) for share in _SHOWN)}


def _cheapest(drops: Drops, name: str) -> Snippet:
    task = plain(drops.task)
    ordered = ", ".join(str(removal.layers[0]) for removal in cheapest_layers(drops))
    note = (
        f"Single layers by measured {drops.change} of {drops.words} on {task}, cheapest first. Each was "
        "removed alone: what several cost together was not measured."
    )
    note += _noise(drops)
    return Snippet(f"{name}.txt", f"Cheapest single layers: {task}", note, _text([ordered]))


def _noise(drops: Drops) -> str:
    """What an order by drops is worth that the items hardly show; empty where they are enough."""
    return f" The order is mostly noise: {why_too_few(drops)}." if drops.evidence.short else ""


def _text(lines: Sequence[str]) -> str:
    return "\n".join(lines) + "\n"
