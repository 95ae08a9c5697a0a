"""Two backbones that are a known map of each other, and bundles of drawn rows on them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models import head as heads
from breadcrumbs.models.bundle import Bundle, Manifest
from breadcrumbs.models.head import IR_VERSION, LinearHead
from breadcrumbs.models.images.preprocess import Preprocess
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.snapshot import Snapshot
from breadcrumbs.training.adopt.opened import Opened
from breadcrumbs.training.migrate.backbone import backbone_of
from breadcrumbs.training.migrate.pairs import Pairs, pairs_of_snapshots

CLASSES = ("oak", "elm", "yew", "Wollemia nobilis")
SIDE = 8
OWN, TEST, PAIRS = "7" * 64, "8" * 64, "9" * 64
"""Data sets: of the old bundle, of its hold-out, of the pairs."""

Floats = NDArray[np.float32]


def graph(projection: Floats) -> bytes:
    """`image` uint8 (N, 8, 8, 3) -> its 2 × 2 mean colours on 0 … 1, 12 numbers, times a matrix (12, D)."""
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["floats", "full"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["small"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Flatten", ["small"], ["colours"]),
        helper.make_node("MatMul", ["colours", "projection"], ["feature"]),
    ]
    made = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("feature", TensorProto.FLOAT, ["N", projection.shape[1]])],
        [numpy_helper.from_array(np.float32(255), "full"), numpy_helper.from_array(projection, "projection")],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = IR_VERSION
    return bytes(model.SerializeToString())


@dataclass
class Spaces:
    """Gaussian classes under an old backbone, and a new one whose features are `old @ turn`.

    Attributes:
        counts: labelled rows of each class.
        dims: width of the old space and of the new one.
        seed: of everything.
        holdout: rows of each class in the old bundle's hold-out.
        skilled: whether the old head knows the classes' means; else it takes each class for another.
    """

    counts: tuple[int, ...] = (30, 14, 6, 1)
    dims: tuple[int, int] = (6, 6)
    seed: int = 0
    holdout: int = 12
    skilled: bool = True

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.classes = (*CLASSES, *(f"class {c}" for c in range(len(CLASSES), len(self.counts))))[: len(self.counts)]
        self.means = 3 * self.rng.normal(size=(len(self.counts), self.dims[0]))
        wide = max(self.dims)
        rotation, _ = np.linalg.qr(self.rng.normal(size=(wide, wide)))
        self.turn = (2.5 * rotation[: self.dims[0], : self.dims[1]]).astype(np.float32)
        self.projection = self.rng.normal(size=(12, self.dims[0])).astype(np.float32)
        self.models = (graph(self.projection), graph(self.projection @ self.turn))

    def draw(self, labels: NDArray[np.int64]) -> Floats:
        """Features of new images by the old backbone."""
        return (self.means[labels] + self.rng.normal(size=(len(labels), self.dims[0]))).astype(np.float32)

    def bundle(
        self, folder: Path, classes: tuple[str, ...] | None = None, *, side: int = 0, stored: bool = True
    ) -> Bundle:
        """The old bundle, or that of the new backbone (1), with drawn rows of its own."""
        names = classes or self.classes
        model, dim = self.models[side], self.dims[side]
        known = (self.means @ self.turn if side else self.means).astype(np.float32)[: len(names)]
        known = np.resize(known, (len(names), dim)).astype(np.float32)
        if not self.skilled:
            known = np.roll(known, 1, axis=0)
        head = LinearHead(known, (-0.5 * (known**2).sum(1)).astype(np.float32), names)
        manifest = Manifest(
            name=f"side-{side}", architecture="colours", feature_dim=dim, classes=names,
            preprocess=Preprocess(height=SIDE, width=SIDE, mean=(0, 0, 0), std=(1, 1, 1)),
            train_counts=(*self.counts, *(1 for _ in names))[: len(names)],
        )  # fmt: skip
        files = {"backbone.onnx": model, "head.onnx": heads.to_onnx(head)}
        if stored:
            labels = np.repeat(np.arange(len(self.counts)), self.counts)
            self.rows = self.draw(labels)
            digest = bundles.write(folder, manifest, files).backbone_digest
            own = Snapshot(self.rows, labels, names, digest, 3, ids=np.arange(len(labels)), dataset=OWN)
            files["snapshots/epoch-0003.safetensors"] = snapshots.to_bytes(own)
            test = np.repeat(np.arange(len(self.counts)), self.holdout)
            if len(test):
                self.tested = self.draw(test)
                held = Snapshot(self.tested, test, names, digest, 3, dataset=TEST)
                files[bundles.HOLDOUT] = snapshots.to_bytes(held)
        return bundles.write(folder, manifest, files)

    def to(self) -> Opened:
        """The new backbone."""
        plain = Preprocess(height=SIDE, width=SIDE, mean=(0, 0, 0), std=(1, 1, 1))
        return Opened("colours", self.models[1], plain, self.dims[1])

    def pairs(self, old: Bundle, count: int, labels: NDArray[np.int64] | None = None, noise: float = 0.0) -> Pairs:
        """So many images under both backbones, without labels unless they are given."""
        classes = self.rng.integers(len(self.counts), size=count) if labels is None else labels
        before = self.draw(classes)
        after = (before @ self.turn + noise * self.rng.normal(size=(count, self.dims[1]))).astype(np.float32)
        told = np.full(count, -1) if labels is None else labels
        looks = [
            Snapshot(features, told, old.manifest.classes, digest, 1, ids=np.arange(count), dataset=PAIRS)
            for features, digest in ((before, backbone_of(old).digest), (after, self.to().digest))
        ]
        return pairs_of_snapshots(*looks, (old.backbone_digest, self.to().digest))
