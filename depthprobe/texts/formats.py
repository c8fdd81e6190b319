"""Files of rows -> rows, in whatever format: JSON, CSV, Parquet, Arrow.

JSON is read by Python's own parser, which refuses what is nested too deeply and what is not JSON; Arrow's
ends the process at the first, and takes dates for something else than text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, TextIO

from depthprobe.errors import DepthprobeError, TextError, first_line
from depthprobe.texts.conversations import is_conversation
from depthprobe.texts.files import check_file, errors_told, is_empty, opened_text
from depthprobe.texts.options import format_of

# Far longer than any text, and short enough to be held in memory.
LONGEST_LINE = 1 << 29

ROWS_AT_ONCE = 256
LINES_AT_ONCE = 10_000


def rows_of_files(files: Sequence[str], leave: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """Yield the rows of files, one file after the other.

    Args:
        files: Paths whose names end in one of ``ROW_FORMATS``.
        leave: Columns of Parquet and Arrow files that are not read.

    Raises:
        TextError: if one of them cannot be read.
    """
    for path in files:
        check_file(path)
        match format_of(path):
            case ".parquet" | ".arrow":
                yield from _arrow_rows(path, leave)
            case ".csv":
                yield from _separated_rows(path, ",")
            case ".tsv":
                yield from _separated_rows(path, "\t")
            case _:
                yield from _json_rows(path)


def unread_columns(path: str) -> dict[str, str]:
    """Return the columns of a Parquet or Arrow file that hold bytes, such as images, with what they hold.

    Raises:
        TextError: if the file cannot be read.
    """
    if format_of(path) not in (".parquet", ".arrow"):
        return {}
    check_file(path)
    with _parsing_told(path):
        schema, _ = _open_arrow(path, None)
        return {field.name: "bytes" for field in schema if _holds_bytes(field.type)}


@contextmanager
def _parsing_told(path: str) -> Iterator[None]:
    """Turn what pandas and pyarrow raise for a file into a sentence."""
    import pandas as pd
    import pyarrow as pa

    try:
        with errors_told(path):
            yield
    except DepthprobeError:
        raise
    except pd.errors.EmptyDataError as error:
        raise is_empty(path) from error
    except (ValueError, OverflowError, NotImplementedError, KeyError, pa.ArrowException) as error:
        said = first_line(error, kind=False)
        raise TextError(f"{path} cannot be read ({said}).", "Is it complete?") from error


def _holds_bytes(kind: Any) -> bool:
    import pyarrow as pa

    kind = getattr(kind, "storage_type", kind)
    if pa.types.is_dictionary(kind):
        return _holds_bytes(kind.value_type)
    names = ("is_binary", "is_large_binary", "is_binary_view", "is_fixed_size_binary")
    if any(getattr(pa.types, name)(kind) for name in names if hasattr(pa.types, name)):
        return True
    return any(_holds_bytes(kind.field(index).type) for index in range(kind.num_fields))


def _open_arrow(path: str, leave: Sequence[str] | None) -> tuple[Any, Iterator[Any]]:
    """Return the schema of a Parquet or Arrow file, and its batches of rows without some columns."""
    import pyarrow as pa
    import pyarrow.parquet

    if format_of(path) == ".parquet":
        parquet = pyarrow.parquet.ParquetFile(path)
        names = [name for name in parquet.schema_arrow.names if name not in (leave or ())]
        return parquet.schema_arrow, parquet.iter_batches(ROWS_AT_ONCE, columns=names)
    mapped = pa.memory_map(path)
    try:
        stream: Any = pa.ipc.open_stream(mapped)
        batches = iter(stream)
    except pa.ArrowInvalid:  # the other of Arrow's two formats, with an index at the end
        stream = pa.ipc.open_file(mapped)
        batches = (stream.get_batch(index) for index in range(stream.num_record_batches))
    names = [name for name in stream.schema.names if name not in (leave or ())]
    return stream.schema, (batch.select(names) for batch in batches)


def _arrow_rows(path: str, leave: Sequence[str]) -> Iterator[dict[str, Any]]:
    with _parsing_told(path):
        for batch in _open_arrow(path, leave)[1]:
            for start in range(0, batch.num_rows, ROWS_AT_ONCE):
                yield from batch.slice(start, ROWS_AT_ONCE).to_pylist()


def _separated_rows(path: str, separator: str) -> Iterator[dict[str, Any]]:
    import pandas as pd

    with _parsing_told(path), opened_text(path) as file:
        for chunk in pd.read_csv(file, sep=separator, chunksize=LINES_AT_ONCE):
            yield from chunk.astype(object).where(chunk.notna(), None).to_dict("records")


def _json_rows(path: str) -> Iterator[dict[str, Any]]:
    """Yield a row for each line, or those of a single value that takes the whole file."""
    with opened_text(path) as file:
        lines = _numbered_lines(path, file)
        first = next(lines, None)
        if first is None:
            return
        number, line = first
        takes_all = format_of(path) == ".json" or line.startswith("[")
        try:
            value = json.loads(line)
        except ValueError as error:
            if not takes_all:
                raise _not_json(path, number, error) from error
            yield from _rows_of_all(path, _parsed(path, number, line + file.read()))
            return
        second = next(lines, None)
        if second is None and takes_all:
            yield from _rows_of_all(path, value)
            return
        yield _row(path, value)
        for number, line in chain([] if second is None else [second], lines):
            yield _row(path, _parsed(path, number, line))


def _numbered_lines(path: str, file: TextIO) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not blank, with their numbers."""
    number = 0
    while line := file.readline(LONGEST_LINE):
        number += 1
        if len(line) == LONGEST_LINE:
            raise TextError(f"Line {number} of {path} is longer than {LONGEST_LINE:,} characters.")
        if line.strip():
            yield number, line


def _parsed(path: str, number: int, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise _not_json(path, number, error) from error


def _not_json(path: str, number: int, error: ValueError) -> TextError:
    """Return the error for text from a line on that is not JSON."""
    if isinstance(error, json.JSONDecodeError):
        number, said = number + error.lineno - 1, f"{error.msg} at character {error.colno}"
    else:  # a number of thousands of digits
        said = first_line(error, kind=False)
    return TextError(f"Line {number} of {path} cannot be read as JSON ({said}).", "Is it complete?")


def _row(path: str, value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    if isinstance(value, str):
        return {"text": value}
    raise TextError(
        f"{path} holds a {type(value).__name__} where a row should stand.",
        "Each row must be a JSON object with named columns, or a string.",
    )


def _rows_of_all(path: str, value: Any) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file that is a single JSON value.

    They are the items of a list, of the only list of objects in an object, or those of its columns if it
    holds lists of equal length; else the value is the only row.
    """
    if isinstance(value, list):
        yield from (_row(path, item) for item in value)
        return
    lists = [part for part in value.values() if isinstance(part, list)] if isinstance(value, dict) else []
    tables = [part for part in lists if part and isinstance(part[0], dict) and not is_conversation(part)]
    if len(tables) == 1:
        yield from (_row(path, item) for item in tables[0])
    elif lists and len(lists) == len(value) and len({len(part) for part in lists}) == 1 and not tables:
        for values in zip(*lists, strict=True):
            yield dict(zip(value, values, strict=True))
    else:
        yield _row(path, value)
