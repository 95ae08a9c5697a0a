"""The standard sets: their files in every layout, the exponential profile, and every defect by name."""

import gzip
import hashlib
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision.datasets import CIFAR100

from breadcrumbs.training.config import TrainConfig
from breadcrumbs.training.data import dataset as datasets
from breadcrumbs.training.data import standard
from breadcrumbs.training.data.dataset import DataError
from breadcrumbs.training.data.embedded import build
from breadcrumbs.training.data.standard import IDX_FILES, RECORD, profile

TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = IDX_FILES
CIFAR_NAMES = [f"class-{i}" for i in range(100)]


def pixels(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 28, 28), dtype=np.uint8)


def labels(count: int) -> np.ndarray:
    return (np.arange(count) % 10).astype(np.uint8)


def idx(array: np.ndarray, **other: Any) -> bytes:
    """An idx file of unsigned bytes; `magic` and `shape` may be made to lie."""
    magic = other.get("magic", bytes([0, 0, 8, array.ndim]))
    shape = other.get("shape", array.shape)
    return bytes(magic) + struct.pack(f">{len(shape)}I", *shape) + array.tobytes()


def write_fashion(folder: Path, train: int = 100, test: int = 20, *, zipped: bool = True) -> Path:
    """Fashion-MNIST's four files, small."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = (pixels(train), labels(train), pixels(test, seed=1), labels(test))
    for stem, array in zip(IDX_FILES, arrays, strict=True):
        raw = idx(array)
        (folder / (stem + ".gz" * zipped)).write_bytes(gzip.compress(raw, 1) if zipped else raw)
    return folder


def records(count: int, classes: int = 100) -> bytes:
    """CIFAR-100's binary form: `count` images, the n-th of class n, its red plane all n, green n + 1, blue n + 2."""
    rows = [
        bytes([i % 20, i % classes, *([i % 250] * 1024), *([i % 250 + 1] * 1024), *([i % 250 + 2] * 1024)])
        for i in range(count)
    ]
    return b"".join(rows)


def write_cifar(root: Path, train: int = 300, test: int = 100) -> Path:
    folder = root / "cifar-100-binary"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.bin").write_bytes(records(train))
    (folder / "test.bin").write_bytes(records(test))
    (folder / "fine_label_names.txt").write_text("\n".join(CIFAR_NAMES) + "\n\n")
    return root


def load(name: str, images: Path | None, **more: Any) -> datasets.Data:
    return datasets.load(TrainConfig(data=name, images=images, **more))


def problem(name: str, images: Path | None, **more: Any) -> str:
    """The message that loading ends with."""
    with pytest.raises(DataError) as caught:
        load(name, images, **more)
    return str(caught.value)


# The profile


def test_the_profile_is_the_fields() -> None:
    """LDAM's n_c = int(n_max · μ^(c / (C − 1))): the counts that its papers give."""
    assert profile(1000, 10, 100) == [1000, 599, 359, 215, 129, 77, 46, 27, 16, 10]
    assert sum(profile(1000, 10, 100)) == 2478
    assert sum(profile(500, 100, 100)) == 10847
    assert [profile(6000, 10, factor)[-1] for factor in (10, 50, 100, 200)] == [600, 120, 60, 30]
    assert profile(7, 3, 1) == [7, 7, 7]


def test_the_long_tail_is_drawn_from_the_file(tmp_path: Path) -> None:
    """Each class has its count, rows are the original file's and sorted, each image is its row's; the test is whole."""
    write_fashion(tmp_path, train=200)

    data = load("fashion-mnist", tmp_path, imbalance=10)

    assert data.train_counts.tolist() == profile(20, 10, 10)
    assert (np.diff(data.train.ids) > 0).all()
    assert np.array_equal(data.train.labels, labels(200)[data.train.ids])
    assert data.train.pixels is not None
    assert np.array_equal(data.train.pixels, pixels(200)[data.train.ids])
    assert data.test.ids.tolist() == list(range(20))


