"""Which remembered answers are worth a label: those that would teach a later head most.

    rare        summed probability of the classes with few training images
    uncertain   1 − (p₁ − p₂), of the two most probable classes
    far         distance of the feature to the nearest class mean of the bundle's rows and the examples
    mixed       of each strategy in turn

Answers with a label are left out, and of several answers to one image one is kept. It knows nothing of HTTP.

Letters: N answers, D feature dimensions, C classes.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.serving.learning.answer import Answer
from breadcrumbs.serving.learning.answers import Answers
from breadcrumbs.serving.learning.examples import Example, Examples, identity

Single = Literal["rare", "uncertain", "far"]
Strategy = Literal[Single, "mixed"]
ANYONE = object()
"""In place of an owner: answers of every owner."""
Sums = dict[str, tuple[NDArray[np.float64], int]]
"""Sum (D,) and number of the rows of each class."""


@dataclass(frozen=True, eq=False)
class Worth:
    """An answer, and how much it is worth by a strategy."""

    answer: Answer
    strategy: Single
    score: float


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
        StoreError: the store cannot be read.
    """
    wanted: tuple[Single, ...] = get_args(Single) if strategy == "mixed" else (strategy,)
    means = await _means(examples, bundle) if "far" in wanted else None
    tops = {one: _Top(most) for one in wanted}
    labelled = set(await examples.newest())
    async for some in answers.stream():
        fresh = [
            one
            for one in some
            if one.origin.backbone == bundle.backbone_digest
            and (owner is ANYONE or one.origin.owner == owner)
            and _thing(one) not in labelled
        ]
        for name, top in tops.items():
            top.add(fresh, await asyncio.to_thread(_scores, fresh, name, means))
    ranked = [[Worth(answer, name, score) for score, answer in top.best()] for name, top in tops.items()]
    return _in_turn(ranked)[:most]


def _thing(answer: Answer) -> str:
    return identity(answer.origin.owner, answer.origin.content)


def _scores(answers: Sequence[Answer], strategy: Single, means: NDArray[np.float64] | None) -> list[float]:
    """How much each answer is worth; where there is no class mean, none is far."""
    if strategy == "rare":
        return [one.rare for one in answers]
    if strategy == "uncertain":
        return [_uncertainty(one) for one in answers]
    if means is None or not answers:
        return [0.0] * len(answers)
    return [float(np.sqrt(((means - one.feature) ** 2).sum(1).min())) for one in answers]


def _uncertainty(answer: Answer) -> float:
    first, second = (*(one["probability"] for one in answer.classes[:2]), 0.0)[:2]  # a head may have one class
    return 1 - (first - second)


async def _means(examples: Examples, bundle: Bundle) -> NDArray[np.float64] | None:
    """The class means (C, D) of the bundle's rows and the examples of its space. None means that there are none."""
    sums = await asyncio.to_thread(_sums, bundle)
    own = [one for one in await examples.current() if one.backbone == bundle.backbone_digest]
    joined = _joined(sums, own)
    return np.stack([total / count for total, count in joined.values()]) if joined else None


@lru_cache(maxsize=1)
def _sums(bundle: Bundle) -> Sums:
    """Of the newest snapshot in the bundle that its own backbone made."""
    for snapshot in bundle.snapshots():
        if snapshot.backbone == bundle.backbone_digest:
            counts = snapshot.counts().tolist()
            totals = np.zeros((len(counts), snapshot.feature_dim))
            known = snapshot.labels >= 0
            np.add.at(totals, snapshot.labels[known], snapshot.features[known])
            rows = zip(snapshot.classes, totals, counts, strict=True)
            return {name: (total, count) for name, total, count in rows if count}
    return {}


def _joined(sums: Sums, examples: Sequence[Example]) -> Sums:
    rows = defaultdict(list)
    for one in examples:
        rows[one.label].append(one.feature)
    found = dict(sums)
    for name, features in rows.items():
        total, count = found.get(name, (np.zeros(len(features[0])), 0))
        found[name] = (total + np.stack(features).sum(0), count + len(features))
    return found


class _Top:
    """The best answers, one for each thing."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._found: list[tuple[float, Answer]] = []

    def add(self, answers: Sequence[Answer], scores: Sequence[float]) -> None:
        self._found += zip(scores, answers, strict=True)
        if len(self._found) > 4 * self._most:
            self._found = self.best()

    def best(self) -> list[tuple[float, Answer]]:
        unique: dict[str, tuple[float, Answer]] = {}
        for score, answer in sorted(self._found, key=lambda one: (-one[0], one[1].id)):
            unique.setdefault(_thing(answer), (score, answer))
        return list(unique.values())[: self._most]


def _in_turn(ranked: Sequence[Sequence[Worth]]) -> list[Worth]:
    """The first of each, the second of each, …, each thing once."""
    found: dict[str, Worth] = {}
    for some in zip_longest(*ranked):
        for one in some:
            if one is not None:
                found.setdefault(_thing(one.answer), one)
    return list(found.values())
