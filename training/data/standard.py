"""The field's standard sets in long-tailed form: Fashion-MNIST and CIFAR-100, read from their own files.

The profile is that of LDAM (Cao et al., NeurIPS 2019): n_c = int(n_max · μ^(c / (C − 1))) images of class c, with
μ = 1 / imbalance, over the classes in the order of their index. The test set stays whole. Files are read without
pickle, bounded and checked, except CIFAR-100's Python form, whose md5 torchvision checks before it unpickles.
It knows nothing of folders of images, of list files or of augmentation.
"""

import gzip
import socket
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.training.config import TrainConfig
from breadcrumbs.training.data import image_set
from breadcrumbs.training.data.split import Data, DataError, Split

FASHION_CLASSES = (
    *("t-shirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle-boot"),
)
IDX_FILES = (
    *("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    *("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
)
RECORD = 2 + 3 * 32 * 32  # of CIFAR-100's binary form: coarse label, fine label, three planes
MAX_IMAGES = 100_000  # a file
MAX_NAMES = 10_000  # bytes of fine_label_names.txt
TIMEOUT = 30  # seconds without an answer of the server

FILES = {
    "fashion-mnist": (
        "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, each "
        "plain or .gz, in it or in its FashionMNIST/raw (Debian's package dataset-fashion-mnist puts them in "
        "/usr/share/datasets/fashion-mnist)"
    ),
    "cifar100": (
        "cifar-100-binary/{train.bin, test.bin, fine_label_names.txt} or cifar-100-python/{train, test, meta}, as "
        "cifar-100-binary.tar.gz and cifar-100-python.tar.gz unpack"
    ),
}

Bytes = NDArray[np.uint8]


def download(name: str, root: Path) -> None:
    """Fetch a standard set into a folder, in torchvision's layout, every file checked by md5.

    Raises:
        DataError: the network, the server or the disk failed.
    """
    from torchvision import datasets

    kind = {"fashion-mnist": datasets.FashionMNIST, "cifar100": datasets.CIFAR100}[name]
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        kind(root, download=True)
    except (OSError, RuntimeError, EOFError, HTTPException, tarfile.TarError, zlib.error) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"cannot download {name} ({reason}); put into {root} by hand: {FILES[name]}") from error
    finally:
        socket.setdefaulttimeout(before)


def load(config: TrainConfig, fetch: Callable[[str, Path], None] = download) -> Data:
    """Read the standard set that a configuration names, and draw its long tail with the seed.

    Args:
        config: its `data` is one of STANDARD.
        fetch: puts a set's files into a folder; called if `download` is on and they are not there.

    Raises:
        DataError: a file is absent or not what it should be; or the profile asks for more images than there are.
    """
    name, root = config.data, config.images
    if config.test_data is not None:
        raise DataError(f"{name} has a test set of its own: --test-data is not for it, got {config.test_data}")
    if root is None:
        raise DataError(f"{name} needs --images, the folder of its files; with --download they are put there")
    read = {"fashion-mnist": _fashion_mnist, "cifar100": _cifar100}[name]
    data = read(root)
    if data is None and config.download:
        fetch(name, root)
        data = read(root)
    if data is None:
        raise DataError(f"no {name} in {root}: put {FILES[name]} there, or pass --download")
    whole = replace(data.train, dataset=image_set.digest(data.train))  # whatever tail is drawn, its ids are of this set
    return Data(_long_tailed(replace(data, train=whole), config), data.test, data.classes)


def profile(largest: int, classes: int, imbalance: float) -> list[int]:
    """Return the images of each class, n_c = int(n_max · μ^(c / (C − 1)))."""
    share = 1 / imbalance  # μ
    return [int(largest * share ** (c / (classes - 1))) for c in range(classes)]


def _long_tailed(data: Data, config: TrainConfig) -> Split:
    if config.imbalance is None and config.largest is None:
        return data.train
    there = data.train_counts
    largest = int(there[0]) if config.largest is None else config.largest
    asked = f"--imbalance {config.imbalance or 1:g} with {largest} images of the largest class"
    rng = np.random.default_rng(config.seed)
    rows = []
    for label, count in enumerate(profile(largest, len(data.classes), config.imbalance or 1)):
        own = np.flatnonzero(data.train.labels == label)
        if not 1 <= count <= len(own):
            name = data.classes[label]
            raise DataError(f"{asked}: class '{name}' would have {count}, expected 1 … {len(own)}, the images it has")
        rows.append(rng.choice(own, count, replace=False))
    return data.train.take(np.sort(np.concatenate(rows)))