def test_largest_caps_the_classes(tmp_path: Path) -> None:
    """With an imbalance it is n_max, alone it is every class's count; without either all images are kept."""
    write_fashion(tmp_path, train=200)

    both, alone, neither = (
        load("fashion-mnist", tmp_path, **m) for m in ({"largest": 8, "imbalance": 4}, {"largest": 8}, {})
    )

    assert both.train_counts.tolist() == profile(8, 10, 4)
    assert alone.train_counts.tolist() == [8] * 10
    assert len(neither.train) == 200


def test_the_draw_is_the_seeds(tmp_path: Path) -> None:
    """The same seed draws the same images, another others."""
    write_fashion(tmp_path, train=200)

    first, again, other = (load("fashion-mnist", tmp_path, imbalance=10, seed=s).train.ids.tolist() for s in (3, 3, 4))

    assert first == again
    assert first != other


def test_a_profile_that_the_set_cannot_give_is_refused(tmp_path: Path) -> None:
    """A class with fewer images than are asked for is named, and so is one that would be left with none."""
    write_fashion(tmp_path, train=200)

    assert problem("fashion-mnist", tmp_path, largest=21) == (
        "--imbalance 1 with 21 images of the largest class: class 't-shirt' would have 21, "
        "expected 1 … 20, the images it has"
    )
    assert "class 'sneaker' would have 0, expected 1 … 20" in problem("fashion-mnist", tmp_path, imbalance=50)


# Fashion-MNIST's files


@pytest.mark.parametrize("folder", [".", "FashionMNIST/raw"])
@pytest.mark.parametrize("zipped", [True, False])
def test_fashion_mnist_is_read(tmp_path: Path, folder: str, zipped: bool) -> None:
    """Debian's layout and torchvision's, gzipped and plain: the same uint8 images, and the embedded set's classes."""
    write_fashion(tmp_path / folder, zipped=zipped)

    data = load("fashion-mnist", tmp_path)

    assert data.train.pixels is not None
    assert data.train.pixels.dtype == np.uint8
    assert data.train.pixels.flags.writeable
    assert np.array_equal(data.train.pixels, pixels(100))
    assert np.array_equal(data.test.labels, labels(20))
    assert data.classes == build.CLASSES


CASES: list[tuple[str, Callable[[], bytes], str]] = [
    (TRAIN_IMAGES, lambda: b"", "not this idx file: expected magic 00000803, got nothing"),
    (TRAIN_IMAGES, lambda: idx(labels(100)), "not this idx file: expected magic 00000803, got 00000801"),
    (TRAIN_IMAGES, lambda: idx(pixels(1))[:10], "cut short: expected a header of 16 bytes, got 10"),
    (TRAIN_IMAGES, lambda: idx(pixels(1), shape=(1, 32, 32)), "expected shape (≤ 100000, 28, 28), got (1, 32, 32)"),
    (TRAIN_IMAGES, lambda: idx(pixels(1), shape=(2**32 - 1, 28, 28)), "expected shape (≤ 100000, 28, 28), got"),
    (
        TRAIN_IMAGES,
        lambda: idx(pixels(2))[:-1],
        "expected 1568 bytes after the header, for shape (2, 28, 28), got 1567",
    ),
    (TEST_IMAGES, lambda: idx(pixels(2)) + b"x", "for shape (2, 28, 28), got more"),
    (TEST_LABELS, lambda: idx(labels(19)), f"expected 20 labels, one for each image of {TEST_IMAGES}, got 19"),
    (TRAIN_LABELS, lambda: idx(np.full(100, 10, np.uint8)), "label 10 of image 0, expected 0 … 9"),
]


@pytest.mark.parametrize(("stem", "content", "message"), CASES)
@pytest.mark.parametrize("end", ["", ".gz"])
def test_a_defect_of_an_idx_file_is_named(
    tmp_path: Path, stem: str, content: Callable[[], bytes], message: str, end: str
) -> None:
    """Each with the file's name, what was expected and what came."""
    write_fashion(tmp_path, zipped=bool(end))
    (tmp_path / (stem + end)).write_bytes(gzip.compress(content()) if end else content())

    told = problem("fashion-mnist", tmp_path)

    assert told.startswith(f"{tmp_path / stem}")
    assert message in told.replace(".gz,", ",")


