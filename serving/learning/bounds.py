"""The bounds of what is remembered: how many answers, how long, how many bytes.

It knows nothing of what an answer is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from breadcrumbs.serving.state.segments import Segment

DAY = 86_400_000_000
"""Microseconds."""


@dataclass(frozen=True)
class Bounds:
    """What is remembered.

    Attributes:
        count: answers; 0 means none.
        days: how long.
        size: their bytes in the store.
        images: whether thumbnails are kept.
    """

    count: int
    days: float
    size: int
    images: bool


def beyond(segments: Sequence[Segment], bounds: Bounds, now: int) -> list[Segment]:
    """Return the segments to remove, the oldest first: too old, too many answers, or too many bytes.

    Args:
        segments: all of them, the oldest first.
        bounds: what may stay.
        now: microseconds since 1970.
    """
    count, size = sum(one.count for one in segments), sum(one.size for one in segments)
    most = bounds.count or count  # where nothing is remembered any more, what there is may grow old
    gone = []
    for one in segments:
        if one.last < now - bounds.days * DAY or count > most or size > bounds.size:
            gone.append(one)
            count, size = count - one.count, size - one.size
    return gone
