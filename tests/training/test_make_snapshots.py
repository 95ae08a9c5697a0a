"""Looks at images: what a snapshot of them holds, and what is refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from small_run import COUNTS, SIDE
from tiny import expected_features, write_bundle

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.images.preprocess import Preprocess
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.training.config import RefitSpec
from breadcrumbs.training.data.dataset import DataError, load
from breadcrumbs.training.make_snapshots import make_snapshots
from breadcrumbs.training.measure import config_of
from breadcrumbs.training.refit.refit import refit


@pytest.fixture(scope="module")
def bundle(run: Path) -> Bundle:
    """The bundle of the small run, three epochs and a clean look after them."""
    return bundles.read(run / "bundle")


@pytest.mark.slow
def test_a_clean_look_is_the_one_that_training_ends_with(bundle: Bundle, tmp_path: Path) -> None:
    """Same images, same backbone, same transform: the same features, labels and ids, one epoch later."""
    made = make_snapshots(bundle, tmp_path, clean=True)

    old, new = bundle.snapshots()[0], snapshots.read(made.paths[0])
    assert np.allclose(new.features, old.features, atol=1e-5)
    assert np.array_equal(new.labels, old.labels)
    assert old.ids is not None
    assert np.array_equal(new.ids, old.ids)
    assert (new.epoch, new.backbone, new.classes) == (old.epoch + 1, old.backbone, old.classes)
    assert made.rows == dict(zip(bundle.manifest.classes, COUNTS, strict=True))
    assert made.new == ()


@pytest.mark.slow
def test_a_look_names_the_data_set_of_training(bundle: Bundle, tmp_path: Path) -> None:
    """As the run's own snapshots do, so ids match; the hold-out's test images are another set, or other ids."""
    made = make_snapshots(bundle, tmp_path, clean=True)
    held = bundle.holdout()

    assert held is not None
    assert {snapshots.read(made.paths[0]).dataset} == {one.dataset for one in bundle.snapshots()}
    assert held.dataset not in {"", bundle.snapshots()[0].dataset}


def test_looks_are_augmented_each_by_its_own_chances(bundle: Bundle, tmp_path: Path) -> None:
    """No two alike, each the same whenever it is made, by any number of workers; a refit can stand on them."""
    made = make_snapshots(bundle, tmp_path / "one", epochs=2)
    again = make_snapshots(bundle, tmp_path / "two", epochs=2, workers=1)

    first, second = (snapshots.read(path) for path in made.paths)
    assert [path.name for path in made.paths] == ["epoch-0005.safetensors", "epoch-0006.safetensors"]
    assert not np.allclose(first.features, second.features)
    assert np.array_equal(first.labels, second.labels)
    for path, other in zip(made.paths, again.paths, strict=True):
        assert np.array_equal(snapshots.read(path).features, snapshots.read(other).features)
    report = refit(bundle, bundle.head(), [first, second], None, RefitSpec(l2=1e-2)).complete().report
    assert [s.deployed_backbone for s in report.snapshots] == [True, True]


@pytest.mark.slow
def test_classes_are_matched_by_name_and_new_ones_come_last(bundle: Bundle, images: Path, tmp_path: Path) -> None:
    """A folder of other images, nothing held out; ids are rows in the data's order."""
    photos = tmp_path / "photos"
    shutil.copytree(images / "train" / "red", photos / "red")
    shutil.copytree(images / "test" / "green", photos / "amber")
    shutil.copytree(images / "test" / "blue", photos / "blue")

    made = make_snapshots(bundle, tmp_path / "out", data=str(photos), clean=True)

    found = snapshots.read(made.paths[0])
    assert found.classes == ("blue", "green", "red", "amber")
    assert made.new == ("amber",)
    assert made.rows == {"blue": 8, "red": 3, "amber": 8}
    assert found.labels.tolist() == [3] * 8 + [0] * 8 + [2] * 3
    assert found.ids is not None
    assert found.ids.tolist() == list(range(19))


def test_a_list_file_may_leave_classes_without_images(images: Path, tmp_path: Path) -> None:
    """Features are the backbone's of the very pixels; a bundle without a recipe will do."""
    bundle = write_bundle(tmp_path / "bundle")
    names = sorted((images / "test" / "red").iterdir())
    (tmp_path / "list.txt").write_text("".join(f"{path.relative_to(images)} 1\n" for path in names))
    (tmp_path / "classnames.txt").write_text("oak\nelm\nyew\n")

    made = make_snapshots(bundle, tmp_path / "out", data=str(tmp_path / "list.txt"), folder=images, clean=True)

    found = snapshots.read(made.paths[0])
    assert made.rows == {"elm": 8}
    assert found.classes == bundle.manifest.classes
    assert found.epoch == 2
    assert found.features.shape == (8, expected_features(np.zeros((1, SIDE, SIDE, 3), np.uint8)).shape[1])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"data": "nowhere"}, "no data at nowhere"),
        ({"epochs": 0}, "expected at least 1"),
        ({"epochs": 2, "clean": True}, "and 1 with --clean"),
    ],
)
def test_what_cannot_be_looked_at_is_refused(tmp_path: Path, more: dict[str, object], message: str) -> None:
    """In one sentence, and nothing is written."""
    bundle = write_bundle(tmp_path / "bundle")

    with pytest.raises(DataError, match=message):
        make_snapshots(bundle, tmp_path / "out", **more)  # type: ignore[arg-type]  # a dict of several types

    assert not (tmp_path / "out").exists()


def test_an_empty_folder_and_a_broken_file_are_named(tmp_path: Path) -> None:
    """All problems of the data, as before training."""
    bundle = write_bundle(tmp_path / "bundle")
    (tmp_path / "photos" / "oak").mkdir(parents=True)

    with pytest.raises(DataError, match="there is no image"):
        make_snapshots(bundle, tmp_path / "out", data=str(tmp_path / "photos"))
    (tmp_path / "photos" / "oak" / "a.png").write_bytes(b"junk")
    with pytest.raises(DataError, match=r"a\.png"):
        make_snapshots(bundle, tmp_path / "out", data=str(tmp_path / "photos"))


@pytest.mark.slow
def test_no_snapshot_is_overwritten(bundle: Bundle, tmp_path: Path) -> None:
    """The second time the first of them is named."""
    make_snapshots(bundle, tmp_path, clean=True)

    with pytest.raises(DataError, match=r"epoch-0005\.safetensors exists already"):
        make_snapshots(bundle, tmp_path, epochs=2)


def test_an_input_that_is_no_square_can_only_be_looked_at_clean(tmp_path: Path) -> None:
    """Augmentation makes squares."""
    bundle = write_bundle(tmp_path / "bundle")
    preprocess = Preprocess(height=8, width=9, mean=(0, 0, 0), std=(1, 1, 1))
    wide = Bundle(bundle.folder, bundle.manifest.model_copy(update={"preprocess": preprocess}))

    with pytest.raises(DataError, match="8 × 9; augmentation makes squares"):
        make_snapshots(wide, tmp_path / "out")


@pytest.mark.slow
def test_the_images_of_training_are_looked_at_whole(bundle: Bundle) -> None:
    """What `load` calls the training part, where the data has a part of that name."""
    from breadcrumbs.training.data.dataset import images as find

    config = config_of(bundle)
    found = find(config)
    split, names = found.split, found.classes

    data = load(config)
    assert names == data.classes
    assert np.array_equal(split.labels, data.train.labels)
