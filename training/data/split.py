"""Labelled images, in memory, on disk or in a bucket, and the two parts of them that a run needs.

It knows nothing of where they come from: folders, list files and standard sets are `training.data.dataset`'s.
"""

import hashlib
from collections.abc import Callable, Container
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.models.arrays import Pixels
from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.models.images.decoding import MAX_PIXELS, decode
from breadcrumbs.models.images.errors import ImageError
from breadcrumbs.models.images.preprocess import Preprocess, fit, load
from breadcrumbs.training.data.objects import Span

Integers = NDArray[np.int64]
Made = TypeVar("Made")  # the generic syntax needs Python 3.12


class DataError(BreadcrumbsError):
    """Images or labels that cannot be trained on; every problem found is named, up to a limit."""


@dataclass(frozen=True, eq=False)
class Split:
    """Labelled images, in memory, on disk or in a bucket.

    Attributes:
        labels: int64 (N,).
        ids: int64 (N,), the same for the same image in every run on the same data.
        pixels: uint8 (N, rows, columns) or (N, rows, columns, 3); or
        paths: N files, or as many spans of archives and objects.
        max_pixels: of one image.
        dataset: sha256 of the set that the ids number (`training.data.image_set`), of which this may be a part; empty:
            unknown.
    """

    labels: Integers
    ids: Integers
    pixels: Pixels | None = None
    paths: tuple[Path | Span, ...] | None = None
    max_pixels: int = MAX_PIXELS
    dataset: str = ""

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, row: int) -> Pixels:
        """Return one image as uint8 (rows, columns, 3).

        Raises:
            DataError: the file can no longer be read.
        """
        if self.pixels is not None:
            pixels = self.pixels[row]
            return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)
        return self._read(row, partial(decode, max_pixels=self.max_pixels))

    def fitted(self, row: int, preprocess: Preprocess) -> Pixels:
        """Return one image as the server gives it to the network: uint8 (height, width, 3); raises as `image`."""
        if self.pixels is not None:
            return fit(self.image(row), preprocess)
        return self._read(row, partial(load, preprocess=preprocess, max_pixels=self.max_pixels))

    def fitted_unless(self, row: int, preprocess: Preprocess, known: Container[bytes]) -> tuple[bytes, Pixels | None]:
        """Return the 16 bytes that name an image's content, and the image as `fitted` does unless they are known.

        The image is read once. Raises as `image`.
        """
        if self.pixels is not None:
            pixels = np.ascontiguousarray(self.pixels[row])
            name = _digest(repr(pixels.shape).encode() + pixels.tobytes())
            return name, None if name in known else self.fitted(row, preprocess)

        def read(data: bytes) -> tuple[bytes, Pixels | None]:
            name = _digest(data)
            return name, None if name in known else load(data, preprocess, self.max_pixels)

        return self._read(row, read)

    def _read(self, row: int, read: Callable[[bytes], Made]) -> Made:
        path = (self.paths or ())[row]
        try:
            return read(path.read_bytes())
        except (OSError, ImageError) as error:
            raise DataError(f"{path}: {error}") from error

    @property
    def remote(self) -> bool:
        """Whether some images are read over the network."""
        return any(isinstance(path, Span) and path.remote for path in self.paths or ())

    def name(self, row: int) -> str:
        """An image's name in messages: its file, or its id."""
        return str(self.paths[row]) if self.paths else f"image {self.ids[row]}"

    def take(self, rows: Integers) -> "Split":
        """The split with some of its rows."""
        pixels = None if self.pixels is None else self.pixels[rows]
        paths = None if self.paths is None else tuple(self.paths[int(r)] for r in rows)
        return replace(self, labels=self.labels[rows], ids=self.ids[rows], pixels=pixels, paths=paths)


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


@dataclass(frozen=True, eq=False)
class Data:
    """What a run trains on and is tested on."""

    train: Split
    test: Split
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """Notes, a sentence each: unused files, pictures that occur twice."""
    taxonomy: bytes | None = None
    """`taxonomy.csv`, with a place for every class; None: there is none."""

    @property
    def train_counts(self) -> Integers:
        """Training images of each class, int64 (C,)."""
        return np.bincount(self.train.labels, minlength=len(self.classes)).astype(np.int64)

    def as_dict(self) -> dict[str, Any]:
        """How many images there are, in all and of each class, and the notes, as JSON's own types."""
        test = np.bincount(self.test.labels, minlength=len(self.classes))
        counts = zip(self.classes, self.train_counts.tolist(), test.tolist(), strict=True)
        return {
            "train_images": len(self.train),
            "test_images": len(self.test),
            "classes": [{"class": name, "train_images": own, "test_images": tested} for name, own, tested in counts],
            "notes": list(self.notes),
        }