@pytest.mark.parametrize(
    "content", [b"no gzip", gzip.compress(idx(pixels(100)))[:-9], gzip.compress(idx(pixels(100)))[:40]]
)
def test_a_broken_gzip_is_named(tmp_path: Path, content: bytes) -> None:
    """A file that is no gzip file, or ends early, is an error with its name."""
    write_fashion(tmp_path)
    (tmp_path / f"{TRAIN_IMAGES}.gz").write_bytes(content)

    assert problem("fashion-mnist", tmp_path).startswith(f"{tmp_path / TRAIN_IMAGES}.gz: cannot be read: ")


def test_a_file_that_inflates_without_end_is_left_early(tmp_path: Path) -> None:
    """Only as much is inflated as the header announces, and a byte: 200 MB of zeros behind it are never made."""
    write_fashion(tmp_path)
    bomb = gzip.compress(idx(pixels(1)), 1) + gzip.compress(bytes(10_000_000), 9) * 20
    (tmp_path / f"{TRAIN_IMAGES}.gz").write_bytes(bomb)

    assert problem("fashion-mnist", tmp_path).endswith("for shape (1, 28, 28), got more")


# CIFAR-100's files


def test_cifar_100_is_read_from_its_binary_form(tmp_path: Path) -> None:
    """Fine labels, RGB in the last axis, names from their file; torchvision is not asked."""
    write_cifar(tmp_path)

    data = load("cifar100", tmp_path, imbalance=3)

    assert data.train_counts.tolist() == profile(3, 100, 3)
    assert data.test.labels.tolist() == list(range(100))
    assert data.test.pixels is not None
    assert data.test.pixels.shape == (100, 32, 32, 3)
    assert data.test.pixels[7, 0, 0].tolist() == [7, 8, 9]
    assert data.classes == tuple(CIFAR_NAMES)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "train.bin",
            records(2)[:-1],
            f"expected whole records of {RECORD} bytes, at most 100000, got {2 * RECORD - 1} bytes",
        ),
        ("test.bin", records(101, classes=101), "label 100 of image 100, expected 0 … 99"),
        ("fine_label_names.txt", b"a a b", "expected 100 different names, got 3 with 2 different"),
        ("fine_label_names.txt", b"\xff", "cannot be read: 'utf-8' codec"),
    ],
)
def test_a_defect_of_a_binary_file_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    """Each with the file's name, what was expected and what came."""
    write_cifar(tmp_path)
    (tmp_path / "cifar-100-binary" / name).write_bytes(content)

    assert problem("cifar100", tmp_path).startswith(f"{tmp_path / 'cifar-100-binary' / name}: {message}")


