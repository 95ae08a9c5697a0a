"""`.npy` arrays that are not trusted: what numpy wrote is read, and every lie is refused by its message."""

import io
import struct
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from breadcrumbs.models.errors import FormatError
from breadcrumbs.models.snapshots import npy
from breadcrumbs.models.snapshots.npy import FLOATS, INTEGERS, TEXT
from breadcrumbs.models.spool import FileTooLarge

ALL = FLOATS + INTEGERS + TEXT


def saved(array: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    """The bytes that numpy writes."""
    out = io.BytesIO()
    np.lib.format.write_array(out, array, version, allow_pickle=True)
    return out.getvalue()


def made(header: str | bytes, data: bytes = b"", version: bytes = b"\1\0") -> bytes:
    """An array by hand."""
    text = header.encode() if isinstance(header, str) else header
    length = struct.pack("<H" if version == b"\1\0" else "<L", len(text))
    return b"\x93NUMPY" + version + length + text + data


def load(data: bytes, allowed: tuple[str, ...] = ALL, step: int = 7, limit: int = 2**30) -> np.ndarray:
    def pieces() -> Iterator[bytes]:
        for start in range(0, len(data), step):
            yield data[start : start + step]

    return npy.read(pieces(), len(data), allowed, limit)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("code", ["<f2", ">f2", "<f4", ">f4", "<f8", "|i1", "|u1", "<i4", ">i8", "<u8", "<U3", ">U3"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_what_numpy_wrote_is_read(version: tuple[int, int], code: str, order: Any) -> None:
    """Every dtype, both byte orders, both layouts, all versions: the same values in the same places."""
    own = np.array([[1, 2, 3], [4, 5, 6]]).astype(code).copy(order=order)

    found = load(saved(own, version))

    assert found.shape == (2, 3)
    assert found.tolist() == own.tolist()
    with pytest.raises(ValueError, match="read-only"):
        found[0, 0] = found[1, 1]


def test_bfloat16_is_read() -> None:
    """Numpy writes it as two bytes of no type."""
    own = np.array([[1.5, -2]], ml_dtypes.bfloat16)

    found = load(saved(own))

    assert found.dtype == np.dtype(ml_dtypes.bfloat16)
    assert found.tolist() == [[1.5, -2]]


@pytest.mark.parametrize("own", [np.array("x"), np.array(7), np.zeros((0, 5), np.float32), np.zeros((3, 0))])
def test_scalars_and_empty_arrays_keep_their_shape(own: np.ndarray) -> None:
    """Also where no byte follows the header."""
    found = load(saved(own))

    assert found.shape == own.shape
    assert found.tolist() == own.tolist()


D = "'descr': '<f4', "
F = "'fortran_order': False, "
LIES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "expected an .npy array, got bytes that begin "),
    "other magic": (b"\x93NUMPX" + bytes(20), "got bytes that begin 934e554d5058"),
    "cut in the version": (b"\x93NUMPY\1", ".npy version 0.0: expected 1.0, 2.0 or 3.0"),
    "version 4": (made("", version=b"\4\0"), ".npy version 4.0"),
    "long header": (made("x" * 10_001), ".npy header has 10001 bytes; the limit is 10000"),
    "4 GiB header": (b"\x93NUMPY\2\0\xff\xff\xff\xff", ".npy header has 4294967295 bytes"),
    "header cut off": (made("x" * 99)[:50], ".npy header: expected 99 bytes, got 40"),
    "object": (saved(np.array([{}], object)), "dtype object: its elements are pickles, which are never read"),
    "a record": (saved(np.zeros(1, "f4,i4")), "of a plain dtype, got"),
    "complex": (saved(np.zeros(1, complex)), "got '<c16'"),
    "a date": (saved(np.zeros(1, "M8[s]")), "got '<M8[s]'"),
    "bytes": (saved(np.array([b"abc"])), "got '|S3'"),
    "boolean": (saved(np.array([True])), "got '|b1'"),
    "extended": (made("{'descr': '<f16', " + F + "'shape': (1,), }", bytes(16)), "got '<f16'"),
    "no width": (made("{'descr': '<U0', " + F + "'shape': (9,), }"), "got '<U0'"),
    "native order": (made("{'descr': '=f4', " + F + "'shape': (1,), }", bytes(4)), "got '=f4'"),
    "32 GiB of nothing": (made("{" + D + F + "'shape': (4294967296, 2), }"), "takes 34359738368 bytes; 0 follow"),
    "one byte too many": (made("{" + D + F + "'shape': (1,), }", bytes(5)), "takes 4 bytes; 5 follow the header"),
    "a negative side": (made("{" + D + F + "'shape': (-1,), }"), "of a plain dtype, got"),
    "a side of 30 digits": (made("{" + D + F + f"'shape': ({'9' * 30},), }}"), "expected a boolean and a tuple"),
    "nine sides": (made("{" + D + F + "'shape': (1,1,1,1,1,1,1,1,1), }", bytes(4)), "9 sides; the limit is 8"),
    "a number for a shape": (made("{" + D + F + "'shape': (1), }", bytes(4)), "expected a tuple, got a number"),
    "no order": (made("{" + D + "'shape': (1,), }", bytes(4)), "expected descr, fortran_order and shape"),
    "a key twice": (made("{" + D + D + "'shape': (1,), }", bytes(4)), "expected descr, fortran_order and shape"),
    "a fourth key": (made("{" + D + F + "'x': True, 'shape': (1,), }", bytes(4)), "expected descr, fortran_order"),
    "an order of no kind": (made("{" + D + "'fortran_order': '', 'shape': (1,), }", bytes(4)), "expected a boolean"),
    "code": (made("__import__('os').system('touch /tmp/pwned')"), "expected descr, fortran_order and shape"),
    "nesting": (made("(" * 9_000), "expected descr, fortran_order and shape"),
    "an endless shape": (made("{" + D + F + "'shape': (" + "1," * 4_000 + "), }"), "expected descr, fortran_order"),
}


@pytest.mark.parametrize("lie", LIES)
def test_each_lie_is_refused_in_its_own_words(lie: str) -> None:
    """A header that lies is refused before any data is read, and nothing in it is run."""
    data, words = LIES[lie]

    with pytest.raises(FormatError) as caught:
        load(data)

    assert words in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(("allowed", "code"), [(FLOATS, "<i8"), (INTEGERS, "<f4"), (INTEGERS, "<U2"), (TEXT, "<i2")])
def test_only_what_is_allowed_is_read(allowed: tuple[str, ...], code: str) -> None:
    """Each array has its own dtypes, and the message lists them."""
    with pytest.raises(FormatError, match=f"expected dtype {allowed[0]}.*got '{code}'"):
        load(saved(np.zeros(2, code)), allowed)


def test_data_that_ends_early_is_told() -> None:
    """Fewer elements than the size of the file promised."""
    data = saved(np.zeros(9, np.float32))

    with pytest.raises(FormatError, match="takes 9 elements; 8 came"):
        npy.read(iter([data[:-4]]), len(data), ALL, 2**30)


def test_more_than_the_limit_is_told() -> None:
    """Counted as it comes."""
    with pytest.raises(FileTooLarge, match="more than 99 bytes, which is the limit"):
        load(saved(np.zeros(100, np.uint8)), limit=99)


SOUND = saved(np.float32([[1, 2], [3, 4]]))


@given(place=st.integers(0, len(SOUND) - 1), byte=st.integers(0, 255))
def test_a_changed_byte_is_refused_or_read(place: int, byte: int) -> None:
    """Whatever byte changes, reading gives 16 bytes of a known dtype or a FormatError, and nothing else."""
    changed = bytearray(SOUND)
    changed[place] = byte

    try:
        found = load(bytes(changed))
    except FormatError:
        return

    assert found.nbytes == 16
