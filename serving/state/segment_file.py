"""The bytes of a segment: many records in one file, and where in it each of them lies.

    sha256 of all that follows | length of the header | header (JSON) | blobs

It knows nothing of where segments are kept, or of what records mean.
"""

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from breadcrumbs.serving.state.store import StoreError

FORMAT = "breadcrumbs.segment/1"
DIGEST, LENGTH = 32, 8
"""Bytes of the sha256 at the beginning, and of the header's length after it."""


@dataclass(frozen=True, eq=False)
class Record:
    """One record.

    Attributes:
        id: its own, in this prefix.
        at: when it was made, in microseconds since 1970.
        names: whoever erases one of these erases this record.
        data: what it says, as JSON.
        blob: bytes beside that.
    """

    id: str
    at: int
    names: tuple[str, ...]
    data: Mapping[str, Any]
    blob: bytes = field(default=b"", repr=False)


class Place(NamedTuple):
    """Where a record lies in its segment.

    Attributes:
        told: first byte of its JSON.
        told_size: bytes of that.
        blob: first byte of its blob.
        blob_size: bytes of that.
        check: CRC-32 of both, one after the other.
    """

    told: int
    told_size: int
    blob: int
    blob_size: int
    check: int


def encode(records: Sequence[Record]) -> bytes:
    """Return the bytes of a segment."""
    header = _header([_told(one) for one in records])
    body = len(header).to_bytes(LENGTH, "little") + header + b"".join(one.blob for one in records)
    return hashlib.sha256(body).digest() + body


def decode(name: str, data: bytes) -> list[Record]:
    """Return the records of a segment.

    Raises:
        StoreError: its bytes have another sha256, or it is of another format.
    """
    if hashlib.sha256(data[DIGEST:]).digest() != data[:DIGEST]:
        raise StoreError(f"{name} is damaged: its bytes do not have the sha256 that they begin with")
    begin = DIGEST + LENGTH
    end = begin + int.from_bytes(data[DIGEST:begin], "little")
    header = json.loads(data[begin:end])
    if header.get("format") != FORMAT:
        raise StoreError(f"{name}: expected format {FORMAT}, got {header.get('format')!r:.80}")
    found = []
    for one in header["records"]:
        blob = data[end : end + one["size"]]
        found.append(_record(one, blob))
        end += one["size"]
    return found


def places(records: Sequence[Record]) -> list[Place]:
    """Return where each record lies in the segment that `encode` makes of all of them."""
    told = [_told(one) for one in records]
    header = _header(told)
    place = DIGEST + LENGTH + header.index(b"[") + 1
    blob = DIGEST + LENGTH + len(header)
    found = []
    for one, text in zip(records, told, strict=True):
        found.append(Place(place, len(text), blob, len(one.blob), zlib.crc32(one.blob, zlib.crc32(text))))
        place += len(text) + 1  # and a comma
        blob += len(one.blob)
    return found


def record_at(place: Place, told: bytes, blob: bytes) -> Record | None:
    """Return the record of which the bytes at a place were read. None means that they are not what was written."""
    if zlib.crc32(blob, zlib.crc32(told)) != place.check:
        return None
    return _record(json.loads(told), blob)


def _told(record: Record) -> bytes:
    fields = {
        "id": record.id, "at": record.at, "names": record.names, "data": record.data, "size": len(record.blob),
    }  # fmt: skip
    return json.dumps(fields, separators=(",", ":")).encode()


def _header(told: Sequence[bytes]) -> bytes:
    return b'{"format":"%s","records":[%s]}' % (FORMAT.encode(), b",".join(told))


def _record(told: Mapping[str, Any], blob: bytes) -> Record:
    return Record(told["id"], told["at"], tuple(told["names"]), told["data"], blob)
