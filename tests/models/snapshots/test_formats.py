"""The one door for snapshots: formats told by their bytes, gaps filled, everything made the one snapshot."""

import io
import pickle
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from breadcrumbs.models.snapshots import convert, formats
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.fields import CLASS_LIMIT, Given
from breadcrumbs.models.snapshots.snapshot import Snapshot, SnapshotError
from breadcrumbs.models.spool import FileTooLarge

BACKBONE = "b" * 64
X = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
LABELS = np.array([2, 0, 1, 1, 0, 2])
CLASSES = ("oak", "elm", "yew")
NAMES = np.array(CLASSES)[LABELS]
SAYS: dict[str, Any] = {"backbone": BACKBONE, "epoch": 7, "classes": CLASSES}
GIVEN = Given(BACKBONE, 7, CLASSES)


def npz(path: Path, **arrays: Any) -> Path:
    """An `.npz` file as numpy writes it, under a name that says nothing."""
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return path


def same(one: Snapshot, two: Snapshot) -> bool:
    return snapshots.to_bytes(one) == snapshots.to_bytes(two)


def own(features: np.ndarray = X, **more: Any) -> Snapshot:
    return Snapshot(features, LABELS, CLASSES, BACKBONE, 7, **{"created": "2026-01-01", **more})


def test_a_whole_npz_is_the_snapshot_that_it_spells(tmp_path: Path) -> None:
    """All eleven arrays, and nothing changed but the container."""
    weight, bias = np.ones((3, 3), np.float32), np.zeros(3, np.float32)
    path = npz(
        tmp_path / "s", features=X, labels=LABELS, ids=np.arange(6), weight=weight, bias=bias,
        format=snapshots.FORMAT, created="2026-01-01", dataset="d" * 64, **SAYS,
    )  # fmt: skip

    found = formats.open_snapshot(path)

    assert (found.kind, found.changes) == ("npz", ("npz to safetensors",))
    assert same(found.snapshot, own(ids=np.arange(6), weight=weight, bias=bias, dataset="d" * 64))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"features": X.astype(">f4")}, "features: big-endian float32 to float32"),
        ({"features": np.asfortranarray(X)}, None),
        ({"features": np.asfortranarray(X.astype(np.float64))}, "features: float64 to float32"),
        ({"labels": LABELS.astype(np.uint8)}, "labels: uint8 to int64"),
        ({"labels": LABELS.astype(">i2")}, "labels: big-endian int16 to int64"),
        ({"labels": NAMES}, "labels: names to indices"),
        ({"labels": NAMES.astype(">U5")}, "labels: names to indices"),
        ({"epoch": "7"}, None),
    ],
)
def test_a_canonical_copy_is_provably_equal(change: dict[str, Any], told: str | None, tmp_path: Path) -> None:
    """Byte order, layout, width of integers and floats, names for labels: the same snapshot, and the answer says so."""
    arrays = {"features": X, "labels": LABELS, "created": "2026-01-01", **SAYS, **change}

    found = formats.open_snapshot(npz(tmp_path / "s", **arrays))

    assert same(found.snapshot, own())
    assert found.changes == ("npz to safetensors", *([told] if told else []))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, ">f2"])
def test_half_precision_stays(dtype: Any, tmp_path: Path) -> None:
    """Two bytes a value are not widened."""
    half = X.astype(dtype)

    found = formats.open_snapshot(npz(tmp_path / "s", features=half, labels=LABELS, **SAYS)).snapshot

    assert found.features.dtype.itemsize == 2
    assert np.array_equal(found.features.astype(np.float32), half.astype(np.float32))


@settings(max_examples=25)
@given(rows=st.integers(1, 40), dim=st.integers(1, 9), code=st.sampled_from(["<f2", ">f4", "<f8", ">f8"]),
       order=st.sampled_from("CF"), compressed=st.booleans())  # fmt: skip
