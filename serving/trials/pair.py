"""The two heads of a trial, ready to compute, with their classes matched by name.

A class that a refit renamed is one class under both names. It knows nothing of requests, counts or labels.

Letters: N rows, C classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.models.arrays import Floats
from breadcrumbs.serving.predict.engine import BoundHead
from breadcrumbs.serving.trials.counts import Counts
from breadcrumbs.serving.trials.trial import Start

Places = NDArray[np.int64]
"""Classes as places in `Pair.names`; −1: none, since the head failed or has no such class."""
NONE = -1


@dataclass(frozen=True, eq=False)
class Pair:
    """A trial whose heads are bound.

    Attributes:
        start: of the trial.
        head: on trial.
        against: what it is compared with.
        became: new names of renamed classes, by old ones.
        names: of the classes of both heads.
        counts: what this process counted of the trial.
    """

    start: Start
    head: BoundHead
    against: BoundHead
    became: Mapping[str, str | None]
    names: tuple[str, ...]
    counts: Counts = field(default_factory=Counts)
    _places: dict[str, int] = field(default_factory=dict, repr=False)
    _of: dict[int, Places] = field(default_factory=dict, repr=False)

    def places(self, head: BoundHead, tops: Places) -> Places:
        """Return the places (N,) of a head's classes (N,); NONE stays."""
        return np.where(tops == NONE, NONE, self._of[head.version][tops])

    def place(self, name: str) -> int:
        """Return the place of a class by its name; NONE if neither head has it."""
        return self._places.get(self.became.get(name) or name, NONE)


def paired(start: Start, head: BoundHead, against: BoundHead, became: Mapping[str, str | None]) -> Pair:
    """Return the pair of a trial.

    Args:
        start: of the trial.
        head: on trial.
        against: what it is compared with.
        became: new names of renamed classes, by old ones.
    """
    own = {one.version: [became.get(name) or name for name in one.head.classes] for one in (head, against)}
    names = tuple(dict.fromkeys(name for some in own.values() for name in some))
    places = {name: place for place, name in enumerate(names)}
    of = {version: np.array([places[name] for name in some], np.int64) for version, some in own.items()}
    return Pair(start, head, against, became, names, _places=places, _of=of)


def tops(logits: Floats) -> Places:
    """Return the best class (N,) of logits (N, C); NONE where they are not finite."""
    return np.where(np.isfinite(logits).all(1), logits.argmax(1), NONE)
