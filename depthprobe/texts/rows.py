"""Rows of text from a hub data set or a local file: the one door to the ``datasets`` library."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from depthprobe.errors import DepthprobeError, TextError, first_line
from depthprobe.machine.connection import NETWORK_EXCEPTIONS, explain_connection, explain_full_disk
from depthprobe.texts.options import FILE_FORMATS, OF_A_PATH

# A few thousand C4 documents are tens of megabytes: enough to mix, little enough to stream.
SHUFFLE_ROWS = 10_000

ROWS_LOOKED_AT = 100

# Text that models are not usually trained on is preferred.
SPLIT_PREFERENCE = ("validation", "test", "train")


@dataclass(frozen=True)
class Rows:
    """Rows in the order drawn, and where they really came from.

    ``stored`` are the same rows in their stored order: the first of them come at once, whereas those of a
    shuffled stream come only when thousands have been fetched.
    """

    rows: Iterable[dict[str, Any]]
    config: str | None
    split: str | None
    revision: str | None
    stored: Iterable[dict[str, Any]] = ()


def open_rows(dataset: str, config: str | None, split: str | None, seed: int) -> Rows:
    """Return the rows of a data set or file, streamed and shuffled with ``seed``.

    Streams are shuffled shard by shard and within a buffer of 10,000 rows. With ``HF_HUB_OFFLINE=1``
    a hub data set is read whole from the local cache instead of streamed; a directory is always streamed,
    since the cache would keep what its files held before.

    Args:
        dataset: Hub id, local ``.jsonl``, ``.json``, ``.parquet`` or ``.csv`` file, or a directory of these.
        config: Configuration of a hub data set; needed if it has several.
        split: Split; None takes validation, else test, else train.
        seed: Decides the order.

    Raises:
        TextError: if data set, configuration or split is unknown, or a file is missing or cannot be read.
        MachineError: if the hub cannot be reached.
    """
    suffix = Path(dataset).suffix.lower()
    if suffix in FILE_FORMATS:
        return _open_file(Path(dataset), FILE_FORMATS[suffix], seed)
    # The hub is not asked for what can only be a local path: the error would then be about the hub.
    if (suffix == ".txt" or dataset.startswith(OF_A_PATH)) and not Path(dataset).exists():
        raise _no_file(dataset)
    if Path(dataset).is_file():
        raise TextError(
            f"{dataset} is not a file that can be read as text.",
            f"Its name must end in {', '.join(FILE_FORMATS)} or .txt.",
        )
    return _open_hub(dataset, config, split, seed)


def text_column(rows: Rows, wanted: str | None, dataset: str) -> tuple[str, Iterator[dict[str, Any]]]:
    """Return the column that holds the text, and all rows, including the first ones looked at here.

    The column is the wanted one, else ``text``, else the only column of strings.

    Raises:
        TextError: if there is no such column, or no row at all.
    """
    iterator = _reading(rows.rows, dataset)
    looked_at, kinds = _look(iterator, dataset)
    return _choose(kinds, wanted, dataset), chain(looked_at, iterator)


def check_column(rows: Rows, wanted: str | None, dataset: str) -> None:
    """Raise what :func:`text_column` would raise, as far as it shows at once.

    No row is read from a hub data set that declares its columns.

    Raises:
        TextError: if there is no such column, or no row at all.
        MachineError: if the hub cannot be reached.
    """
    features = getattr(rows.stored, "features", None)
    if features is None or Path(dataset).exists():
        looked_at, kinds = _look(_reading(rows.stored, dataset), dataset)
        there = looked_at[-1]
        # A column without a value so far may hold anything; reading will show which one is meant.
        if len(kinds) == len(there) or (wanted is not None and wanted not in there):
            _choose(kinds, wanted, dataset)
        return
    held = {name: str(getattr(kind, "dtype", type(kind).__name__)) for name, kind in features.items()}
    kinds = {name: "str" if kind.endswith("string") else kind for name, kind in held.items()}
    _choose(kinds, wanted, dataset)


def _look(rows: Iterator[dict[str, Any]], dataset: str) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return the first rows, and the name of the type that each column holds in them."""
    # Rows may lack a value: the first that has one decides what a column holds.
    looked_at: list[dict[str, Any]] = []
    kinds: dict[str, str] = {}
    for row in islice(rows, ROWS_LOOKED_AT):
        looked_at.append(row)
        known = {name: type(value).__name__ for name, value in row.items() if value is not None}
        kinds = known | kinds
        if len(kinds) == len(row):
            break
    if not looked_at:
        raise TextError(f"{dataset} is empty.", "Name another --dataset, --split or --column.")
    return looked_at, kinds


