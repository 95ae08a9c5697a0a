"""Feature files: a data set under one backbone, made once; what the benchmarks of a refit read.

    python benchmarks/features.py --backbone BUNDLE_OR_ONNX --data FOLDER --out photos.npz [--tail 100] [--looks 4]

The images are found and decoded by the product's own loader. A bundle says itself how images are transformed; a bare
ONNX file takes uint8 (N, H, W, 3), or float (N, 3, H, W) by `--mean` and `--std`, resized by `--crop` and
`--interpolation`. Two backbones on the same data give the same images in the same order.

    x f32 (N, D), y int64 (N,)    images, and their classes; names (C,)
    xt, yt                        test images, of a set known by name
    n (C,)                        rows of each class that are drawn for training, where a long tail is made (`--tail`)
    looks f32 (K, N, D)           the same images augmented, as `adopt` does it (`--looks`, `--augmentation`)

It knows nothing of heads.
"""

import argparse
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models.arrays import Floats, Pixels
from breadcrumbs.models.images.preprocess import Preprocess
from breadcrumbs.training.config import EMBEDDED, STANDARD, TrainConfig
from breadcrumbs.training.data.dataset import Split, images, load
from breadcrumbs.training.data.loader import augmented_batches
from breadcrumbs.training.refit.offset import Labelled
from breadcrumbs.training.run.package import images_of

Integers = NDArray[np.int64]
SHARE = 0.3  # of each class that is tested on, where the data has no test images of its own


@dataclass(frozen=True, eq=False)
class Features:
    """A feature file.

    Attributes:
        name: of the file.
        names: C classes.
        rows: x and y.
        test: xt and yt; None means that they are drawn.
        counts: n (C,); None means that all rows are for training.
        looks: (K, N, D), the rows' images augmented.
    """

    name: str
    names: tuple[str, ...]
    rows: Labelled
    test: Labelled | None
    counts: Integers | None
    looks: Floats

    def drawn(self, seed: int) -> tuple[Integers, Integers | None]:
        """Draw by seed; return the numbers of the rows to train on, and of those to test on, None if there is a test.

        Tested is three tenths of each class, one row at least; a class of one row is trained on only.
        """
        rng = np.random.default_rng(seed)
        train: list[Integers] = []
        test: list[Integers] = []
        for label in range(len(self.names)):
            own = rng.permutation(np.flatnonzero(self.rows.labels == label))
            aside = max(1, round(SHARE * len(own))) if self.test is None and len(own) > 1 else 0
            test.append(own[:aside])
            train.append(own[aside:][: None if self.counts is None else int(self.counts[label])])
        return np.sort(np.concatenate(train)), np.sort(np.concatenate(test)) if self.test is None else None

    def split(self, seed: int) -> tuple[Labelled, Labelled]:
        """Return the rows to train and to test on; one that is trained on is not tested on again."""
        train, test = self.drawn(seed)
        fitted = take(self.rows, train)
        tested = self.test or take(self.rows, test if test is not None else train[:0])
        known = {row.tobytes() for row in fitted.features}
        return fitted, take(tested, [row.tobytes() not in known for row in tested.features])


def take(rows: Labelled, chosen: Any) -> Labelled:
    """Some of the rows, by a mask or by numbers."""
    chosen = np.asarray(chosen)
    return Labelled(rows.features[chosen], rows.labels[chosen])


def read(path: Path) -> Features:
    """Read a feature file."""
    with np.load(path, allow_pickle=False) as file:
        parts = dict(file)
    rows = Labelled(parts["x"].astype(np.float32), parts["y"].astype(np.int64))
    names = parts.get("names", [f"class {c}" for c in range(int(rows.labels.max()) + 1)])
    test = Labelled(parts["xt"].astype(np.float32), parts["yt"].astype(np.int64)) if "xt" in parts else None
    looks = parts.get("looks", np.empty((0, *rows.features.shape), np.float32))
    return Features(path.stem, tuple(str(name) for name in names), rows, test, parts.get("n"), looks)


def tail(labels: Integers, ratio: float) -> Integers:
    """Rows of each class (C,), n_c = largest · ratio^(−c / (C − 1)), where the largest leaves the test's share out."""
    counts = np.bincount(labels)
    largest = int(counts.min() * (1 - SHARE))
    wanted = largest * ratio ** (-np.arange(len(counts)) / max(len(counts) - 1, 1))
    return wanted.round().astype(np.int64).clip(1)


