"""Pairs in the store: written a few at a time under names that nobody else has, and counted by their names.

Several servers and workers may write. It knows nothing of how pairs are made or used.
"""

import asyncio
import secrets
from collections.abc import Sequence

import numpy as np

from breadcrumbs.models import collected_pairs
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.snapshot import UNLABELLED, Snapshot
from breadcrumbs.serving.predict.pairing import Pair
from breadcrumbs.serving.state.store import Store


class Pairs:
    """The pairs of two backbones.

    Args:
        store: where they are.
        old, new: digests of the backbone that serves and of the other one.
        classes: of the bundle that serves; the rows have no labels.
    """

    def __init__(self, store: Store, old: str, new: str, classes: tuple[str, ...]) -> None:
        self._store, self._old, self._new, self._classes = store, old, new, classes

    async def count(self) -> int:
        """Return how many there are."""
        return collected_pairs.counted(await self._store.names(collected_pairs.folder(self._old, self._new)))

    async def add(self, pairs: Sequence[Pair]) -> int:
        """Write some, and return how many there are now.

        Raises:
            StoreFull: there is no room.
            StoreError: the store cannot be written.
        """
        looks = await asyncio.to_thread(self._looks, pairs)
        await self._store.check_room(sum(map(len, looks)))
        named = collected_pairs.names(self._old, self._new, len(pairs), secrets.token_hex(8))
        for name, data in zip(named, looks, strict=True):  # the new backbone's last: then both are there
            await self._store.create(name, data)
        return await self.count()

    def _looks(self, pairs: Sequence[Pair]) -> tuple[bytes, bytes]:
        """Both snapshots' files: the same ids, of one set of images."""
        ids = np.array([pair.id for pair in pairs], np.int64)
        labels = np.full(len(pairs), UNLABELLED, np.int64)
        dataset = collected_pairs.dataset(self._old, self._new)
        old, new = (
            snapshots.to_bytes(Snapshot(features, labels, self._classes, digest, 1, ids=ids, dataset=dataset))
            for features, digest in (
                (np.stack([pair.old for pair in pairs]), self._old),
                (np.stack([pair.new for pair in pairs]), self._new),
            )
        )
        return old, new
