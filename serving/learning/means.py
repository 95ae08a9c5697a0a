"""Class means of what is labelled, and how far features are from the nearest of them.

It knows nothing of answers, or of what a distance is good for.

Letters: N features, C classes, D feature dimensions.
"""

import asyncio
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.serving.learning.examples import Examples, Sums

Means = NDArray[np.float64]
"""(C, D)."""
TOGETHER = 256
"""Features that are compared at a time, which bounds the memory."""


async def means(examples: Examples, bundle: Bundle) -> Means | None:
    """Return the means of the bundle's rows and the examples of its space together. None means that there are none.

    Raises:
        StoreError: the examples cannot be read.
    """
    rows = await asyncio.to_thread(_of_bundle, bundle)
    given = await examples.sums(bundle.backbone_digest)
    return await asyncio.to_thread(_joined, rows, given)


@lru_cache(maxsize=1)
def _of_bundle(bundle: Bundle) -> Sums:
    """Of the newest snapshot in the bundle that its own backbone made."""
    for snapshot in bundle.snapshots():
        if snapshot.backbone == bundle.backbone_digest:
            order = np.argsort(snapshot.labels, kind="stable")
            order = order[snapshot.labels[order] >= 0]
            labels, starts, counts = np.unique(snapshot.labels[order], return_index=True, return_counts=True)
            totals = np.add.reduceat(snapshot.features[order], starts, axis=0, dtype=np.float64)
            rows = zip(labels.tolist(), totals, counts.tolist(), strict=True)
            return {snapshot.classes[label]: (total, count) for label, total, count in rows}
    return {}


def _joined(first: Sums, second: Sums) -> Means | None:
    found = dict(first)
    for name, (total, count) in second.items():
        own, rows = found.get(name, (np.zeros(len(total)), 0))
        found[name] = (own + total, rows + count)
    return np.stack([total / count for total, count in found.values()]) if found else None


def distances(features: NDArray[np.floating], means: Means) -> NDArray[np.float64]:
    """Return the distance of each feature (N, D) to the nearest mean (C, D), as (N,)."""
    lengths = (means**2).sum(1)  # (C,)
    found = np.empty(len(features))
    for start in range(0, len(features), TOGETHER):
        some = features[start : start + TOGETHER].astype(np.float64)
        # ‖z − m‖² = ‖z‖² − 2 z·m + ‖m‖², which may be a little below 0
        squares = (some**2).sum(1)[:, None] - 2 * some @ means.T + lengths
        found[start : start + TOGETHER] = np.sqrt(squares.min(1).clip(0))
    return found