@dataclass(frozen=True, eq=False)
class Backbone:
    """An ONNX graph, and what its input is: the transform, and whether it is normalised outside."""

    session: Any
    preprocess: Preprocess
    outside: bool

    def features(self, split: Split, config: TrainConfig) -> Floats:
        """The features (N, D) of a split's images."""
        batches = images_of(split, self.preprocess, config)
        return np.concatenate([self._run(batch.numpy()) for batch in batches])

    def looks(self, split: Split, config: TrainConfig, count: int) -> Floats:
        """The features (K, N, D) of a split's images, augmented K times; pixels that came before are not run again."""
        known: dict[bytes, Floats] = {}
        made = []
        for look in range(1, count + 1):
            batches = augmented_batches(split, config, look, self.preprocess.interpolation)
            made.append([self._once(image.numpy(), known) for images, _, _ in batches for image in images])
        return np.array(made, np.float32)

    def _once(self, image: Pixels, known: dict[bytes, Floats]) -> Floats:
        """The feature (D,) of one image (H, W, 3)."""
        digest = hashlib.sha256(image.tobytes()).digest()
        if digest not in known:
            known[digest] = self._run(image[None])[0]
        return known[digest]

    def _run(self, pixels: Pixels) -> Floats:
        mean, std = (np.array(v, np.float32) for v in (self.preprocess.mean, self.preprocess.std))
        given: NDArray[Any] = pixels
        if self.outside:
            given = ((pixels / np.float32(255) - mean) / std).transpose(0, 3, 1, 2)
        found = self.session.run(None, {self.session.get_inputs()[0].name: given})[0]
        return np.asarray(found, np.float32)


def at_most(split: Split, most: int, seed: int = 0) -> Split:
    """Draw at most so many images of each class."""
    order = np.random.default_rng(seed).permutation(len(split))
    kept = [order[split.labels[order] == label][:most] for label in np.unique(split.labels)]
    return split.take(np.sort(np.concatenate(kept)))


def opened(path: Path, given: argparse.Namespace) -> Backbone:
    """Open a bundle's backbone, or an ONNX file."""
    if path.is_dir():
        bundle = bundles.read(path)
        model, preprocess = bundle.backbone(), bundle.preprocess
        return Backbone(onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]), preprocess, False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    wanted = session.get_inputs()[0]
    outside = "float" in wanted.type
    height, width = wanted.shape[2:4] if outside else wanted.shape[1:3]
    resize = None if given.crop is None else round(min(height, width) / given.crop)
    mean, std = ((value,) * 3 for value in (given.mean, given.std))
    way = given.interpolation
    return Backbone(
        session, Preprocess(height=height, width=width, resize=resize, interpolation=way, mean=mean, std=std), outside
    )


def main() -> None:
    """Make a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--backbone", type=Path, required=True, help="a bundle's folder, or an ONNX file")
    parser.add_argument("--data", required=True, help="as for `breadcrumbs train`")
    parser.add_argument("--images", type=Path, help="as for `breadcrumbs train`")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tail", type=float, help="rows of the largest class for one of the smallest, of those drawn")
    parser.add_argument("--most", type=int, help="images of each class, drawn; absent: all")
    parser.add_argument("--looks", type=int, default=0, help="augmented passes besides the clean one")
    parser.add_argument("--augmentation", default="flip", help="of the looks; as for `breadcrumbs adopt`")
    parser.add_argument("--crop", type=float, help="of an ONNX file: the side over that of the resized image")
    parser.add_argument("--interpolation", default="bicubic", help="of an ONNX file")
    parser.add_argument("--mean", type=float, default=0.5, help="of an ONNX file")
    parser.add_argument("--std", type=float, default=0.5, help="of an ONNX file")
    given = parser.parse_args()
    backbone = opened(given.backbone, given)
    config = TrainConfig(
        data=given.data, images=given.images, size=backbone.preprocess.height, augmentation=given.augmentation
    )
    if given.data in (EMBEDDED, *STANDARD):
        both = load(config)
        parts, classes = {"x": both.train, "xt": both.test}, both.classes
    else:
        found = images(config)
        parts, classes = {"x": found.split}, found.classes
    arrays: dict[str, Any] = {"names": np.array(classes)}
    for key, split in parts.items():
        own = split if given.most is None else at_most(split, given.most)
        arrays |= {key: backbone.features(own, config), key.replace("x", "y"): own.labels}
        if key == "x" and given.looks:
            arrays["looks"] = backbone.looks(own, config, given.looks)
    if given.tail:
        arrays["n"] = tail(arrays["y"], given.tail)
    np.savez(given.out, **arrays)
    print(f"{given.out}: {', '.join(f'{key} {value.shape}' for key, value in arrays.items())}")


if __name__ == "__main__":
    main()
