"""Zip archives whose contents are not trusted: a few members of known names, inflated piece by piece.

The directory is parsed here, not by the library, which makes an object of every entry before anyone can count them.
Nothing is inflated before every declared size has passed; then no byte more than declared comes out. It knows nothing
of what the members are.

Format: local headers, each followed by its member's bytes; the central directory; an end record of 22 bytes, in large
archives with a zip64 record and its locator before it.
"""

import struct
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from breadcrumbs.models.errors import FormatError
from breadcrumbs.models.spool import PIECE, FileTooLarge

RATIO = 200
"""Inflated bytes of the whole archive over its own, at most."""
FREE = 16 * 2**20
"""Inflated bytes that no ratio is asked for: sorted labels alone shrink a thousandfold."""
DIRECTORY_LIMIT = 65_536
"""Bytes of the central directory."""

STORED, DEFLATED = 0, 8
_END, _ENTRY, _LOCAL = struct.Struct("<4s4H2LH"), struct.Struct("<4s6H3L5H2L"), struct.Struct("<4s5H3L2H")
_END64, _LOCATOR = struct.Struct("<4sQ2H2L4Q"), struct.Struct("<4sLQL")
_ENCRYPTED = 0x2041  # bits 0, 6 and 13: encrypted, strongly, or with its directory
_LATER = 0x0008  # sizes follow the data
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF


@dataclass(frozen=True)
class Member:
    """Where a member lies: `packed` bytes from `start`, which inflate to `size` bytes with checksum `crc`."""

    name: str
    method: int
    header: int
    start: int
    packed: int
    size: int
    crc: int


def members(file: BinaryIO, names: Collection[str], limit: int) -> dict[str, Member]:
    """Read and check the directory of an archive; nothing is inflated.

    Args:
        file: the archive.
        names: the names that members may have.
        limit: inflated bytes of all members together, at most.

    Raises:
        FormatError: naming the defect.
        FileTooLarge: the members would inflate to more than `limit`.
    """
    begin, length, count = _directory(file)
    if count > len(names):
        raise FormatError(f"zip archive of {count} members; expected at most {len(names)}: {', '.join(names)}")
    if length > DIRECTORY_LIMIT:
        raise FormatError(f"zip directory of {length} bytes; the limit is {DIRECTORY_LIMIT}")
    raw = _at(file, begin, length)
    found: dict[str, Member] = {}
    place = 0
    for _ in range(count):
        member, place = _entry(file, raw, place, names)
        if member.name in found:
            raise FormatError(f"zip archive names '{member.name}' twice")
        found[member.name] = member
    if place != length:
        raise FormatError(f"zip directory of {length} bytes: its {count} entries end at {place}")
    end = 0
    for member in sorted(found.values(), key=lambda one: one.header):
        if member.header < end:
            raise FormatError(f"zip member '{member.name}' begins at byte {member.header}, inside the one before it")
        end = member.start + member.packed
    if end > begin:
        raise FormatError(f"zip members end at byte {end}; the directory begins at {begin}")
    _check_sizes(found, begin + length, limit)
    return found


def _check_sizes(found: dict[str, Member], packed: int, limit: int) -> None:
    total = sum(member.size for member in found.values())
    if total > limit:
        raise FileTooLarge(f"zip members of {total} bytes inflated; the limit is {limit}")
    if total > max(FREE, RATIO * packed):
        raise FileTooLarge(f"zip archive of {packed} bytes would inflate to {total}; the limit is {RATIO} to 1")


def _directory(file: BinaryIO) -> tuple[int, int, int]:
    """Where the central directory begins, its length and its number of entries."""
    size = file.seek(0, 2)
    if size < _END.size:
        raise FormatError(f"zip archive of {size} bytes is cut off")
    close = size - _END.size
    mark, disk, first, here, count, length, begin, comment = _END.unpack(_at(file, close, _END.size))
    if mark != b"PK\5\6" or comment:
        raise FormatError("zip archive does not end with its directory: it is cut off, or has a comment")
    if _FULL16 in {here, count} or _FULL32 in {length, begin}:
        close -= _LOCATOR.size
        mark, disk, close64, disks = _LOCATOR.unpack(_at(file, close, _LOCATOR.size))
        if mark != b"PK\6\7" or disks > 1 or close64 + _END64.size != close:
            raise FormatError("zip64 record: expected right before its locator")
        close = close64
        mark, rest, _, _, disk, first, here, count, length, begin = _END64.unpack(_at(file, close, _END64.size))
        if mark != b"PK\6\6" or rest != _END64.size - 12:
            raise FormatError("zip64 record is damaged")
    if disk or first or here != count:
        raise FormatError("zip archive in several parts; expected one")
    if begin + length != close:
        raise FormatError(f"zip directory is said to be bytes {begin} to {begin + length}; expected to end at {close}")
    return begin, length, count


