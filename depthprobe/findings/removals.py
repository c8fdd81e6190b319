"""Which layers to remove, as lists to use: exact layers, a mergekit configuration, llama.cpp's option.

Sources: mergekit's passthrough method, whose ``layer_range`` ends before its second number; llama-quantize's
``--prune-layers L0,L1,L2...``. Both count layers from 0, as everything here does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import yaml

from depthprobe.errors import RunError
from depthprobe.findings.angular import AngularFindings
from depthprobe.findings.drops import Drops
from depthprobe.findings.words import plain, stretches


@dataclass(frozen=True)
class Removal:
    """Layers that can go: ``layers`` 0-based and ascending, ``value`` what the measurement gave them."""

    layers: tuple[int, ...]
    value: float

    @property
    def prune_layers(self) -> str:
        """The layers as llama-quantize's ``--prune-layers`` takes them: ``25,26,27``."""
        return ",".join(map(str, self.layers))


def best_removals(found: AngularFindings) -> list[Removal]:
    """Return the best block of every size by angular distance, smallest first; none of the whole model."""
    best = found.best
    return [
        Removal(tuple(range(first, last + 1)), float(distance))
        for first, last, distance in zip(best["layer"], best["last_layer"], best["distance"], strict=True)
        if last - first + 1 < found.layers
    ]


def cheapest_layers(drops: Drops) -> list[Removal]:
    """Every single layer by what its removal costs on a task, cheapest first; ``value`` is the drop.

    Each was removed alone: what several of them cost together was not measured.
    """
    order = drops.harm.argsort(kind="stable")
    rows = drops.rows.iloc[order]
    return [
        Removal((int(layer),), float(drop)) for layer, drop in zip(rows["layer"], rows["drop"], strict=True)
    ]


def kept_ranges(layers: int, removed: Iterable[int]) -> list[tuple[int, int]]:
    """Return what is left of a model's layers as ranges (first, one past the last), ascending.

    Raises:
        RunError: if a layer is not there, or none is left.
    """
    gone = set(removed)
    if not gone <= set(range(layers)):
        raise RunError(f"Layer {max(gone)} is not among the model's {layers} layers.")
    kept = [layer for layer in range(layers) if layer not in gone]
    if not kept:
        raise RunError(f"Removing all {layers} layers leaves no model.")
    return [(each.start, each.stop) for each in stretches(kept)]


def measured_removals(drops: Drops, sizes: Iterable[int]) -> list[Removal]:
    """Return the layers whose removal costs least on a task: as many at once as ``sizes`` say.

    In a sweep of blocks those are its cheapest block, which was measured as it is. In a sweep of single
    layers they are the cheapest ones, each removed alone: what several of them cost together was not
    measured. ``value`` is the mean drop.
    """
    order = drops.harm.argsort(kind="stable")
    first, drop = drops.rows["layer"].to_numpy()[order], drops.rows["drop"].to_numpy()[order]
    if drops.block > 1:
        return [Removal(tuple(range(int(first[0]), int(first[0]) + drops.block)), float(drop[0]))]
    # No more than were measured, and not all of them.
    wanted = sorted({size for size in sizes if 0 < size < len(first)})
    return [Removal(tuple(sorted(map(int, first[:size]))), float(drop[:size].mean())) for size in wanted]


def mergekit_yaml(
    model: str, layers: int, removed: Iterable[int], dtype: str | None = None, comment: str = ""
) -> str:
    """Return a mergekit configuration that builds the model without some layers, as YAML text.

    Args:
        model: Its id or directory, whatever characters it has.
        layers: How many it has.
        removed: The layers to remove, 0-based.
        dtype: What the result is saved in, such as ``bfloat16``; mergekit's choice if None.
        comment: A line above it.

    Raises:
        RunError: as :func:`kept_ranges`.
    """
    slices = [
        {"sources": [{"model": model, "layer_range": [first, end]}]}
        for first, end in kept_ranges(layers, removed)
    ]
    configuration: dict[str, object] = {"merge_method": "passthrough", "slices": slices}
    if dtype is not None:
        configuration["dtype"] = dtype
    # Escapes beyond ASCII, and long names on one line: nothing in them can be taken for structure.
    text = yaml.safe_dump(configuration, sort_keys=False, width=10_000)
    return f"# {plain(comment)}\n{text}" if comment else text