def write_pickles(root: Path) -> type[CIFAR100]:
    """CIFAR-100's Python form, small, and torchvision's class with these files' md5."""
    folder = root / "cifar-100-python"
    folder.mkdir()
    md5 = {}
    for name, count in (("train", 200), ("test", 100)):
        entry = {"data": np.zeros((count, 3072), np.uint8), "fine_labels": [i % 100 for i in range(count)]}
        entry["data"][:, 1024:2048] = 5  # the green plane
        (folder / name).write_bytes(pickle.dumps(entry))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": CIFAR_NAMES}))
    for name in ("train", "test", "meta"):
        md5[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()

    lists = {"train_list": [["train", md5["train"]]], "test_list": [["test", md5["test"]]]}
    meta = {"filename": "meta", "key": "fine_label_names", "md5": md5["meta"]}
    return type("Small", (CIFAR100,), {**lists, "meta": meta})


def test_cifar_100_is_read_from_torchvisions_cache(tmp_path: Path) -> None:
    """The Python form gives the same kind of images, fine labels and names."""
    kind = write_pickles(tmp_path)

    data = standard._from_pickles(tmp_path, kind)

    assert data.train_counts.tolist() == [2] * 100
    assert data.test.pixels is not None
    assert data.test.pixels[9, 0, 0].tolist() == [0, 5, 0]
    assert data.classes == tuple(CIFAR_NAMES)


def test_a_pickle_that_is_not_cifar_100s_is_not_opened(tmp_path: Path) -> None:
    """A file of another md5 is refused before anything in it could run."""
    write_pickles(tmp_path)
    mark = tmp_path / "ran"
    hostile = b"cpathlib\nPath\n(V" + str(mark).encode() + b"\ntR."
    (tmp_path / "cifar-100-python" / "train").write_bytes(hostile)

    told = problem("cifar100", tmp_path)

    assert told == f"{tmp_path / 'cifar-100-python'}: train, test or meta is not CIFAR-100's own file: its md5 differs"


# What is not there


@pytest.mark.parametrize(("name", "file"), [("fashion-mnist", TEST_LABELS), ("cifar100", "fine_label_names.txt")])
def test_absent_files_are_named_with_both_remedies(tmp_path: Path, name: str, file: str) -> None:
    """The error says which files were looked for, where to put them, and that they can be downloaded."""
    told = problem(name, tmp_path)

    assert told.startswith(f"no {name} in {tmp_path}: put ")
    assert file in told
    assert told.endswith(" there, or pass --download")


def test_one_absent_file_is_an_absent_set(tmp_path: Path) -> None:
    """Three of four files are not the set."""
    write_fashion(tmp_path)
    (tmp_path / f"{TEST_LABELS}.gz").unlink()

    assert problem("fashion-mnist", tmp_path).startswith("no fashion-mnist in")


def test_no_folder_is_an_error() -> None:
    """A standard set needs `images`, with or without a download."""
    assert "fashion-mnist needs --images" in problem("fashion-mnist", None)
    assert "cifar100 needs --images" in problem("cifar100", None, download=True)


def test_files_are_fetched_only_where_they_are_absent(tmp_path: Path) -> None:
    """The download is asked once, and not again when the files are there; never without the flag."""
    asked: list[str] = []

    def fetch(name: str, root: Path) -> None:
        asked.append(name)
        write_fashion(root / "FashionMNIST" / "raw")

    config = TrainConfig(data="fashion-mnist", images=tmp_path, download=True)
    with pytest.raises(DataError):
        standard.load(config.model_copy(update={"download": False}), fetch)
    first, again = (standard.load(config, fetch) for _ in range(2))

    assert asked == ["fashion-mnist"]
    assert len(first.train) == len(again.train) == 100


@pytest.mark.parametrize("name", ["fashion-mnist", "cifar100"])
def test_a_download_without_a_network_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The network's failure is told with the files to bring by hand, in one line."""
    for variable in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")  # nothing listens there
    monkeypatch.setenv("no_proxy", "")

    told = problem(name, tmp_path, download=True)

    assert told.startswith(f"cannot download {name} (")
    assert "Connection refused" in told
    assert f"put into {tmp_path} by hand: " in told
    assert "\n" not in told


# Settings that do not go together


def test_a_standard_set_has_its_own_test_images(tmp_path: Path) -> None:
    """Other test data is refused, by name."""
    told = problem("fashion-mnist", tmp_path, test_data="photos")

    assert told == "fashion-mnist has a test set of its own: --test-data is not for it, got photos"


@pytest.mark.parametrize("more", [{"imbalance": 10}, {"largest": 5}, {"download": True}])
@pytest.mark.parametrize("source", ["fashion-mnist-lt", "photos"])
def test_other_data_has_no_profile(more: dict[str, Any], source: str) -> None:
    """Settings of the standard sets are refused for every other source, by name."""
    told = problem(source, None, **more)

    assert told == f"--{next(iter(more))} is for fashion-mnist and cifar100 only; --data is {source}"
