"""Snapshots from Parquet and Arrow files: types, metadata, nulls, limits, and files that lie."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from breadcrumbs.models.snapshots import formats
from breadcrumbs.models.snapshots.fields import Given
from breadcrumbs.models.snapshots.snapshot import SnapshotError
from breadcrumbs.models.spool import FileTooLarge

ROOT = Path(__file__).parents[3]
X = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
NAMES = ["oak", "elm", "yew", "elm", "oak"] * 10
SAYS = {"backbone": "b" * 64, "epoch": "7", "classes": json.dumps(["oak", "elm", "yew"])}

Write = Callable[[Path, pa.Table], Path]


def fixed(values: np.ndarray = X) -> pa.Array:
    """Rows of one length by their type."""
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


def table(feature: Any = None, label: Any = NAMES, says: dict[str, str] | None = None, **more: Any) -> pa.Table:
    columns = {"feature": fixed() if feature is None else feature, "label": label, **more}
    return pa.table({k: v for k, v in columns.items() if v is not None}).replace_schema_metadata(
        SAYS if says is None else says
    )


def as_parquet(path: Path, content: pa.Table, **more: Any) -> Path:
    parquet.write_table(content, path, row_group_size=17, **more)
    return path


def as_arrow(path: Path, content: pa.Table, compression: str | None = None) -> Path:
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, content.schema, options=options) as writer:
        writer.write_table(content, max_chunksize=17)
    return path


def as_feather(path: Path, content: pa.Table) -> Path:
    """Arrow as pandas writes it by default: compressed."""
    return as_arrow(path, content, "lz4")


WRITERS = pytest.mark.parametrize("write", [as_parquet, as_arrow, as_feather])


@WRITERS
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("listed", ["fixed", "list", "large"])
def test_features_of_every_type_are_read(write: Write, dtype: Any, listed: str, tmp_path: Path) -> None:
    """Fixed-size lists and lists of equal lengths, in three precisions, over several row groups or batches."""
    values = X.astype(dtype)
    offsets = np.arange(51, dtype=np.int64) * 3
    flat = pa.array(values.ravel())
    columns = {
        "fixed": fixed(values),
        "list": pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), flat),
        "large": pa.LargeListArray.from_arrays(pa.array(offsets), flat),
    }

    found = formats.open_snapshot(write(tmp_path / "s", table(columns[listed]))).snapshot

    assert found.features.dtype == (np.float16 if dtype is np.float16 else np.float32)
    assert np.array_equal(found.features, values.astype(found.features.dtype))
    assert [found.classes[label] for label in found.labels] == NAMES
    assert (found.classes, found.backbone, found.epoch, found.ids) == (("oak", "elm", "yew"), "b" * 64, 7, None)


@WRITERS
@pytest.mark.parametrize(
    "label",
    [
        pa.array(NAMES, pa.large_string()),
        pa.array(NAMES).dictionary_encode(),
        pa.array([0, 1, 2, 1, 0] * 10, pa.int8()),
        pa.array([0, 1, 2, 1, 0] * 10, pa.uint64()),
    ],
)
def test_labels_of_every_type_are_read(write: Write, label: pa.Array, tmp_path: Path) -> None:
    """Names, plain or by dictionary, and integers, with ids beside them."""
    path = write(tmp_path / "s", table(label=label, id=pa.array(range(50), pa.int32())))

    found = formats.open_snapshot(path).snapshot

    assert found.labels.tolist() == [0, 1, 2, 1, 0] * 10
    assert found.ids is not None
    assert found.ids.tolist() == list(range(50))


@WRITERS
def test_what_is_missing_is_taken_from_the_caller(write: Write, tmp_path: Path) -> None:
    """Metadata of others, such as pandas', says nothing; names make the classes, sorted."""
    path = write(tmp_path / "s", table(says={"pandas": "{}"}))

    found = formats.open_snapshot(path, Given("c" * 64, 9))

    assert (found.snapshot.backbone, found.snapshot.epoch) == ("c" * 64, 9)
    assert found.snapshot.classes == ("elm", "oak", "yew")
    assert found.changes[0] == f"{'parquet' if write is as_parquet else 'arrow'} to safetensors"
    with pytest.raises(SnapshotError, match="the file does not say 'backbone'"):
        formats.open_snapshot(path)


def holes(*rows: int) -> list[Any]:
    return [None if i in rows else i % 3 for i in range(50)]


def ragged() -> list[list[float]]:
    rows = X.tolist()
    rows[20] = rows[20][:2]
    return rows


def inner_null() -> list[list[float | None]]:
    rows: list[list[float | None]] = X.tolist()
    rows[30][1] = None
    return rows