def test_any_float_array_is_equal_to_its_copy(
    tmp_path_factory: pytest.TempPathFactory, rows: int, dim: int, code: str, order: Any, compressed: bool
) -> None:
    """Whatever the size, dtype, byte order and layout, features and labels keep together."""
    values = np.random.default_rng(rows * dim).normal(size=(rows, dim)).astype(code).copy(order=order)
    path = tmp_path_factory.getbasetemp() / "any"
    with path.open("wb") as file:
        (np.savez_compressed if compressed else np.savez)(file, features=values, labels=np.arange(rows) % 3)

    found = formats.open_snapshot(path, GIVEN).snapshot

    assert np.array_equal(found.features, values.astype(found.features.dtype))
    assert found.labels.tolist() == (np.arange(rows) % 3).tolist()


# What the file leaves out


def test_what_is_missing_is_taken_from_the_caller_and_told(tmp_path: Path) -> None:
    """Backbone, epoch and classes may be given, and the answer says which were."""
    found = formats.open_snapshot(npz(tmp_path / "s", features=X, labels=LABELS), GIVEN)

    assert (found.snapshot.backbone, found.snapshot.epoch, found.snapshot.classes) == (BACKBONE, 7, CLASSES)
    assert found.changes[1:] == ("backbone: as given", "epoch: as given", "classes: as given")


def test_what_the_file_says_wins(tmp_path: Path) -> None:
    """Given values are for what is missing only."""
    path = npz(tmp_path / "s", features=X, labels=LABELS, **SAYS)

    found = formats.open_snapshot(path, Given("c" * 64, 9, ("a", "b", "c"))).snapshot

    assert (found.backbone, found.epoch, found.classes) == (BACKBONE, 7, CLASSES)


def test_names_without_classes_are_sorted(tmp_path: Path) -> None:
    """Whatever the order of the rows, the same names make the same classes."""
    path = npz(tmp_path / "s", features=X, labels=NAMES, backbone=BACKBONE, epoch=7)

    found = formats.open_snapshot(path)

    assert found.snapshot.classes == ("elm", "oak", "yew")
    assert [found.snapshot.classes[label] for label in found.snapshot.labels] == NAMES.tolist()
    assert "classes: the 3 names of the labels, sorted" in found.changes


def test_given_classes_may_have_more_names_than_the_labels(tmp_path: Path) -> None:
    """Names are mapped to the classes that are given, in their order."""
    path = npz(tmp_path / "s", features=X, labels=NAMES)

    found = formats.open_snapshot(path, Given(BACKBONE, 7, ("ash", *CLASSES))).snapshot

    assert found.classes == ("ash", *CLASSES)
    assert found.labels.tolist() == (LABELS + 1).tolist()


@pytest.mark.parametrize("labels", [LABELS - 1, np.where(LABELS, NAMES, "")])
def test_a_row_may_be_without_a_label(labels: Any, tmp_path: Path) -> None:
    """−1 among indices, the empty text among names: it is a row without a label, and no class."""
    says = SAYS if labels.dtype.kind == "i" else {"backbone": BACKBONE, "epoch": 7}

    found = formats.open_snapshot(npz(tmp_path / "s", features=X, labels=labels, **says)).snapshot

    assert ((found.labels == -1) == (LABELS == 0)).all()
    assert "" not in found.classes
    assert found.counts().sum() == 4


def test_the_data_set_may_be_given_and_the_file_wins(tmp_path: Path) -> None:
    """As the backbone: what the file says comes first, and what was given is told."""
    given = Given(BACKBONE, 7, CLASSES, "e" * 64)
    silent = formats.open_snapshot(npz(tmp_path / "a", features=X, labels=LABELS, ids=np.arange(6), **SAYS), given)
    speaking = formats.open_snapshot(npz(tmp_path / "b", features=X, labels=LABELS, dataset="d" * 64, **SAYS), given)

    assert (silent.snapshot.dataset, speaking.snapshot.dataset) == ("e" * 64, "d" * 64)
    assert "dataset: as given" in silent.changes
    assert "dataset: as given" not in speaking.changes


