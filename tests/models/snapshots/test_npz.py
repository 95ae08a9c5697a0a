"""Untrusted `.npz` archives: what is read, and every defect by its message."""

import io
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from breadcrumbs.models.errors import FormatError
from breadcrumbs.models.snapshots import npz
from breadcrumbs.models.snapshots.fields import Parts
from breadcrumbs.models.snapshots.npz import DIRECTORY_LIMIT, FREE
from breadcrumbs.models.spool import PIECE, FileTooLarge

X = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
LABELS = np.arange(6) % 3


def array(value: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, value)
    return out.getvalue()


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, *, zip64: bool = False) -> bytes:
    """An archive as Python's library writes it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as file:
        for name, data in members.items():
            with file.open(name, "w", force_zip64=zip64) as member:
                member.write(data)
    return out.getvalue()


def read(data: bytes, folder: Path, limit: int = 2**30) -> Parts:
    path = folder / "s.npz"
    path.write_bytes(data)
    return npz.read(path, limit)


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


MEMBERS = {"features.npy": array(X), "labels.npy": array(LABELS)}
GOOD = zipped(MEMBERS)
STORED = zipped(MEMBERS, zipfile.ZIP_STORED)
SIZE = len(MEMBERS["features.npy"])


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("zip64", [False, True])
@pytest.mark.parametrize("rows", [6, PIECE])
def test_arrays_come_out_as_they_went_in(method: int, zip64: bool, rows: int, tmp_path: Path) -> None:
    """Stored and deflated, with and without zip64 sizes, small and of several pieces."""
    features = np.random.default_rng(0).normal(size=(rows, 2)).astype(np.float16)
    members = {"features.npy": array(features), "labels.npy": array(np.zeros(rows, np.uint8))}

    found = read(zipped(members, method, zip64=zip64), tmp_path)

    assert np.array_equal(found.features, features)
    assert len(found.labels) == rows


@pytest.mark.parametrize("value", [0, 1])
def test_memory_is_bounded(value: int, tmp_path: Path) -> None:
    """However large a member is, and however well it shrinks, a few pieces of it are in memory at a time."""
    features = np.random.default_rng(0).integers(0, 1 + value, (7 * PIECE, 1), np.uint8).astype(np.float16)
    data = zipped({"features.npy": array(features), "labels.npy": array(np.zeros(PIECE, np.uint8))})

    tracemalloc.start()
    found = read(data, tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert np.array_equal(found.features, features)
    assert peak < 6 * PIECE


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
        for name, data in MEMBERS.items():
            file.writestr(name, data)

    assert np.array_equal(read(pipe.data, tmp_path).features, X)


def both(data: bytes, entry: int, local: int, new: bytes) -> bytes:
    """The same lie in the directory and in the local header."""
    return patched(patched(data, central(data) + entry, new), local, new)


C = central(GOOD)
SIZE64 = struct.pack("<L", 0xFFFFFFFF)
MANY = {f"m{number}.npy": b"" for number in range(len(npz.KNOWN) + 1)}

DEFECTS: dict[str, tuple[bytes, str]] = {
    "cut off": (GOOD[:-30], "damaged zip archive: File is not a zip file"),
    "a few bytes": (b"PK\5\6", "damaged zip archive: File is not a zip file"),
    "a comment": (patched(GOOD, -2, b"\5\0") + b"hello", "does not end with its directory: expected no comment"),
    "too many members": (zipped(MANY), "zip archive of 13 members; expected at most 12: features.npy"),
    "fewer entries than said": (patched(GOOD, -10, b"\xff"), "damaged zip archive: "),
    "a huge directory": (bytes(DIRECTORY_LIMIT) + patched(GOOD, -10, b"\x01\0\1\0"), "zip directory of 65537 bytes"),
    "zip64 without sizes": (patched(GOOD, C + 24, SIZE64), "zip members of 4294967471 bytes inflated; the limit"),
    "another version": (patched(GOOD, C + 6, b"\xff"), "damaged zip archive: zip file version 25.5"),
    "a folder": (zipped({"x/labels.npy": b""}), "unexpected zip member 'x/labels.npy'; expected only features.npy"),
    "a climb": (zipped({"../labels.npy": b""}), "unexpected zip member '../labels.npy'"),
    "windows": (zipped({"x\\labels.npy": b""}), "unexpected zip member 'x\\\\labels.npy'"),
    "a name after a NUL": (GOOD.replace(b"labels.npy", b"ids.npy\0xy"), "unexpected zip member 'ids.npy\\x00xy'"),
    "no suffix": (zipped({"labels": b""}), "unexpected zip member 'labels'"),
    "a pickle of torch": (zipped({"archive/data.pkl": b""}), "unexpected zip member 'archive/data.pkl'"),
    "a name twice": (zipped({"ids.npy": b"", "abc.npy": b""}).replace(b"abc", b"ids"), "'ids.npy' twice"),
    "encrypted": (both(GOOD, 8, 6, b"\1\0"), "'features.npy' is encrypted"),
    "strongly encrypted": (both(GOOD, 8, 6, b"\x41\0"), "is encrypted"),
    "patched data": (both(GOOD, 8, 6, b"\x20\0"), "array 'features': damaged zip member: compressed patched data"),
    "bzip2": (zipped(MEMBERS, zipfile.ZIP_BZIP2), "compression method 12; expected 0 (stored) or 8 (deflated)"),
    "other local name": (patched(GOOD, 30, b"b"), "array 'features': damaged zip member: File name in directory"),
    "stored with two sizes": (patched(STORED, central(STORED) + 24, b"\1\0\0\0"), "array 'features': damaged zip"),
    "grows beyond its size": (patched(GOOD, C + 24, b"\x90\0\0\0"), "damaged zip member: Bad CRC-32"),
    "less than its size": (patched(GOOD, C + 24, struct.pack("<L", SIZE + 4)), "takes 72 bytes; 76 follow the header"),
    "another checksum": (patched(GOOD, C + 16, b"\0\0\0\0"), "array 'features': damaged zip member: Bad CRC-32"),
    "damaged data": (patched(GOOD, 45, b"\xff\xff"), "array 'features': damaged zip member: Error -3"),
    "offset of another": (patched(GOOD, central(GOOD, 1) + 42, bytes(4)), "'labels.npy' begins inside the one"),
    "offset before the file": (patched(GOOD, -6, b"\xff\xff\0\0"), "'features.npy' begins inside the one"),
    "offset into nowhere": (patched(GOOD, C + 42, b"\xf0\xff"), "zip member 'features.npy' is cut off"),
    "data cut off": (patched(GOOD, C + 20, b"\x20\0\0\0"), "array 'features': damaged zip member: "),
    "data too long": (patched(GOOD, C + 20, struct.pack("<L", C - 60)), "'labels.npy' begins inside the one before it"),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_each_defect_is_named(defect: str, tmp_path: Path) -> None:
    """A directory, header or member that lies is refused by name, before or while it is inflated."""
    data, words = DEFECTS[defect]

    with pytest.raises(FormatError) as caught:
        read(data, tmp_path)

    assert words in str(caught.value)
    assert len(str(caught.value)) < 300


def big(size: int) -> bytes:
    """An archive whose inflated members take `size` bytes."""
    return zipped({"features.npy": bytes(size - SIZE), "labels.npy": bytes(SIZE)})


@pytest.mark.parametrize(
    ("data", "limit", "words"),
    [
        (big(1000), 999, "zip members of 1000 bytes inflated; the limit is 999"),
        (big(FREE + 1), 2**40, f"would inflate to {FREE + 1}; the limit is 200 to 1"),
        (zipped({"epoch.npy": bytes(16_385)}), 2**40, "zip member 'epoch.npy' of 16385 bytes; the limit is 16384"),
        (zipped(MEMBERS, zip64=True), -1, "the limit is -1"),
    ],
)
def test_a_bomb_is_refused_before_it_is_inflated(data: bytes, limit: int, words: str, tmp_path: Path) -> None:
    """Declared sizes are added up over all members and compared with the limit and with the archive's own size."""
    with pytest.raises(FileTooLarge, match=words):
        read(data, tmp_path, limit)


@given(place=st.integers(0, len(GOOD) - 1), byte=st.integers(0, 255))
def test_a_changed_byte_is_refused_or_harmless(tmp_path_factory: pytest.TempPathFactory, place: int, byte: int) -> None:
    """Whatever byte changes, the arrays are what they were or the archive is refused, and nothing else happens."""
    try:
        found = read(patched(GOOD, place, bytes([byte])), tmp_path_factory.getbasetemp())
    except FormatError:
        return

    assert np.array_equal(found.features, X)
    assert np.array_equal(found.labels, LABELS)
