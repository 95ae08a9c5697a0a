"""From the bytes of some images, or from features, to their scores: decoded, computed in batches, within one deadline.

Every answer comes from exactly one head: a single image takes the one that is live when its batch begins; several
images, which may fall into several batches, hold on to the one that was live when they came. On a CPU the threads that
compute decode too; a GPU is fed by threads that only decode. It knows nothing of HTTP.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from breadcrumbs.models.arrays import Floats, Pixels
from breadcrumbs.serving.predict.batcher import Answer, Batcher
from breadcrumbs.serving.predict.decoder import Decoder, File
from breadcrumbs.serving.predict.engine import BoundHead, Engine, Row, Scores
from breadcrumbs.serving.refusals import BadRequest, Overloaded

FRESH = 5.0
"""Seconds that a computed batch counts as proof that the engine answers."""
PROOF_DEADLINE = 5.0
"""Seconds that the proof itself may take."""

Item = Row | File


@dataclass(frozen=True)
class Outcome:
    """The scores of a request's images, and what they cost.

    Attributes:
        scores: one an image, in order, all of one head.
        queued, decoded, computed: seconds; the longest of its images where they differ, decoding that of its batch
            where the threads that compute decode.
        batch_size: the largest batch that one of them was computed in.
        executions: share of the batches that they were computed in; all images of a batch have 1 together.
    """

    scores: list[Scores]
    queued: float
    decoded: float
    computed: float
    batch_size: int
    executions: float

    @property
    def head(self) -> BoundHead:
        """The head that made them."""
        return self.scores[0].head


class Inference:
    """Decodes and computes.

    Args:
        decoder: of image files.
        engine: whose proofs of life and live head are used.
        batcher: computes with that decoder and engine.
        threads: that only decode; 0: those that compute decode.
        queue: images being or waiting to be decoded by them at most.
        deadline: seconds from the request's last byte to its answer.
        answered: told the files of a request that was answered, and their scores.
    """

    def __init__(
        self,
        decoder: Decoder,
        engine: Engine,
        batcher: Batcher[Item, Scores],
        threads: int,
        queue: int,
        deadline: float,
        answered: Callable[[Sequence[bytes], Sequence[Scores]], None] = lambda _images, _scores: None,
    ) -> None:
        self._answered = answered
        self._decoder = decoder
        self._engine = engine
        self._batcher = batcher
        self._threads = ThreadPoolExecutor(threads, "decode") if threads else None
        self._queue = queue
        self._deadline = deadline
        self._decoding = 0

    async def run(
        self, images: Sequence[bytes] | Pixels | Floats, head: BoundHead | None = None, within: float | None = None,
        names: Sequence[str] | None = None,
    ) -> Outcome:  # fmt: skip
        """Score some images, or features that were computed of them elsewhere.

        Args:
            images: the bytes of image files, at least one; or pixels that need no decoding, uint8 (N, H, W, 3); or
                features f32 (N, D), all finite.
            head: the head to use; none: the live one.
            within: seconds, where that is less than the deadline.
            names: what an error calls each image file; absent: by its number, where there are several.

        Raises:
            ImageError: one of them cannot be decoded; the message says which.
            BadRequest: a feature is too large for the head.
            Overloaded: too many images wait, or the deadline has passed.
            EngineError: the model failed.
        """
        count = len(images)
        head = self._engine.live if head is None and count > 1 else head
        deadline = self._deadline if within is None else min(within, self._deadline)
        if isinstance(images, np.ndarray):
            return _outcome(await self._batcher.submit([_row(one, head) for one in images], deadline), 0.0)
        outcome = await self._run_files(images, head, deadline, names)
        self._answered(images, outcome.scores)
        return outcome

    async def _run_files(
        self, images: Sequence[bytes], head: BoundHead | None, deadline: float, names: Sequence[str] | None
    ) -> Outcome:
        count = len(images)
        if names is None:
            names = [f"image {place + 1} of {count}" if count > 1 else "" for place in range(count)]
        files = [File(data, head, name) for data, name in zip(images, names, strict=True)]
        if self._threads is None:
            return _outcome(await self._batcher.submit(files, deadline), None)
        began = time.perf_counter()
        try:
            async with asyncio.timeout(deadline):
                pixels = await self._decode(self._threads, files)
        except TimeoutError as error:
            raise Overloaded(f"not decoded within the deadline of {deadline:g} s") from error
        decoded = time.perf_counter() - began
        left = max(0.0, deadline - decoded)
        return _outcome(await self._batcher.submit([Row(item, head) for item in pixels], left), decoded)

    async def _decode(self, threads: ThreadPoolExecutor, files: Sequence[File]) -> list[Pixels]:
        if self._decoding + len(files) > self._queue:
            raise Overloaded(
                f"{self._decoding} images are being decoded and {len(files)} came; the limit is {self._queue}"
            )
        loop = asyncio.get_running_loop()
        self._decoding += len(files)
        jobs = [loop.run_in_executor(threads, self._decoder.decode, file) for file in files]
        try:
            return list(await asyncio.gather(*jobs))
        finally:
            self._decoding -= len(files)
            for job in jobs:
                if job.done() and not job.cancelled():
                    job.exception()  # the first bad image has told; a second one is not news
                job.cancel()

    async def also(self, outcome: Outcome, heads: Sequence[BoundHead]) -> list[Outcome]:
        """Return what other heads say of the features of an outcome, without another pass of the backbone.

        Raises:
            BadRequest: a feature is too large for one of them.
            EngineError: the model failed.
        """
        features = np.stack([one.feature for one in outcome.scores])

        def compute() -> list[Outcome]:
            found = []
            for head in heads:
                logits = self._engine.logits(features, head)
                if not np.isfinite(logits).all():
                    raise BadRequest(f"a feature is too large for head {head.version}: its logits are not finite")
                scores = [
                    Scores(one.feature, own, head, one.seconds) for one, own in zip(outcome.scores, logits, strict=True)
                ]
                found.append(replace(outcome, scores=scores))
            return found

        return await asyncio.to_thread(compute)

    async def prove(self) -> float:
        """Return how many seconds ago the engine answered, after asking it where that is long ago.

        Raises:
            Overloaded, EngineError: it does not answer.
        """
        if time.monotonic() - self._engine.answered > FRESH:
            await self._batcher.submit([self._engine.blank()], PROOF_DEADLINE)
        return max(0.0, time.monotonic() - self._engine.answered)

    def close(self) -> None:
        """Stop the decoding threads."""
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)


def _row(one: Pixels | Floats, head: BoundHead | None) -> Row:
    """Pixels or a feature, to be computed."""
    if one.dtype == np.uint8:
        return Row(cast(Pixels, one), head)
    return Row(feature=cast(Floats, one), head=head)


def _outcome(answers: list[Answer[Scores]], decoded: float | None) -> Outcome:
    longest = max(answers, key=lambda answer: answer.computed)
    computed = longest.result.seconds
    return Outcome(
        scores=[answer.result for answer in answers],
        queued=max(answer.queued for answer in answers),
        decoded=longest.computed - computed if decoded is None else decoded,
        computed=computed,
        batch_size=max(answer.batch_size for answer in answers),
        executions=sum(1 / answer.batch_size for answer in answers),
    )
