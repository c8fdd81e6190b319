"""Rows of text from a hub data set or from this machine, shuffled, and the column that is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

from depthprobe.errors import DepthprobeError, TextError, first_line
from depthprobe.machine.connection import NETWORK_EXCEPTIONS, explain_connection, explain_full_disk
from depthprobe.texts.columns import CONVERSATION, NOTHING, TEXT, add_kinds, choose
from depthprobe.texts.files import no_file
from depthprobe.texts.library import (
    chosen_split,
    declared_kind,
    explain_not_opened,
    opening_exceptions,
    readable_columns,
)
from depthprobe.texts.local import open_local
from depthprobe.texts.options import OF_A_PATH, format_of, is_there

# A few thousand C4 documents are tens of megabytes: enough to mix, little enough to stream.
SHUFFLE_ROWS = 10_000

# Rows that show what the columns hold; of a local file more, as long as a column shows no value.
ROWS_LOOKED_AT = 100
MOST_ROWS_LOOKED_AT = 10_000


@dataclass(frozen=True)
class Rows:
    """Rows in the order drawn, and where they really came from.

    ``stored`` are the same rows in their stored order: the first of them come at once, whereas those of a
    shuffled stream come only when thousands have been fetched. ``unread`` are columns that cannot hold text,
    with what they hold; ``notes`` are sentences for the user.
    """

    rows: Iterable[dict[str, Any]]
    config: str | None
    split: str | None
    revision: str | None
    stored: Iterable[dict[str, Any]] = ()
    is_local: bool = False
    unread: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Column:
    """The column that is read, whether it holds conversations, and whether it was named by the user."""

    name: str
    is_conversation: bool
    named: bool

    def note(self, dataset: str) -> str:
        """Return the sentence that says which column is read; empty if the user named it."""
        return "" if self.named else f"The text of {dataset} is its column {self.name!r}."


def open_rows(dataset: str, config: str | None, split: str | None, seed: int) -> Rows:
    """Return the rows of a data set or file, streamed and shuffled with ``seed``.

    Streams are shuffled shard by shard and within a buffer of 10,000 rows. With ``HF_HUB_OFFLINE=1``
    a hub data set is read whole from the local cache instead of streamed; a directory is always streamed,
    since the cache would keep what its files held before.

    Args:
        dataset: Hub id, local file whose name ends in one of ``ROW_FORMATS``, or a directory of these.
        config: Configuration of a hub data set; needed if it has several.
        split: Split; None takes validation, else test, else train.
        seed: Decides the order.

    Raises:
        TextError: if data set, configuration or split is unknown, or a file is missing or cannot be read.
        MachineError: if the hub cannot be reached.
    """
    if not is_there(dataset):
        # The hub is not asked for what can only be a local path: the error would then be about the hub.
        if format_of(dataset) is not None or dataset.startswith(OF_A_PATH):
            raise no_file(dataset)
        return _open_hub(dataset, config, split, seed)
    local = open_local(dataset, config, split)
    rows: Any = local.stored
    return Rows(
        rows.shuffle(seed=seed, buffer_size=SHUFFLE_ROWS),
        config,
        local.split,
        None,
        local.stored,
        is_local=True,
        unread=local.unread,
        notes=local.notes,
    )


def text_column(rows: Rows, wanted: str | None, dataset: str) -> tuple[Column, Iterator[dict[str, Any]]]:
    """Return the column that holds the text, and all rows, including those looked at here.

    Which one is said at :func:`depthprobe.texts.columns.choose`.

    Raises:
        TextError: if there is no such column, or no row at all.
    """
    iterator = _reading(rows.rows, dataset)
    if rows.is_local:  # then the order drawn does not decide
        looked_at, kinds = _look(_reading(rows.stored, dataset), wanted, dataset, MOST_ROWS_LOOKED_AT)
        return _chosen(looked_at, kinds, rows, wanted, dataset), iterator
    looked_at, kinds = _look(iterator, wanted, dataset, ROWS_LOOKED_AT)
    return _chosen(looked_at, kinds, rows, wanted, dataset), chain(looked_at, iterator)


def check_column(rows: Rows, wanted: str | None, dataset: str) -> None:
    """Raise what :func:`text_column` would raise, as far as it shows at once.

    No row is read from a hub data set that declares its columns.

    Raises:
        TextError: if there is no such column, or no row at all.
        MachineError: if the hub cannot be reached.
    """
    features = getattr(rows.stored, "features", None)
    if features is not None and not rows.is_local:
        kinds = {name: declared_kind(feature) for name, feature in features.items()}
        _chosen([], kinds, rows, wanted, dataset)
        return
    most = MOST_ROWS_LOOKED_AT if rows.is_local else ROWS_LOOKED_AT
    looked_at, kinds = _look(_reading(rows.stored, dataset), wanted, dataset, most)
    # A column without a value so far may hold anything; reading will show which one is meant.
    if rows.is_local or NOTHING not in kinds.values() or (wanted is not None and wanted not in kinds):
        _chosen(looked_at, kinds, rows, wanted, dataset)


def _look(
    rows: Iterator[dict[str, Any]], wanted: str | None, dataset: str, most: int
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return the first rows, as many as show which column is meant, and what the columns hold in them."""
    looked_at: list[dict[str, Any]] = []
    kinds: dict[str, str] = {}
    for row in islice(rows, most):
        looked_at.append(row)
        add_kinds(kinds, row)
        decided = (wanted or "text") in kinds or len(looked_at) >= ROWS_LOOKED_AT
        if decided and NOTHING not in kinds.values():
            break
    if not looked_at:
        raise TextError(f"{dataset} is empty.", "Name another --dataset, --split or --column.")
    return looked_at, kinds


