"""Snapshots on disk: the exact bytes, the round trip, and every defect by its message."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save
from tiny import CLASSES, tiny_snapshot

from breadcrumbs.models.errors import FormatError
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.snapshot import CHUNK, FORMAT, MAPPED, Snapshot, SnapshotError

BACKBONE = "b" * 64
DTYPES = [np.float16, np.float32, ml_dtypes.bfloat16]

METADATA = (
    '"__metadata__":{"format":"breadcrumbs.snapshot/1","backbone":"' + BACKBONE + '","epoch":"7",'
    '"classes":"[\\"oak\\", \\"elm\\"]","created":"2026-01-01"}'
)
WRITTEN = (  # as METADATA, in the order of the names
    '"__metadata__":{"backbone":"' + BACKBONE + '","classes":"[\\"oak\\", \\"elm\\"]",'
    '"created":"2026-01-01","epoch":"7","format":"breadcrumbs.snapshot/1"}'
)
FEATURES = '"features":{"dtype":"F32","shape":[2,1],"data_offsets":[16,24]}'
LABELS = '"labels":{"dtype":"I64","shape":[2],"data_offsets":[0,16]}'
DATA = b"\x01\0\0\0\0\0\0\0" + b"\0\0\0\0\0\0\0\0" + b"\0\0\x80\x3f" + b"\0\0\0\xc0"  # labels 1 0, features 1.0 -2.0


def golden(*parts: str) -> bytes:
    """A snapshot's bytes by hand: header length, header, data."""
    header = ("{" + ",".join(parts) + "}").encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + DATA


def small() -> Snapshot:
    """The snapshot that the golden bytes hold."""
    return Snapshot(
        np.float32([[1], [-2]]), np.int64([1, 0]), ("oak", "elm"), BACKBONE, 7, created="2026-01-01"
    )  # fmt: skip


def written(folder: Path, data: bytes) -> Path:
    path = folder / "s.safetensors"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "parts", [(METADATA, LABELS, FEATURES), (FEATURES, METADATA, LABELS), (LABELS, FEATURES, METADATA)]
)
def test_golden_bytes_read(parts: tuple[str, ...], tmp_path: Path) -> None:
    """Bytes written by hand read to the snapshot they spell, whatever the order of the header's names."""
    found = snapshots.read(written(tmp_path, golden(*parts)))

    assert found.features.tolist() == [[1.0], [-2.0]]
    assert found.labels.tolist() == [1, 0]
    assert found.classes == ("oak", "elm")
    assert (found.backbone, found.epoch, found.created) == (BACKBONE, 7, "2026-01-01")
    assert (found.ids, found.weight, found.bias) == (None, None, None)


def test_golden_bytes_are_written() -> None:
    """The bytes that are written are those by hand: the same snapshot is the same file, wherever it is made."""
    assert snapshots.to_bytes(small()) == golden(WRITTEN, LABELS, FEATURES)


@settings(max_examples=40)
@given(
    dtype=st.sampled_from(DTYPES), rows=st.integers(1, 9), dim=st.integers(1, 5), ids=st.booleans(),
    head=st.booleans(), epoch=st.integers(0, 999_999_999),
)  # fmt: skip
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, dtype: Any, rows: int, dim: int, ids: bool, head: bool, epoch: int
) -> None:
    """What is written reads back bit for bit, in each of the three dtypes, with and without the optional parts."""
    rng = np.random.default_rng(rows)
    own = Snapshot(
        rng.normal(size=(rows, dim)).astype(dtype), rng.integers(0, 3, rows), CLASSES, BACKBONE, epoch,
        rng.permutation(rows) - 3 if ids else None,
        rng.normal(size=(3, dim)).astype(dtype) if head else None, np.ones(3, np.float32) if head else None, "now",
    )  # fmt: skip
    path = tmp_path_factory.getbasetemp() / "round-trip.safetensors"

    snapshots.write(path, own)
    found = snapshots.read(path)

    assert found.features.dtype == np.dtype(dtype)
    assert (found.classes, found.backbone, found.epoch, found.created) == (CLASSES, BACKBONE, epoch, "now")
    for name in ("features", "labels", "ids", "weight", "bias"):
        was, now = getattr(own, name), getattr(found, name)
        assert (was is None) == (now is None)
        assert was is None or was.tobytes() == now.tobytes()


ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 40), st.integers(), st.floats(), st.text(max_size=4), st.just({}),
    st.lists(st.integers(-1, 40), max_size=3), st.sampled_from(["F16", "BF16", "I64", "[]", '["a","a"]', "[1]", "1e9"]),
)  # fmt: skip


