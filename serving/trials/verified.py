"""What people's labels say of the two heads of a trial.

A label counts if it is verified, about a remembered answer of this feature space, and the first label of that image
came after the trial's start: no head on trial was fitted to it. Both heads score the feature that lies beside the
label, so every server comes to the same numbers, whoever answered. It knows nothing of rules.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from breadcrumbs.serving.learning.example import Said
from breadcrumbs.serving.learning.examples import Examples
from breadcrumbs.serving.predict.engine import Engine
from breadcrumbs.serving.trials.evidence import Tally
from breadcrumbs.serving.trials.pair import Pair, tops

WEEK = 7 * 86400 * 1_000_000
"""Microseconds in which the labels came that tell how many will come."""


@dataclass
class Recall:
    """Labels of one class: how many there are, and how many each head has right."""

    labels: int = 0
    head: int = 0
    against: int = 0
    tally: Tally = field(default_factory=Tally)

    def add(self, head: bool, against: bool) -> None:
        """Add a label."""
        self.labels += 1
        self.head += head
        self.against += against
        self.tally += Tally(head and not against, head == against, against and not head)


class Verified:
    """The labels of a store, as trials count them.

    Args:
        examples: of the store.
        engine: computes what heads say.
        backbone: sha256 of what makes the features.
    """

    def __init__(self, examples: Examples, engine: Engine, backbone: str) -> None:
        self._examples = examples
        self._engine = engine
        self._backbone = backbone
        self._scored: dict[int, dict[str, tuple[int, int]]] = {}
        self._scoring = asyncio.Lock()

    async def of(self, pair: Pair) -> dict[str, Recall]:
        """Return what labels since a trial's start say, by class.

        Raises:
            StoreError: the store cannot be read.
        """
        async with self._scoring:
            labels = self._counting(await self._examples.all(), pair.start.since)
            scored = self._scored.setdefault(pair.start.number, {})
            await self._score([one for one in labels if one.record not in scored], pair, scored)
            return _recalls(labels, pair, scored)

    def _counting(self, labels: Sequence[Said], since: int) -> list[Said]:
        """The newest label of each thing, where it counts."""
        first: dict[str, int] = {}
        newest: dict[str, Said] = {}
        for one in labels:
            first[one.id] = min(one.at, first.get(one.id, one.at))
            if one.id not in newest or newest[one.id].place < one.place:
                newest[one.id] = one
        return [one for one in newest.values() if first[one.id] >= since and self._counts(one)]

    def _counts(self, one: Said) -> bool:
        return one.verified and one.answer is not None and one.backbone == self._backbone

    async def _score(self, labels: Sequence[Said], pair: Pair, scored: dict[str, tuple[int, int]]) -> None:
        """Have both heads score the features of labels."""
        found = await self._examples.features(labels)
        if not found:
            return
        rows = np.stack(list(found.values()))

        def score() -> list[list[int]]:
            both = (pair.head, pair.against)
            return [pair.places(one, tops(self._engine.logits(rows, one))).tolist() for one in both]

        head, against = await asyncio.to_thread(score)
        scored |= zip(found, zip(head, against, strict=True), strict=True)

    async def lately(self, now: int) -> int:
        """Return how many labels that count came in the last week.

        Args:
            now: microseconds since 1970.

        Raises:
            StoreError: the store cannot be read.
        """
        return len(self._counting(await self._examples.all(), now - WEEK))

    def forget(self, trial: int) -> None:
        """Forget a trial that has ended."""
        self._scored.pop(trial, None)


def _recalls(labels: Sequence[Said], pair: Pair, scored: Mapping[str, tuple[int, int]]) -> dict[str, Recall]:
    """What labels say, by class; one whose feature was erased meanwhile is left out."""
    found: dict[str, Recall] = {}
    for one in labels:
        if one.record not in scored:
            continue
        head, against = scored[one.record]
        right = pair.place(one.label)
        known = right >= 0
        name = pair.names[right] if known else one.label
        found.setdefault(name, Recall()).add(known and head == right, known and against == right)
    return found