def _chosen(
    looked_at: list[dict[str, Any]], kinds: dict[str, str], rows: Rows, wanted: str | None, dataset: str
) -> Column:
    values = {
        name: [value for row in looked_at if isinstance(value := row.get(name), str)]
        for name, kind in kinds.items()
        if kind == TEXT
    }
    name = choose({**kinds, **rows.unread}, values, wanted, dataset)
    return Column(name, kinds[name] == CONVERSATION, wanted is not None)


def _open_hub(dataset: str, config: str | None, split: str | None, seed: int) -> Rows:
    import datasets
    import huggingface_hub
    from datasets.exceptions import DatasetNotFoundError

    offline = huggingface_hub.constants.HF_HUB_OFFLINE
    try:
        revision = None
        if not offline:
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
    except NETWORK_EXCEPTIONS as error:
        raise _unreachable(dataset, error) from error
    except opening_exceptions() as error:
        full = explain_full_disk(error, dataset)
        raise full or explain_not_opened(dataset, config, error) from error
    split = chosen_split(splits, split, dataset)
    rows, unread = readable_columns(splits[split])
    # The order is kept in memory: the cache may not be writable.
    how = {"keep_in_memory": True} if offline else {"buffer_size": SHUFFLE_ROWS}
    return Rows(
        rows.shuffle(seed=seed, **how), rows.info.config_name, str(split), revision, rows, unread=unread
    )


def _reading(rows: Iterable[dict[str, Any]], dataset: str) -> Iterator[dict[str, Any]]:
    """Yield the rows; a stream that breaks in the middle is reported in a sentence too."""
    try:
        yield from rows
    except NETWORK_EXCEPTIONS as error:
        raise _unreachable(dataset, error) from error
    except opening_exceptions() as error:
        said = first_line(error, kind=False)
        raise TextError(f"{dataset} cannot be read ({said}).", "Is it complete?") from error


def _unreachable(dataset: str, error: Exception) -> DepthprobeError:
    """Return the error for a hub that does not answer, or may not be asked."""
    # Streamed data sets leave nothing in the cache.
    instead = "use what is on this machine: a local file or directory, --dataset builtin"
    return explain_connection(error, dataset, instead, refusal=TextError)