def mostly(right: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """What a header should have there, seldom something else; `one_of` would count each kind of odd one as much."""
    return st.sampled_from([right] * 19 + [ODD]).flatmap(lambda chosen: chosen)


def tensor(dtype: str, shape: list[int], begin: int, end: int) -> st.SearchStrategy[Any]:
    """What a header says of a tensor, most of it right."""
    said = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    return mostly(st.fixed_dictionaries({name: mostly(st.just(value)) for name, value in said.items()}))


WORDS = {"format": FORMAT, "backbone": BACKBONE, "epoch": "7", "classes": '["oak", "elm"]', "created": "2026-01-01"}
HEADERS = st.fixed_dictionaries(
    {
        "__metadata__": st.fixed_dictionaries({name: mostly(st.just(text)) for name, text in WORDS.items()}),
        "labels": tensor("I64", [2], 0, 16), "features": tensor("F32", [2, 1], 16, 24),
    },
    optional={
        "ids": tensor("I64", [2], 24, 40), "weight": tensor("F32", [2, 1], 40, 48), "bias": tensor("F32", [2], 48, 56),
    },
)  # fmt: skip


@settings(max_examples=300)
@given(header=HEADERS, rest=st.sampled_from([bytes(size) for size in (0, 8, 16, 24, 32, 40)]))
def test_any_header_is_refused_or_read(
    tmp_path_factory: pytest.TempPathFactory, header: dict[str, Any], rest: bytes
) -> None:
    """Every tensor and word that there is, right and odd: a FormatError, or a snapshot that passes every check."""
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + DATA + rest)

    try:
        found = snapshots.read(path)
    except FormatError:
        return

    snapshots.check(found)


def test_features_are_mapped(tmp_path: Path) -> None:
    """The features of a file stay on disk."""
    path = written(tmp_path, snapshots.to_bytes(tiny_snapshot(BACKBONE)))

    found = snapshots.read(path)

    assert isinstance(found.features, np.memmap)
    assert not isinstance(found.labels, np.memmap)


def test_other_readers_can_read_it(tmp_path: Path) -> None:
    """The safetensors library reads a snapshot's arrays."""
    own = tiny_snapshot(BACKBONE)

    arrays = load_file(written(tmp_path, snapshots.to_bytes(own)))

    assert set(arrays) == {"features", "labels"}
    assert np.array_equal(arrays["features"], own.features)


def test_counts_has_a_place_for_every_class() -> None:
    """A class without rows counts zero, also the last."""
    own = replace(tiny_snapshot(BACKBONE, rows=4), labels=np.int64([1, 0, 1, 1]))

    assert own.counts().tolist() == [1, 3, 0]
    assert own.feature_dim == 4


@pytest.mark.parametrize("rows", [np.array([3, 0]), np.array([True, False, False, True])[[3, 1, 2, 0]]])
def test_take_keeps_rows_together(rows: np.ndarray) -> None:
    """Rows taken by index or mask keep feature, label and id together, and the rest as it was."""
    own = replace(
        tiny_snapshot(BACKBONE, rows=4), ids=np.int64([10, 11, 12, 13]), weight=np.zeros((3, 4), np.float32),
        bias=np.zeros(3, np.float32),
    )  # fmt: skip
    indices = np.arange(4)[rows]

    taken = own.take(rows)

    assert taken.ids is not None
    assert taken.ids.tolist() == [10 + i for i in indices]
    assert np.array_equal(taken.features, own.features[indices])
    assert taken.labels.tolist() == [i % 3 for i in indices]
    assert (taken.classes, taken.backbone, taken.epoch, taken.created) == (CLASSES, BACKBONE, 2, "2026-01-01")
    assert taken.weight is own.weight
    assert taken.bias is own.bias


def nan_at(*rows: int, size: int = 12) -> np.ndarray:
    features = np.ones((size, 4), np.float32)
    features[list(rows), 1] = np.nan
    return features


W, B = np.ones((3, 4), np.float32), np.ones(3, np.float32)
TWELVE = np.arange(12) % 3

