"""Which remembered answers are worth a label: those that would teach a later head most.

    rare        summed probability of the classes with few training images
    uncertain   1 − (p₁ − p₂), of the two most probable classes
    far         distance of the feature to the nearest class mean of the bundle's rows and the examples
    mixed       of each strategy in turn

Answers with a label are left out, and of several answers to one image one is kept. Only the indexes are read, and the
answers that are returned. For `far`, the answers that were farthest when they were indexed are measured again, `LOOKED`
at most: class means move with every example. It knows nothing of HTTP.

Letters: N answers, D feature dimensions, C classes.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice, zip_longest
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.serving.learning import means
from breadcrumbs.serving.learning.answer import Answer
from breadcrumbs.serving.learning.answers import Answers
from breadcrumbs.serving.learning.columns import Columns, short
from breadcrumbs.serving.learning.example import identity
from breadcrumbs.serving.learning.examples import Examples
from breadcrumbs.serving.learning.means import Means
from breadcrumbs.serving.state.store import NotFound, StoreError

Single = Literal["rare", "uncertain", "far"]
Strategy = Literal[Single, "mixed"]
ANYONE = object()
"""In place of an owner: answers of every owner."""
LOOKED = 1000
"""Answers that `far` measures again at most, or twice as many as are asked for."""
FEWEST = 64
"""Answers that it measures at a time, at least."""
BLOCK = 4096
"""Answers that are brought in order at first; most queues need no more."""
TRIES = 20
"""Attempts at reading answers that are merged meanwhile."""


@dataclass(frozen=True, eq=False)
class Worth:
    """An answer, and how much it is worth by a strategy."""

    answer: Answer
    strategy: Single
    score: float


@dataclass(frozen=True, eq=False)
class Pool:
    """The answers that may be asked about.

    Attributes:
        columns: of the segments.
        segment, row: of each answer, (N,): its segment's place in `columns`, and its row there.
        labelled: the things that have a label, by the first bytes of their ids.
    """

    columns: Sequence[Columns]
    segment: NDArray[np.intp]
    row: NDArray[np.intp]
    labelled: frozenset[int]

    def numbers(self, name: str) -> NDArray[Any]:
        """Return one of the columns, (N,)."""
        parts = [own.rows[name] for own in self.columns]
        starts = np.cumsum([0, *map(len, parts)])[:-1]
        whole = np.concatenate(parts) if parts else np.empty(0)
        return whole[starts[self.segment] + self.row] if len(self.segment) else whole[:0]

    def at(self, places: Sequence[int]) -> list[tuple[Columns, int]]:
        """Return where some answers lie."""
        return [(self.columns[self.segment[place]], int(self.row[place])) for place in places]

    def measured(self, place: int, far: float) -> None:
        """Note how far an answer is now, so that the next queue begins with others."""
        self.columns[self.segment[place]].rows["far"][self.row[place]] = far


async def best(
    answers: Answers, examples: Examples, bundle: Bundle, strategy: Strategy, most: int, owner: object = ANYONE
) -> list[Worth]:
    """Return the answers without a label that are worth most, the best first.

    Args:
        answers, examples: where they are.
        bundle: that serves; answers of another backbone are left out.
        strategy: what counts.
        most: answers at most.
        owner: only answers of this one. None means those without an owner.

    Raises:
        StoreError: the store cannot be read, or segments go faster than they can be read.
    """
    wanted: tuple[Single, ...] = get_args(Single) if strategy == "mixed" else (strategy,)
    for _ in range(TRIES):
        try:
            there = await answers.columns(partial(measure, examples, bundle))
            labelled = frozenset(map(short, await examples.newest()))
            pool = await asyncio.to_thread(_pool, there, labelled, bundle.backbone_digest, owner)
            ranked = [await _ranked(answers, examples, bundle, pool, name, most) for name in wanted]
        except NotFound:  # a segment was merged meanwhile
            continue
        return _in_turn(ranked)[:most]
    raise StoreError(f"the segments of the answers were merged {TRIES} times while they were read; ask again")


async def measure(examples: Examples, bundle: Bundle) -> tuple[Means | None, str]:
    """Return the class means, and the backbone of their space."""
    return await means.means(examples, bundle), bundle.backbone_digest


def _pool(there: Sequence[Columns], labelled: frozenset[int], backbone: str, owner: object) -> Pool:
    """The answers of a backbone and an owner."""
    segments, rows = [], []
    for place, own in enumerate(there):
        mine = np.array([name == backbone for name in own.backbones])[own.rows["backbone"]]
        if owner is not ANYONE:
            mine &= np.array([name == owner for name in own.owners])[own.rows["owner"]]
        chosen = np.flatnonzero(mine)
        segments.append(np.full(len(chosen), place, np.intp))
        rows.append(chosen)
    none = np.empty(0, np.intp)
    return Pool(there, np.concatenate([none, *segments]), np.concatenate([none, *rows]), labelled)


async def _ranked(
    answers: Answers, examples: Examples, bundle: Bundle, pool: Pool, strategy: Single, most: int
) -> list[Worth]:
    scores = await asyncio.to_thread(pool.numbers, strategy)
    things = await asyncio.to_thread(pool.numbers, "thing")
    if strategy != "far":
        return await _highest(answers, pool, strategy, scores, things, most)
    own, _ = await measure(examples, bundle)
    if own is None:  # where there is no class mean, none is far
        return await _highest(answers, pool, strategy, np.zeros(len(scores)), things, most)
    return await _farthest(answers, pool, scores, things, own, most)


async def _highest(
    answers: Answers, pool: Pool, strategy: Single, scores: NDArray[Any], things: NDArray[Any], most: int
) -> list[Worth]:
    """Those with the highest scores."""
    order, found = _fresh(scores, things, pool.labelled), list[Worth]()
    while some := await asyncio.to_thread(_next, order, most - len(found)):
        read = await answers.at(pool.at(some))
        found += [Worth(one, strategy, float(scores[at])) for at, one in zip(some, read, strict=True) if one]
    return found


async def _farthest(
    answers: Answers, pool: Pool, bounds: NDArray[Any], things: NDArray[Any], own: Means, most: int
) -> list[Worth]:
    """Those that are farthest now, among the first by their distance of then."""
    order, found, looked = _fresh(bounds, things, pool.labelled), list[Worth](), 0
    while looked < max(LOOKED, 2 * most) and (some := await asyncio.to_thread(_next, order, max(most, FEWEST))):
        if len(found) >= most and found[most - 1].score >= bounds[some[0]]:
            break
        looked += len(some)
        there = [(at, one) for at, one in zip(some, await answers.at(pool.at(some)), strict=True) if one]
        if not there:
            continue
        far = await asyncio.to_thread(means.distances, np.stack([one.feature for _, one in there]), own)
        for (at, one), distance in zip(there, far.tolist(), strict=True):
            pool.measured(at, distance)
            found.append(Worth(one, "far", distance))
        found.sort(key=lambda worth: -worth.score)
    return found[:most]


def _fresh(scores: NDArray[Any], things: NDArray[Any], labelled: frozenset[int]) -> Iterator[int]:
    """Yield the places of answers, the highest score first, each thing once and none that has a label."""
    seen = set(labelled)
    for place in _falling(scores):
        thing = int(things[place])
        if thing not in seen:
            seen.add(thing)
            yield place


def _falling(scores: NDArray[Any]) -> Iterator[int]:
    """Yield all places, the highest score first; only a block that is needed is brought in order."""
    left, block = np.arange(len(scores)), BLOCK
    while len(left):
        first, left = left, left[:0]
        if len(first) > block:
            split = first[np.argpartition(-scores[first], block)]
            first, left = split[:block], split[block:]
        yield from first[np.lexsort((first, -scores[first]))].tolist()
        block *= 8


def _next(order: Iterator[int], count: int) -> list[int]:
    return list(islice(order, count))


def _thing(answer: Answer) -> str:
    return identity(answer.origin.owner, answer.origin.content)


def _in_turn(ranked: Sequence[Sequence[Worth]]) -> list[Worth]:
    """The first of each, the second of each, …, each thing once."""
    found: dict[str, Worth] = {}
    for some in zip_longest(*ranked):
        for one in some:
            if one is not None:
                found.setdefault(_thing(one.answer), one)
    return list(found.values())
