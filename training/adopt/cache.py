"""Features that were computed once: a folder for each feature space, in which a feature is found by its image's digest.

    FOLDER/SPACE/SEGMENT.npy    rows of (digest, feature), written whole

What is damaged or missing is computed again, so the folder may be deleted at any time, and several processes may write
to it. It knows nothing of images or of backbones.
"""

import logging
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import platformdirs
from numpy.typing import NDArray

from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.files import writing_whole

LOG = logging.getLogger("breadcrumbs.adopt")

DIGEST = 16  # bytes
SECONDS = 10.0  # between two writes

Digest = bytes
"""16 bytes that name an image's content."""


def default_folder() -> Path:
    """Return the place of features among the user's caches."""
    return platformdirs.user_cache_path("breadcrumbs") / "features"


class Cache:
    """The features of one space.

    Args:
        folder: of the space.
        feature_dim: D.
    """

    def __init__(self, folder: Path, feature_dim: int) -> None:
        self._folder = folder
        self._type = np.dtype([("digest", f"V{DIGEST}"), ("feature", "<f4", (feature_dim,))])
        self._place: dict[Digest, tuple[NDArray[Any], int]] = {}
        self._fresh: dict[Digest, Floats] = {}
        self._written = time.monotonic()
        for path in sorted(folder.glob("*.npy")):
            self._open(path)

    def __contains__(self, digest: object) -> bool:
        return digest in self._place or digest in self._fresh

    def read(self, digests: Sequence[Digest]) -> Floats:
        """Return the features f32 (N, D) of images that are all known."""
        found = np.empty((len(digests), self._type["feature"].shape[0]), np.float32)
        for row, digest in enumerate(digests):
            if digest in self._fresh:
                found[row] = self._fresh[digest]
            else:
                segment, place = self._place[digest]
                found[row] = segment["feature"][place]
        return found

    def add(self, digests: Sequence[Digest], features: Floats) -> None:
        """Keep the features f32 (N, D) of images; they are on disk within `SECONDS`, or when the cache is left.

        Raises:
            OSError: the disk is full, or the folder cannot be written to.
        """
        self._fresh |= zip(digests, features, strict=True)
        if time.monotonic() > self._written + SECONDS:
            self._flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()

    def _flush(self) -> None:
        """Write what is new as one segment."""
        self._written = time.monotonic()
        if not self._fresh:
            return
        rows = np.empty(len(self._fresh), self._type)
        for row, (digest, feature) in enumerate(self._fresh.items()):
            rows[row] = np.void(digest), feature
        path = self._folder / f"{secrets.token_hex(8)}.npy"
        with writing_whole(path) as file:
            np.save(file, rows, allow_pickle=False)
        self._fresh = {}
        self._open(path)

    def _open(self, path: Path) -> None:
        try:
            segment = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            LOG.warning("the cached features in %s cannot be read (%s); they are computed again", path, error)
            return
        if segment.dtype == self._type and segment.ndim == 1:
            self._place |= {bytes(digest): (segment, row) for row, digest in enumerate(segment["digest"])}
        else:
            LOG.warning("%s holds no features of %d dimensions; it is not used", path, self._type["feature"].shape[0])