DEFECTS: list[tuple[dict[str, Any], str]] = [
    ({"features": np.ones(12, np.float32)}, "features: expected shape (N, D) with N, D at least 1, got (12,)"),
    ({"features": np.ones((12, 0), np.float32)}, "features: expected shape (N, D) with N, D at least 1, got (12, 0)"),
    ({"features": np.ones((0, 4), np.float32), "labels": np.int64([])}, "N, D at least 1, got (0, 4)"),
    ({"labels": TWELVE[:5]}, "labels: expected shape (12,), got (5,)"),
    ({"labels": TWELVE[:, None]}, "labels: expected shape (12,), got (12, 1)"),
    ({"ids": np.arange(11)}, "ids: expected shape (12,), got (11,)"),
    ({"ids": np.zeros(12, np.int64)}, "ids: an id occurs twice"),
    ({"backbone": "B" * 64}, "metadata 'backbone': expected a sha256 of 64 hex digits, got 'BBB"),
    ({"backbone": ""}, "metadata 'backbone': expected a sha256 of 64 hex digits, got ''"),
    ({"classes": ("a", "b", "a")}, "class 'a' is empty or occurs twice"),
    ({"classes": ("a", "b", "")}, "class '' is empty or occurs twice"),
    ({"classes": ("a", "b", "\ud800")}, "class '\\ud800' is no Unicode text"),
    ({"labels": TWELVE - 2}, "labels: 4 outside 0 … 2, or −1 for none; the first is -2 in row 0"),
    ({"dataset": "c" * 63}, "metadata 'dataset': expected a sha256 of 64 hex digits, or none, got 'ccc"),
    ({"lineage": "guessed"}, "metadata 'lineage': expected mapped, or none, got 'guessed'"),
    ({"classes": ("a", "b")}, "labels: 4 outside 0 … 1, or −1 for none; the first is 2 in row 2"),
    ({"weight": W}, "weight and bias: expected both or neither"),
    ({"bias": B}, "weight and bias: expected both or neither"),
    ({"weight": W[:2], "bias": B}, "weight, bias: expected shapes (3, 4), (3,), got (2, 4), (3,)"),
    ({"weight": W, "bias": B[:2]}, "weight, bias: expected shapes (3, 4), (3,), got (3, 4), (2,)"),
    ({"weight": W * np.inf, "bias": B}, "weight or bias has values that are not finite"),
    ({"weight": W, "bias": B * np.nan}, "weight or bias has values that are not finite"),
    ({"features": nan_at(7, 3)}, "features: 2 of 12 rows have values that are not finite: rows 3, 7"),
    (
        {"features": nan_at(5).astype(np.float16)},
        "features: 1 of 12 rows have values that are not finite: row 5",
    ),
]


