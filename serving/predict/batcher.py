"""Items in, results out, computed together: it knows nothing of HTTP, ONNX or images.

The straight line of an item: `submit` puts an entry with its own future into a bounded queue; a worker thread takes
whatever waits the moment it is free, shared evenly with the workers that are free too, up to `max_batch` and to what
it computes in `longest`, computes it in one call, and hands every result to its future in one visit to the event loop.
Nothing ever waits for company. An entry whose caller has gone leaves the queue at once, so that it is neither computed
nor counted.
"""

import asyncio
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from breadcrumbs.serving.refusals import Overloaded

FEW = 2
"""Items side by side that gain most of what there is to gain; more make the first wait for the last."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Answer(Generic[R]):
    """A result, with what it cost.

    Attributes:
        result: what `compute` returned for the item.
        queued: seconds from submission to the start of its batch.
        computed: seconds that its batch took.
        batch_size: items in its batch.
    """

    result: R
    queued: float
    computed: float
    batch_size: int


@dataclass(eq=False)
class _Entry(Generic[T, R]):
    item: T
    future: asyncio.Future[Answer[R]]
    submitted: float = field(default_factory=time.perf_counter)


class Batcher(Generic[T, R]):
    """Computes items in batches, in worker threads of its own; made and used in one event loop.

    Args:
        compute: takes 1 … `max_batch` items, returns as many results in the same order, an exception being the failure
            of that item; what it raises goes to all items of that batch. With several workers it is called by all.
        max_batch: items computed together at most.
        queue: items waiting at most.
        workers: threads that compute, each a batch of its own.
        observe: told after each batch its size and its seconds; called in the worker thread.
        longest: seconds that a batch of more than `FEW` items should take at most, by what the last ones took: where
            an item takes long, items side by side wait for each other and gain nothing.
    """

    def __init__(
        self,
        compute: Callable[[list[T]], Sequence[R | Exception]],
        max_batch: int,
        queue: int,
        workers: int = 1,
        observe: Callable[[int, float], None] = lambda _size, _seconds: None,
        longest: float = math.inf,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._compute = compute
        self._max_batch = max_batch
        self._queue = queue
        self._observe = observe
        self._longest = longest
        self._waiting: OrderedDict[int, _Entry[T, R]] = OrderedDict()
        self._lock = threading.Lock()
        self._resting: list[threading.Lock] = []  # bells of workers with nothing to do; the last one's caches are warm
        self._closing = False
        self._seconds_per_item = 0.0
        self._idle = 0
        names = [f"batcher-{number}" for number in range(workers)]
        self._threads = [threading.Thread(target=self._work, name=name, daemon=True) for name in names]
        for thread in self._threads:
            thread.start()

    @property
    def pending(self) -> int:
        """Items waiting now."""
        return len(self._waiting)

    async def submit(self, items: Sequence[T], deadline: float) -> list[Answer[R]]:
        """Compute some items, all or none, and return their answers in order.

        Args:
            items: at least one; they may end up in different batches.
            deadline: seconds from now after which they are given up.

        Raises:
            Overloaded: the queue has no room for them, the deadline has passed, or the batcher is closed.
        """
        entries: list[_Entry[T, R]] = [_Entry(item, self._loop.create_future()) for item in items]
        self._admit(entries)
        self._loop.call_soon(self._ring)
        alarm = self._loop.call_later(deadline, _expire, entries)
        try:
            return [await entry.future for entry in entries]
        except _Expired as error:
            raise Overloaded(f"not computed within the deadline of {deadline:g} s", self._wait_seconds()) from error
        finally:
            alarm.cancel()
            self._forget(entries)

    def _admit(self, entries: list[_Entry[T, R]]) -> None:
        with self._lock:
            if self._closing:
                raise Overloaded("the server is stopping")
            if len(self._waiting) + len(entries) > self._queue:
                raise Overloaded(
                    f"{len(self._waiting)} images are waiting and {len(entries)} came; the limit is {self._queue}",
                    self._wait_seconds(),
                )
            self._waiting.update((id(entry), entry) for entry in entries)

    def _ring(self) -> None:
        """Wake workers at the end of the loop's turn, when it is about to let go of the interpreter they need."""
        with self._lock:
            self._wake(len(self._waiting))

    def _forget(self, entries: list[_Entry[T, R]]) -> None:
        with self._lock:
            for entry in entries:
                self._waiting.pop(id(entry), None)
        for entry in entries:
            if entry.future.done() and not entry.future.cancelled():
                entry.future.exception()  # a second failure in a request that has already failed is not news
            entry.future.cancel()

    def _wait_seconds(self) -> float:
        return len(self._waiting) * self._seconds_per_item / len(self._threads)

    def close(self) -> None:
        """Compute what waits, refuse what comes, and return when the workers have finished."""
        with self._lock:
            self._closing = True
            self._wake(len(self._resting))
        for thread in self._threads:
            thread.join()

    def _wake(self, workers: int) -> None:
        for _ in range(min(workers, len(self._resting))):
            self._resting.pop().release()

    def _work(self) -> None:
        bell = threading.Lock()
        bell.acquire()  # it rings when another thread releases it
        while entries := self._take(bell):
            started = time.perf_counter()
            outcome = self._run([entry.item for entry in entries])
            seconds = time.perf_counter() - started
            share = seconds / len(entries)
            self._seconds_per_item = share if not self._seconds_per_item else 0.8 * self._seconds_per_item + 0.2 * share
            try:
                self._loop.call_soon_threadsafe(_settle, entries, outcome, started, seconds)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return
            self._observe(len(entries), seconds)  # while the loop wakes

    def _take(self, bell: threading.Lock) -> list[_Entry[T, R]]:
        with self._lock:
            self._idle += 1
        while True:
            with self._lock:
                if self._waiting or self._closing:
                    count = min(self._max_batch, self._most(), -(-len(self._waiting) // self._idle))
                    self._idle -= 1
                    return [self._waiting.popitem(last=False)[1] for _ in range(int(count))]
                self._resting.append(bell)
            bell.acquire()

    def _most(self) -> float:
        """Items that can be computed within `longest`, but at least `FEW`."""
        return max(FEW, self._longest / self._seconds_per_item) if self._seconds_per_item else math.inf

    def _run(self, items: list[T]) -> Sequence[R | Exception]:
        try:
            results = self._compute(items)
        except Exception as error:  # noqa: BLE001 - it belongs to these items; the worker must outlive it
            return [error] * len(items)
        if len(results) != len(items):
            bug = RuntimeError(f"compute returned {len(results)} results for {len(items)} items; this is a bug")
            return [bug] * len(items)
        return results


class _Expired(Exception):
    """The deadline of an entry has passed."""


def _expire(entries: list[_Entry[T, R]]) -> None:
    for entry in entries:
        if not entry.future.done():
            entry.future.set_exception(_Expired())


def _settle(entries: list[_Entry[T, R]], results: Sequence[R | Exception], started: float, seconds: float) -> None:
    for entry, result in zip(entries, results, strict=True):
        if entry.future.done():
            continue
        if isinstance(result, Exception):
            entry.future.set_exception(result)
        else:
            entry.future.set_result(Answer(result, started - entry.submitted, seconds, len(entries)))
