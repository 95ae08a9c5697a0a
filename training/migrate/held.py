"""What the old head and the new one are compared on: the same images under both backbones.

    labelled pairs             images that the new backbone really saw; they prove something
    mapped hold-out            the old bundle's hold-out, mapped; the new backbone never saw these images
    mapped share of the rows   where there is neither, some of the old bundle's rows; the old head was fitted to them

It knows nothing of how the map was chosen or how the new head was fitted.

Letters: N rows, C classes.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.groups import Group
from breadcrumbs.models.head import LinearHead
from breadcrumbs.models.snapshots.snapshot import Snapshot
from breadcrumbs.training.data.dataset import held_out
from breadcrumbs.training.migrate.division import Division
from breadcrumbs.training.refit.holdout import Source
from breadcrumbs.training.refit.rows import RefitError

What = Literal["labelled pairs", "mapped hold-out", "mapped share of the rows"]
SOURCES: dict[What, Source] = {
    "labelled pairs": "snapshot",
    "mapped hold-out": "bundle",
    "mapped share of the rows": "split",
}
"""How a refit's report calls them."""
FLATTERED = (
    "recall on mapped rows is higher than on real images, since the fitted rows and the judged ones went through one "
    "map; give more labelled pairs, in folders that are named as their classes, to know how much"
)
OWN_ROWS = (
    "the old bundle has no hold-out, so a share of its own rows was mapped and set aside; the old head was fitted to "
    "them, which favours it"
)

Move = Callable[[Snapshot], Snapshot]
"""Returns rows of the old space as mapped rows of the new one."""


@dataclass(frozen=True, eq=False)
class Held:
    """Rows that both heads answer for.

    Attributes:
        what: they are.
        rows: labelled rows of the new space (N, D).
        answers: logits (N, C) of the old head for the same images, as the old backbone saw them.
    """

    what: What
    rows: Snapshot
    answers: Floats

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know, a sentence each."""
        if self.what == "labelled pairs":
            return ()
        return (FLATTERED, OWN_ROWS) if self.what == "mapped share of the rows" else (FLATTERED,)


def enough(division: Division, class_groups: Sequence[Group], least: int) -> bool:
    """Whether the labelled pairs that are set aside can judge: each group of classes has so many.

    A few, such as pictures that happen to be in the old hold-out too, would leave most classes unmeasured.
    """
    rows = Counter(class_groups[label] for label in division.judged.new.labels.tolist())
    return all(rows[group] >= least for group in class_groups)


def held(
    division: Division, head: LinearHead, move: Move, fraction: float, seed: int, *, proof: bool
) -> tuple[Held, Held]:
    """Return what the gate judges on, and what is told of what was kept; often they are the same.

    Args:
        division: what each row is used for.
        head: the old one.
        move: the map.
        fraction: share of each class's rows that is set aside where there is nothing else.
        seed: of that draw.
        proof: whether there are enough labelled pairs to judge on.

    Raises:
        RefitError: there is nothing to judge on.
    """
    seen = _labelled_pairs(division, head) if proof else None
    if division.holdout is not None:
        mapped = _mapped("mapped hold-out", division.holdout, head, move)
        return seen or mapped, mapped
    own = seen or _mapped("mapped share of the rows", _share(division, fraction, seed), head, move)
    return own, own


def _labelled_pairs(division: Division, head: LinearHead) -> Held:
    both = division.judged
    rows = Snapshot(both.new.features.numpy(), both.new.labels.numpy(), head.classes, both.new.backbone, both.new.epoch)
    return Held("labelled pairs", rows, head.logits(both.old.features.numpy()))


def _mapped(what: What, before: Snapshot, head: LinearHead, move: Move) -> Held:
    return Held(what, move(before), head.logits(np.asarray(before.features, np.float32)))


def _share(division: Division, fraction: float, seed: int) -> Snapshot:
    """A share of each class's rows in the snapshot that has most of them; a class of one row keeps it.

    Raises:
        RefitError: no class has two rows.
    """
    largest = max(division.mapped, key=lambda one: len(one.labels))
    numbers = np.flatnonzero(held_out(largest.labels, len(largest.classes), fraction, seed))
    if not len(numbers):
        raise RefitError(
            "the old bundle has no hold-out and no class of two rows, so there is nothing to judge on; give labelled "
            "pairs, in folders that are named as their classes"
        )
    return largest.take(numbers)
