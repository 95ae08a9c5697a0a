"""Zip archives that are not trusted: what is read, and every lie by its message."""

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from breadcrumbs.models.errors import FormatError
from breadcrumbs.models.snapshots import archive
from breadcrumbs.models.snapshots.archive import FREE, Member
from breadcrumbs.models.spool import PIECE, FileTooLarge

NAMES = ("a.npy", "b.npy")
NOISE = np.random.default_rng(0).bytes(2 * PIECE + 17)


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, *, zip64: bool = False) -> bytes:
    """An archive as Python's library writes it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as file:
        for name, data in members.items():
            with file.open(name, "w", force_zip64=zip64) as member:
                member.write(data)
    return out.getvalue()


def unpack(data: bytes, limit: int = 2**30) -> dict[str, bytes]:
    file = io.BytesIO(data)
    found = archive.members(file, NAMES, limit)
    return {name: b"".join(archive.pieces(file, member)) for name, member in found.items()}


def patched(data: bytes, place: int, new: bytes) -> bytes:
    """The same bytes with some of them replaced; a negative place counts from the end."""
    place %= len(data)
    return data[:place] + new + data[place + len(new) :]


def central(data: bytes, number: int = 0) -> int:
    """Where an entry of the central directory begins."""
    place = data.index(b"PK\1\2")
    for _ in range(number):
        place = data.index(b"PK\1\2", place + 1)
    return place


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("zip64", [False, True])
def test_members_come_out_as_they_went_in(method: int, zip64: bool) -> None:
    """Stored and deflated, with and without zip64 sizes, empty, small and of several pieces."""
    members = {"a.npy": NOISE, "b.npy": b""}

    assert unpack(zipped(members, method, zip64=zip64)) == members
    assert unpack(zipped({"b.npy": b"x"}, method, zip64=zip64)) == {"b.npy": b"x"}


def test_a_stream_of_pieces_is_bounded() -> None:
    """However well a member shrinks, no piece that comes out is larger than `PIECE`."""
    file = io.BytesIO(zipped({"a.npy": bytes(8 * PIECE)}))
    member = archive.members(file, NAMES, 2**30)["a.npy"]

    sizes = [len(piece) for piece in archive.pieces(file, member)]

    assert max(sizes) <= PIECE
    assert sum(sizes) == 8 * PIECE


def test_an_archive_written_to_a_pipe_is_read(tmp_path: Path) -> None:
    """Sizes that follow the data are taken from the directory."""

    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.data = b""

        def writable(self) -> bool:
            return True

        def write(self, piece: bytes) -> int:  # type: ignore[override]
            self.data += bytes(piece)
            return len(piece)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as file:  # type: ignore[call-overload]
        file.writestr("a.npy", b"hello" * 9)

    assert unpack(pipe.data) == {"a.npy": b"hello" * 9}


PLAIN = zipped({"a.npy": b"hello" * 9})
STORED = zipped({"a.npy": b"hello" * 9}, zipfile.ZIP_STORED)
TWO = zipped({"a.npy": b"first", "b.npy": b"second"})
C = central(PLAIN)
SIZE64 = struct.pack("<L", 0xFFFFFFFF)


def both(data: bytes, entry: int, local: int, new: bytes) -> bytes:
    """The same lie in the directory and in the local header."""
    return patched(patched(data, central(data) + entry, new), local, new)


def bzip2() -> bytes:
    return zipped({"a.npy": b"hello" * 9}, zipfile.ZIP_BZIP2)


LIES: dict[str, tuple[bytes, str]] = {
    "cut off": (PLAIN[:-30], "does not end with its directory"),
    "a few bytes": (b"PK\5\6", "zip archive of 4 bytes is cut off"),
    "a comment": (patched(PLAIN, -2, b"\5\0") + b"hello", "does not end with its directory"),
    "bytes before it": (b"x" * 9 + PLAIN, "expected to end at"),
    "several parts": (patched(PLAIN, -18, b"\1\0"), "several parts"),
    "too many members": (patched(PLAIN, -14, b"\3\0\3\0"), "zip archive of 3 members; expected at most 2"),
    "more entries than said": (patched(TWO, -14, b"\1\0\1\0"), "its 1 entries end at"),
    "fewer entries than said": (patched(PLAIN, -14, b"\2\0\2\0"), "zip directory is damaged at its byte"),
    "zip64 without a record": (patched(PLAIN, -10, SIZE64), "zip64 record: expected right before its locator"),
    "zip64 without sizes": (patched(PLAIN, C + 24, SIZE64), "its zip64 sizes are missing"),
    "a folder": (zipped({"x/a.npy": b""}), "'x/a.npy': a path"),
    "a climb": (zipped({"..a.npy": b""}), "'..a.npy': a path"),
    "windows": (zipped({"x\\a.npy": b""}), "a path"),
    "an unknown name": (zipped({"c.npy": b""}), "unexpected zip member 'c.npy'; expected only a.npy, b.npy"),
    "a pickle of torch": (zipped({"archive/data.pkl": b""}), "a path; expected names without folders"),
    "a name twice": (TWO.replace(b"b.npy", b"a.npy"), "names 'a.npy' twice"),
    "encrypted": (both(PLAIN, 8, 6, b"\1\0"), "'a.npy' is encrypted"),
    "strongly encrypted": (both(PLAIN, 8, 6, b"\x41\0"), "is encrypted"),
    "bzip2": (bzip2(), "compression method 12; expected 0 (stored) or 8 (deflated)"),
    "other local name": (patched(PLAIN, 30, b"b"), "its local header says otherwise"),
    "other local method": (patched(PLAIN, 8, b"\0\0"), "its local header says otherwise"),
    "other local size": (patched(PLAIN, 22, b"\1\0\0\0"), "sizes or checksum differ"),
    "stored with two sizes": (both(STORED, 24, 22, b"\1\0\0\0"), "is stored: expected 1 bytes, got 45"),
    "grows beyond its size": (both(PLAIN, 24, 22, b"\5\0\0\0"), "inflates to more than the 5 bytes it declares"),
    "less than its size": (both(PLAIN, 24, 22, b"\x2e\0\0\0"), "expected 46 bytes, got 45"),
    "another checksum": (both(PLAIN, 16, 14, b"\0\0\0\0"), "its checksum differs"),
    "damaged data": (patched(PLAIN, 35, b"\xff\xff"), "'a.npy' is damaged"),
    "offset of another": (patched(TWO, central(TWO, 1) + 42, b"\0\0\0\0"), "its local header says otherwise"),
    "offset into nowhere": (patched(PLAIN, C + 42, b"\xf0\0\0\0"), "of a header at byte 240"),
    "data cut off": (both(PLAIN, 20, 18, b"\3\0\0\0"), "is cut off"),
    "data too long": (both(TWO, 20, 18, b"\xff\0\0\0"), "inside the one before it"),
}


@pytest.mark.parametrize("lie", LIES)
def test_each_lie_is_refused_in_its_own_words(lie: str) -> None:
    """A directory, header or member that lies is refused, and the message says what was expected and what came."""
    data, words = LIES[lie]

    with pytest.raises(FormatError) as caught:
        unpack(data)

    assert words in str(caught.value)
    assert len(str(caught.value)) < 300


def test_members_may_not_share_bytes() -> None:
    """Two names for one member, which makes bombs of any size, are refused before anything is inflated."""
    entry = TWO[central(TWO) : central(TWO, 1)]
    second = entry.replace(b"a.npy", b"b.npy")
    local = TWO[: central(TWO)]
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 2, 2, len(entry) * 2, len(local), 0)

    with pytest.raises(FormatError, match="its local header says otherwise"):
        unpack(local + entry + second + end)


@pytest.mark.parametrize(
    ("data", "limit", "words"),
    [
        (zipped({"a.npy": bytes(1000)}), 999, "zip members of 1000 bytes inflated; the limit is 999"),
        (zipped({"a.npy": bytes(600), "b.npy": bytes(600)}), 999, "zip members of 1200 bytes"),
        (zipped({"a.npy": bytes(FREE + 1)}), 2**40, f"would inflate to {FREE + 1}; the limit is 200 to 1"),
        (zipped({"a.npy": b""}, zip64=True), -1, "zip members of 0 bytes"),
    ],
)
def test_a_bomb_is_refused_before_it_is_inflated(data: bytes, limit: int, words: str) -> None:
    """Declared sizes are added up over all members and compared with the limit and with the archive's own size."""
    with pytest.raises(FileTooLarge, match=words):
        archive.members(io.BytesIO(data), NAMES, limit)


def test_a_declared_size_is_all_that_comes() -> None:
    """A bomb that declares little is stopped at what it declares, not at its end."""
    data = zipped({"a.npy": bytes(64 * PIECE)})
    member = Member("a.npy", 8, 0, 35, central(data) - 35, 3 * PIECE, 0)
    came = list[int]()

    with pytest.raises(FormatError, match="inflates to more than"):
        came.extend(len(piece) for piece in archive.pieces(io.BytesIO(data), member))

    assert sum(came) <= 3 * PIECE


@given(place=st.integers(0, len(TWO) - 1), byte=st.integers(0, 255))
def test_a_changed_byte_is_refused_or_harmless(place: int, byte: int) -> None:
    """Whatever byte changes, the members are what they were or the archive is refused, and nothing else happens."""
    unpacked: Callable[[], dict[str, bytes]] = lambda: unpack(patched(TWO, place, bytes([byte])))  # noqa: E731

    try:
        found = unpacked()
    except FormatError:
        return

    assert found == {"a.npy": b"first", "b.npy": b"second"}
