"""What the values in a run's tables can be, by what the catalogue declares of their columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from depthprobe.catalogue import PROBES, TRAINING
from depthprobe.declaring import MOST_LAYERS, TableOf
from depthprobe.errors import RunError
from depthprobe.measurement import LARGEST, LARGEST_SIZE, Column
from depthprobe.results.forms import shown
from depthprobe.results.manifest import way_out

# What rounding may add to a number that cannot be larger than 1.
_ROUNDING = 1e-6
# Tasks, metrics, parts and the like.
_LONGEST_LABEL = 500
_COMPARED = "compare_"
_LAYER = "layer"


def check_values(path: Path, frame: pd.DataFrame, stem: str, manifest: dict[str, Any]) -> None:
    """Pass if a table can be one of its probe: columns, at least one row, kinds, limits, no row twice.

    Args:
        path: The CSV that holds it, for the error.
        frame: The table.
        stem: Its name in the manifest.
        manifest: The run's, already checked; says how many layers the model has.

    Raises:
        RunError: if it cannot.
    """
    layers = (manifest.get("model") or {}).get("layers")
    wrong = (
        _columns(frame, stem)
        or _labels(frame, stem)
        or _numbers(frame, stem)
        or _layers(frame, stem, layers)
        or _repeats(frame, stem)
    )
    if wrong:
        raise RunError(f"{path} cannot be used: {wrong}.", way_out(path.parent))


def _table(stem: str) -> TableOf | None:
    """What is declared of a table, or of that which a comparison made of it; None if nothing is."""
    tables = [*(table for probe in PROBES.values() for table in probe.tables), *TRAINING]
    return next((table for table in tables if table.stem == stem.removeprefix(_COMPARED)), None)


def _keys(stem: str) -> list[str]:
    """The columns that tell the rows of a table apart; none where they are not declared."""
    table = _table(stem)
    if table is None:
        return []
    model = ["model"] if stem.startswith(_COMPARED) else []
    layer = [column.name for column in table.columns if column.name == _LAYER]
    return [*model, *table.keys, *layer]


def _declared(stem: str) -> dict[str, Column]:
    table = _table(stem)
    found = {} if table is None else {column.name: column for column in table.columns}
    return {_LAYER: Column(_LAYER, "", "", "integer", -1), **found}


def _columns(frame: pd.DataFrame, stem: str) -> str:
    """What is wrong with its columns and their kinds."""
    table = _table(stem)
    needed = [] if table is None else [*_keys(stem), table.quantity]
    missing = [name for name in needed if name not in frame]
    if missing:
        return f"it lacks the column {missing[0]}"
    if frame.empty:
        return "it has no rows"
    kinds = {"integer": pd.api.types.is_integer_dtype, "text": pd.api.types.is_string_dtype}
    for name, column in _declared(stem).items():
        fits = kinds.get(str(column.kind), pd.api.types.is_numeric_dtype)
        if name in frame and column.kind is not None and not fits(frame[name]):
            return f"{name} is declared as other than {_an(column.kind)} in its manifest"
    return ""


def _an(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def _labels(frame: pd.DataFrame, stem: str) -> str:
    """What is wrong with its first label that cannot be."""
    for name in (column.name for column in _declared(stem).values() if column.kind == "text"):
        for row, label in enumerate(frame[name] if name in frame else ()):
            if len(label) > _LONGEST_LABEL:  # any characters: lm-eval takes any name for a task
                return f"line {row + 2} has {shown(label)} for {name}, which is too long for a label"
    return ""


def _numbers(frame: pd.DataFrame, stem: str) -> str:
    """What is wrong with its first number that cannot be."""
    declared = _declared(stem)
    for name, values in frame.select_dtypes("number").items():
        column = declared.get(str(name), Column(str(name), "", ""))
        least = -LARGEST if column.at_least is None else column.at_least - _ROUNDING
        most = LARGEST_SIZE if _is_size(column) else LARGEST
        most = most if column.at_most is None else column.at_most + _ROUNDING
        if name == _LAYER:
            most = MOST_LAYERS
        numbers = values.to_numpy(dtype="float64")
        tiny = (numbers > 0) & (numbers < 1 / LARGEST_SIZE) & _is_size(column)
        bad = np.flatnonzero((numbers < least) | (numbers > most) | tiny)
        if bad.size:
            row = int(bad[0])
            lowest = -LARGEST if column.at_least is None else column.at_least
            limit = f"less than {lowest:g}" if numbers[row] < least else f"more than {most:g}"
            if tiny[row]:
                limit = f"closer to 0 than {1 / LARGEST_SIZE:g}"
            return f"line {row + 2} has {shown(values[row].item())} for {name}, which is {limit}"
    return ""


def _is_size(column: Column) -> bool:
    """Whether its numbers are sizes of something; probabilities can come as close to 0 as you like."""
    return column.at_least == 0 and column.at_most is None


def _layers(frame: pd.DataFrame, stem: str, layers: int | None) -> str:
    """Which row is of a layer that the model does not have."""
    table = _table(stem)
    if table is None or layers is None or _LAYER not in frame:
        return ""
    most = pd.Series(layers, frame.index)
    if table.behind is not None:
        may_be_behind = frame[table.varying].isin(table.behind) if table.varying else False
        most -= 1 - pd.Series(may_be_behind, frame.index).astype("int64")
    beyond = np.flatnonzero((frame[_LAYER] > most).to_numpy())
    if not beyond.size:
        return ""
    row = int(beyond[0])
    layer = frame[_LAYER].tolist()[row]
    return f"line {row + 2} has layer {layer}, and the model's layers are 0 to {layers - 1}"


def _repeats(frame: pd.DataFrame, stem: str) -> str:
    """Which row stands there twice."""
    keys = _keys(stem)
    twice = np.flatnonzero(frame.duplicated(keys)) if keys else np.zeros(0)
    if not twice.size:
        return ""
    row = int(twice[0])
    words = ", ".join(f"{key} {shown(frame[key].tolist()[row])}" for key in keys)
    return f"line {row + 2} repeats an earlier row ({words})"
