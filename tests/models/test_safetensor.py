"""Safetensors files that lie, one way each; and files that the library itself wrote or reads."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save, save_file

from breadcrumbs.models import safetensor
from breadcrumbs.models.errors import FormatError

KNOWN = {"a": ("F32", "F16"), "b": ("I64",)}
A = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
B = {"dtype": "I64", "shape": [1], "data_offsets": [8, 16]}


def file_of(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file with any header: text, bytes, or what JSON can hold."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(raw) if length is None else length).to_bytes(8, "little") + raw + data


def shaped(shape: object, offsets: object = (0, 8)) -> dict[str, Any]:
    return {"a": A | {"shape": shape, "data_offsets": list(offsets)}}  # type: ignore[call-overload]


LIES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not a safetensors file: 0 bytes"),
    "shorter than a length": (b"\x01\x00\x00", "not a safetensors file: 3 bytes, header said to have 1"),
    "header longer than the file": (file_of({}, length=3), "10 bytes, header said to have 3"),
    "header of 2^64 bytes": (file_of({}, length=2**64 - 1), f"header said to have {2**64 - 1}"),
    "header over the limit": (
        file_of(b" " * (safetensor.HEADER_LIMIT + 1)),
        f"header has {safetensor.HEADER_LIMIT + 1} bytes; the limit is {safetensor.HEADER_LIMIT}",
    ),
    "no JSON": (file_of(b"{a}"), "header is not JSON: Expecting property name"),
    "no UTF-8": (file_of(b'{"\xff": 1}'), "header is not JSON: 'utf-8' codec"),
    "empty header": (file_of(b""), "header is not JSON: Expecting value"),
    "deep nesting": (file_of(b"[" * 200_000), "header is not JSON: maximum recursion depth"),
    "a list": (file_of([A]), "header: expected an object, got list"),
    "a name twice": (file_of(b'{"a": 1, "b": 2, "a": 3}'), "header names 'a' twice"),
    "a key twice in an entry": (file_of(b'{"a": {"dtype": "F32", "dtype": "F16"}}'), "header names 'dtype' twice"),
    "metadata twice": (file_of(b'{"__metadata__": {}, "__metadata__": {}}'), "header names '__metadata__' twice"),
    "metadata a list": (file_of({"__metadata__": ["x"]}), "metadata: expected strings by name"),
    "metadata not strings": (file_of({"__metadata__": {"epoch": 3}}), "metadata: expected strings by name"),
    "metadata nested": (file_of({"__metadata__": {"x": {"y": "z"}}}), "metadata: expected strings by name"),
    "unknown tensor": (file_of({"c": A}, bytes(8)), "unexpected tensor 'c'; expected only a, b"),
    "entry no object": (file_of({"a": [0, 8]}), "tensor 'a': expected dtype, shape and data_offsets"),
    "entry without offsets": (file_of({"a": {"dtype": "F32", "shape": [2]}}), "expected dtype, shape and data_off"),
    "entry with more": (file_of({"a": A | {"order": "F"}}, bytes(8)), "expected dtype, shape and data_offsets"),
    "dtype of another tensor": (file_of({"a": A | {"dtype": "I64"}}, bytes(8)), "expected dtype F32 or F16, got 'I64'"),
    "dtype unheard of": (file_of({"a": A | {"dtype": "F4"}}, bytes(8)), "expected dtype F32 or F16, got 'F4'"),
    "dtype no string": (file_of({"a": A | {"dtype": ["F32"]}}, bytes(8)), "expected dtype F32 or F16, got ['F32']"),
    "negative side": (file_of(shaped([-2]), bytes(8)), "must be whole numbers, not negative"),
    "two negative sides": (file_of(shaped([-2, -1]), bytes(8)), "must be whole numbers, not negative"),
    "boolean side": (file_of(shaped([True, 2]), bytes(8)), "must be whole numbers, not negative"),
    "fraction": (file_of(shaped([2.0]), bytes(8)), "must be whole numbers, not negative"),
    "text side": (file_of(shaped(["2"]), bytes(8)), "must be whole numbers, not negative"),
    "shape no list": (file_of(shaped(2), bytes(8)), "must be whole numbers, not negative"),
    "nine sides": (file_of(shaped([2] + [1] * 8), bytes(8)), "must be whole numbers, not negative"),
    "a side over 2^62": (file_of(shaped([2**62]), bytes(8)), "must be whole numbers, not negative"),
    "a product that wraps to 2": (file_of(shaped([2, 2**61 + 1]), bytes(8)), "does not fill data_offsets [0, 8]"),
    "negative offset": (file_of(shaped([2], (-8, 0)), bytes(8)), "must be whole numbers, not negative"),
    "three offsets": (file_of(shaped([2], (0, 4, 8)), bytes(8)), "must be whole numbers, not negative"),
    "backward offsets": (file_of(shaped([0], (8, 0)), bytes(8)), "shape [0] of F32 does not fill data_offsets [8, 0]"),
    "shape too small": (file_of(shaped([1]), bytes(8)), "shape [1] of F32 does not fill data_offsets [0, 8]"),
    "shape too large": (file_of(shaped([3]), bytes(8)), "shape [3] of F32 does not fill data_offsets [0, 8]"),
    "a gap in front": (file_of(shaped([2], (4, 12)), bytes(12)), "tensor 'a' begins at byte 4; expected 0"),
    "a gap between": (file_of({"a": A, "b": B | {"data_offsets": [9, 17]}}, bytes(17)), "'b' begins at byte 9; exp"),
    "an overlap": (
        file_of({"a": A, "b": B | {"data_offsets": [4, 12]}}, bytes(12)),
        "'b' begins at byte 4; expected 8",
    ),
    "the same bytes twice": (file_of({"a": A, "b": B | {"data_offsets": [0, 8]}}, bytes(8)), "begins at byte 0; exp"),
    "out of range": (file_of({"a": A}, bytes(7)), "the tensors end at byte 8; the file holds 7 bytes of data"),
    "trailing bytes": (file_of({"a": A}, bytes(9)), "the tensors end at byte 8; the file holds 9 bytes of data"),
    "bytes of no tensor": (file_of({}, bytes(3)), "the tensors end at byte 0; the file holds 3 bytes of data"),
}


@pytest.mark.parametrize("lie", LIES)
def test_each_lie_is_refused_in_its_own_words(lie: str, tmp_path: Path) -> None:
    """A header that lies is refused, and the message says what was expected and what came."""
    content, words = LIES[lie]
    path = tmp_path / "lie"
    path.write_bytes(content)

    with pytest.raises(FormatError) as caught:
        safetensor.read(path, KNOWN)
    with pytest.raises(FormatError) as in_memory:
        safetensor.decode(content, KNOWN)

    assert str(in_memory.value) == str(caught.value)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 300


def test_reads_what_the_library_wrote(tmp_path: Path) -> None:
    """A file of the library's own writer reads to the same arrays, dtypes and metadata."""
    arrays = {"a": np.float16([[1, 2], [3, 4]]), "b": np.int64([-1, 2**60])}
    save_file(arrays, tmp_path / "x", {"epoch": "3"})

    for found, metadata in (
        safetensor.read(tmp_path / "x", KNOWN),
        safetensor.decode((tmp_path / "x").read_bytes(), KNOWN),
    ):
        assert metadata == {"epoch": "3"}
        assert set(found) == set(arrays)
        for name, array in arrays.items():
            assert found[name].dtype == array.dtype
            assert np.array_equal(found[name], array)


