"""Make `fashion-mnist-lt.npz` out of Fashion-MNIST's idx files, the same bytes every time.

    apt-get download dataset-fashion-mnist && dpkg -x dataset-fashion-mnist_*.deb unpacked
    python training/data/embedded/build.py unpacked/usr/share/datasets/fashion-mnist

Training images: n_c = round(1000 · 100^(−c/9)) of class c, from 1000 of class 0 down to 10 of class 9, drawn from the
60,000 training images with seed 0. Test images: 200 of each class, drawn from the 10,000 test images. Each image
keeps its index in the original file as its id. Fashion-MNIST is by Zalando SE, MIT licence: see LICENSE.fashion-mnist.
"""

import gzip
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot")
TEST_IMAGES = 200
TARGET = Path(__file__).with_name("fashion-mnist-lt.npz")


def train_count(label: int) -> int:
    """Training images of a class: 1000 · 100^(−label/9), rounded."""
    share: float = 100 ** (-label / 9)
    return round(1000 * share)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read a gzipped idx file of unsigned bytes."""
    raw = gzip.decompress(path.read_bytes())
    rank = raw[3]
    shape = tuple(int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(rank))
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)


def draw(labels: NDArray[np.uint8], counts: list[int], rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw `counts[c]` indices of each class c, sorted by index so that classes are mixed as in the original."""
    chosen = [rng.choice(np.flatnonzero(labels == c), n, replace=False) for c, n in enumerate(counts)]
    return np.sort(np.concatenate(chosen))


def main(folder: Path) -> None:
    """Write the file."""
    rng = np.random.default_rng(0)
    arrays: dict[str, NDArray[np.generic]] = {"classes": np.array(CLASSES)}
    for split, stem, counts in (
        ("train", "train", [train_count(c) for c in range(10)]),
        ("test", "t10k", [TEST_IMAGES] * 10),
    ):
        labels = read_idx(folder / f"{stem}-labels-idx1-ubyte.gz")
        ids = draw(labels, counts, rng)
        arrays[f"{split}_images"] = read_idx(folder / f"{stem}-images-idx3-ubyte.gz")[ids]
        arrays[f"{split}_labels"] = labels[ids].astype(np.int64)
        arrays[f"{split}_ids"] = ids
    with zipfile.ZipFile(TARGET, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            buffer = BytesIO()
            np.save(buffer, array, allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", (2020, 1, 1, 0, 0, 0))  # a fixed date: the same bytes every time
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, buffer.getvalue())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
