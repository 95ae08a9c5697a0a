"""Pairs from a folder of images and from snapshots: what is read, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from spaces import CLASSES, SIDE, Spaces, graph
from tiny import png

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.snapshots.snapshot import SnapshotError
from breadcrumbs.training.migrate.backbone import backbone_of
from breadcrumbs.training.migrate.pairs import Pairs, pairs_of_folder, pairs_of_snapshots
from breadcrumbs.training.refit.rows import RefitError


@pytest.fixture
def spaces() -> Spaces:
    """An old backbone and a new one."""
    return Spaces()


@pytest.fixture
def old(spaces: Spaces, tmp_path: Path) -> Bundle:
    """The old bundle."""
    return spaces.bundle(tmp_path / "old")


def put(folder: Path, count: int, side: int = SIDE, seed: int = 0) -> None:
    """Write so many drawn images."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        (folder / f"{number:03}.png").write_bytes(png(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)))


def read(spaces: Spaces, old: Bundle, folder: Path) -> Pairs:
    """The pairs of a folder."""
    return pairs_of_folder(backbone_of(old), spaces.to(), folder, CLASSES)


def test_each_image_goes_through_both_backbones(spaces: Spaces, old: Bundle, tmp_path: Path) -> None:
    """Flat or in folders, of any size, also of one pixel; the rows pair by id."""
    put(tmp_path / "photos", 70)
    put(tmp_path / "photos" / "2026" / "may", 3, side=1, seed=1)
    found = read(spaces, old, tmp_path / "photos")

    assert len(found.old.labels) == 73
    assert (found.old.labels == -1).all()
    assert np.allclose(np.asarray(found.old.features) @ spaces.turn, found.new.features, atol=1e-4)
    assert found.old.dataset == found.new.dataset != ""
    assert found.notes == ()


def test_a_folder_that_is_named_as_a_class_labels_its_images(spaces: Spaces, old: Bundle, tmp_path: Path) -> None:
    """Any other does not, nor does the folder that was named."""
    put(tmp_path / "oak" / "Wollemia nobilis", 2)
    put(tmp_path / "oak" / "willow", 1)
    put(tmp_path / "oak", 1)
    found = read(spaces, old, tmp_path / "oak")

    assert sorted(found.old.labels.tolist()) == [-1, -1, 3, 3]


def test_a_few_damaged_images_are_named_and_skipped(spaces: Spaces, old: Bundle, tmp_path: Path) -> None:
    """More than a tenth are refused, the first of them named."""
    put(tmp_path / "photos", 20)
    (tmp_path / "photos" / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut short")
    found = read(spaces, old, tmp_path / "photos")
    assert len(found.new.labels) == 20
    assert "1 images of the pairs were skipped: bad.jpg" in found.notes[0]

    for name in ("worse.png", "ä – 日本.webp"):
        (tmp_path / "photos" / name).write_bytes(b"no image at all")
    with pytest.raises(RefitError, match=r"3 of 23 images cannot be decoded, and 10% may be skipped: bad\.jpg"):
        read(spaces, old, tmp_path / "photos")


def test_a_folder_without_images_is_refused(spaces: Spaces, old: Bundle, tmp_path: Path) -> None:
    """With what to do."""
    (tmp_path / "empty").mkdir()

    with pytest.raises(RefitError, match=r"no image found.*--pairs"):
        read(spaces, old, tmp_path / "empty")


def test_a_backbone_that_is_not_as_it_says_is_refused(spaces: Spaces, old: Bundle, tmp_path: Path) -> None:
    """Another width, or features that are not finite."""
    put(tmp_path / "photos", 2)
    wide = replace(spaces.to(), feature_dim=9)
    with pytest.raises(RefitError, match=r"features of shape \(2, 6\), expected \(2, 9\)"):
        pairs_of_folder(backbone_of(old), wide, tmp_path / "photos", CLASSES)

    broken = replace(spaces.to(), model=graph(np.full((12, 6), np.nan, np.float32)))
    with pytest.raises(SnapshotError, match="pairs by the new backbone: features: 2 of 2 rows"):
        pairs_of_folder(backbone_of(old), broken, tmp_path / "photos", CLASSES)


def test_snapshots_made_elsewhere_pair_by_data_set_and_id(spaces: Spaces, old: Bundle) -> None:
    """Without a data set by id, without ids row by row."""
    made = spaces.pairs(old, 9)
    digests = (old.backbone_digest, spaces.to().digest)
    for more in ({"dataset": ""}, {"dataset": "", "ids": None}):
        found = pairs_of_snapshots(replace(made.old, **more), replace(made.new, **more), digests)
        assert found.old.dataset == found.new.dataset != ""
        assert found.old.ids is not None
        assert found.new.ids is not None
        assert found.old.ids.tolist() == found.new.ids.tolist() == list(range(9))


def test_snapshots_that_do_not_pair_are_refused(spaces: Spaces, old: Bundle) -> None:
    """Swapped, of two data sets, of other images, or of other lengths."""
    made = spaces.pairs(old, 9)
    digests = (old.backbone_digest, spaces.to().digest)
    bare = {"dataset": "", "ids": None}

    with pytest.raises(RefitError, match="name first the one of the old backbone"):
        pairs_of_snapshots(made.new, made.old, digests)
    with pytest.raises(RefitError, match="different data sets"):
        pairs_of_snapshots(made.old, replace(made.new, dataset="1" * 64), digests)
    with pytest.raises(RefitError, match="no image is in both"):
        pairs_of_snapshots(made.old, replace(made.new, ids=np.arange(100, 109)), digests)
    with pytest.raises(RefitError, match="9 rows and 5 rows without ids"):
        pairs_of_snapshots(replace(made.old, **bare), replace(made.new.take(np.arange(5)), **bare), digests)
