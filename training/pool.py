"""The pool of features that a refit stands on: several snapshots, brought to the live head's classes and to the
present class means, and the balanced set drawn from them.

It knows nothing of solvers, heads or files.

Letters: N rows of all snapshots, D feature dimensions, C classes, n the balanced target.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.errors import BreadcrumbsError
from models.snapshot import Snapshot
from training.emanate import class_means, transfer

Integers = NDArray[np.int64]


class RefitError(BreadcrumbsError):
    """Snapshots that cannot become a head; the message names the snapshot and the classes."""


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of one snapshot with the labels of the target classes.

    Attributes:
        features: f32 (M, D).
        labels: int64 (M,), in the target classes; −1 for a class that is not among them.
        ids: int64 (M,), or none.
        epoch: when.
        present: whether the deployed backbone made them.
    """

    features: Tensor
    labels: Tensor
    ids: Tensor | None
    epoch: int
    present: bool

    def is_same_look(self, other: "Rows") -> bool:
        """Whether both are the same rows: of one file, or of two of the same backbone, epoch and images."""
        return self.epoch == other.epoch and torch.equal(self.features, other.features)

    def known(self) -> "Rows":
        """The rows of classes that are among the target classes."""
        return self.take(self.labels >= 0)

    def take(self, mask: Tensor) -> "Rows":
        """Some of the rows, by a mask (M,)."""
        ids = None if self.ids is None else self.ids[mask]
        return Rows(self.features[mask], self.labels[mask], ids, self.epoch, self.present)


def target_classes(live: Sequence[str], snapshots: Sequence[Snapshot], *, grow: bool) -> tuple[str, ...]:
    """Return the classes of the new head: the live ones in their order, then new ones in order of appearance.

    Raises:
        RefitError: a class is new and `grow` is not set, or has fewer than two examples.
    """
    known = set(live)
    examples: dict[str, int] = {}
    for snapshot in snapshots:
        for name, count in zip(snapshot.classes, snapshot.counts(), strict=True):
            if name not in known and count:
                examples[name] = examples.get(name, 0) + int(count)
    if examples and not grow:
        raise RefitError(f"classes unknown to the live head: {', '.join(examples)}; set allow_new_classes to add them")
    rare = [name for name, count in examples.items() if count < 2]
    if rare:
        raise RefitError(f"a new class needs at least two examples; too few of: {', '.join(rare)}")
    return (*live, *examples)


def rows_of(snapshot: Snapshot, classes: Sequence[str], feature_dim: int, backbone: str) -> Rows:
    """Bring a snapshot to the target classes by name.

    Raises:
        RefitError: the feature dimension is not the bundle's.
    """
    if snapshot.feature_dim != feature_dim:
        raise RefitError(
            f"snapshot of epoch {snapshot.epoch} has features of {snapshot.feature_dim} dimensions; "
            f"the deployed backbone gives {feature_dim}"
        )
    place = {name: index for index, name in enumerate(classes)}
    index = np.array([place.get(name, -1) for name in snapshot.classes], np.int64)
    return Rows(
        torch.from_numpy(np.array(snapshot.features, np.float32)),
        torch.from_numpy(index[snapshot.labels]),
        None if snapshot.ids is None else torch.from_numpy(snapshot.ids),
        snapshot.epoch,
        snapshot.backbone == backbone,
    )


def merged(parts: Sequence[Rows]) -> Rows:
    """Make one part of several uploads of one backbone and epoch; a row that occurs in more than one counts once.

    Ids stay only where they still name one row each: uploads may number their images independently.
    """
    if len(parts) == 1:
        return parts[0]
    features, labels = torch.cat([part.features for part in parts]), torch.cat([part.labels for part in parts])
    _, place = torch.unique(features, dim=0, return_inverse=True)
    first = torch.full((len(place),), len(place)).scatter_reduce(0, place, torch.arange(len(place)), "amin")
    keep = first[first < len(place)].sort().values
    known = [part.ids for part in parts if part.ids is not None]
    ids = torch.cat(known)[keep] if len(known) == len(parts) else None
    if ids is not None and len(ids) > len(torch.unique(ids)):
        ids = None
    return Rows(features[keep], labels[keep], ids, parts[0].epoch, parts[0].present)


def newest_first(parts: Sequence[Rows]) -> list[Rows]:
    """Order by newness: what the deployed backbone made comes first, then by epoch."""
    return sorted(parts, key=lambda part: (not part.present, -part.epoch))


def present_means(pool: Sequence[Rows], present: Sequence[Rows], classes: Sequence[str]) -> Tensor:
    """Return each class's mean under the deployed backbone (C, D), from the newest part that has the class.

    Args:
        pool: the parts to be transferred: their classes need a mean.
        present: the parts that the deployed backbone made, newest first.
        classes: C names.

    Raises:
        RefitError: a class of the pool is in no part of the deployed backbone.
    """
    means = torch.zeros(len(classes), pool[0].features.shape[1])
    known = torch.zeros(len(classes), dtype=torch.bool)
    for part in (part.known() for part in present):
        own, counts = class_means(part.features, part.labels, len(classes))
        fresh = (counts > 0) & ~known
        means[fresh] = own[fresh]
        known |= fresh
    lost = [classes[c] for c in without_mean(pool, present, len(classes)).nonzero().squeeze(1).tolist()]
    if lost:
        raise RefitError(
            f"no snapshot of the deployed backbone has the classes {', '.join(lost)}; "
            "their present mean is unknown, so older features cannot be transferred to it; "
            "set missing_mean = skip to go on without them"
        )
    return means


