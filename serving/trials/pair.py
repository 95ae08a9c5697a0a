"""The two heads of a trial, ready to compute, with their classes matched by name; and what was counted of them.

A class that a refit renamed is one class under both names. It knows nothing of requests, stores or labels.

Letters: N rows, C classes of both heads.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.known import Known
from breadcrumbs.serving.predict.engine import BoundHead
from breadcrumbs.serving.trials.counts import Counts
from breadcrumbs.serving.trials.trial import GROUPS, Start, TrialGroup

Places = NDArray[np.int64]
"""Classes as places in `Pair.names`; −1: none, since the head failed or has no such class."""
NONE = -1
Points = tuple[Known, Known]
"""By what the head on trial, and the one it is compared with, tell how well a feature is known."""


@dataclass(frozen=True, eq=False)
class Compared:
    """What two heads say of some answers.

    Attributes:
        compared: answers (C,) for which both said a class, by that of the compared head.
        disagreed: those (C,) where the head on trial said another one.
        errors: answers for which the head on trial failed.
        placed: answers of which it was looked at how well they are known.
        unknown, unknown_against: those that only the head on trial, or only the other, does not know.
    """

    compared: Places
    disagreed: Places
    errors: int
    placed: int = 0
    unknown: int = 0
    unknown_against: int = 0


@dataclass(frozen=True, eq=False)
class Pair:
    """A trial whose heads are bound.

    Attributes:
        start: of the trial.
        head: on trial.
        against: what it is compared with.
        became: new names of renamed classes, by old ones.
        groups: of the bundle's classes, by the names that the heads have for them.
        names: of the classes of both heads.
        points: of both heads, where a rule asks how well answers are known.
        counts: what this process counted of the trial.
    """

    start: Start
    head: BoundHead
    against: BoundHead
    became: Mapping[str, str | None]
    groups: Mapping[str, TrialGroup]
    names: tuple[str, ...]
    points: Points | None = None
    counts: Counts = field(default_factory=Counts)
    _places: dict[str, int] = field(default_factory=dict, repr=False)
    _of: dict[int, Places] = field(default_factory=dict, repr=False)
    _group: Places = field(default_factory=lambda: np.zeros(0, np.int64), repr=False)

    def places(self, head: BoundHead, tops: Places) -> Places:
        """Return the places (N,) of a head's classes (N,); NONE stays."""
        return np.where(tops == NONE, NONE, self._of[head.version][tops])

    def place(self, name: str) -> int:
        """Return the place of a class by its name; NONE if neither head has it."""
        return self._places.get(self.became.get(name) or name, NONE)

    def answered(self, version: int, answers: int, dropped: int) -> None:
        """Count answers of a head, and those of them that will not be compared."""
        self.counts.answered[version] = self.counts.answered.get(version, 0) + answers
        if dropped:
            self.counts.dropped += dropped

    def add(self, found: Compared) -> None:
        """Count what the heads say of some answers."""
        for place in np.flatnonzero(found.compared):
            self.counts.count(self.names[place], int(found.compared[place]), int(found.disagreed[place]))
        self.counts.errors += found.errors
        self.counts.placed += found.placed
        self.counts.unknown += found.unknown
        self.counts.unknown_against += found.unknown_against

    def by_group(self, found: Compared) -> Iterator[tuple[TrialGroup, int, int]]:
        """Return the answers compared and disagreed on of each group that has some."""
        compared, disagreed = (np.bincount(self._group, one, len(GROUPS)) for one in (found.compared, found.disagreed))
        for place in np.flatnonzero(compared):
            yield GROUPS[place], int(compared[place]), int(disagreed[place])


def paired(
    start: Start, head: BoundHead, against: BoundHead, became: Mapping[str, str | None],
    groups: Mapping[str, TrialGroup], points: Points | None = None,
) -> Pair:  # fmt: skip
    """Return the pair of a trial.

    Args:
        start: of the trial.
        head: on trial.
        against: what it is compared with.
        became: new names of renamed classes, by old ones.
        groups: of the bundle's classes.
        points: of both heads, where a rule asks how well answers are known.
    """
    own = {one.version: [became.get(name) or name for name in one.head.classes] for one in (head, against)}
    names = tuple(dict.fromkeys(name for some in own.values() for name in some))
    places = {name: place for place, name in enumerate(names)}
    of = {version: np.array([places[name] for name in some], np.int64) for version, some in own.items()}
    known = {became.get(name) or name: group for name, group in groups.items()}
    group = np.array([GROUPS.index(known.get(name, "new")) for name in names])
    return Pair(start, head, against, became, known, names, points, _places=places, _of=of, _group=group)


def tops(logits: Floats) -> Places:
    """Return the best class (N,) of logits (N, C); NONE where they are not finite."""
    return np.where(np.isfinite(logits).all(1), logits.argmax(1), NONE)