@pytest.mark.parametrize(("change", "words"), DEFECTS)
def test_each_defect_is_named_in_reading_and_writing(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    """A snapshot with a defect is neither written nor read, and the message names the defect."""
    bad = replace(tiny_snapshot(BACKBONE), **change)
    parts = {name: getattr(bad, name) for name in ("features", "labels", "ids", "weight", "bias")}
    metadata = {"format": FORMAT, "backbone": bad.backbone, "epoch": "2", "classes": json.dumps(bad.classes)}
    metadata["dataset"] = bad.dataset
    metadata["lineage"] = bad.lineage
    data = save({name: array for name, array in parts.items() if array is not None}, metadata)

    with pytest.raises(SnapshotError) as writing:
        snapshots.to_bytes(bad)
    with pytest.raises(SnapshotError) as reading:
        snapshots.read(written(tmp_path, data))

    assert words in str(writing.value)
    assert words in str(reading.value)
    assert str(reading.value).startswith("s.safetensors: ")


def test_a_bad_row_far_down_is_found() -> None:
    """Rows are looked at in chunks, and the number of a bad one counts from the file's start."""
    size = CHUNK + 10
    bad = replace(tiny_snapshot(BACKBONE), features=nan_at(CHUNK + 4, size=size), labels=np.arange(size) % 3)

    with pytest.raises(SnapshotError, match=f"1 of {size} rows have values that are not finite: row {CHUNK + 4}$"):
        snapshots.check(bad)


def test_of_many_bad_rows_the_first_five_are_named() -> None:
    """The number of rows that are not finite, and the first five, however many there are."""
    bad = replace(tiny_snapshot(BACKBONE), features=nan_at(1, 2, 4, 6, 9, 11))

    with pytest.raises(SnapshotError, match="6 of 12 rows have values that are not finite: rows 1, 2, 4, 6, 9, …"):
        snapshots.check(bad)


def test_saving_gives_the_same_bytes_at_any_time(tmp_path: Path) -> None:
    """A snapshot saved piece by piece is the file that `to_bytes` gives; without a time of its own it carries none."""
    snapshots.save(tmp_path / "one", small())
    snapshots.save(tmp_path / "two", replace(small(), created=""))

    assert (tmp_path / "one").read_bytes() == snapshots.to_bytes(small())
    assert b"created" not in (tmp_path / "two").read_bytes()
    assert snapshots.read(tmp_path / "two").created == ""


GOOD = {"format": FORMAT, "backbone": BACKBONE, "epoch": "2", "classes": json.dumps(CLASSES)}
ARRAYS = {"features": np.ones((3, 2), np.float32), "labels": np.arange(3)}


@pytest.mark.parametrize(
    ("arrays", "metadata", "words"),
    [
        (ARRAYS, {}, "expected format breadcrumbs.snapshot/1, got None"),
        (ARRAYS, GOOD | {"format": "breadcrumbs.snapshot/2"}, "got 'breadcrumbs.snapshot/2'"),
        ({"labels": ARRAYS["labels"]}, GOOD, "tensor 'features' is missing"),
        ({"features": ARRAYS["features"]}, GOOD, "tensor 'labels' is missing"),
        (ARRAYS | {"labels": np.arange(3, dtype=np.int32)}, GOOD, "tensor 'labels': expected dtype I64, got 'I32'"),
        (
            ARRAYS | {"features": np.ones((3, 2))},
            GOOD,
            "tensor 'features': expected dtype F32 or F16 or BF16, got 'F64'",
        ),
        (ARRAYS | {"image": np.ones(1, np.float32)}, GOOD, "unexpected tensor 'image'"),
        (ARRAYS, GOOD | {"epoch": "-1"}, "metadata 'epoch': expected a whole number, got '-1'"),
        (ARRAYS, GOOD | {"epoch": "1.5"}, "metadata 'epoch': expected a whole number, got '1.5'"),
        (ARRAYS, GOOD | {"epoch": "٣"}, "metadata 'epoch': expected a whole number"),
        (ARRAYS, GOOD | {"epoch": "9" * 5_000}, "metadata 'epoch': expected a whole number"),
        (ARRAYS, GOOD | {"epoch": "2\n"}, "metadata 'epoch': expected a whole number"),
        (ARRAYS, GOOD | {"classes": "oak, elm"}, "metadata 'classes': expected a JSON list of names"),
        (ARRAYS, {k: v for k, v in GOOD.items() if k != "backbone"}, "metadata 'backbone': expected a sha256"),
    ],
)
def test_each_defect_of_a_file_is_named(
    arrays: dict[str, np.ndarray], metadata: dict[str, str], words: str, tmp_path: Path
) -> None:
    """A file that lacks a part, or has one that is not as specified, is refused with the file's name and the part's."""
    with pytest.raises(SnapshotError) as caught:
        snapshots.read(written(tmp_path, save(arrays, metadata)))

    assert str(caught.value).startswith("s.safetensors: ")
    assert words in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_refused_snapshot_leaves_the_old_file(tmp_path: Path) -> None:
    """Writing checks first, so that a bad snapshot does not replace a good file."""
    path = tmp_path / "s.safetensors"
    snapshots.write(path, small())
    before = path.read_bytes()

    with pytest.raises(SnapshotError):
        snapshots.write(path, replace(small(), epoch=8, backbone="?"))

    assert path.read_bytes() == before


@settings(max_examples=40)
@given(
    labels=st.lists(st.integers(-1, 2), min_size=1, max_size=9),
    dataset=st.sampled_from(["", "d" * 64]),
    lineage=st.sampled_from(["", MAPPED]),
)
def test_rows_without_a_label_the_data_set_and_the_lineage_are_kept(
    labels: list[int], dataset: str, lineage: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """They come back as they were, also as the only rows there are; classes count rows with a label only."""
    path = tmp_path_factory.getbasetemp() / "unlabelled.safetensors"
    features = np.ones((len(labels), 2), np.float32)
    made = Snapshot(features, np.int64(labels), CLASSES, BACKBONE, 7, dataset=dataset, lineage=lineage)

    snapshots.write(path, made)
    found = snapshots.read(path).take(np.arange(len(labels))[::-1])

    assert (found.labels.tolist(), found.dataset, found.lineage) == (labels[::-1], dataset, lineage)
    assert found.counts().tolist() == [labels.count(label) for label in range(3)]
