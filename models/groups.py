"""many, medium, few: the three groups of classes by how many training images they have.

Two conventions circulate, and the same predictions give different numbers under each; a report names the one it used.

    A   many: at least 100, few: at most 20      OLTR and this method's paper
    B   many: more than 100, few: fewer than 20  Decoupling and most later work

It knows nothing of what is measured over the groups.
"""

from collections.abc import Sequence
from typing import Literal

Group = Literal["many", "medium", "few"]
Convention = Literal["A", "B"]

GROUPS: tuple[Group, ...] = ("many", "medium", "few")

_BOUNDS = {"A": (100, 20), "B": (101, 19)}  # the fewest images of many, the most of few


def groups(counts: Sequence[int], convention: Convention) -> tuple[Group, ...]:
    """Return the group of each class by its training images (C,)."""
    many, few = _BOUNDS[convention]
    return tuple("many" if n >= many else "few" if n <= few else "medium" for n in counts)