def _fashion_mnist(root: Path) -> Data | None:
    found: dict[str, Path] = {}
    for folder in (root, root / "FashionMNIST" / "raw"):
        for path in (folder / (stem + end) for stem in IDX_FILES for end in ("", ".gz")):
            if path.is_file():
                found.setdefault(path.name.removesuffix(".gz"), path)
    if len(found) < len(IDX_FILES):
        return None
    train, test = (
        _idx_split(found[f"{part}-images-idx3-ubyte"], found[f"{part}-labels-idx1-ubyte"]) for part in ("train", "t10k")
    )
    return Data(train, test, FASHION_CLASSES)


def _idx_split(images: Path, labels: Path) -> Split:
    pixels, classes = _read_idx(images, 28, 28), _read_idx(labels)
    if len(classes) != len(pixels):
        raise DataError(
            f"{labels}: expected {len(pixels)} labels, one for each image of {images.name}, got {len(classes)}"
        )
    return _in_memory(labels, pixels, classes, len(FASHION_CLASSES))


def _read_idx(path: Path, *inner: int) -> Bytes:
    """Read an idx file of unsigned bytes, plain or gzipped: an array (N, *inner)."""
    rank = 1 + len(inner)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            head = file.read(4 + 4 * rank)
            if head[:4] != bytes([0, 0, 8, rank]):
                raise DataError(
                    f"{path}: not this idx file: expected magic 0000080{rank}, got {head[:4].hex() or 'nothing'}"
                )
            if len(head) < 4 + 4 * rank:
                raise DataError(f"{path}: cut short: expected a header of {4 + 4 * rank} bytes, got {len(head)}")
            shape = tuple(int(n) for n in np.frombuffer(head, ">u4", offset=4))
            if shape[1:] != inner or shape[0] > MAX_IMAGES:
                due = ", ".join(str(n) for n in (f"≤ {MAX_IMAGES}", *inner))
                raise DataError(f"{path}: expected shape ({due}), got {shape}")
            size = int(np.prod(shape))
            body = file.read(size + 1)  # one byte more than expected shows that the file is too long
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if len(body) != size:
        got = "more" if len(body) > size else str(len(body))
        raise DataError(f"{path}: expected {size} bytes after the header, for shape {shape}, got {got}")
    return np.frombuffer(bytearray(body), np.uint8).reshape(shape)


def _cifar100(root: Path) -> Data | None:
    folder = root / "cifar-100-binary"
    train, test, names = (folder / name for name in ("train.bin", "test.bin", "fine_label_names.txt"))
    if train.is_file() and test.is_file() and names.is_file():
        return Data(_read_records(train), _read_records(test), _read_names(names))
    if all((root / "cifar-100-python" / name).is_file() for name in ("train", "test", "meta")):
        from torchvision.datasets import CIFAR100

        return _from_pickles(root, CIFAR100)
    return None


def _read_records(path: Path) -> Split:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_IMAGES * RECORD + 1)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if len(raw) % RECORD:
        got = f"more than {MAX_IMAGES} of them" if len(raw) > MAX_IMAGES * RECORD else f"{len(raw)} bytes"
        raise DataError(f"{path}: expected whole records of {RECORD} bytes, at most {MAX_IMAGES}, got {got}")
    records = np.frombuffer(raw, np.uint8).reshape(-1, RECORD)
    planes = records[:, 2:].reshape(-1, 3, 32, 32)
    return _in_memory(path, np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), records[:, 1], 100)


def _read_names(path: Path) -> tuple[str, ...]:
    try:
        with path.open("rb") as file:
            names = tuple(file.read(MAX_NAMES).decode().split())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if len(set(names)) != 100 or len(names) != 100:
        raise DataError(f"{path}: expected 100 different names, got {len(names)} with {len(set(names))} different")
    return names


def _from_pickles(root: Path, kind: Any) -> Data:
    """Read CIFAR-100's Python form through torchvision's class, which checks each file's md5 before it unpickles it."""
    folder = root / kind.base_folder
    try:
        train, test = kind(root, train=True), kind(root, train=False)
    except RuntimeError as error:
        raise DataError(f"{folder}: train, test or meta is not CIFAR-100's own file: its md5 differs") from error
    splits = [_in_memory(folder, part.data, np.asarray(part.targets), len(train.classes)) for part in (train, test)]
    return Data(splits[0], splits[1], tuple(train.classes))


def _in_memory(path: Path, pixels: Bytes, labels: NDArray[Any], classes: int) -> Split:
    outside = np.flatnonzero(labels >= classes)
    if len(outside):
        row = int(outside[0])
        raise DataError(f"{path}: label {labels[row]} of image {row}, expected 0 … {classes - 1}")
    return Split(labels.astype(np.int64), np.arange(len(labels)), pixels=pixels)
