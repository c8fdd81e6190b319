"""What a probe finds in each sample alone, beside what it finds in all of them."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd

from depthprobe.declaring import Probe
from depthprobe.measurement import Measurement
from depthprobe.texts.samples import Samples


def each_sample(
    probe: Probe, found: Measurement, samples: Samples, measured: Callable[[Samples], Measurement]
) -> dict[str, np.ndarray]:
    """Return the quantity of every table, measured on one sample after the other.

    Args:
        probe: The probe.
        found: What it found in all samples; the rows of its tables are those of the arrays.
        samples: The samples.
        measured: Measures some samples.

    Returns:
        By table ``[sample, row]`` in float64, NaN where a sample alone has no such row.
    """
    parts = []
    for tokens in samples.tokens:
        facts = {**samples.facts, "samples": 1, "tokens": len(tokens)}
        parts.append(measured(replace(samples, tokens=(tokens,), facts=facts)))
    arrays = {}
    for place, table in enumerate(found.tables):
        declared = next(each for each in probe.tables if each.stem == table.stem)
        keys = ["layer", *declared.keys]
        rows = pd.MultiIndex.from_frame(table.frame[keys])
        columns = [part.tables[place].frame.set_index(keys)[declared.quantity] for part in parts]
        arrays[table.stem] = np.stack([np.asarray(_on(rows, column), dtype=float) for column in columns])
    return arrays


def _on(rows: pd.MultiIndex, column: pd.Series) -> pd.Series:
    if not isinstance(column.index, pd.MultiIndex):
        column.index = pd.MultiIndex.from_arrays([column.index], names=[column.index.name])
    return column.reindex(rows)


def each_item(items: bytes) -> dict[str, np.ndarray]:
    """Return the scores of single items that a sweep keeps, by ``TASK/METRIC/FILTER``.

    Args:
        items: The content of its items.npz.

    Returns:
        ``[item, variant]`` in float64; ``[item, variant, part]`` of a number that is made of several. The
        first variant is the whole model, the others lack the layers in the order of the table.
    """
    with np.load(io.BytesIO(items), allow_pickle=False) as file:
        names = [name for name in file.files if name.endswith(".scores")]
        scores = {name.removesuffix(".scores"): np.asarray(file[name], dtype=np.float64) for name in names}
    return {name: np.moveaxis(values, 1, 0) for name, values in scores.items()}
