"""What a probe returns and a run holds: tidy frames whose columns say what they mean and in which unit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from depthprobe.errors import MeasureError

if TYPE_CHECKING:
    import pandas as pd


# Far beyond what any model computes. Sums of such numbers, such as perplexities, stay finite, and so do
# squares and ratios of sizes, such as norms and variances, which also come no closer to 0 than the inverse.
LARGEST, LARGEST_SIZE = 1e300, 1e150


@dataclass(frozen=True)
class Column:
    """One column of a table: what stands in it, and what cannot.

    Args:
        name: As in the CSV.
        unit: Of its numbers; ``""`` for labels.
        meaning: In a few words.
        kind: What its values are; None where that is not declared, and nothing is checked.
        at_least, at_most: The smallest and the largest number that can be there; None for no limit.
    """

    name: str
    unit: str
    meaning: str
    kind: Literal["integer", "number", "text"] | None = None
    at_least: float | None = None
    at_most: float | None = None


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