GOOD: dict[str, Any] = {"features": X, "labels": LABELS, **SAYS}
DEFECTS: list[tuple[dict[str, Any], str]] = [
    ({"backbone": None}, "the file does not say 'backbone' (the sha256 of the backbone that made the features, 64 hex"),
    ({"epoch": None}, "the file does not say 'epoch' (a whole number, larger is newer), and none was given"),
    ({"classes": None}, "the file does not say 'classes' (the C class names in the order of the labels)"),
    ({"backbone": "deployed"}, "metadata 'backbone': expected a sha256 of 64 hex digits, got 'deployed'"),
    ({"epoch": -1}, "metadata 'epoch': expected a whole number, got '-1'"),
    ({"epoch": [1]}, "array 'epoch': expected a scalar, of shape (), got (1,)"),
    ({"epoch": 1.5}, "array 'epoch': expected dtype i1, i2"),
    ({"format": "breadcrumbs.snapshot/2"}, "expected format breadcrumbs.snapshot/1, got 'breadcrumbs.snapshot/2'"),
    ({"features": None}, "array 'features' is missing"),
    ({"labels": None}, "array 'labels' is missing"),
    ({"image": X}, "unexpected zip member 'image.npy'; expected only features.npy"),
    ({"features": X.astype(int)}, "array 'features': expected dtype f2, f4, f8, V2, got '<i8'"),
    ({"features": X.astype(object)}, "array 'features': dtype object: its elements are pickles"),
    ({"features": X[0]}, "features: expected shape (N, D) with N, D at least 1, got (3,)"),
    ({"features": X[:0], "labels": LABELS[:0]}, "features: expected shape (N, D) with N, D at least 1, got (0, 3)"),
    ({"features": X.astype(float) * 1e300}, "features: 6 rows have values beyond float32: rows 0, 1, 2, 3, 4, …"),
    ({"features": np.where(np.eye(6, 3), np.nan, X)}, "3 of 6 rows have values that are not finite: rows 0, 1, 2"),
    ({"labels": LABELS.astype(float)}, "array 'labels': expected dtype i1"),
    ({"labels": LABELS[:5]}, "labels: expected shape (6,), got (5,)"),
    ({"labels": LABELS + 1}, "labels: 2 outside 0 … 2, or −1 for none; the first is 3 in row 0"),
    ({"labels": np.full(6, 2**64 - 1, np.uint64)}, "labels: 18446744073709551615 does not fit int64"),
    ({"labels": NAMES, "classes": ("oak", "elm")}, "labels: 1 names that are not among the 2 classes: yew"),
    ({"labels": NAMES[:, None]}, "array 'labels': expected shape (N,), got (6, 1)"),
    ({"labels": np.array(["\ud800"] * 6)}, "array 'labels': text that is no Unicode"),
    ({"classes": np.array(["a", "b", "\udfff"])}, "array 'classes': text that is no Unicode"),
    ({"classes": ("a", "b", "a")}, "class 'a' is empty or occurs twice"),
    ({"classes": np.array([str(i) for i in range(CLASS_LIMIT + 1)])}, "classes: 100001 names; the limit is 100000"),
    ({"ids": np.zeros(6, int)}, "ids: an id occurs twice"),
    ({"weight": np.ones((3, 3))}, "weight and bias: expected both or neither"),
]


