"""From the bytes of some images to their scores: decoded in threads, computed in batches, within one deadline.

Every answer comes from exactly one head: a single image takes the one that is live when its batch begins; several
images, which may fall into several batches, hold on to the one that was live when they came. It knows nothing of HTTP.
"""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from models import preprocess
from models.preprocess import ImageError, Pixels, Preprocess
from serving.batcher import Answer, Batcher
from serving.engine import BoundHead, Engine, Row, Scores
from serving.limits import Overloaded

FRESH = 5.0
"""Seconds that a computed batch counts as proof that the engine answers."""
PROOF_DEADLINE = 5.0
"""Seconds that the proof itself may take."""


@dataclass(frozen=True)
class Outcome:
    """The scores of a request's images, and what they cost.

    Attributes:
        scores: one an image, in order, all of one head.
        queued, decoded, computed: seconds; the longest of its images where they differ.
        batch_size: the largest batch that one of them was computed in.
    """

    scores: list[Scores]
    queued: float
    decoded: float
    computed: float
    batch_size: int

    @property
    def head(self) -> BoundHead:
        """The head that made them."""
        return self.scores[0].head


class Inference:
    """Decodes and computes.

    Args:
        transform: from an image file to the backbone's pixels.
        engine: whose proofs of life and live head are used.
        batcher: computes with that engine.
        threads: that decode.
        max_pixels: of one image.
        queue: images being or waiting to be decoded at most.
        deadline: seconds from the request's last byte to its answer.
    """

    def __init__(
        self,
        transform: Preprocess,
        engine: Engine,
        batcher: Batcher[Row, Scores],
        threads: int,
        max_pixels: int,
        queue: int,
        deadline: float,
    ) -> None:
        self._transform = transform
        self._engine = engine
        self._batcher = batcher
        self._threads = ThreadPoolExecutor(threads, "decode")
        self._max_pixels = max_pixels
        self._queue = queue
        self._deadline = deadline
        self._decoding = 0

    async def run(self, images: Sequence[bytes], head: BoundHead | None = None) -> Outcome:
        """Score some images.

        Args:
            images: the bytes of image files, at least one.
            head: the head to use; none: the live one.

        Raises:
            ImageError: one of them cannot be decoded; the message says which.
            Overloaded: too many images wait, or the deadline has passed.
            EngineError: the model failed.
        """
        began = time.perf_counter()
        if head is None and len(images) > 1:
            head = self._engine.live
        try:
            async with asyncio.timeout(self._deadline):
                pixels = await self._decode(images)
        except TimeoutError as error:
            raise Overloaded(f"not decoded within the deadline of {self._deadline:g} s") from error
        decoded = time.perf_counter() - began
        left = max(0.0, self._deadline - decoded)
        return _outcome(await self._batcher.submit([Row(item, head) for item in pixels], left), decoded)

    async def _decode(self, images: Sequence[bytes]) -> list[Pixels]:
        if self._decoding + len(images) > self._queue:
            raise Overloaded(
                f"{self._decoding} images are being decoded and {len(images)} came; the limit is {self._queue}"
            )
        loop = asyncio.get_running_loop()
        self._decoding += len(images)
        jobs = [loop.run_in_executor(self._threads, self._load, place, images) for place in range(len(images))]
        try:
            return list(await asyncio.gather(*jobs))
        finally:
            self._decoding -= len(images)
            for job in jobs:
                if job.done() and not job.cancelled():
                    job.exception()  # the first bad image has told; a second one is not news
                job.cancel()

    def _load(self, place: int, images: Sequence[bytes]) -> Pixels:
        try:
            return preprocess.load(images[place], self._transform, self._max_pixels)
        except ImageError as error:
            which = f"image {place + 1} of {len(images)}: " if len(images) > 1 else ""
            raise type(error)(f"{which}{error}") from error

    async def prove(self) -> float:
        """Return how many seconds ago the engine answered, after asking it where that is long ago.

        Raises:
            Overloaded, EngineError: it does not answer.
        """
        if time.monotonic() - self._engine.answered > FRESH:
            blank = np.zeros((self._transform.height, self._transform.width, 3), np.uint8)
            await self._batcher.submit([Row(blank)], PROOF_DEADLINE)
        return max(0.0, time.monotonic() - self._engine.answered)

    def close(self) -> None:
        """Stop the decoding threads."""
        self._threads.shutdown(wait=True, cancel_futures=True)


def _outcome(answers: list[Answer[Scores]], decoded: float) -> Outcome:
    return Outcome(
        scores=[answer.result for answer in answers],
        queued=max(answer.queued for answer in answers),
        decoded=decoded,
        computed=max(answer.computed for answer in answers),
        batch_size=max(answer.batch_size for answer in answers),
    )