def _choose(kinds: Mapping[str, str], wanted: str | None, dataset: str) -> str:
    """Return the column of text that is meant; raise a TextError if there is none."""
    texts = [name for name, kind in kinds.items() if kind == "str"]
    column = wanted or ("text" if "text" in texts else texts[0] if len(texts) == 1 else None)
    if column is None or column not in texts:
        problem = f"no text column {wanted!r}" if wanted else "no column named text"
        held = kinds.get(wanted or "text")
        if held is not None:
            problem += f" (that one holds {held})"
        listed = (
            f"Columns of text: {', '.join(texts)}; name one with --column."
            if texts
            else "None of its columns holds text."
        )
        raise TextError(f"{dataset} has {problem}.", listed)
    return column


def _no_file(path: Path | str) -> TextError:
    return TextError(f"There is no file {path}.", "Check the path given to --dataset.")


def _open_file(path: Path, builder: str, seed: int) -> Rows:
    import datasets
    from datasets.exceptions import DatasetsError

    if not path.is_file():
        raise _no_file(path)
    if path.stat().st_size == 0:
        raise TextError(f"{path} is empty.", "Name another --dataset.")
    try:
        stream = datasets.load_dataset(
            builder, data_files=glob.escape(str(path)), split="train", streaming=True
        )
    except (OSError, ValueError, DatasetsError) as error:
        raise TextError(f"{path} cannot be read: {first_line(error, kind=False)}.") from error
    return Rows(stream.shuffle(seed=seed, buffer_size=SHUFFLE_ROWS), None, None, None, stream)


def _open_hub(dataset: str, config: str | None, split: str | None, seed: int) -> Rows:
    import datasets
    import huggingface_hub
    from datasets.exceptions import DatasetNotFoundError, DatasetsError

    offline = huggingface_hub.constants.HF_HUB_OFFLINE and not Path(dataset).exists()
    try:
        revision = None
        if not offline and not Path(dataset).exists():
            # Pinned, so that rows and recorded revision agree even if the hub changes meanwhile.
            revision = huggingface_hub.HfApi().dataset_info(dataset, timeout=20).sha
        splits = datasets.load_dataset(dataset, config, revision=revision, streaming=not offline)
    except (
        huggingface_hub.errors.RepositoryNotFoundError,
        DatasetNotFoundError,
    ) as error:
        raise TextError(
            f"There is no data set {dataset} that you can read"
            + (" in the local cache (HF_HUB_OFFLINE is set)." if offline else " on the hub."),
            "Check the spelling; for a private or gated one, run hf auth login or set HF_TOKEN.",
        ) from error
    except huggingface_hub.errors.HFValidationError as error:
        raise TextError(
            f"{dataset!r} is neither a file here nor a data set id.", "Ids look like allenai/c4."
        ) from error
    except ValueError as error:
        raise _config_error(dataset, config, error) from error
    except NETWORK_EXCEPTIONS as error:
        raise _unreachable(dataset, error) from error
    except (OSError, DatasetsError) as error:
        raise explain_full_disk(error, dataset) or _not_opened(dataset, error) from error
    if split is None:
        split = next((name for name in SPLIT_PREFERENCE if name in splits), next(iter(splits)))
    if split not in splits:
        raise TextError(
            f"The data set {dataset} has no split {split!r}.", f"Its splits: {', '.join(map(str, splits))}."
        )
    rows = splits[split]
    buffer = {} if offline else {"buffer_size": SHUFFLE_ROWS}
    return Rows(rows.shuffle(seed=seed, **buffer), rows.info.config_name, str(split), revision, rows)


def _reading(rows: Iterable[dict[str, Any]], dataset: str) -> Iterator[dict[str, Any]]:
    """Yield the rows; a stream that breaks in the middle is reported in a sentence too."""
    from datasets.exceptions import DatasetsError

    try:
        yield from rows
    except NETWORK_EXCEPTIONS as error:
        raise _unreachable(dataset, error) from error
    except (OSError, ValueError, DatasetsError) as error:
        said = first_line(error, kind=False)
        raise TextError(f"{dataset} cannot be read ({said}).", "Is it complete?") from error


def _config_error(dataset: str, config: str | None, error: ValueError) -> TextError:
    """Return the error for a configuration that is missing or unknown."""
    shown = re.search(r"vailable[^\[]*\[(.*?)\]", str(error), flags=re.DOTALL)
    names = re.findall(r"'([^']+)'", shown[1]) if shown else []
    listed = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    if not names:
        return _not_opened(dataset, error)
    problem = f"has no configuration {config!r}" if config else "has several configurations"
    return TextError(f"The data set {dataset} {problem}.", f"Name one with --dataset-config: {listed}.")


def _not_opened(dataset: str, error: Exception) -> TextError:
    return TextError(f"The data set {dataset} cannot be opened: {first_line(error, kind=False)}.")


def _unreachable(dataset: str, error: Exception) -> DepthprobeError:
    """Return the error for a hub that does not answer, or may not be asked."""
    # Streamed data sets leave nothing in the cache.
    instead = "use what is on this machine: a local file or directory, --dataset builtin"
    return explain_connection(error, dataset, instead, refusal=TextError)
