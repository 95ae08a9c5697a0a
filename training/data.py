"""Which images there are to train on and to test on, checked before anything starts.

Five sources: the embedded Fashion-MNIST-LT; a standard set in long-tailed form (`training.standard`); a folder with a
folder per class; a list file in the field's form (`path label`, one a line, labels from 0; paths may be URLs); shards
(`training.shards`). It knows nothing of batches, augmentation or torch.
"""

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from models.decoding import open_image
from models.image_errors import ImageError
from models.segments import has_end
from training import objects, shards, standard
from training.bars import track
from training.config import EMBEDDED, STANDARD, TrainConfig
from training.objects import Span
from training.split import Data, DataError, Split

__all__ = ["Data", "DataError", "Split", "images", "load"]

EMBEDDED_FILE = Path(__file__).with_name("embedded") / "fashion-mnist-lt.npz"
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
TEST_FOLDERS = ("test", "val", "validation")
SHOWN = 20  # problems named in one error


def load(config: TrainConfig, *, show: bool = True) -> Data:
    """Find the images that a configuration names, and check them all.

    Args:
        config: which images.
        show: show how far it is; of several processes one does.

    Raises:
        DataError: naming unreadable files, empty classes, labels out of range and paths that occur twice; or a setting
            that is not for this source.
    """
    if config.data in STANDARD:
        data = standard.load(config)
        _check(data, show=show)
        return data
    _refuse_settings_of_standard_sets(config)
    if config.data == EMBEDDED:
        return _embedded()
    source = Path(config.data)
    test = Path(config.test_data) if config.test_data else None
    if shards.are_shards(config.data):
        data = _from_shards(config, show=show)
    elif source.is_dir():
        data = _from_folder(source, test, config)
    elif source.is_file():
        data = _from_lists(source, test, config)
    else:
        known = ", ".join(f"'{name}'" for name in (EMBEDDED, *STANDARD))
        raise DataError(
            f"no data at {source}; expected {known}, a folder with a folder per class, or a list file; or "
            "shards as train-{000..011}.tar"
        )
    _check(data, show=show)
    return data


def images(config: TrainConfig) -> tuple[Split, tuple[str, ...]]:
    """Find all training images that a configuration names, nothing held out, and the names of their classes.

    Where the data has parts of its own, it is the part `train`. A class may be without images.

    Raises:
        DataError: as `load`.
    """
    source = Path(config.data)
    known = shards.are_shards(config.data) or source.exists()
    if config.data in (EMBEDDED, *STANDARD) or not known:
        data = load(config)  # which says what is wrong
        return data.train, data.classes
    _refuse_settings_of_standard_sets(config)
    if shards.are_shards(config.data):
        split, classes = _read_shards(config.data, shards.class_names(config.data))
    elif source.is_dir():
        root = _train_folder(source)
        classes = _class_names(root)
        split = _class_folders(root, classes)
    else:
        split, classes = _list_with_names(source, config)
    problems = _outside("the data", split, classes) + _duplicates([split]) + _unreadable(list(split.paths or ()))
    if len(split) == 0:
        problems.append(f"there is no image in {source}")
    _tell(problems)
    return split, classes


def _refuse_settings_of_standard_sets(config: TrainConfig) -> None:
    given = {"imbalance": config.imbalance, "largest": config.largest, "download": config.download or None}
    for name, value in given.items():
        if value is not None:
            raise DataError(f"--{name} is for {' and '.join(STANDARD)} only; --data is {config.data}")


def _embedded() -> Data:
    with np.load(EMBEDDED_FILE, allow_pickle=False) as file:
        train, test = (
            Split(file[f"{s}_labels"], file[f"{s}_ids"], pixels=file[f"{s}_images"]) for s in ("train", "test")
        )
        return Data(train, test, tuple(str(name) for name in file["classes"]))


def _from_folder(source: Path, test: Path | None, config: TrainConfig) -> Data:
    root = _train_folder(source)
    if test is None and root != source:
        test = next((source / name for name in TEST_FOLDERS if (source / name).is_dir()), None)
    classes = _class_names(root)
    train = _class_folders(root, classes)
    if test is None:
        return _hold_out(train, classes, config)
    if not test.is_dir():
        raise DataError(f"no test folder at {test}")
    extra = sorted(p.name for p in test.iterdir() if p.is_dir() and p.name not in classes)
    if extra:
        raise DataError(f"{test} has classes that {root} has not: {', '.join(extra[:SHOWN])}")
    return Data(train, _class_folders(test, classes), classes)


def _train_folder(source: Path) -> Path:
    return source / "train" if (source / "train").is_dir() else source