@pytest.mark.parametrize(("change", "words"), DEFECTS)
def test_each_defect_of_an_npz_is_named(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    """What is missing, of another type or shape, or does not fit is refused with the file's name and the part's."""
    arrays = {name: value for name, value in (GOOD | change).items() if value is not None}

    with pytest.raises(SnapshotError) as caught:
        formats.open_snapshot(npz(tmp_path / "s.npz", **arrays))

    assert words in str(caught.value)
    assert str(caught.value).startswith("s.npz: ")
    assert len(str(caught.value)) < 400


def test_text_beyond_unicode_is_refused(tmp_path: Path) -> None:
    """Four bytes that are no letter at all."""
    names = np.frombuffer(b"\xff\xff\xff\xff" * 6, "<u4").view("<U1")

    with pytest.raises(SnapshotError, match="array 'labels': text that is no Unicode"):
        formats.open_snapshot(npz(tmp_path / "s", features=X, labels=names), GIVEN)


def test_a_duplicate_array_is_refused(tmp_path: Path) -> None:
    """A name twice in the archive."""
    path = npz(tmp_path / "s", features=X, labels=LABELS)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as file:
        file.writestr("labels.npy", b"")

    with pytest.raises(SnapshotError, match=r"names 'labels\.npy' twice"):
        formats.open_snapshot(path, GIVEN)


# Kinds


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "got 0 bytes"),
        (b"junk", "got 4 bytes that begin 6a756e6b"),
        (b"\x93NUMPY\1\0", "a single .npy array; put features and labels into one .npz"),
        (pickle.dumps({"features": [1]}), "a pickle, which is never read"),
        (b"PARE" + bytes(9), "an encrypted Parquet file"),
        (b"\xff\xff\xff\xff" + bytes(9), "an Arrow stream; write an Arrow file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(9), "got HDF5"),
        (b"\x1f\x8b\x08" + bytes(9), "gzip; send the file inside it"),
        (b"feature,label\n1,oak\n", "20 bytes that begin 666561747572652c6c"),
    ],
)
def test_an_unknown_format_is_named(data: bytes, words: str, tmp_path: Path) -> None:
    """The first bytes decide, not the suffix, and the message says what came as far as it can be told."""
    path = tmp_path / "s.npz"
    path.write_bytes(data)

    with pytest.raises(
        SnapshotError, match=r"^s\.npz: not a snapshot: expected safetensors, \.npz, Parquet or Arrow"
    ) as e:
        formats.open_snapshot(path)

    assert words in str(e.value)


def test_a_file_of_torch_runs_nothing(tmp_path: Path) -> None:
    """A `.pt` file is a zip archive with a pickle in it: refused by its names, and the pickle is not opened."""

    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "pwned",))

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(Evil()))
    (tmp_path / "s.pt").write_bytes(out.getvalue())
    evil = npz(tmp_path / "s.npz", features=np.array([Evil()], object), labels=LABELS)

    for path in (tmp_path / "s.pt", evil):
        with pytest.raises(SnapshotError, match=r"unexpected zip member 'archive/data.pkl'|its elements are pickles"):
            formats.open_snapshot(path, GIVEN)

    assert not (tmp_path / "pwned").exists()


def test_safetensors_stays_as_it_is(tmp_path: Path) -> None:
    """A file that is ours already is read strictly, and nothing given changes it."""
    snapshots.write(tmp_path / "s.npz", own())

    found = formats.open_snapshot(tmp_path / "s.npz", Given("c" * 64, 9, ("x",)))

    assert (found.kind, found.changes) == ("safetensors", ())
    assert same(found.snapshot, own())


# Limits


def test_a_snapshot_over_the_limit_is_refused(tmp_path: Path) -> None:
    """Inflated, and as safetensors: small integers in the file are eight bytes each in the snapshot."""
    path = npz(tmp_path / "s", features=X.astype(np.float16), labels=LABELS.astype(np.uint8), **SAYS)

    with pytest.raises(FileTooLarge, match=r"zip members of \d+ bytes inflated; the limit is 100"):
        formats.open_snapshot(path, limit=100)
    path = npz(tmp_path / "s", features=np.ones((9_000, 1), np.float16), labels=np.zeros(9_000, np.uint8), **SAYS)
    with pytest.raises(
        FileTooLarge, match=r"\(9000, 1\) features and 9000 labels take 90000 bytes; the limit is 60000"
    ):
        formats.open_snapshot(path, limit=60_000)


def test_large_features_take_disk_and_not_memory(tmp_path: Path) -> None:
    """Inflating, converting and writing 32 MiB of features needs a fraction of that in memory."""
    rng = np.random.default_rng(0)
    path = npz(
        tmp_path / "s", features=np.asfortranarray(rng.random((32_768, 128))), labels=np.zeros(32_768, np.uint8), **SAYS
    )

    tracemalloc.start()
    convert.convert(path, tmp_path / "out", GIVEN, 2**30)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 10 * 2**20
    assert snapshots.read(tmp_path / "out").features.shape == (32_768, 128)


def test_conversion_gives_the_same_bytes_every_time(tmp_path: Path) -> None:
    """The name of a converted snapshot is a digest, so its bytes may not depend on the time."""
    path = npz(tmp_path / "s", features=X, labels=LABELS, **SAYS)

    for name in ("one", "two"):
        convert.convert(path, tmp_path / name, GIVEN, 2**30)

    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
