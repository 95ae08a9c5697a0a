"""Remembers the answers of a request, where the server does that.

It knows nothing of bodies, or of where answers are kept.
"""

import asyncio
import hashlib
from collections.abc import Sequence

import numpy as np
from fastapi import Request

from breadcrumbs.models.arrays import Floats, Pixels
from breadcrumbs.serving.http.access_control import key_of
from breadcrumbs.serving.http.service import Service
from breadcrumbs.serving.learning.answer import Kind, Origin
from breadcrumbs.serving.predict.inference import Outcome

Came = Sequence[bytes] | Pixels | Floats
"""The images of a request as files or as pixels (N, H, W, 3), or features (N, D)."""
SMALL = 2**17
"""Bytes that are hashed at once; more are hashed in a thread, so that no other request waits."""


async def remember(request: Request, service: Service, came: Came, outcome: Outcome, ref: str = "") -> list[str | None]:
    """Remember a request's answers and return their ids, in order. The list is empty if none are remembered.

    Args:
        request: whose key owns the answers.
        service: that answers.
        came: what the answers are about.
        outcome: their scores.
        ref: the sender's own name for it.
    """
    if not service.answers.on:
        return []
    if sum(map(_size, came)) > SMALL:
        contents = await asyncio.to_thread(lambda: [content_of(one) for one in came])
    else:
        contents = [content_of(one) for one in came]
    key = key_of(request)
    owner = None if key is None else key.name
    kind: Kind = "feature" if isinstance(came, np.ndarray) and came.dtype != np.uint8 else "image"
    found = []
    for one, scores, content in zip(came, outcome.scores, contents, strict=True):
        origin = Origin(kind, content, service.bundle.backbone_digest, owner, ref)
        kept = service.answers.remember(scores, origin, None if kind == "feature" else one)
        service.metrics.remembered.labels("no" if kept is None else "yes").inc()
        found.append(kept)
    return found


def content_of(one: bytes | Pixels | Floats) -> str:
    """Return the sha256 of an image file's bytes, of pixels, or of a feature as float32."""
    if isinstance(one, bytes):
        return hashlib.sha256(one).hexdigest()
    return hashlib.sha256(np.ascontiguousarray(one).tobytes()).hexdigest()


def _size(one: bytes | Pixels | Floats) -> int:
    return len(one) if isinstance(one, bytes) else one.nbytes
