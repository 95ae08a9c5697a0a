"""What the heads that did not answer would have said: computed after the answers, from the same features.

A request only puts its features on a list. Every `PAUSE` a thread computes what waits, in one product a head, so that
no answer waits for a trial. The pause is long, since a product reads the whole head: of a hundred rows each takes a
fifth of the time of one alone. Where threads have priorities of their own (Linux), that thread has the lowest. What
comes while `WAITING` rows wait is dropped and counted. It knows nothing of stores or labels.

Letters: N rows, D feature dimensions, C classes.
"""

import asyncio
import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.models.known import Known
from breadcrumbs.serving.predict.engine import BoundHead, Engine, Scores
from breadcrumbs.serving.trials.pair import NONE, Compared, Pair, Places, tops

LOG = logging.getLogger("breadcrumbs.trials")
PAUSE = 0.5
"""Seconds between two looks at what waits."""
WAITING = 4096
"""Rows that wait at most."""
ROWS = 256
"""Rows that are computed at once."""
UNKNOWN = 0.05
"""An answer is unknown to a head if it is known by less: about one in 20 images of known classes are."""

THREAD = "opinions"
"""Name of the thread that computes."""
LOWEST = 19
"""The lowest priority of a thread, as of `nice`."""

Tell = Callable[[Pair, Compared], None]
"""Told of a pair what its heads say of some answers."""


@dataclass(frozen=True, eq=False)
class _Seen:
    """An answer: its feature (D,), the head that gave it and the best class."""

    feature: Floats = field(repr=False)
    head: BoundHead
    top: int


class Opinions:
    """Compares the heads of running trials.

    Args:
        engine: computes.
        tell: told what was counted.
    """

    def __init__(self, engine: Engine, tell: Tell) -> None:
        self._engine = engine
        self._tell = tell
        self._waiting: list[_Seen] = []
        self._computing = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, THREAD, _step_back)
        self.pairs: tuple[Pair, ...] = ()
        """The trials that run."""

    def saw(self, scores: Sequence[Scores]) -> None:
        """Take note of answers of one head; called before a prior changes their logits."""
        room = max(0, WAITING - len(self._waiting))
        for pair in self.pairs:
            pair.answered(scores[0].head.version, len(scores), max(0, len(scores) - room))
        self._waiting += [_Seen(one.feature, one.head, int(one.logits.argmax())) for one in scores[:room]]

    async def run(self) -> None:
        """Compute what waits until it is cancelled."""
        while True:
            await asyncio.sleep(PAUSE)
            try:
                await self.take_up()
            except Exception:
                LOG.exception("trials: an unexpected error; this is a bug")

    async def take_up(self) -> None:
        """Compute all that waits now."""
        async with self._computing:
            waiting, self._waiting = self._waiting, []
            pairs = self.pairs
            for start in range(0, len(waiting), ROWS):
                some = waiting[start : start + ROWS]
                found = await asyncio.get_running_loop().run_in_executor(self._thread, self._compared, some, pairs)
                for pair, one in zip(pairs, found, strict=True):
                    pair.add(one)
                    self._tell(pair, one)

    def close(self) -> None:
        """End the thread, which has nothing to do now."""
        self._thread.shutdown()

    def _compared(self, seen: Sequence[_Seen], pairs: Sequence[Pair]) -> list[Compared]:
        some = _Some(self._engine, seen)
        return [some.compared(pair) for pair in pairs]


def _step_back() -> None:
    """Let all other threads go before this one."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # not allowed here
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST)


class _Some:
    """Some answers, and what heads make of them, each computed once however many pairs it is in."""

    def __init__(self, engine: Engine, seen: Sequence[_Seen]) -> None:
        self._engine = engine
        self._seen = seen
        self._features: Floats = np.stack([one.feature for one in seen])  # (N, D)
        self._said: dict[int, Places] = {}  # (N,) by version
        self._unknown: dict[int, NDArray[np.bool_]] = {}  # (N,) by version

    def compared(self, pair: Pair) -> Compared:
        """What the two heads of a pair say."""
        head, against = (pair.places(one, self._tops(one)) for one in (pair.head, pair.against))
        both = (head != NONE) & (against != NONE)
        classes = len(pair.names)
        compared = np.bincount(against[both], minlength=classes)
        disagreed = np.bincount(against[both & (head != against)], minlength=classes)
        errors = int((head == NONE).sum())
        if pair.points is None:
            return Compared(compared, disagreed, errors)
        mine, other = (
            self._unknown_to(one, points) for one, points in zip((pair.head, pair.against), pair.points, strict=True)
        )
        return Compared(
            compared, disagreed, errors, len(self._seen), int((mine & ~other).sum()), int((other & ~mine).sum())
        )

    def _tops(self, head: BoundHead) -> Places:
        """What a head says of each row (N,): what it has answered, and the rest computed."""
        if head.version not in self._said:
            places = np.array([one.top if one.head.version == head.version else NONE for one in self._seen], np.int64)
            missing = np.flatnonzero(places == NONE)
            if len(missing):
                places[missing] = self._computed(self._features[missing], head)
            self._said[head.version] = places
        return self._said[head.version]

    def _computed(self, features: Floats, head: BoundHead) -> Places:
        try:
            return tops(self._engine.logits(features, head))
        except BreadcrumbsError as error:
            LOG.warning("head %d, on trial: %s", head.version, error)
            return np.full(len(features), NONE, np.int64)

    def _unknown_to(self, head: BoundHead, points: Known) -> NDArray[np.bool_]:
        """Which rows (N,) a head does not know."""
        if head.version not in self._unknown:
            self._unknown[head.version] = np.array(points.of(self._features)) < UNKNOWN
        return self._unknown[head.version]
