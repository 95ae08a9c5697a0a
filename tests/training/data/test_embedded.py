"""The embedded set, and the script that made it."""

import gzip
import importlib.util
import io
import runpy
import struct
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from breadcrumbs.training.config import TrainConfig
from breadcrumbs.training.data import dataset as datasets
from breadcrumbs.training.data.dataset import EMBEDDED_FILE

BUILD = EMBEDDED_FILE.with_name("build.py")
SIZES = {"train": 10_000, "t10k": 2_000}


@pytest.fixture(scope="module")
def embedded() -> datasets.Data:
    return datasets.load(TrainConfig())


def test_embedded_counts_are_the_formulas(embedded: datasets.Data) -> None:
    """Class c has round(1000 · 100^(−c/9)) training images, 1000 down to 10, and 200 test images."""
    counts = embedded.train_counts.tolist()

    assert counts == [round(1000 * 100 ** (-c / 9)) for c in range(10)]
    assert (counts[0], counts[-1]) == (1000, 10)
    assert np.bincount(embedded.test.labels).tolist() == [200] * 10
    assert len(embedded.classes) == len(set(embedded.classes)) == 10


def test_embedded_ids_are_the_originals_indices(embedded: datasets.Data) -> None:
    """No image occurs twice: ids are unique, and no test image is a training one."""
    train, test = embedded.train, embedded.test

    assert train.pixels is not None
    assert test.pixels is not None
    for split, limit in ((train, 60_000), (test, 10_000)):
        assert len(set(split.ids.tolist())) == len(split)
        assert split.ids.min() >= 0
        assert split.ids.max() < limit
    assert train.ids.max() >= 10_000  # so they cannot be of the test file
    assert not {p.tobytes() for p in train.pixels} & {p.tobytes() for p in test.pixels}


def test_embedded_images_are_grey_in_three_channels(embedded: datasets.Data) -> None:
    """An image of the set comes as uint8 (28, 28, 3), each channel the stored grey."""
    image = embedded.train.image(5)

    assert embedded.train.pixels is not None
    assert image.shape == (28, 28, 3)
    assert image.dtype == np.uint8
    assert all(np.array_equal(image[:, :, c], embedded.train.pixels[5]) for c in range(3))


@pytest.fixture(scope="module")
def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("embedded_build", BUILD)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def idx(array: np.ndarray) -> bytes:
    """An idx file of unsigned bytes, gzipped."""
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return gzip.compress(head + array.tobytes())


@pytest.mark.parametrize("shape", [(5,), (3, 4, 2), (0, 2, 2)])
def test_idx_files_are_read(build: ModuleType, tmp_path: Path, shape: tuple[int, ...]) -> None:
    """An idx file of any rank gives its array back."""
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    (tmp_path / "x.gz").write_bytes(idx(array))

    assert np.array_equal(build.read_idx(tmp_path / "x.gz"), array)


def test_train_counts_fall_a_hundredfold(build: ModuleType, embedded: datasets.Data) -> None:
    """The script's counts are those of the file in the repository."""
    assert [build.train_count(c) for c in range(10)] == embedded.train_counts.tolist()
    assert tuple(build.CLASSES) == embedded.classes


def test_draw_takes_the_counts_without_repeats(build: ModuleType) -> None:
    """Drawn indices are sorted, distinct, as many of each class as asked for, and the seed's alone."""
    labels = np.random.default_rng(0).integers(0, 3, 200).astype(np.uint8)

    first, again, other = (build.draw(labels, [30, 7, 1], np.random.default_rng(s)) for s in (4, 4, 5))

    assert np.bincount(labels[first]).tolist() == [30, 7, 1]
    assert (np.diff(first) > 0).all()
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_file_is_built_alike_twice(build: ModuleType, tmp_path: Path) -> None:
    """The script, run twice on the same idx files, writes the same bytes, and they hold what the idx files hold."""
    script = tmp_path / "build.py"
    script.write_text(BUILD.read_text())
    images = {stem: np.random.default_rng(n).integers(0, 256, (n, 2, 2), dtype=np.uint8) for stem, n in SIZES.items()}
    for stem, count in SIZES.items():
        (tmp_path / f"{stem}-images-idx3-ubyte.gz").write_bytes(idx(images[stem]))
        (tmp_path / f"{stem}-labels-idx1-ubyte.gz").write_bytes(idx((np.arange(count) % 10).astype(np.uint8)))
    built = []
    for _ in range(2):
        runpy.run_path(str(script))["main"](tmp_path)
        built.append((tmp_path / "fashion-mnist-lt.npz").read_bytes())

    assert built[0] == built[1]
    with np.load(io.BytesIO(built[0])) as file, zipfile.ZipFile(io.BytesIO(built[0])) as archive:
        assert np.bincount(file["train_labels"]).tolist() == [build.train_count(c) for c in range(10)]
        assert np.array_equal(file["train_images"], images["train"][file["train_ids"]])
        assert np.array_equal(file["test_images"], images["t10k"][file["test_ids"]])
        assert {entry.date_time for entry in archive.infolist()} == {(2020, 1, 1, 0, 0, 0)}
