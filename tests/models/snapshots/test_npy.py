"""`.npy` arrays that are not trusted: what numpy wrote is read, and every lie is refused by its message."""

import io
import struct
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


def load(data: bytes, allowed: tuple[str, ...] = ALL, limit: int = 2**30) -> np.ndarray:
    return npy.read(io.BytesIO(data), len(data), allowed, limit)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("code", ["<f2", ">f2", "<f4", ">f4", "<f8", "|i1", "|u1", "<i4", ">i8", "<u8", "<U3", ">U3"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_what_numpy_wrote_is_read(version: tuple[int, int], code: str, order: Any) -> None:
    """Every dtype, both byte orders, both layouts, all versions: the same values in the same places."""
    own = np.array([[1, 2, 3], [4, 5, 6]]).astype(code).copy(order=order)

    found = load(saved(own, version))

    assert found.shape == (2, 3)
    assert found.tolist() == own.tolist()
    assert npy.from_bytes(saved(own, version), ALL).tolist() == own.tolist()
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

    assert found.shape == npy.from_bytes(saved(own), ALL).shape == own.shape
    assert found.tolist() == own.tolist()


D = "'descr': '<f4', "
F = "'fortran_order': False, "
LIES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "EOF: reading magic string, expected 8 bytes got 0"),
    "other magic": (b"\x93NUMPX" + bytes(20), "the magic string is not correct"),
    "cut in the version": (b"\x93NUMPY\1", "EOF: reading magic string, expected 8 bytes got 7"),
    "version 4": (made("{" + D + F + "'shape': (0,), }", version=b"\4\0"), ".npy version (4, 0): expected 1.0, 2.0"),
    "long header": (made("x" * 10_001), "EOF: reading array header, expected 10001 bytes got 9990"),
    "4 GiB header": (b"\x93NUMPY\2\0\xff\xff\xff\xff", "expected 4294967295 bytes got 0"),
    "header cut off": (made("x" * 99)[:50], "EOF: reading array header, expected 99 bytes got 40"),
    "object": (saved(np.array([{}], object)), "dtype object: its elements are pickles, which are never read"),
    "a record of objects": (saved(np.zeros(1, "O,O")), "dtype object: its elements are pickles"),
    "a record": (saved(np.zeros(1, "f4,i4")), "got '|V8'"),
    "a record of two bytes": (saved(np.zeros(1, "i2,")), "got '|V2'"),
    "complex": (saved(np.zeros(1, complex)), "got '<c16'"),
    "a date": (saved(np.zeros(1, "M8[s]")), "got '<M8[s]'"),
    "bytes": (saved(np.array([b"abc"])), "got '|S3'"),
    "boolean": (saved(np.array([True])), "got '|b1'"),
    "extended": (made("{'descr': '<f16', " + F + "'shape': (1,), }", bytes(16)), "got '<f16'"),
    "no width": (made("{'descr': '<U0', " + F + "'shape': (9,), }"), "got '<U0'"),
    "no dtype": (made("{'descr': 'spam', " + F + "'shape': (9,), }"), "cannot be read: descr is not a valid dtype"),
    "32 GiB of nothing": (made("{" + D + F + "'shape': (4294967296, 2), }"), "takes 34359738368 bytes; 0 follow"),
    "one byte too many": (made("{" + D + F + "'shape': (1,), }", bytes(5)), "takes 4 bytes; 5 follow the header"),
    "a negative side": (made("{" + D + F + "'shape': (-1,), }"), "none negative or huge, got (-1,)"),
    "a side of 30 digits": (made("{" + D + F + f"'shape': ({'9' * 30},), }}"), "none negative or huge, got (99999"),
    "huge sides beside a 0": (made("{" + D + F + f"'shape': (0, {2**40}, {2**40}), }}"), "none negative or huge"),
    "nine sides": (made("{" + D + F + "'shape': (1,1,1,1,1,1,1,1,1), }", bytes(4)), "at most 8 sides"),
    "a number for a shape": (made("{" + D + F + "'shape': (1), }", bytes(4)), "cannot be read: shape is not valid: 1"),
    "no order": (made("{" + D + "'shape': (1,), }", bytes(4)), "Header does not contain the correct keys"),
    "a fourth key": (made("{" + D + F + "'x': True, 'shape': (1,), }", bytes(4)), "does not contain the correct keys"),
    "an order of no kind": (made("{" + D + "'fortran_order': '', 'shape': (1,), }", bytes(4)), "not a valid bool"),
    "of Python 2": (made("{" + D + F + "'shape': (1L,), }", bytes(4)), ".npy header cannot be read"),
    "code": (made("__import__('os').system('touch /tmp/pwned')"), ".npy header cannot be read"),
    "nesting": (made("(" * 9_000), ".npy header cannot be read"),
    "signs": (made("-" * 9_000 + "1"), ".npy header cannot be read"),
    "an endless shape": (made("{" + D + F + "'shape': (" + "1," * 4_000 + "), }"), "at most 8 sides"),
}


@pytest.mark.parametrize("lie", LIES)
def test_each_lie_is_refused_in_its_own_words(lie: str) -> None:
    """A header that lies is refused before any data is read, and nothing in it is run."""
    data, words = LIES[lie]

    with pytest.raises(FormatError) as caught:
        load(data)
    with pytest.raises(FormatError):
        npy.from_bytes(data, ALL)

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

    with pytest.raises(FormatError, match="takes 9 elements, got 8"):
        npy.read(io.BytesIO(data[:-4]), len(data), ALL, 2**30)


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
        with pytest.raises(FormatError):
            npy.from_bytes(bytes(changed), ALL)
        return

    assert found.nbytes == 16
    assert npy.from_bytes(bytes(changed), ALL).tobytes() == found.tobytes()