def _class_names(root: Path) -> tuple[str, ...]:
    return tuple(sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")))


def _class_folders(root: Path, classes: Sequence[str]) -> Split:
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        own = sorted(p for p in (root / name).rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
        paths += own
        labels += [label] * len(own)
    return _split(paths, labels)


def _from_shards(config: TrainConfig, *, show: bool) -> Data:
    train, classes = _read_shards(config.data, shards.class_names(config.data), show=show)
    if config.test_data is None:
        return _hold_out(train, classes, config)
    if not shards.are_shards(config.test_data):
        raise DataError(f"--test-data {config.test_data}: --data names shards, so expected shards")
    return Data(train, _read_shards(config.test_data, classes, show=show)[0], classes)


def _read_shards(pattern: str, classes: Sequence[str] | None, *, show: bool = True) -> tuple[Split, tuple[str, ...]]:
    """The samples class by class, as folders have them."""
    samples = shards.index(pattern, show=show)
    labels, names = shards.labelled(samples, classes)
    order = np.argsort(np.array(labels, np.int64), kind="stable")
    return _split([samples[row].span for row in order], [labels[row] for row in order]), names


def _from_lists(source: Path, test: Path | None, config: TrainConfig) -> Data:
    train, classes = _list_with_names(source, config)
    if test is None:
        return _hold_out(train, classes, config)
    return Data(train, _read_list(test, config.images or source.parent), classes)


def _list_with_names(source: Path, config: TrainConfig) -> tuple[Split, tuple[str, ...]]:
    train = _read_list(source, config.images or source.parent)
    names = source.parent / "classnames.txt"
    # More classes than images cannot be: a label beyond that is a problem to be named, not a number of classes.
    largest = min(int(train.labels.max(initial=-1)), len(train) - 1)
    classes = (
        tuple(line.strip() for line in _lines(names) if line.strip())
        if names.is_file()
        else tuple(str(label) for label in range(largest + 1))
    )
    return train, classes


def _read_list(file: Path, root: Path) -> Split:
    if not file.is_file():
        raise DataError(f"no list file at {file}")
    paths: list[Path | Span] = []
    labels: list[int] = []
    for number, line in enumerate(_lines(file), 1):
        if not line.strip():
            continue
        path, _, label = line.strip().rpartition(" ")
        if not path or not re.fullmatch("-?[0-9]{1,9}", label):
            raise DataError(f"{file}:{number}: expected 'path label', got {line!r:.120}")
        paths.append(Span(path) if objects.is_url(path) else root / path)
        labels.append(int(label))
    return _split(paths, labels)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except ValueError as error:
        raise DataError(f"{file} is not a list file: it is not text in UTF-8") from error


def _split(paths: Sequence[Path | Span], labels: list[int]) -> Split:
    return Split(np.array(labels, np.int64), np.arange(len(paths)), paths=tuple(paths))


def _hold_out(everything: Split, classes: tuple[str, ...], config: TrainConfig) -> Data:
    """Hold out a seeded share of each class; a class with one image keeps it for training."""
    rng = np.random.default_rng(config.seed)
    held = np.zeros(len(everything), bool)
    for label in range(len(classes)):
        own = rng.permutation(np.flatnonzero(everything.labels == label))
        count = max(1, round(config.holdout * len(own))) if len(own) > 1 else 0
        held[own[:count]] = True
    return Data(everything.take(np.flatnonzero(~held)), everything.take(np.flatnonzero(held)), classes)


def _check(data: Data, *, show: bool) -> None:
    problems: list[str] = []
    for name, split in (("train", data.train), ("test", data.test)):
        problems += _outside(name, split, data.classes)
    present = set(data.train.labels.tolist())
    problems += [f"class '{c}' has no training image" for i, c in enumerate(data.classes) if i not in present]
    if len(data.test) == 0:
        problems.append("there is no test image; name some with --test-data")
    problems += _duplicates([data.train, data.test])
    problems += _unreadable([*(data.train.paths or ()), *(data.test.paths or ())], show=show)
    _tell(problems)


def _tell(problems: Sequence[str]) -> None:
    if problems:
        more = f"\n… and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise DataError(f"{len(problems)} problems in the data:\n" + "\n".join(problems[:SHOWN]) + more)


def _outside(name: str, split: Split, classes: Sequence[str]) -> list[str]:
    outside = np.flatnonzero((split.labels < 0) | (split.labels >= len(classes)))
    return [
        f"{split.name(int(r))}: label {split.labels[r]} in {name}, expected 0 … {len(classes) - 1}" for r in outside
    ]


def _duplicates(splits: Sequence[Split]) -> list[str]:
    seen = set[str]()
    problems = []
    for path in [path for split in splits for path in split.paths or ()]:
        plain = os.path.normpath(str(path))
        if plain in seen:
            problems.append(f"{path}: listed twice")
        seen.add(plain)
    return problems


def _unreadable(paths: Sequence[Path | Span], *, show: bool = True) -> list[str]:
    with ThreadPoolExecutor() as pool:
        defects = track(pool.map(_defect, paths), len(paths), "images checked", show=show)
        return [f"{path}: {defect}" for path, defect in zip(paths, defects, strict=True) if defect]


def _defect(path: Path | Span) -> str | None:
    """What is wrong with a file, from its header and, for JPEG, its end: cheap enough for millions.

    Of an object in a bucket it is looked up that it is there; of a shard's member there, the index says so already.
    """
    try:
        if isinstance(path, Span) and path.remote:
            return None if path.member or objects.size(path.place) else "it has no bytes"
        with path.open("rb") as file:
            with open_image(file) as image:
                jpeg = image.format == "JPEG"
            if jpeg:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 1024))
                ends = b"\xff\xd9" in file.read()
                if not ends and not file.seek(0) and not has_end(file.read()):  # a phone's video may follow the picture
                    return "cut short: the JPEG has no end marker"
    except ImageError as error:
        return str(error)
    except OSError as error:
        return str(error.strerror or error)
    return None
