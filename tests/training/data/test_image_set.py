"""The digest of a set of images: the same for the same images, wherever they lie, and another for others."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import picture, png

from breadcrumbs.training.config import TrainConfig
from breadcrumbs.training.data import image_set
from breadcrumbs.training.data.dataset import images, load
from breadcrumbs.training.data.objects import Span
from breadcrumbs.training.data.split import DataError, Split


def files(folder: Path, sizes: list[int]) -> Split:
    """Files of these sizes in two folders."""
    paths = [folder / "ab"[place % 2] / f"{place}.png" for place in range(len(sizes))]
    for path, size in zip(paths, sizes, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(size))
    return Split(np.arange(len(sizes)) % 2, np.arange(len(sizes)), paths=tuple(paths))


def test_a_folder_keeps_its_digest_when_it_moves(tmp_path: Path) -> None:
    """Names are relative, so the whole set may lie elsewhere; a name, a size or an order that changes shows."""
    here = files(tmp_path / "x" / "photos", [5, 6, 7])
    there = replace(here, paths=files(tmp_path / "elsewhere", [5, 6, 7]).paths)
    grown = replace(here, paths=files(tmp_path / "grown", [5, 6, 8]).paths)
    turned = replace(here, paths=(here.paths or ())[::-1])
    found = [image_set.digest(one) for one in (here, there, grown, turned)]

    assert found[0] == found[1]
    assert len(set(found)) == 3


def test_labels_do_not_matter_and_neither_does_the_order_of_rows(tmp_path: Path) -> None:
    """Whoever corrects a label has the same images; the ids say which is which, in whatever order they come."""
    one = files(tmp_path, [5, 6, 7, 8])
    other = replace(one, labels=1 - one.labels).take(np.array([2, 0, 3, 1]))

    assert image_set.digest(one) == image_set.digest(other)


@settings(max_examples=30)
@given(rows=st.integers(1, 5), row=st.integers(0, 4), seed=st.integers(0, 9))
def test_of_images_in_memory_every_pixel_counts(rows: int, row: int, seed: int) -> None:
    """The same pixels give the same digest; one bit of one pixel gives another, and so do other ids."""
    pixels = np.random.default_rng(seed).integers(0, 256, (rows, 4, 4), dtype=np.uint8)
    one = Split(np.zeros(rows, np.int64), np.arange(rows), pixels=pixels)
    other = pixels.copy()
    other[row % rows, 3, 1] ^= 1

    assert image_set.digest(one) == image_set.digest(replace(one, pixels=pixels.copy()))
    assert image_set.digest(one) != image_set.digest(replace(one, pixels=other))
    assert image_set.digest(one) != image_set.digest(replace(one, ids=one.ids + 1))


def test_images_in_archives_and_buckets_are_named_by_their_place() -> None:
    """An archive may be moved as a folder may; nothing is asked of a bucket."""

    def shard(place: str, length: int | None) -> Split:
        spans = tuple(Span(f"{place}/train-{n}.tar", n, length, f"{n}.jpg") for n in range(3))
        return Split(np.zeros(3, np.int64), np.arange(3), paths=spans)

    found = [image_set.digest(shard(*one)) for one in (("/x", 4), ("/mnt/y", 4), ("s3://bucket/y", None), ("/x", 5))]

    assert found[0] == found[1]
    assert len(set(found)) == 3


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    """It is the error of the data, with the file's name."""
    one = files(tmp_path, [5, 6])
    (one.paths or ())[1].unlink()  # type: ignore[union-attr]

    with pytest.raises(DataError, match=r"1\.png: No such file"):
        image_set.digest(one)


def test_training_and_snapshots_of_a_folder_name_the_same_set(tmp_path: Path) -> None:
    """What is held out is of the same set, and so is a copy of the folder; a test folder of other images is another."""
    for part, count in (("photos", 8), ("tested", 4)):
        for number in range(count):
            path = tmp_path / part / ("oak", "elm")[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(picture(number)))
    moved = shutil.copytree(tmp_path / "photos", tmp_path / "elsewhere" / "photos")
    data = load(TrainConfig(data=str(tmp_path / "photos")), show=False)
    whole = images(TrainConfig(data=str(moved)))
    tested = load(TrainConfig(data=str(moved), test_data=str(tmp_path / "tested")), show=False)

    assert len(data.train.dataset) == 64
    assert data.train.dataset == data.test.dataset == whole.split.dataset == tested.train.dataset
    assert tested.test.dataset not in {"", tested.train.dataset}
    assert not set(data.train.ids) & set(data.test.ids)


def test_the_embedded_sets_are_told_apart() -> None:
    """Ids of training and test images overlap there, so only the data set tells them apart."""
    data = load(TrainConfig())

    assert set(data.train.ids) & set(data.test.ids)
    assert data.train.dataset != data.test.dataset
    assert data.train.dataset == images(TrainConfig()).split.dataset