BAD_NAMES = "metadata 'classes': expected a JSON list of names"
DEFECTS: list[tuple[dict[str, Any], str]] = [
    ({"extra": NAMES}, "unexpected column 'extra'; expected only feature, label, id"),
    ({"__index_level_0__": NAMES}, "unexpected column '__index_level_0__'"),
    ({"label": None}, "column 'label' is missing"),
    ({"feature": pa.array(X[:, 0])}, "column 'feature': expected a list of float16, float32 or float64, got float"),
    (
        {"feature": pa.array([[1, 2]] * 50)},
        "column 'feature': expected a list of float16, float32 or float64, got list",
    ),
    ({"label": pa.array([0.5] * 50)}, "column 'label': expected string or integer, got double"),
    ({"label": pa.array([b"x"] * 50)}, "column 'label': expected string or integer, got binary"),
    ({"label": pa.array([True] * 50)}, "column 'label': expected string or integer, got bool"),
    ({"id": NAMES}, "column 'id': expected integer, got string"),
    ({"label": pa.array(holes(3))}, "column 'label': null in row 3"),
    ({"label": pa.array(holes(30, 31))}, "column 'label': null in rows 30, 31"),
    ({"id": pa.array(holes(49))}, "column 'id': null in row 49"),
    ({"feature": pa.array([None, *X.tolist()[1:]])}, "column 'feature': null in row 0"),
    ({"feature": pa.array(inner_null(), pa.list_(pa.float32()))}, "nulls inside the lists of row 30"),
    ({"feature": pa.array(ragged(), pa.list_(pa.float32()))}, "expected lists of 3 values, got 2 in row 20"),
    ({"feature": pa.array([[]] * 50, pa.list_(pa.float32()))}, "expected lists of at least 1 value, got none in row 0"),
    ({"says": SAYS | {"classes": "oak, elm"}}, BAD_NAMES),
    ({"says": SAYS | {"classes": "[1]"}}, BAD_NAMES),
    ({"says": SAYS | {"classes": "[" * 90_000}}, BAD_NAMES),
    ({"says": SAYS | {"classes": '["oak", "elm"]'}}, "labels: 1 names that are not among the 2 classes: yew"),
    ({"says": SAYS | {"epoch": "x"}}, "metadata 'epoch': expected a whole number, got 'x'"),
    ({"says": SAYS | {"format": "breadcrumbs.snapshot/9"}}, "expected format breadcrumbs.snapshot/1, got 'breadcr"),
    ({"label": pa.array(range(50))}, "labels: 47 outside 0 … 2, or −1 for none; the first is 3 in row 3"),
]


@WRITERS
@pytest.mark.parametrize(("change", "words"), DEFECTS)
def test_each_defect_is_named(write: Write, change: dict[str, Any], words: str, tmp_path: Path) -> None:
    """Columns, types, nulls with their rows, lengths and metadata: refused with the file's name and the part's."""
    with pytest.raises(SnapshotError) as caught:
        formats.open_snapshot(write(tmp_path / "s.x", table(**change)))

    assert words in str(caught.value)
    assert str(caught.value).startswith("s.x: ")
    assert len(str(caught.value)) < 400


@WRITERS
def test_no_rows_at_all_are_refused(write: Write, tmp_path: Path) -> None:
    """An empty table."""
    with pytest.raises(SnapshotError, match=r"features: expected shape \(N, D\) with N, D at least 1, got \(0, 0\)"):
        formats.open_snapshot(write(tmp_path / "s", table().slice(0, 0)))


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (as_parquet, "Parquet file of 20000 rows takes"),
        (as_arrow, "which is the limit"),
        (as_feather, "which is the limit"),
    ],
)
def test_a_file_that_shrinks_well_is_refused_by_its_counts(write: Write, words: str, tmp_path: Path) -> None:
    """A few bytes that stand for many are over the limit before they are values, or as they come."""
    same = fixed(np.zeros((20_000, 64), np.float32))

    with pytest.raises(FileTooLarge, match=words):
        formats.open_snapshot(write(tmp_path / "s", table(same, ["oak"] * 20_000)), limit=1_000_000)


@WRITERS
def test_changed_bytes_are_refused_or_read(write: Write, tmp_path: Path) -> None:
    """Damage anywhere gives a snapshot or a typed error, and nothing else."""
    sound = write(tmp_path / "s", table()).read_bytes()
    rng = np.random.default_rng(1)

    for _ in range(60):
        changed = bytearray(sound)
        for place in rng.integers(8, len(sound), 2):
            changed[place] = rng.integers(0, 256)
        (tmp_path / "t").write_bytes(changed)
        try:
            found = formats.open_snapshot(tmp_path / "t", limit=10_000_000).snapshot
        except (SnapshotError, FileTooLarge):
            continue
        assert found.features.size < 10_000_000


def test_without_pyarrow_the_extra_is_named(tmp_path: Path) -> None:
    """Where pyarrow is not installed, everything else works and the message says what to install."""
    path = as_parquet(tmp_path / "s", table())
    program = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from breadcrumbs.models.snapshots import formats; from pathlib import Path\n"
        f"formats.open_snapshot(Path({str(path)!r}))"
    )

    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)

    assert "ExtraMissing: Parquet and Arrow snapshots need pyarrow: pip install 'breadcrumbs-longtail[parquet]'" in (
        ended.stderr
    )


def test_pyarrow_is_loaded_only_when_needed() -> None:
    """Importing the door, or the server, loads neither pyarrow nor torch."""
    program = (
        "import sys, breadcrumbs.models.snapshots.formats, breadcrumbs.serving.app\n"
        "print({'pyarrow', 'torch'} & set(sys.modules))"
    )

    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)

    assert ended.stdout.strip() == "set()"
