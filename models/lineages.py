"""How sure an answer is at each rank: the probability of a group is the sum over its classes.

    lineages = Lineages(taxonomy, head.classes)
    lineages.deepest(probabilities, best, 0.9)      the deepest group of the best class that is sure enough

A class that the taxonomy does not know, as one that a refit added, is a lineage of its own. A class that is a group of
others is as probable as all of them together. It knows nothing of files or HTTP.

Letters: N rows, C classes, G groups of one rank.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.models.head import LinearHead
from breadcrumbs.models.taxonomy import CLASS, Node, Taxonomy

CONFIDENCE = 0.9
"""Least probability of the group that is named, where none is asked for."""
ROUNDING = 1e-9
"""What the sum over all classes may be short of 1."""

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class SureNode:
    """A class, or a group of classes, and the sum of its classes' probabilities."""

    name: str
    rank: str
    probability: float


class HeadLineages:
    """The lineages of the classes of each head; they are found once for each head, and kept as long as it is.

    Args:
        taxonomy: of all of them.
    """

    def __init__(self, taxonomy: Taxonomy) -> None:
        self._taxonomy = taxonomy
        self._known: WeakKeyDictionary[LinearHead, Lineages] = WeakKeyDictionary()

    def known(self, head: LinearHead) -> "Lineages | None":
        """Return what `of` has returned before; None: it has to look for it, which takes a while for many classes."""
        return self._known.get(head)

    def of(self, head: LinearHead, became: Mapping[str, str | None]) -> "Lineages":
        """Return the lineages of a head's classes.

        Args:
            head: whose classes count.
            became: what old names, which the taxonomy may have, are called in that head.
        """
        found = self._known.get(head)
        if found is None:
            found = self._known[head] = Lineages(self._taxonomy, head.classes, became)
        return found


class Lineages:
    """The taxonomy of some classes.

    Args:
        taxonomy: may have other classes besides, and may lack some.
        classes: C names.
        became: what old names are called among them; None: no class was renamed.
    """

    def __init__(
        self, taxonomy: Taxonomy, classes: Sequence[str], became: Mapping[str, str | None] | None = None
    ) -> None:
        former = {new: old for old, new in reversed([*(became or {}).items()]) if new and old in taxonomy.lineages}
        self._lineages = [_lineage(taxonomy, name, former) for name in classes]
        self.ranks = (CLASS, *taxonomy.ranks)
        """From the class to the root."""

        members: dict[Node, list[int]] = defaultdict(list)
        for place, lineage in enumerate(self._lineages):
            for node in lineage:
                members[node].append(place)
        self._members = {node: np.array(places) for node, places in members.items()}

    def deepest(self, probabilities: NDArray[np.float64], best: int, confidence: float) -> SureNode | None:
        """Return the first of the best class and the groups above it that is sure enough; None: not even the root is.

        Args:
            probabilities: (C,), which sum to 1.
            best: index of the best class.
            confidence: the least probability.
        """
        for node in self._lineages[best]:
            sure = float(probabilities[self._members[node]].sum())
            if sure >= confidence - ROUNDING:
                return SureNode(node.name, node.rank, min(1.0, sure))
        return None

    def groups(self, rank: str) -> Integers:
        """Return the group (C,) of each class at a rank, as numbers from 0; without one there, the class is its own."""
        numbers: dict[Node, int] = {}
        found = [numbers.setdefault(_at(lineage, rank), len(numbers)) for lineage in self._lineages]
        return np.array(found, np.int64)


def _lineage(taxonomy: Taxonomy, name: str, former: Mapping[str, str]) -> tuple[Node, ...]:
    """The lineage of a class; of one that has no place, that of its former name."""
    own = taxonomy.lineage(name)
    if len(own) > 1 or name not in former:
        return own
    first, *above = taxonomy.lineage(former[name])
    return (Node(name, first.rank), *above)


def _at(lineage: Sequence[Node], rank: str) -> Node:
    """The group of a class at a rank."""
    return next((node for node in lineage if node.rank == rank), lineage[0])
