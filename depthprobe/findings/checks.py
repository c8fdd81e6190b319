"""Tables of runs held to their form, before anything is read from them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from depthprobe.errors import RunError


def check_table(
    frame: pd.DataFrame,
    what: str,
    columns: Sequence[str],
    numbers: Sequence[str],
    *,
    keys: Sequence[str] = (),
    signed: bool = True,
) -> None:
    """Pass if the frame has the columns, at least one row, finite numbers, and no row twice.

    Args:
        frame: The table.
        what: What it holds, for the error, such as ``drops``.
        columns: The columns it must have.
        numbers: Those of them that must be finite.
        keys: Those of them that tell its rows apart, the layer last; none if any may repeat.
        signed: Whether the numbers may be negative.

    Raises:
        RunError: if it has not.
    """
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise RunError(f"A table of {what} lacks: {', '.join(missing)}.")
    if frame.empty:
        raise RunError(f"The table of {what} has no rows.")
    values = frame[list(numbers)].to_numpy(dtype="float64")
    if not np.isfinite(values).all():
        raise RunError(f"The table of {what} holds NaN or infinite values.")
    if not signed and (values < 0).any():
        raise RunError(f"The table of {what} holds negative values.")
    twice = frame.duplicated(list(keys)) if keys else pd.Series(False, frame.index)
    if twice.any():
        row = frame[twice].iloc[0]
        named = [str(row[key]) for key in keys[:-1] if row[key] != "none"]
        raise RunError(f"The table of {what} has {', '.join([*named, f'layer {row[keys[-1]]}'])} twice.")
