"""The bytes of a segment: many records in one file, and where in it each of them lies.

    sha256 of all that follows | length of the header | header (JSON) | blobs

It knows nothing of where segments are kept, or of what records mean.
"""

import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pydantic_core import to_json

from breadcrumbs.serving.state.store import StoreError
from breadcrumbs.serving.state.unhurried import PAUSE, unhurried

FORMAT = "breadcrumbs.segment/1"
DIGEST, LENGTH = 32, 8
"""Bytes of the sha256 at the beginning, and of the header's length after it."""
HEADER, END = b'{"format":"%s","records":[' % FORMAT.encode(), b"]}"
"""What the header begins and ends with; between them are the records."""


@dataclass(frozen=True, eq=False)
class Record:
    """One record.

    Attributes:
        id: its own, in this prefix.
        at: when it was made, in microseconds since 1970.
        names: whoever erases one of these erases this record.
        data: what it says, as JSON.
        blob: bytes beside that.
        told: all but the blob as JSON, as a segment has it. None means that no segment has it yet.
    """

    id: str
    at: int
    names: tuple[str, ...]
    data: Mapping[str, Any]
    blob: bytes = field(default=b"", repr=False)
    told: bytes | None = field(default=None, repr=False)


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


def encode(records: Sequence[Record], pause: float = PAUSE) -> bytes:
    """Return the bytes of a segment; `pause`, in seconds, is that of `unhurried`."""
    header = HEADER + b",".join(_told(one) for one in unhurried(records, pause)) + END
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
    place = begin + int.from_bytes(data[DIGEST:begin], "little")
    header = data[begin:place]
    if not (header.startswith(HEADER) and header.endswith(END)):
        raise StoreError(f"{name}: expected format {FORMAT}, got {_format(header)!r:.80}")
    found = []
    for fields, told in unhurried(_objects(header[len(HEADER) : -len(END)].decode())):
        found.append(_record(fields, told, data[place : place + fields["size"]]))
        place += fields["size"]
    return found


def places(records: Sequence[Record]) -> list[Place]:
    """Return where each record lies in the segment that `encode` makes of all of them."""
    told = [_told(one) for one in unhurried(records)]
    place = DIGEST + LENGTH + len(HEADER)
    blob = place + sum(map(len, told)) + max(0, len(told) - 1) + len(END)
    found = []
    for one, text in unhurried(zip(records, told, strict=True)):
        found.append(Place(place, len(text), blob, len(one.blob), zlib.crc32(one.blob, zlib.crc32(text))))
        place += len(text) + 1  # and a comma
        blob += len(one.blob)
    return found


def record_at(place: Place, told: bytes, blob: bytes) -> Record | None:
    """Return the record of which the bytes at a place were read. None means that they are not what was written."""
    if zlib.crc32(blob, zlib.crc32(told)) != place.check:
        return None
    return _record(json.loads(told), told, blob)


def _told(record: Record) -> bytes:
    """A record as JSON: as it was read, so that it is not written anew each time that segments are merged."""
    if record.told is not None:
        return record.told
    fields = {
        "id": record.id, "at": record.at, "names": record.names, "data": record.data, "size": len(record.blob),
    }  # fmt: skip
    return to_json(fields)


def _objects(text: str) -> Iterator[tuple[dict[str, Any], bytes]]:
    """JSON objects with a comma between them, and the bytes of each."""
    read, place = json.JSONDecoder().raw_decode, 0
    while place < len(text):
        fields, end = read(text, place)
        yield fields, text[place:end].encode()
        place = end + 1


def _format(header: bytes) -> object:
    try:
        found = json.loads(header)
    except ValueError:
        return None
    return found.get("format") if isinstance(found, dict) else None


def _record(fields: Mapping[str, Any], told: bytes, blob: bytes) -> Record:
    return Record(fields["id"], fields["at"], tuple(fields["names"]), fields["data"], blob, told)
