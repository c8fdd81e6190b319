"""The file that a journal appends to: its records are found again after damage, a kill or a power cut."""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Iterator
from typing import BinaryIO

MARK = b"\x89DPJ\r\n\x1a\n"  # as in PNG: holds bytes that text-mode copying would change
HEAD = struct.Struct("<8sIQ")  # mark, bytes of the name, bytes of the content
CHECKSUM_BYTES = 16
SEARCH_BYTES = 1 << 20
LONGEST_NAME_BYTES = 1 << 16


def record_at(file: BinaryIO, position: int, size: int) -> tuple[str, int, int] | None:
    """Return name, place and length of the content of the record at a position; None if it is not whole."""
    file.seek(position)
    head = file.read(HEAD.size)
    if len(head) < HEAD.size:
        return None
    mark, name_bytes, content_bytes = HEAD.unpack(head)
    start = position + HEAD.size + name_bytes
    # The checksum cannot vouch for the lengths before they are used: see first that they are plausible.
    whole = mark == MARK and name_bytes <= LONGEST_NAME_BYTES
    if not whole or start + content_bytes + CHECKSUM_BYTES > size:
        return None
    name, content = file.read(name_bytes), file.read(content_bytes)
    checksum = hashlib.blake2b(head + name + content, digest_size=CHECKSUM_BYTES).digest()
    return (name.decode("utf-8"), start, content_bytes) if file.read(CHECKSUM_BYTES) == checksum else None


def records(file: BinaryIO) -> Iterator[tuple[str, int, int]]:
    """Yield name, place and length of the content of every whole record in a log."""
    size = file.seek(0, io.SEEK_END)
    position = 0
    while position < size:
        record = record_at(file, position, size)
        if record is None:
            position = _next_mark(file, position + 1, size)
        else:
            yield record
            position = record[1] + record[2] + CHECKSUM_BYTES


def _next_mark(file: BinaryIO, position: int, size: int) -> int:
    """Return where the next mark begins, at or after a position; ``size`` if there is none."""
    while position < size:
        file.seek(position)
        found = file.read(SEARCH_BYTES).find(MARK)
        if found >= 0:
            return position + found
        # A mark may extend across two reads.
        position += SEARCH_BYTES - len(MARK) + 1
    return size
