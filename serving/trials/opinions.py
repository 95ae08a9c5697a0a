"""What the heads that did not answer would have said: computed after the answers, from the same features.

A request only puts its features on a list. Every `PAUSE` a thread computes what waits, in one product a head, so that
no answer waits for a trial. What comes while `WAITING` rows wait is dropped and counted. It knows nothing of stores or
labels.

Letters: N rows, D feature dimensions, C classes.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.serving.predict.engine import BoundHead, Engine, Scores
from breadcrumbs.serving.trials.pair import NONE, Pair, Places, tops

LOG = logging.getLogger("breadcrumbs.trials")
PAUSE = 0.05
"""Seconds between two looks at what waits."""
WAITING = 4096
"""Rows that wait at most."""
ROWS = 256
"""Rows that are computed at once."""

Tell = Callable[[Pair, dict[str, tuple[int, int]], int], None]
"""Told of a pair: answers compared and disagreed on by class, and errors."""


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
        self.pairs: tuple[Pair, ...] = ()
        """The trials that run."""

    def saw(self, scores: Sequence[Scores]) -> None:
        """Take note of answers; called before a prior changes their logits."""
        for pair in self.pairs:
            self._count_answered(pair, scores)
        room = max(0, WAITING - len(self._waiting))
        self._waiting += [_Seen(one.feature, one.head, int(one.logits.argmax())) for one in scores[:room]]

    def _count_answered(self, pair: Pair, scores: Sequence[Scores]) -> None:
        version = scores[0].head.version  # one head answers a request
        pair.counts.answered[version] = pair.counts.answered.get(version, 0) + len(scores)
        pair.counts.dropped += max(0, len(self._waiting) + len(scores) - WAITING)

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
                found = await asyncio.to_thread(self._compared, some, pairs)
                for pair, (classes, errors) in zip(pairs, found, strict=True):
                    self._count(pair, classes, errors)

    def _count(self, pair: Pair, classes: dict[str, tuple[int, int]], errors: int) -> None:
        for name, (compared, disagreed) in classes.items():
            pair.counts.count(name, compared, disagreed)
        pair.counts.errors += errors
        self._tell(pair, classes, errors)

    def _compared(self, some: Sequence[_Seen], pairs: Sequence[Pair]) -> list[tuple[dict[str, tuple[int, int]], int]]:
        """Answers compared and disagreed on by class, and errors, of each pair."""
        features = np.stack([one.feature for one in some])
        said: dict[int, Places] = {}  # of each head that a pair needs, computed once
        found = []
        for pair in pairs:
            head, against = (
                pair.places(one, self._said(one, some, features, said)) for one in (pair.head, pair.against)
            )
            found.append((_by_class(pair, head, against), int((head == NONE).sum())))
        return found

    def _said(self, head: BoundHead, some: Sequence[_Seen], features: Floats, said: dict[int, Places]) -> Places:
        """What a head says of each row (N,): what it has answered, and the rest computed."""
        if head.version not in said:
            places = np.array([one.top if one.head.version == head.version else NONE for one in some], np.int64)
            missing = np.flatnonzero(places == NONE)
            if len(missing):
                places[missing] = self._computed(features[missing], head)
            said[head.version] = places
        return said[head.version]

    def _computed(self, features: Floats, head: BoundHead) -> Places:
        try:
            return tops(self._engine.logits(features, head))
        except BreadcrumbsError as error:
            LOG.warning("head %d, on trial: %s", head.version, error)
            return np.full(len(features), NONE, np.int64)


def _by_class(pair: Pair, head: Places, against: Places) -> dict[str, tuple[int, int]]:
    """Rows compared and disagreed on, by the class that the compared head says; rows where a head failed have none."""
    both = (head != NONE) & (against != NONE)
    found = {}
    for place in np.unique(against[both]):
        of = both & (against == place)
        found[pair.names[place]] = int(of.sum()), int((of & (head != place)).sum())
    return found