def without_mean(pool: Sequence[Rows], present: Sequence[Rows], classes: int) -> Tensor:
    """Tell which classes (C,) the pool has and no part of the deployed backbone has."""

    def had(parts: Sequence[Rows]) -> Tensor:
        return torch.bincount(torch.cat([part.known().labels for part in parts]), minlength=classes) > 0

    return had(pool) & ~had(present)


def skip_without_mean(
    pool: Sequence[Rows], present: Sequence[Rows], classes: Sequence[str], known: int
) -> tuple[tuple[str, ...], list[Rows], list[Rows], list[str]]:
    """Leave out the classes that have no present mean: their rows, and the class itself where it is new.

    Args:
        pool: the parts to be transferred.
        present: the parts that the deployed backbone made.
        classes: C names, those of the live head first.
        known: how many the live head has.

    Returns:
        The classes that are left, the two lists with labels in them, and the names of what was left out.

    Raises:
        RefitError: nothing is left of the pool.
    """
    lost = without_mean(pool, present, len(classes))
    gone = lost & (torch.arange(len(classes)) >= known)
    place = torch.where(lost, -1, (~gone).cumsum(0) - 1)
    place = torch.cat([place, torch.tensor([-1])])  # a label of −1 stays so

    def rest(part: Rows) -> Rows:
        return replace(part, labels=place[part.labels])

    left = [part for part in (rest(part).known() for part in pool) if len(part.labels)]
    names = [name for name, out in zip(classes, lost.tolist(), strict=True) if out]
    if not left:
        raise RefitError(f"nothing is left to fit to: no class has a present mean; left out: {', '.join(names)}")
    kept = tuple(name for name, out in zip(classes, gone.tolist(), strict=True) if not out)
    return kept, left, [rest(part) for part in present], names


def split(
    pool: Sequence[Rows], present: Sequence[Rows], classes: int, fraction: float, seed: int
) -> tuple[Rows, list[Rows], list[Rows]]:
    """Hold out a share of each class of the newest present part, and take the same images out of all the others.

    A class with one row keeps it. Parts without ids cannot be matched: only the newest itself is split then.

    Returns:
        The held-out rows, the pool without them, the present parts without them.
    """
    present = [part.known() for part in present]
    newest = present[0]
    order = torch.randperm(len(newest.labels), generator=torch.Generator().manual_seed(seed))
    order = order[newest.labels[order].argsort(stable=True)]
    counts = torch.bincount(newest.labels, minlength=classes)
    rank = torch.arange(len(order)) - (counts.cumsum(0) - counts)[newest.labels[order]]
    share = torch.where(counts > 1, (counts * fraction).round().long().clamp(min=1), 0)
    held = torch.zeros(len(order), dtype=torch.bool)
    held[order[rank < share[newest.labels[order]]]] = True

    def rest(part: Rows) -> Rows:
        if part.is_same_look(newest):
            return part.take(~held)
        if part.ids is None or newest.ids is None:
            return part
        return part.take(~torch.isin(part.ids, newest.ids[held]))

    return newest.take(held), [rest(part) for part in pool], [rest(part) for part in present]


@dataclass(frozen=True, eq=False)
class BalancedSet:
    """Features (M, D), labels int64 (M,), row weights (M,) by which every class weighs the same and all weigh 1, and
    ages int64 (M,): 0 for the newest snapshot, 1 for the one before, and so on.
    """

    features: Tensor
    labels: Tensor
    weights: Tensor
    ages: Tensor


def balanced(parts: Sequence[Rows], means: Tensor | None, target: int, classes: int, seed: int) -> BalancedSet:
    """Draw the balanced set: for each class newest first, transferred to its present mean, cut to n features.

    A class with fewer keeps what it has, each weighing more. Within an epoch the order is drawn, so that a class whose
    newest epoch alone exceeds n offers a uniform sample of it.

    Args:
        parts: the snapshots' rows, newest first; each is transferred with its own class means (eq. 6).
        means: (C, D) to transfer to, or none to leave old features where they are.
        target: n.
        classes: C.
        seed: of the draw.
    """
    generator = torch.Generator().manual_seed(seed)
    moved, labels, ages = [], [], []
    for age, part in enumerate(parts):
        if means is None:
            moved.append(part.features)
        else:
            own, _ = class_means(part.features, part.labels, classes)
            moved.append(transfer(part.features, part.labels, own, means))
        labels.append(part.labels)
        ages.append(torch.full_like(part.labels, age))
    all_labels, all_ages = torch.cat(labels), torch.cat(ages)
    order = torch.randperm(len(all_labels), generator=generator)
    order = order[all_ages[order].argsort(stable=True)]  # newest first, drawn within an age
    order = order[all_labels[order].argsort(stable=True)]  # class by class
    counts = torch.bincount(all_labels, minlength=classes)
    rank = torch.arange(len(order)) - (counts.cumsum(0) - counts)[all_labels[order]]
    rows = order[rank < target]
    chosen = all_labels[rows]
    offered = counts.clamp(max=target)
    weights = 1 / (offered[chosen] * (offered > 0).sum())
    return BalancedSet(torch.cat(moved)[rows], chosen, weights, all_ages[rows])
