"""Long-tailed worlds of Gaussian classes, and bundles of them: what a refit's promises are tried on."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tiny import tiny_backbone

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models import head as heads
from breadcrumbs.models.bundle import Bundle, Manifest
from breadcrumbs.models.head import LinearHead
from breadcrumbs.models.images.preprocess import Preprocess
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.snapshot import Snapshot

TRAINING, TEST = "7" * 64, "8" * 64
"""The data sets of the bundle's own images."""


@dataclass
class World:
    """Classes around means in D dimensions, each with the same covariance; the live head knows the means.

    Attributes:
        counts: training images of each class (C,).
        dim: D.
        seed: of everything.
        apart: how far the means are apart, in the classes' own standard deviations.
    """

    counts: tuple[int, ...] = (200, 120, 70, 40, 25, 15)
    dim: int = 24
    seed: int = 0
    apart: float = 0.75
    means: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        self.means = self.apart * np.random.default_rng(self.seed).normal(size=(len(self.counts) + 4, self.dim))

    @property
    def classes(self) -> tuple[str, ...]:
        """C names."""
        return tuple(f"class {c}" for c in range(len(self.counts)))

    def draw(self, labels: list[int] | NDArray[np.int64], seed: int) -> NDArray[np.float32]:
        """Features of new images of these classes; C and more are classes that the head does not know."""
        noise = np.random.default_rng(seed).normal(size=(len(labels), self.dim))
        return (self.means[np.asarray(labels)] + noise).astype(np.float32)

    def rows(
        self, bundle: Bundle, labels: list[int] | NDArray[np.int64], seed: int, epoch: int = 99, **more: object
    ) -> Snapshot:
        """A snapshot of new images by the deployed backbone."""
        names = (*self.classes, *(f"new {k}" for k in range(4)))
        given = {"ids": None, "dataset": ""} | more
        return Snapshot(
            self.draw(labels, seed), np.asarray(labels, np.int64), names, bundle.backbone_digest, epoch, **given
        )

    def each(self, count: int) -> NDArray[np.int64]:
        """So many labels of each known class."""
        return np.repeat(np.arange(len(self.counts)), count)

    def bundle(self, folder: Path, holdout: int = 40, spread: float = 0.5) -> Bundle:
        """A bundle with its training rows, a hold-out of so many rows a class, and a live head of estimated means."""
        backbone = tiny_backbone()
        labels = np.repeat(np.arange(len(self.counts)), self.counts)
        features = self.draw(labels, self.seed + 1)
        noise = spread * np.random.default_rng(self.seed + 2).normal(size=(len(self.counts), self.dim))
        known = (self.means[: len(self.counts)] + noise).astype(np.float32)
        head = LinearHead(known, (-0.5 * (known**2).sum(1)).astype(np.float32), self.classes)
        manifest = Manifest(
            name="world", architecture="drawn", preprocess=Preprocess(height=8, width=8, mean=(0, 0, 0), std=(1, 1, 1)),
            feature_dim=self.dim,
            classes=self.classes, train_counts=self.counts,
        )  # fmt: skip
        plain = bundles.write(folder, manifest, {"backbone.onnx": backbone, "head.onnx": heads.to_onnx(head)})
        digest = plain.backbone_digest
        ids = np.arange(len(labels))
        own = Snapshot(features, labels, self.classes, digest, 10, ids=ids, dataset=TRAINING)
        files = {"backbone.onnx": backbone, "head.onnx": heads.to_onnx(head)}
        files["snapshots/epoch-0010.safetensors"] = snapshots.to_bytes(own)
        if holdout:
            test = self.each(holdout)
            held = Snapshot(self.draw(test, self.seed + 3), test, self.classes, digest, 10, dataset=TEST)
            files["holdout.safetensors"] = snapshots.to_bytes(held)
        return bundles.write(folder, manifest, files)

    def recalls(self, head: LinearHead, seed: int = 1000, count: int = 300) -> NDArray[np.float64]:
        """The recall of each known class on images that nobody has seen."""
        labels = self.each(count)
        right = head.logits(self.draw(labels, seed)).argmax(1) == labels
        return right.reshape(len(self.counts), count).mean(1)
