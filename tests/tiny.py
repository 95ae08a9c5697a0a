"""A tiny bundle, made without torch, whose every answer numpy can compute; and images and snapshots for it."""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models import head as heads
from breadcrumbs.models import known as knowns
from breadcrumbs.models.bundle import Bundle, Manifest
from breadcrumbs.models.groups import GROUPS, groups
from breadcrumbs.models.head import IR_VERSION, LinearHead
from breadcrumbs.models.images.preprocess import Preprocess
from breadcrumbs.models.known import Known
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.snapshot import Snapshot

SIDE = 8
CLASSES = ("oak", "elm", "Wollemia nobilis")
COUNTS = (120, 40, 5)
PROJECTION = np.random.default_rng(7).normal(size=(3, 4)).astype(np.float32)


def tiny_backbone() -> bytes:
    """`image` uint8 (N, 8, 8, 3) -> mean colour on 0 … 1, times PROJECTION -> `feature` f32 (N, 4)."""
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["floats", "full"], ["scaled"]),
        helper.make_node("ReduceMean", ["scaled", "axes"], ["colour"], keepdims=0),
        helper.make_node("MatMul", ["colour", "projection"], ["feature"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("feature", TensorProto.FLOAT, ["N", 4])],
        [
            numpy_helper.from_array(np.float32(255), "full"),
            numpy_helper.from_array(np.array([1, 2], np.int64), "axes"),
            numpy_helper.from_array(PROJECTION, "projection"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = IR_VERSION
    return bytes(model.SerializeToString())


def expected_features(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the tiny backbone gives for uint8 (N, 8, 8, 3), in numpy."""
    return np.asarray((pixels / 255.0).mean((1, 2)) @ PROJECTION, np.float32)


def picture(seed: int = 0) -> NDArray[np.uint8]:
    """A random uint8 image (8, 8, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def png(pixels: NDArray[np.uint8]) -> bytes:
    """The bytes of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def tiny_head(seed: int = 1, classes: tuple[str, ...] = CLASSES, dim: int = 4) -> LinearHead:
    """A random head."""
    weight = np.random.default_rng(seed).normal(size=(len(classes), dim)).astype(np.float32)
    return LinearHead(weight, np.zeros(len(classes), np.float32), classes)


def tiny_snapshot(backbone: str, epoch: int = 2, rows: int = 12, dim: int = 4) -> Snapshot:
    """A random snapshot with every class in it."""
    features = np.random.default_rng(epoch).normal(size=(rows, dim)).astype(np.float32)
    return Snapshot(features, np.arange(rows) % len(CLASSES), CLASSES, backbone, epoch, created="2026-01-01")


def tiny_known(seed: int = 0) -> Known:
    """By what the tiny head would tell how well a feature is known: rows at random."""
    rows = knowns.unit(np.random.default_rng(seed).normal(size=(12, 4)))
    group = np.array([GROUPS.index(one) for one in groups(COUNTS, "A")])[np.arange(12) % 3]
    return Known(np.eye(4, dtype=np.float32), rows, group, np.tile(np.linspace(-1, 1, 101, dtype=np.float32), (3, 1)))


def write_bundle(folder: Path, backbone: bytes | None = None) -> Bundle:
    """A tiny bundle; another `backbone` makes it another feature space."""
    manifest = Manifest(
        name="tiny",
        architecture="mean-colour",
        preprocess=Preprocess(height=SIDE, width=SIDE, mean=(0, 0, 0), std=(1, 1, 1)),
        feature_dim=4,
        classes=CLASSES,
        train_counts=COUNTS,
        metrics={"all": 0.5},
    )
    files = {
        "backbone.onnx": backbone or tiny_backbone(),
        "head.onnx": heads.to_onnx(tiny_head()),
        "snapshots/epoch-0001.safetensors": snapshots.to_bytes(tiny_snapshot("a" * 64, 1)),
    }
    return bundles.write(folder, manifest, files)


SPACE = "5" * 64


def write_bundle_of_features(folder: Path, dim: int = 4, classes: tuple[str, ...] = CLASSES) -> Bundle:
    """A tiny bundle without a backbone, of features of `dim` dimensions."""
    manifest = Manifest(
        name="tiny", architecture="elsewhere", space=SPACE, feature_dim=dim, classes=classes,
        train_counts=(5,) * len(classes),
    )  # fmt: skip
    return bundles.write(folder, manifest, {"head.onnx": heads.to_onnx(tiny_head(1, classes, dim))})
