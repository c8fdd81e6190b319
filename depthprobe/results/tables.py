"""Tables of a run as CSV files: written with every bit, and read back only if they are what was written."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from depthprobe.errors import RunError
from depthprobe.measurement import Table
from depthprobe.results.files import read_file
from depthprobe.results.forms import shortened
from depthprobe.results.manifest import way_out

# Type of a column -> how its values are spelled, pandas' name for the type, and what they are called.
_TYPES = {
    "integer": (r"[+-]?[0-9]+", "int64", "of type integer"),
    "number": (r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", "float64", "a finite number"),
    "boolean": (r"True|False", "bool", "of type boolean"),
    "text": (r"(?s:.*)", "str", "text"),
}
# Of a header that somebody else wrote this much is shown.
_HEADER_SHOWN = 120


def column_type(series: pd.Series) -> str:
    """Return what a column holds, in the manifest's words: integer, number, boolean or text.

    Raises:
        RunError: if it is none of these (dates, mixed objects).
    """
    if pd.api.types.is_bool_dtype(series):
        return "boolean"
    if pd.api.types.is_integer_dtype(series):
        return "integer"
    if pd.api.types.is_float_dtype(series):
        return "number"
    if pd.api.types.is_string_dtype(series) or all(isinstance(value, str) for value in series):
        return "text"
    raise RunError(f"Column {series.name!r} holds {series.dtype}, which a run's CSV cannot hold.")


def stored(tables: Iterable[Table]) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Return the CSV of every table by file name, and their ``columns`` and ``files`` for the manifest.

    CSVs have full precision, no index, and LF.
    """
    contents: dict[str, bytes] = {}
    columns: dict[str, Any] = {}
    files: dict[str, Any] = {}
    for table in tables:
        name = f"{table.stem}.csv"
        content = table.frame.to_csv(index=False, lineterminator="\n").encode("utf-8")
        contents[name] = content
        digest = hashlib.sha256(content).hexdigest()
        files[table.stem] = {"name": name, "rows": len(table.frame), "sha256": digest}
        columns[table.stem] = [
            {
                "name": column.name,
                "type": column_type(table.frame[column.name]),
                "unit": column.unit,
                "meaning": column.meaning,
            }
            for column in table.columns
        ]
    return contents, {"columns": columns, "files": files}


def read_table(
    path: Path, columns: list[dict[str, str]], rows: int, sha256: str | None = None
) -> pd.DataFrame:
    """Return the table in a CSV, with the columns, types and number of rows that the manifest declares.

    Args:
        path: The CSV file.
        columns: What the manifest declares for each column.
        rows: How many there must be.
        sha256: Hash of the content as written, if the manifest has it. Other line ends, which git may make,
            and a byte order mark do not count.

    Raises:
        RunError: if the file is missing, cut short, or differs from what the manifest declares.
        MachineError: if it cannot be read.
    """

    def wrong(problem: str) -> RunError:
        return RunError(f"{path}{problem}.", way_out(path.parent))

    try:
        content = read_file(path)
        # Spreadsheets put a byte order mark in front when they save.
        text = content.decode("utf-8-sig")
    except FileNotFoundError:
        raise wrong(" is missing, though the manifest beside it lists it") from None
    except UnicodeDecodeError:
        raise wrong(" is not UTF-8 text") from None
    if not text.strip():
        raise wrong(" is empty")
    if not text.endswith("\n"):
        raise wrong(" is cut short: its last line does not end")
    cells = _cells(text, wrong)
    names, header = [column["name"] for column in columns], cells.iloc[0].tolist()
    if header != names:
        there, declared = (shortened(", ".join(each), _HEADER_SHOWN) for each in (header, names))
        raise wrong(f" has the columns {there}; its manifest says {declared}")
    if len(cells) - 1 != rows:
        raise wrong(f" has {len(cells) - 1} rows; its manifest says {rows}")
    frame = cells[1:].set_axis(names, axis="columns").reset_index(drop=True)
    for column in columns:
        frame[column["name"]] = _values(frame[column["name"]], column["type"], wrong)
    # Last, since the errors above say more.
    if sha256 is not None and sha256 not in _hashes(content, text):
        raise wrong(" was changed after the run: its hash is not the one in the manifest")
    return frame


def _cells(text: str, wrong: Callable[[str], RunError]) -> pd.DataFrame:
    """The cells of a CSV as text, the header's among them.

    As text: wrong values can be named, "NA" and empty cells stay what they are, and ``astype`` gives back
    every bit that pandas wrote, which the reader's own numbers do only from pandas 3 on.
    """
    try:
        return pd.read_csv(
            io.StringIO(text, newline=""), header=None, dtype=str, na_filter=False, skip_blank_lines=False
        )
    except ValueError as error:
        longer = re.search(r"Expected (\d+) fields in (line \d+), saw (\d+)", str(error))
        if longer is not None:
            raise wrong(f", {longer[2]}, has {longer[3]} values instead of {longer[1]}") from error
        opened = re.search(r"string starting at row (\d+)", str(error))
        why = f": the quote that opens in line {int(opened[1]) + 1} is not closed" if opened else ""
        raise wrong(f" is not a CSV{why}") from error


def _values(cells: pd.Series, kind: str, wrong: Callable[[str], RunError]) -> pd.Series:
    """The values of a column, of the type that the manifest declares."""
    spelling, dtype, words = _TYPES[kind]
    for row, cell in cells[~cells.str.fullmatch(spelling)].items():
        raise wrong(
            f", line {row + 2}, has {shortened(repr(cell), 40)} for {cells.name}, which is not {words}"
        )
    if kind == "boolean":
        return cells == "True"
    try:
        read = cells.astype(dtype)
    except (OverflowError, ValueError):  # thousands of digits are a ValueError
        raise wrong(f" has a number in {cells.name} that is too large") from None
    if kind == "number" and np.isinf(read).any():
        raise wrong(f" has a number in {cells.name} that is too large")
    return read


def _hashes(content: bytes, text: str) -> tuple[str, ...]:
    """Return the hashes of a file as it is, and with the line ends as we write them."""
    written = text.replace("\r\n", "\n").encode("utf-8")
    return tuple(hashlib.sha256(each).hexdigest() for each in (content, written))
