"""What the servers are measured with: bundles of random weights, photos, the right answers, a snapshot to refit from.

    python benchmarks/serving/materials.py FOLDER MODEL …

leaves in FOLDER/MODEL, the same on every machine:

    bundle/                the backbone, seeded, exported as training does; a head of ten classes
    photos/000.jpg …       crops of scikit-learn's two sample photos, quality 90
    features.npy           float32 (N, D), one row a photo
    probabilities.npy      float32 (N, C), one row a photo
    snapshot.safetensors   drawn features, enough to keep a refit busy for seconds

The head is random, but centred on the photos' features and scaled, so that the photos fall into different classes and
a mixed-up answer is seen. Only this file needs torch and scikit-learn. It knows nothing of servers.
"""

import hashlib
import io
import sys
from pathlib import Path

import numpy as np
import torch
from peers.scorer import Scorer
from PIL import Image
from sklearn.datasets import load_sample_images

from breadcrumbs.models import backbones
from breadcrumbs.models import bundle as bundles
from breadcrumbs.models import head as heads
from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.bundle import Manifest
from breadcrumbs.models.head import LinearHead
from breadcrumbs.models.images.preprocess import Preprocess, load
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.snapshot import Snapshot
from breadcrumbs.training import export
from breadcrumbs.training.network import Features

SIDES = {"resnet18": (224, 256), "resnet10t": (64, 64), "efficientnet_lite0": (224, 256)}
"""Of the photos of each model, from … to; the first is also the network's input."""
PHOTOS = 256
CLASSES = tuple(f"class {index}" for index in range(10))
COUNTS = tuple(round(1000 * 0.01 ** (index / 9)) for index in range(10))  # 1000 … 10
SPREAD = 1.5  # standard deviation of the logits over the photos
ROWS = 20_000  # of the snapshot
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def main() -> None:
    """Make everything of each model named."""
    folder, *names = sys.argv[1:]
    for name in names:
        make(name, Path(folder) / name)


def make(name: str, folder: Path) -> None:
    """Make bundle, photos, answers and snapshot of one model."""
    low, high = SIDES[name]
    photos = draw_photos(low, high)
    for place, photo in enumerate(photos):
        path = folder / "photos" / f"{place:03}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo)
    transform = Preprocess(height=low, width=low, mean=MEAN, std=STD)
    torch.manual_seed(0)
    backbone = export.to_onnx(Features(backbones.create(name), transform), transform)
    images = torch.from_numpy(np.stack([load(photo, transform) for photo in photos]))
    features = export.run_onnx(backbone, images.split(32))
    head = draw_head(features)
    manifest = Manifest(
        name=name, architecture=name, preprocess=transform, feature_dim=features.shape[1], classes=CLASSES,
        train_counts=COUNTS,
    )  # fmt: skip
    files = {"backbone.onnx": backbone, "head.onnx": heads.to_onnx(head)}
    bundle = bundles.write(folder / "bundle", manifest, files)
    scorer = Scorer(bundle.folder)
    np.save(folder / "features.npy", features)
    np.save(folder / "probabilities.npy", np.concatenate([scorer.probabilities(x.numpy()) for x in images.split(32)]))
    snapshots.save(folder / "snapshot.safetensors", draw_snapshot(features, hashlib.sha256(backbone).hexdigest()))


def draw_photos(low: int, high: int) -> list[bytes]:
    """Crop squares of `low` … `high` pixels, some of them mirrored."""
    draw, photos = np.random.default_rng(0), []
    originals = load_sample_images().images
    for place in range(PHOTOS):
        original = originals[place % len(originals)]
        side = int(draw.integers(low, high + 1))
        top, left = (int(draw.integers(0, length - side + 1)) for length in original.shape[:2])
        crop = original[top : top + side, left : left + side]
        file = io.BytesIO()
        Image.fromarray(crop[:, ::-1] if draw.random() < 0.5 else crop).save(file, "JPEG", quality=90)
        photos.append(file.getvalue())
    return photos


def draw_head(features: Floats) -> LinearHead:
    """A random head whose logits have mean 0 and deviation SPREAD over the photos, features being (N, D)."""
    centre = features.mean(0)
    weight = np.random.default_rng(1).normal(size=(len(CLASSES), features.shape[1]))
    weight *= SPREAD / ((features - centre) @ weight.T).std(0)[:, None]
    return LinearHead(weight.astype(np.float32), (-weight @ centre).astype(np.float32), CLASSES)


def draw_snapshot(features: Floats, backbone: str) -> Snapshot:
    """Long-tailed features around drawn class means, with the mean and deviation of the photos' features (N, D)."""
    draw, spread = np.random.default_rng(2), features.std(0)
    share = np.array(COUNTS) / sum(COUNTS)
    labels = np.repeat(np.arange(len(CLASSES)), np.maximum(2, (ROWS * share).astype(int)))
    means = features.mean(0) + draw.normal(size=(len(CLASSES), len(spread))) * spread / 4
    drawn = means[labels] + draw.normal(size=(len(labels), len(spread))) * spread
    return Snapshot(drawn.astype(np.float32), labels, CLASSES, backbone, epoch=1)


if __name__ == "__main__":
    main()
