"""Tables of runs held to their form, before anything is read from them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from depthprobe.errors import RunError


def check_table(frame: pd.DataFrame, what: str, columns: Sequence[str], numbers: Sequence[str]) -> None:
    """Pass if the frame has the columns, at least one row, and finite numbers.

    Args:
        frame: The table.
        what: What it holds, for the error, such as ``drops``.
        columns: The columns it must have.
        numbers: Those of them that must be finite.

    Raises:
        RunError: if it has not.
    """
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise RunError(f"A table of {what} lacks: {', '.join(missing)}.")
    if frame.empty:
        raise RunError(f"The table of {what} has no rows.")
    if not np.isfinite(frame[list(numbers)].to_numpy(dtype="float64")).all():
        raise RunError(f"The table of {what} holds NaN or infinite values.")


def check_profile(
    frame: pd.DataFrame, what: str, kind: str, columns: Sequence[str], numbers: Sequence[str]
) -> None:
    """Pass if the frame is a profile over the layers: a table with one row a layer and kind, none negative.

    Args:
        frame: The table, with a column ``layer``.
        what: What it holds, for the error, such as ``gradient norms``.
        kind: The column that tells the rows of one layer apart.
        columns: The columns it must have besides.
        numbers: Those of them that must be finite and not negative.

    Raises:
        RunError: if it is not.
    """
    check_table(frame, what, ("layer", kind, *columns), ("layer", *numbers))
    if (frame[list(numbers)] < 0).to_numpy().any():
        raise RunError(f"The table of {what} holds negative values.")
    twice = frame.duplicated(["layer", kind])
    if twice.any():
        row = frame[twice].iloc[0]
        raise RunError(f"The table of {what} has {row[kind]}, layer {row['layer']} twice.")


def check_whole(layers: pd.Series, what: str, of: str) -> None:
    """Pass if the layers of one kind of row are 0, 1, 2, ... without a gap.

    Raises:
        RunError: if there are none, or one is missing.
    """
    there = sorted(layers)
    missing = next((place for place, layer in enumerate(there) if layer != place), None)
    if not there or missing is not None:
        raise RunError(f"The table of {what} lacks {of} {missing or 0}.")
