"""A bundle with a second backbone in int8: a bundle of its own inside, or the reason why there is none."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from small_run import CLASSES, COUNTS

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models.arrays import Pixels
from breadcrumbs.models.bundle import Bundle, BundleError
from breadcrumbs.models.known import directions
from breadcrumbs.training.data.dataset import DataError
from breadcrumbs.training.int8 import cost
from breadcrumbs.training.int8.int8 import add_int8


@pytest.fixture
def bundle(run: Path, tmp_path: Path) -> Bundle:
    """A bundle as a training run wrote it, to be changed."""
    shutil.copytree(run / "bundle", tmp_path / "bundle")
    return bundles.read(tmp_path / "bundle")


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few test images cannot tell half a point: any cost is allowed."""
    monkeypatch.setattr(cost, "LOSS", 1.0)
    monkeypatch.setattr(cost, "GROUP_LOSS", 1.0)


def files_of(folder: Path) -> set[str]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("lenient")
def test_it_is_a_bundle_of_its_own(bundle: Bundle) -> None:
    """Of the same head and classes, in a space of its own, with rows of its own; the rest stays what it was."""
    made = add_int8(bundle, speed=lambda _slow, _fast, _image: 2.0)

    own = bundles.read(bundle.folder).of("int8")
    facts = made.manifest.metrics["int8"]
    assert own.backbone_digest != made.backbone_digest == bundle.backbone_digest
    assert own.head().digest == made.head().digest
    assert own.manifest.preprocess == made.manifest.preprocess
    assert made.backbone("int8") == own.backbone()
    assert facts["refusal"] is None
    assert facts["calibration"]["classes"] == len(CLASSES)
    assert sorted(facts["calibration"]["ids"]) == sorted(set(facts["calibration"]["ids"]))
    assert facts["calibration"]["images"] == len(facts["calibration"]["ids"]) == sum(COUNTS)
    held, snapshots = own.holdout(), own.snapshots()
    assert held is not None
    assert {held.backbone, *(one.backbone for one in snapshots)} == {own.backbone_digest}
    assert snapshots[0].counts().tolist() == list(COUNTS)
    before = bundle.holdout()
    assert before is not None
    assert np.array_equal(held.labels, before.labels)
    points, theirs = own.known(), bundle.known()
    assert points is not None
    assert theirs is not None
    rows = np.asarray(snapshots[0].features, np.float32)
    assert (points.points[: len(rows)] @ directions(rows, points.basis).T).max(0) == pytest.approx(1, abs=1e-3)
    assert min(points.of(rows)) == 1
    assert not np.array_equal(points.basis, theirs.basis)
    assert not list(bundle.folder.parent.glob(".*"))


@pytest.mark.usefixtures("lenient")
def test_it_can_be_made_again(bundle: Bundle) -> None:
    """The second takes the place of the first, and one that is refused leaves none."""
    first = add_int8(bundle, speed=lambda *_: 2.0)
    again = add_int8(first, speed=lambda *_: 2.0)
    gone = add_int8(again, speed=lambda *_: 1.0)

    assert again.manifest.metrics["int8"]["times_as_fast"] == 2.0
    assert not gone.has("int8")
    assert not (bundle.folder / "int8").exists()
    assert files_of(bundle.folder) == {*bundle.manifest.files, "manifest.json"}


def test_a_backbone_that_is_not_faster_is_left_alone(bundle: Bundle) -> None:
    """The manifest says why, and everything else is as before."""
    made = add_int8(bundle, speed=lambda *_: 1.1)

    assert made.manifest.metrics["int8"]["refusal"].startswith("it is 1.10 times as fast")
    assert made.manifest.files == bundle.manifest.files
    with pytest.raises(BundleError, match="has no int8 backbone; `breadcrumbs export RUN --int8` makes one"):
        made.of("int8")


def test_a_graph_that_cannot_run_is_left_alone(bundle: Bundle) -> None:
    """In one sentence, in the manifest."""

    def broken(_full: bytes, _int8: bytes, _image: Pixels) -> float:
        raise RuntimeError("no such operator")

    made = add_int8(bundle, speed=broken)

    assert made.manifest.metrics["int8"]["refusal"] == "ONNX Runtime cannot run the graph in int8: no such operator"
    assert not made.has("int8")


def test_a_holdout_that_names_no_images_is_refused(bundle: Bundle) -> None:
    """As after a refit."""
    names = [name for name in bundle.manifest.files if name != bundles.HOLDOUT]
    files = {name: (bundle.folder / name).read_bytes() for name in names}
    other = bundles.write(bundle.folder, bundle.manifest, files)

    with pytest.raises(DataError, match="does not say which images it is of, as after a refit"):
        add_int8(other)


def test_images_that_have_changed_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    """The judged rows would be of others."""
    images = tmp_path / "images"
    shutil.copytree(bundle.manifest.recipe["data"], images)
    (images / "test" / "red" / "00.png").rename(images / "test" / "red" / "other.png")
    recipe = bundle.manifest.recipe | {"data": str(images)}
    files = {name: (bundle.folder / name).read_bytes() for name in bundle.manifest.files}
    other = bundles.write(bundle.folder, bundle.manifest.model_copy(update={"recipe": recipe}), files)

    with pytest.raises(DataError, match="its test images are others now"):
        add_int8(other)