def _entry(file: BinaryIO, raw: bytes, place: int, names: Collection[str]) -> tuple[Member, int]:
    """One entry of the central directory, compared with its local header; and where the next begins."""
    if place + _ENTRY.size > len(raw) or raw[place : place + 4] != b"PK\1\2":
        raise FormatError(f"zip directory is damaged at its byte {place}")
    fields = _ENTRY.unpack_from(raw, place)
    _, _, _, flags, method, _, _, crc, packed, size, n, m, k, disk, _, _, header = fields
    place += _ENTRY.size
    label, extra = raw[place : place + n], raw[place + n : place + n + m]
    place += n + m + k
    name = _name(label, names)
    if flags & _ENCRYPTED:
        raise FormatError(f"zip member '{name}' is encrypted")
    if method not in {STORED, DEFLATED}:
        raise FormatError(f"zip member '{name}': compression method {method}; expected 0 (stored) or 8 (deflated)")
    if place > len(raw) or disk:
        raise FormatError(f"zip directory: the entry of '{name}' is damaged")
    size, packed, header = _wide(name, extra, size, packed, header)
    _, _, local, same, _, _, near_crc, near_packed, near_size, near_n, near_m = _LOCAL.unpack(
        _at(file, header, _LOCAL.size, b"PK\3\4")
    )
    start = header + _LOCAL.size + near_n + near_m
    after = _at(file, header + _LOCAL.size, near_n + near_m)
    if after[:near_n] != label or (local ^ flags) & (_ENCRYPTED | _LATER) or same != method:
        raise FormatError(f"zip member '{name}': its local header says otherwise than the directory")
    near = (*_wide(name, after[near_n:], near_size, near_packed)[:2], near_crc)
    if not flags & _LATER and near != (size, packed, crc):
        raise FormatError(f"zip member '{name}': sizes or checksum differ between its local header and the directory")
    if method == STORED and packed != size:
        raise FormatError(f"zip member '{name}' is stored: expected {size} bytes, got {packed}")
    return Member(name, method, header, start, packed, size, crc), place


def _name(label: bytes, names: Collection[str]) -> str:
    name = label.decode("latin-1")
    if "/" in name or "\\" in name or ".." in name:
        raise FormatError(f"zip member {name!r:.80}: a path; expected names without folders")
    if not name.isascii() or name not in names:
        raise FormatError(f"unexpected zip member {name!r:.80}; expected only {', '.join(names)}")
    return name


def _wide(name: str, extra: bytes, size: int, packed: int, header: int = 0) -> tuple[int, int, int]:
    """Sizes and offset, each taken from the zip64 field where the narrow one is full."""
    values = [size, packed, header]
    full = [i for i, value in enumerate(values) if value == _FULL32]
    place, wide = 0, b""
    while place + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, place)
        if kind == 1:
            wide = extra[place + 4 : place + 4 + length]
            break
        place += 4 + length
    if len(wide) < 8 * len(full):
        raise FormatError(f"zip member '{name}': its zip64 sizes are missing")
    for i, value in zip(full, struct.iter_unpack("<Q", wide[: 8 * len(full)]), strict=True):
        values[i] = value[0]
    if max(values) >= 2**62:
        raise FormatError(f"zip member '{name}': a zip64 size of {max(values)} bytes")
    return values[0], values[1], values[2]


def _at(file: BinaryIO, place: int, length: int, mark: bytes = b"") -> bytes:
    if place < 0:
        raise FormatError("zip archive is cut off")
    file.seek(place)
    raw = file.read(length)
    if len(raw) < length or not raw.startswith(mark):
        raise FormatError(f"zip archive: expected {length} bytes of a header at byte {place}")
    return raw


def pieces(file: BinaryIO, member: Member) -> Iterator[bytes]:
    """Inflate a member, about `PIECE` bytes at a time; read to the end, so that the checksum is looked at.

    Raises:
        FormatError: the data is damaged, or is not what the directory says.
    """
    file.seek(member.start)
    came, crc = 0, 0
    for piece in _stored(file, member) if member.method == STORED else _inflated(file, member):
        came += len(piece)
        if came > member.size:
            raise FormatError(f"zip member '{member.name}' inflates to more than the {member.size} bytes it declares")
        crc = zlib.crc32(piece, crc)
        yield piece
    if came != member.size:
        raise FormatError(f"zip member '{member.name}': expected {member.size} bytes, got {came}")
    if crc != member.crc:
        raise FormatError(f"zip member '{member.name}' is damaged: its checksum differs")


def _stored(file: BinaryIO, member: Member) -> Iterator[bytes]:
    left = member.packed
    while left and (piece := file.read(min(left, PIECE))):
        left -= len(piece)
        yield piece


def _inflated(file: BinaryIO, member: Member) -> Iterator[bytes]:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    left, data = member.packed, b""
    while not inflater.eof:
        if not data:
            data = file.read(min(left, PIECE))
            left -= len(data)
        try:
            piece = inflater.decompress(data, PIECE)
        except zlib.error as error:
            raise FormatError(f"zip member '{member.name}' is damaged: {error}") from error
        if not piece and not data:
            raise FormatError(f"zip member '{member.name}' is cut off")
        data = inflater.unconsumed_tail
        yield piece
    if left or inflater.unused_data:
        raise FormatError(f"zip member '{member.name}': bytes after the end of its data")
