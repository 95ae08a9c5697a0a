"""What the names of classes say: through an edit of classes, and how far it counts in a refit."""

from pathlib import Path

import numpy as np
import pytest
import torch

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models import head as heads
from breadcrumbs.models.bundle import Bundle, Manifest
from breadcrumbs.models.head import LinearHead
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.snapshot import Snapshot
from breadcrumbs.training.config import RefitSpec
from breadcrumbs.training.refit.named import named_rows
from breadcrumbs.training.refit.refit import refit

CLASSES = ("oak", "elm", "yew", "ash")
SPACE, DIM = "5" * 64, 8
SPEC = RefitSpec(members=("plain",), l2=1e-1, prior_offset=1.0)


def made(folder: Path, counts: tuple[int, ...], says: float) -> Bundle:
    """A bundle of features around centres, whose named head points `says` times to the centres."""
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(len(CLASSES), DIM))
    parts = []
    for own in (counts, tuple(8 if count else 0 for count in counts)):
        labels = np.repeat(np.arange(len(CLASSES)), own)
        rows = (centres[labels] + rng.normal(size=(len(labels), DIM))).astype(np.float32)
        ids = np.arange(len(labels)) + 1000 * len(parts)
        parts.append(snapshots.to_bytes(Snapshot(rows, labels, CLASSES, SPACE, 1, ids=ids, dataset="6" * 64)))
    zero = np.zeros(len(CLASSES), np.float32)
    files = {
        "head.onnx": heads.to_onnx(LinearHead(centres.astype(np.float32), zero, CLASSES)),
        "named-head.onnx": heads.to_onnx(LinearHead((says * centres).astype(np.float32), zero, CLASSES)),
        "snapshots/epoch-0001.safetensors": parts[0],
        "holdout.safetensors": parts[1],
    }
    manifest = Manifest(
        name="named", architecture="x", space=SPACE, feature_dim=DIM, classes=CLASSES, train_counts=counts
    )
    return bundles.write(folder, manifest, files)


@pytest.mark.parametrize(("says", "counts"), [(2.0, (20, 6, 3, 2)), (-50.0, (20, 6, 3, 2)), (2.0, (20, 6, 3, 0))])
def test_the_scale_is_chosen_by_what_it_gives(says: float, counts: tuple[int, ...], tmp_path: Path) -> None:
    """Names that point to the wrong place count nothing; a class without images is predicted by its name."""
    bundle = made(tmp_path / "bundle", counts, says)

    found = refit(bundle, bundle.head(), (), None, SPEC)
    notes = "\n".join(found.judged.notes)

    if says < 0:
        assert "count 0 times" in notes
        plain = made(tmp_path / "plain", counts, 0.0)
        assert np.allclose(found.head.weight, refit(plain, plain.head(), (), None, SPEC).head.weight, atol=1e-4)
    else:
        assert "times, chosen by cross-validation" in notes
    if not counts[-1]:
        start = bundle.named_head()
        assert start is not None
        row, told = found.head.weight[-1], start.weight[-1]
        assert row @ told == pytest.approx(np.linalg.norm(row) * np.linalg.norm(told), rel=1e-5)
        assert "known by their names alone: ash" in notes
        assert "at 0," not in notes


def test_classes_of_one_image_have_nothing_to_choose_by(tmp_path: Path) -> None:
    """The names count in full then, and it is said."""
    bundle = made(tmp_path / "bundle", (1, 1, 1, 1), 1.0)

    found = refit(bundle, bundle.head(), (), None, SPEC)

    assert any("nothing to choose by" in note for note in found.judged.notes)


def test_rows_follow_an_edit_of_classes() -> None:
    """A merged class has the mean of what is known, a removed one none, and an unknown one zeros."""
    weight = np.array([[1, 2], [3, 4], [0, 0], [5, 6]], np.float32)
    head = LinearHead(weight, np.zeros(4, np.float32), CLASSES)

    rows = named_rows(head, {"oak": "tree", "elm": "tree", "yew": "tree", "ash": None}, ("tree", "new " + "x" * 60))

    assert rows is not None
    assert torch.equal(rows, torch.tensor([[2.0, 3.0], [0.0, 0.0]]))
    assert named_rows(None, {}, CLASSES) is None
