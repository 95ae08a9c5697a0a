"""Images to features by an opened backbone, each image once, however often the command is called.

Threads read, decode and resize the next images while ONNX Runtime computes. What is computed goes into the cache every
few seconds, so a command that was stopped goes on where it was. It knows nothing of labels or heads.

Letters: N images, D feature dimensions.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import numpy as np

from breadcrumbs.models import machine
from breadcrumbs.models.arrays import Floats, Pixels
from breadcrumbs.models.images.preprocess import Preprocess
from breadcrumbs.training.adopt.cache import Cache, Digest
from breadcrumbs.training.adopt.opened import AdoptError, Opened
from breadcrumbs.training.config import TrainConfig
from breadcrumbs.training.data.loader import augmented_batches
from breadcrumbs.training.data.split import Split
from breadcrumbs.training.export import open_session
from breadcrumbs.training.terminal.bars import track

AHEAD = 64  # images that are read while others are computed

Read = tuple[Digest, Pixels | None]
"""An image's digest, and its pixels (H, W, 3) unless its feature is known."""


class Extractor:
    """Computes the features of images, or finds them in the cache.

    Args:
        opened: the backbone.
        cache: folder of the caches of all backbones.
        batch_size: images in one pass through the backbone.
    """

    def __init__(self, opened: Opened, cache: Path, batch_size: int) -> None:
        self._opened, self._folder, self._batch_size = opened, cache, batch_size
        self._session = open_session(opened.model)
        self.computed = 0
        """Features that were not in the cache."""

    def clean(self, split: Split, title: str) -> tuple[Floats, list[Digest]]:
        """Return the features (N, D) of a split's images as the server computes them, and each image's digest.

        Raises:
            DataError: an image cannot be read.
            AdoptError: a feature is not finite.
        """
        digests: list[Digest] = []
        rows: list[int] = []
        pixels: list[Pixels] = []
        with self._cache("clean") as cache:
            read = _read_ahead(split, self._opened.preprocess, cache)
            for row, (digest, image) in enumerate(track(read, len(split), title)):
                digests.append(digest)
                if image is not None:
                    rows.append(row)
                    pixels.append(image)
                if pixels and (len(pixels) == self._batch_size or row == len(split) - 1):
                    cache.add([digests[own] for own in rows], self._features(np.stack(pixels), split, rows))
                    rows, pixels = [], []
            return cache.read(digests), digests

    def augmented(self, split: Split, digests: Sequence[Digest], config: TrainConfig, look: int) -> Floats:
        """Return the features (N, D) of a split's images, augmented as a configuration says, anew for every look.

        Raises:
            DataError, AdoptError: as `clean`.
        """
        with self._cache(f"{config.augmentation}, seed {config.seed}, look {look}") as cache:
            missing = np.array([row for row, digest in enumerate(digests) if digest not in cache], np.int64)
            batches = augmented_batches(
                split.take(missing), config, look, self._opened.preprocess.interpolation, self._batch_size
            )
            for images, _, places in track(batches, len(batches), f"look {look} of the training images"):
                rows = missing[places.numpy()].tolist()
                cache.add([digests[own] for own in rows], self._features(images.numpy(), split, rows))
            return cache.read(digests)

    def _cache(self, look: str) -> Cache:
        """The cache of what backbone, preprocessing and look make of an image."""
        preprocess = self._opened.preprocess.model_dump_json(exclude={"source"})
        space = sha256(f"{self._opened.digest}\n{preprocess}\n{look}".encode()).hexdigest()
        return Cache(self._folder / space[:32], self._opened.feature_dim)

    def _features(self, pixels: Pixels, split: Split, rows: Sequence[int]) -> Floats:
        made: Floats = self._session.run(None, {"image": pixels})[0]
        self.computed += len(made)
        bad = np.flatnonzero(~np.isfinite(made).all(1))
        if len(bad):
            raise AdoptError(
                f"{split.name(rows[bad[0]])}: the backbone's feature is not finite; leave the image out, or check the "
                "backbone in the library that made it"
            )
        return made


def _read_ahead(split: Split, preprocess: Preprocess, cache: Cache) -> Iterator[Read]:
    """Yield the images in their order, read by as many threads as there are cores."""
    with ThreadPoolExecutor(machine.cores()) as pool:
        waiting: deque[Future[Read]] = deque()
        try:
            for row in range(len(split)):
                waiting.append(pool.submit(split.fitted_unless, row, preprocess, cache))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
