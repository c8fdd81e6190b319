"""A saved run read back: its manifest, and its tables exactly as they were measured."""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from depthprobe.errors import RunError
from depthprobe.measurement import Table
from depthprobe.results.files import machine_error
from depthprobe.results.manifest import MANIFEST_NAME, read_manifest

_AGAIN = "Run the measurement again, or restore the file."
_MOST_LISTED = 8


@dataclass(frozen=True)
class Run:
    """A saved measurement: its directory, its manifest, and its tables by stem."""

    directory: Path
    manifest: dict[str, Any]
    tables: dict[str, pd.DataFrame]

    @property
    def facts(self) -> dict[str, Any]:
        """What was asked of the probe, and the numbers found beside the tables.

        Earlier manifests have both under ``options``.
        """
        return {**(self.manifest.get("options") or {}), **(self.manifest.get("results") or {})}

    @property
    def frame(self) -> pd.DataFrame:
        """The table with the probe's name, or else the first."""
        stem = str(self.manifest.get("probe")).replace("-", "_")
        return self.tables[stem] if stem in self.tables else next(iter(self.tables.values()))


# Type of a column -> how its values are spelled, and pandas' name for the type.
_TYPES = {
    "integer": (r"[+-]?\d+", "int64"),
    "number": (r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", "float64"),
    "boolean": (r"True|False", "bool"),
    "text": (r"(?s:.*)", "str"),
}


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
    try:
        content = path.read_bytes()
        # Spreadsheets put a byte order mark in front when they save.
        text = content.decode("utf-8-sig")
    except FileNotFoundError:
        raise RunError(f"{path} is missing, though the manifest beside it lists it.", _AGAIN) from None
    except UnicodeDecodeError:
        raise RunError(f"{path} is not UTF-8 text.", _AGAIN) from None
    except OSError as error:
        raise machine_error("read", path, error) from error
    if not text.endswith("\n"):
        raise RunError(f"{path} is cut short: its last line does not end.", _AGAIN)
    try:
        # As text: wrong values can be named, "NA" and empty cells stay what they are, and astype() below
        # gives back every bit that pandas wrote, which the reader's own numbers do only from pandas 3 on.
        cells = pd.read_csv(
            io.StringIO(text, newline=""), header=None, dtype=str, na_filter=False, skip_blank_lines=False
        )
    except ValueError as error:
        longer = re.search(r"Expected (\d+) fields in (line \d+), saw (\d+)", str(error))
        if longer is None:
            raise RunError(f"{path} is not a CSV: {str(error).strip()}.", _AGAIN) from error
        problem = f"{path}, {longer[2]}, has {longer[3]} values instead of {longer[1]}."
        raise RunError(problem, _AGAIN) from error
    names, header = [column["name"] for column in columns], cells.iloc[0].tolist()
    if header != names:
        problem = f"{path} has the columns {', '.join(header)}; its manifest says {', '.join(names)}."
        raise RunError(problem, _AGAIN)
    if len(cells) - 1 != rows:
        raise RunError(f"{path} has {len(cells) - 1} rows; its manifest says {rows}.", _AGAIN)
    frame = cells[1:].set_axis(names, axis="columns").reset_index(drop=True)
    for column in columns:
        (spelling, dtype), values = _TYPES[column["type"]], frame[column["name"]]
        for row, value in values[~values.str.fullmatch(spelling)].items():
            kind = "a finite number" if column["type"] == "number" else f"of type {column['type']}"
            problem = f"{path}, line {row + 2}, has {value!r} for {column['name']}, which is not {kind}."
            raise RunError(problem, _AGAIN)
        try:
            read = (values == "True") if dtype == "bool" else values.astype(dtype)
            if dtype == "float64" and np.isinf(read).any():
                raise OverflowError
        except OverflowError:
            raise RunError(f"{path} has a number in {column['name']} that is too large.", _AGAIN) from None
        frame[column["name"]] = read
    # Last, since the errors above say more.
    if sha256 is not None and sha256 not in _hashes(content, text):
        raise RunError(f"{path} was changed after the run: its hash is not the one in the manifest.", _AGAIN)
    return frame


def _hashes(content: bytes, text: str) -> tuple[str, ...]:
    """Return the hashes of a file as it is, and with the line ends as we write them."""
    written = text.replace("\r\n", "\n").encode("utf-8")
    return tuple(hashlib.sha256(each).hexdigest() for each in (content, written))


def _no_run(directory: Path) -> RunError:
    """Return the error for a directory without a manifest; its hint lists the runs below."""
    below = []
    with contextlib.suppress(OSError):
        for depth in ("*", "*/*"):
            below += [path.parent for path in sorted(directory.glob(f"{depth}/{MANIFEST_NAME}"))]
    # Hidden ones are being written, or are leftovers.
    below = [path for path in below if not path.name.startswith(".")]
    if not below:
        hint = f"The directory of a run is written by a measurement and holds {MANIFEST_NAME} and CSV files."
    else:
        more = f", and {len(below) - _MOST_LISTED} more" if len(below) > _MOST_LISTED else ""
        hint = f"It holds the runs {', '.join(map(str, below[:_MOST_LISTED]))}{more}."
    return RunError(f"{directory} is not a run: it has no {MANIFEST_NAME}.", hint)


def read_run(directory: Path) -> Run:
    """Return the run saved in a directory.

    Raises:
        RunError: if the directory does not exist or is not a run, or a file in it is missing, damaged,
            changed since, or does not match the manifest.
        MachineError: if a file cannot be read.
    """
    directory = Path(directory)
    if not directory.exists():
        hint = "Give the directory of a run, such as reports/MODEL/angular."
        raise RunError(f"{directory} does not exist.", hint)
    if not directory.is_dir():
        raise RunError(f"{directory} is a file.", f"Give the directory of a run, such as {directory.parent}.")
    path = directory / MANIFEST_NAME
    if not path.is_file():
        raise _no_run(directory)
    manifest = read_manifest(path)
    if not _fits(manifest):
        problem = f"{path} is not a manifest that this version of depthprobe can read."
        raise RunError(problem, "Run the measurement again.")
    files = manifest["files"]
    tables = {
        stem: read_table(directory / f"{stem}.csv", columns, files[stem]["rows"], files[stem].get("sha256"))
        for stem, columns in manifest["columns"].items()
    }
    return Run(directory, manifest, tables)


def _fits(manifest: dict[str, Any]) -> bool:
    """Return whether a manifest has all that reading its run relies on (somebody may have edited it)."""
    try:
        tables = [
            Path(stem).name == stem  # not a way out of the directory
            and isinstance(manifest["files"][stem]["rows"], int)
            and all(isinstance(column["name"], str) and column["type"] in _TYPES for column in columns)
            for stem, columns in manifest["columns"].items()
        ]
        known = isinstance(manifest["probe"], str) and isinstance(manifest["settings"], dict)
    except (KeyError, TypeError, AttributeError):
        return False
    return known and bool(tables) and all(tables)
