"""A share of the images that are answered, also through a second backbone: pairs for a later migration.

An answer never waits for this: what is drawn goes into a short queue, and is dropped where that is full. One thread of
the lowest priority decodes and computes. Only features are kept. It knows nothing of HTTP or of where pairs are kept.

Letters: P pairs, D dimensions of the second backbone.
"""

import asyncio
import contextlib
import logging
import os
import random
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.collected_pairs import image_id
from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.models.images.budget import Budget
from breadcrumbs.models.images.errors import ImageError
from breadcrumbs.models.images.preprocess import load
from breadcrumbs.serving.predict import devices
from breadcrumbs.serving.predict.devices import EngineError
from breadcrumbs.serving.predict.engine import Scores

LOG = logging.getLogger("breadcrumbs.pairs")

WAITING = 4
"""Images that wait at most; more are dropped."""
TOGETHER = 50
"""Pairs that are written at once."""
DECODING = 256 * 2**20
"""Memory for decoding one image, in bytes; a larger one is dropped."""
NICEST = 19


@dataclass(frozen=True, eq=False)
class Pair:
    """One image under both backbones: its id, the feature (D',) that answered, and the other one (D,)."""

    id: int
    old: Floats
    new: Floats


Keep = Callable[[Sequence[Pair]], Awaitable[int]]
"""Writes some pairs, and returns how many there are now, of all servers."""


class SecondBackbone:
    """The backbone of another bundle, on one thread of the CPU.

    Args:
        bundle: has it.
        max_pixels: of one image.

    Raises:
        BundleError: it has no backbone.
        EngineError: its backbone does not run.
    """

    def __init__(self, bundle: Bundle, max_pixels: int) -> None:
        self._transform, self._max_pixels = bundle.preprocess, max_pixels
        self._budget = Budget(DECODING)
        self._session = devices.session(bundle.backbone_path(), "cpu", 1)
        self._width = bundle.manifest.feature_dim
        began = time.perf_counter()
        self._feature(np.zeros((1, self._transform.height, self._transform.width, 3), np.uint8))
        self.seconds = time.perf_counter() - began
        """That one image takes."""

    def feature(self, image: bytes) -> Floats:
        """Return the feature (D,) of an image's file.

        Raises:
            ImageError: it cannot be decoded.
            EngineError: the backbone failed.
        """
        return self._feature(load(image, self._transform, self._max_pixels, budget=self._budget)[None])

    def _feature(self, pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Floats:
        try:
            (made,) = self._session.run(["feature"], {"image": pixels})
        except Exception as error:  # ONNX Runtime's exceptions have no common root of their own
            raise EngineError(f"the second backbone failed: {str(error)[:300]}") from error
        if made.shape != (1, self._width) or not np.isfinite(made).all():
            raise EngineError(f"the second backbone gave {made.shape} or no finite values; expected (1, {self._width})")
        feature: Floats = made[0]
        return feature


class Pairing:
    """Collects pairs until there are enough; made and used in one event loop.

    Args:
        backbone: the second one.
        keep: writes pairs.
        share: of the images that are drawn, 0 to 1.
        enough: pairs, of all servers together.
        have: that there are already.
    """

    def __init__(self, backbone: SecondBackbone, keep: Keep, share: float, enough: int, have: int) -> None:
        self._backbone, self._keep, self._share = backbone, keep, share
        self.enough = enough
        """Pairs after which no more are collected."""
        self.have = have
        """Pairs that are kept, as far as this server knows."""
        self.dropped = 0
        """Images that were drawn while the queue was full."""
        self._waiting: asyncio.Queue[tuple[bytes, Floats]] = asyncio.Queue(WAITING)
        self._fresh: dict[int, Pair] = {}
        self._seen: set[int] = set()
        self._thread = ThreadPoolExecutor(1, "pairs", initializer=_be_nice)
        self._task = asyncio.create_task(self._collect())

    @property
    def collecting(self) -> bool:
        """Whether more are collected."""
        return not self._task.done()

    def offer(self, images: Sequence[bytes], scores: Sequence[Scores]) -> None:
        """Draw some of the images that were just answered."""
        if self._task.done():
            return
        for image, one in zip(images, scores, strict=True):
            if random.random() >= self._share:
                continue
            try:
                self._waiting.put_nowait((image, one.feature))
            except asyncio.QueueFull:
                self.dropped += 1

    async def _collect(self) -> None:
        while self.have + len(self._fresh) < self.enough:
            await self._add(*await self._waiting.get())
            if len(self._fresh) >= TOGETHER and not await self._write():
                return
        if await self._write():
            LOG.info("pairs: %d are enough; no more are collected", self.have)

    async def _add(self, image: bytes, old: Floats) -> None:
        own = image_id(image)
        if own in self._seen:
            return
        try:
            new = await asyncio.get_running_loop().run_in_executor(self._thread, self._backbone.feature, image)
        except ImageError:  # too large for this, though not for the answer
            return
        except EngineError as error:
            LOG.warning("pairs: %s", error)
            return
        self._seen.add(own)
        self._fresh[own] = Pair(own, old, new)

    async def _write(self) -> bool:
        """Write what is new; whether that went well."""
        if self._fresh:
            try:
                self.have = await self._keep(list(self._fresh.values()))
            except BreadcrumbsError as error:
                LOG.warning("pairs: %s; no more are collected until the server starts again", error)
                return False
            self._fresh.clear()
            LOG.info("pairs: %d of %d, %d images were dropped", self.have, self.enough, self.dropped)
        return True

    async def close(self) -> None:
        """Stop, and write what is new."""
        if not self._task.done():
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            await self._write()
        await asyncio.to_thread(self._thread.shutdown, wait=True, cancel_futures=True)


def _be_nice() -> None:
    """Give this thread the lowest priority, where threads have one of their own."""
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICEST)
