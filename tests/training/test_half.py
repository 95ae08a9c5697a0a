"""A backbone in half precision: the same answers on real images, or none."""

from pathlib import Path

import numpy as np
import pytest
from tiny import write_bundle

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models.bundle import BundleError
from breadcrumbs.models.groups import groups
from breadcrumbs.models.head import LinearHead
from breadcrumbs.training.config import TrainConfig
from breadcrumbs.training.data.dataset import load
from breadcrumbs.training.export import ExportError, run_onnx
from breadcrumbs.training.half import gate
from breadcrumbs.training.run.fit import export_checkpoint
from breadcrumbs.training.run.package import images_of

COUNTS = [200, 50, 5]
HEAD = LinearHead(np.eye(3, dtype=np.float32), np.zeros(3, np.float32), ("a", "b", "c"))


@pytest.mark.slow
def test_an_export_may_have_a_second_backbone(run: Path, tmp_path: Path) -> None:
    """It is in half precision, half the size, and answers as the first does; the first stays what it was."""
    before = bundles.read(run / "bundle")
    (tmp_path / "run").mkdir()
    for name in ("checkpoint.pt", "log.jsonl"):
        (tmp_path / "run" / name).write_bytes((run / name).read_bytes())

    made = export_checkpoint(tmp_path / "run", half=True)

    config = TrainConfig.model_validate(made.manifest.recipe)
    images = list(images_of(load(config).test, made.manifest.preprocess, config))
    full, half = (run_onnx(made.backbone(precision), images) for precision in ("full", "half"))
    assert made.backbone_digest == before.backbone_digest
    assert len(made.backbone("half")) < 0.6 * len(made.backbone())
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, full, atol=5e-3 * np.abs(full).max())
    assert not np.array_equal(half, full)
    assert 0 <= made.manifest.metrics["half_differs"] <= 0.05


def test_recall_that_falls_is_refused() -> None:
    """Overall or in one group; a small change that costs nothing passes, and is counted."""
    labels = np.repeat([0, 1, 2], 100)
    full = np.eye(3, dtype=np.float32)[labels]
    rare, right = full.copy(), full.copy()
    rare[-2:] = [1, 0, 0]
    full[0] = [0, 1, 0]  # full precision is wrong about it

    own = groups(COUNTS, "A")
    assert gate(full, right, labels, HEAD, own) == pytest.approx(1 / 300)
    with pytest.raises(ExportError, match=r"recall \((balanced|few)\) falls from 1?\.?0?.* limit 0.001"):
        gate(right, rare, labels, HEAD, own)


def test_features_that_are_not_finite_are_refused() -> None:
    """As where a value is beyond what half precision can hold."""
    features = np.ones((4, 3), np.float32)
    broken = features.copy()
    broken[1, 2] = np.inf

    with pytest.raises(ExportError, match="1 of 4 images have features that are not finite"):
        gate(features, broken, np.zeros(4, np.int64), HEAD, groups(COUNTS, "A"))


def test_a_bundle_without_it_says_how_to_make_it(tmp_path: Path) -> None:
    """The server that is asked for half precision does not start."""
    with pytest.raises(BundleError, match=r"no backbone-half.onnx; `breadcrumbs export RUN --half` makes one"):
        write_bundle(tmp_path / "bundle").backbone("half")