def test_the_library_reads_what_is_written_here(tmp_path: Path) -> None:
    """A file of `encode` reads in the library to the same arrays and metadata, even of a strided array."""
    strided = np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2]
    (tmp_path / "x").write_bytes(safetensor.encode({"a": strided, "b": np.int64([5])}, {"format": "f"}))

    with safe_open(tmp_path / "x", "numpy") as file:
        metadata = file.metadata()

    assert metadata == {"format": "f"}
    assert np.array_equal(load_file(tmp_path / "x")["a"], strided)
    assert load_file(tmp_path / "x")["b"].tolist() == [5]


def test_a_header_that_no_reader_takes_is_not_written() -> None:
    """Metadata beyond the limit of reading is refused before anything is written."""
    with pytest.raises(FormatError, match=r"header would have \d+ bytes; the limit is 4194304"):
        safetensor.encode({}, {"classes": "x" * safetensor.HEADER_LIMIT})


def test_contents_alone_decide_the_bytes() -> None:
    """The order in which tensors and metadata are given changes nothing."""
    a, b = np.float16([1]), np.int64([5])

    one = safetensor.encode({"a": a, "b": b}, {"x": "1", "y": "2"})

    assert safetensor.encode({"b": b, "a": a}, {"y": "2", "x": "1"}) == one


@given(rows=st.integers(0, 9), dim=st.integers(1, 5), dtype=st.sampled_from(["<f2", "<f4"]))
def test_every_tensor_is_aligned(tmp_path_factory: pytest.TempPathFactory, rows: int, dim: int, dtype: str) -> None:
    """Each tensor begins at a multiple of its item size, so that it can be mapped and used as it lies."""
    path = tmp_path_factory.getbasetemp() / "aligned.safetensors"
    path.write_bytes(
        safetensor.encode({"a": np.zeros((rows, dim), dtype), "b": np.zeros(rows, np.int64)}, {"k": "v" * dim})
    )

    found, _ = safetensor.read(path, KNOWN)

    assert all(array.flags.aligned for array in found.values())


def test_tensors_are_mapped_and_read_only(tmp_path: Path) -> None:
    """What is read stays on disk and cannot be written to."""
    (tmp_path / "x").write_bytes(safetensor.encode({"a": np.zeros(3, np.float32)}, {}))

    array = safetensor.read(tmp_path / "x", KNOWN)[0]["a"]

    assert isinstance(array, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


def test_an_empty_tensor_has_its_shape(tmp_path: Path) -> None:
    """A tensor without elements needs no bytes and keeps its shape, beside one that has some."""
    (tmp_path / "x").write_bytes(
        file_of({"a": shaped([0, 5], (0, 0))["a"], "b": B | {"data_offsets": [0, 8]}}, bytes(8))
    )

    found, _ = safetensor.read(tmp_path / "x", KNOWN)

    assert found["a"].shape == (0, 5)
    assert found["b"].tolist() == [0]


SOUND = save({"a": np.float32([1, 2]), "b": np.int64([3])}, {"k": "v"})


@given(place=st.integers(0, len(SOUND) - 1), byte=st.integers(0, 255))
def test_a_changed_byte_is_refused_or_read(tmp_path_factory: pytest.TempPathFactory, place: int, byte: int) -> None:
    """Whatever byte of a file changes, reading gives known tensors or a FormatError, and nothing else."""
    changed = bytearray(SOUND)
    changed[place] = byte
    path = tmp_path_factory.getbasetemp() / "changed.safetensors"
    path.write_bytes(changed)

    try:
        found, _ = safetensor.read(path, KNOWN)
    except FormatError:
        return

    assert sum(array.nbytes for array in found.values()) == 16
