"""How well features are known, by the points that each head carries.

The points of a head are stored with it and never change, so they are read once, by the version that has answered: an
answer has the points of its own head, whatever goes live meanwhile. It knows nothing of HTTP.

Letters: N features, D feature dimensions.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.known import Known
from breadcrumbs.serving.state import heads
from breadcrumbs.serving.state.store import Conflict, Store

CACHE = 4
"""Heads whose points are in memory; each takes 18 MiB at most."""


class KnownHeads:
    """The points of the heads in a store.

    Args:
        store: where the heads are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._points: OrderedDict[int, Known | None] = OrderedDict()

    async def of(self, version: int, features: Sequence[Floats]) -> list[float]:
        """Return how well features, (D,) each, are known to a head, 0 … 1.

        Raises:
            Conflict: the head carries no points.
            StoreError: it is gone or damaged.
        """
        points = await self._of(version)
        if points is None:
            raise Conflict(
                f"head {version} carries no points to tell what is known by, as heads do that were made before this "
                "version or from too few rows; leave `known` out, or refit"
            )
        return await asyncio.to_thread(lambda: points.of(np.stack(features)))

    async def _of(self, version: int) -> Known | None:
        if version not in self._points:
            self._points[version] = await heads.read_known(self._store, version)
        self._points.move_to_end(version)
        found = self._points[version]
        if len(self._points) > CACHE:
            self._points.popitem(last=False)
        return found
