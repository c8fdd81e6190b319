"""What a probe returns and a run holds: tidy frames whose columns say what they mean and in which unit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from depthprobe.errors import MeasureError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Column:
    """One column of a table: its name in the CSV, its unit (``""`` for labels) and its meaning."""

    name: str
    unit: str
    meaning: str


@dataclass(frozen=True)
class Table:
    """One tidy frame, one row for each measurement; ``stem`` names the CSV (``angular`` -> ``angular.csv``).

    Raises:
        MeasureError: if the frame's columns are not the declared ones, or a number is NaN or infinite.
    """

    stem: str
    frame: pd.DataFrame
    columns: tuple[Column, ...]

    def __post_init__(self) -> None:
        declared = [column.name for column in self.columns]
        if list(self.frame.columns) != declared:
            raise MeasureError(f"{self.stem} has the columns {list(self.frame.columns)}, not {declared}.")
        numbers = self.frame.select_dtypes("number").astype("float64")
        bad = (numbers.isna() | numbers.abs().eq(float("inf"))).any()
        if bad.any():
            raise MeasureError(f"{self.stem} holds NaN or infinite values in {list(bad.index[bad])}.")


@dataclass(frozen=True)
class Measurement:
    """What one probe found: its tables, and facts about measuring that belong in the manifest.

    ``facts`` holds only JSON values: numbers found beside the tables, batches, notes. ``files`` are other
    files of the run, name -> content.
    """

    probe: str
    tables: tuple[Table, ...]
    facts: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def frame(self) -> pd.DataFrame:
        """The frame of the first table, which has the probe's name."""
        return self.tables[0].frame
