"""A bundle around features, as training would have left it: what the benchmarks of a refit deploy.

The backbone is never run: only its digest counts. It knows nothing of what is asked of the refit.

Letters: N rows, D feature dimensions, C classes.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models import head as heads
from breadcrumbs.models.bundle import Bundle, Manifest
from breadcrumbs.models.groups import groups
from breadcrumbs.models.head import LinearHead
from breadcrumbs.models.images.preprocess import Preprocess
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.snapshot import Snapshot
from breadcrumbs.training.config import RefitSpec
from breadcrumbs.training.metrics import Metrics, evaluate
from breadcrumbs.training.refit.offset import Labelled
from breadcrumbs.training.refit.refit import Candidate, refit
from breadcrumbs.training.refit.without_training import nearest_class_mean

BACKBONE = b"never run"
TRAINING, HOLDOUT = "7" * 64, "8" * 64  # data sets
EPOCH = 10  # of the bundle's snapshot


@dataclass(frozen=True, eq=False)
class Deployed:
    """A bundle and its live head, the rows (N, D) that both were made from, and the rows that the bundle judges on."""

    bundle: Bundle
    live: LinearHead
    train: Labelled
    holdout: Labelled

    def rows(self, rows: Labelled, names: tuple[str, ...] | None = None, **more: object) -> Snapshot:
        """A newer look of the deployed backbone; `more` are fields of a snapshot."""
        given = {"epoch": EPOCH + 1, "backbone": self.bundle.backbone_digest} | more
        return Snapshot(rows.features, rows.labels, names or self.live.classes, **given)  # type: ignore[arg-type]

    def refit(self, *uploads: Snapshot, holdout: Snapshot | None = None, spec: RefitSpec | None = None) -> Candidate:
        """The product's own refit, by default with its own settings."""
        return refit(self.bundle, self.live, uploads, holdout, spec or RefitSpec())

    def measured(self, head: LinearHead, rows: Labelled) -> Metrics:
        """A head on rows, with the groups of the training rows; a class that the bundle does not know has none."""
        counts = np.bincount(self.train.labels, minlength=len(head.classes))
        return evaluate(head.logits(rows.features), rows.labels, groups(counts.tolist(), "A"))


def deployed(
    folder: Path, names: tuple[str, ...], train: Labelled, holdout: Labelled, head: LinearHead | None = None,
    *, stored: bool = True,
) -> Deployed:  # fmt: skip
    """Write a bundle.

    Args:
        folder: for it.
        names: C classes, each with training rows.
        train: its training rows.
        holdout: the rows that it judges on.
        head: the live head; None means the nearest class means of the training rows.
        stored: the bundle carries a snapshot of its training rows.
    """
    live = head or nearest_class_mean(train.features, train.labels, names)
    plain = Preprocess(height=8, width=8, mean=(0, 0, 0), std=(1, 1, 1))
    manifest = Manifest(
        name="features", architecture="none", preprocess=plain, feature_dim=live.feature_dim, classes=names,
        train_counts=tuple(np.bincount(train.labels, minlength=len(names)).tolist()),
    )  # fmt: skip
    files = {"backbone.onnx": BACKBONE, "head.onnx": heads.to_onnx(live)}
    digest = hashlib.sha256(BACKBONE).hexdigest()
    ids = np.arange(len(train.labels))
    own = Snapshot(train.features, train.labels, names, digest, EPOCH, ids=ids, dataset=TRAINING)
    held = Snapshot(holdout.features, holdout.labels, names, digest, EPOCH, dataset=HOLDOUT)
    files[bundles.HOLDOUT] = snapshots.to_bytes(held)
    if stored:
        files[f"snapshots/epoch-{EPOCH:04d}.safetensors"] = snapshots.to_bytes(own)
    return Deployed(bundles.write(folder, manifest, files), live, train, holdout)
