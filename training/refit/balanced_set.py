"""The pool of features that a refit stands on: several snapshots, brought to the live head's classes and to the
present class means, and the balanced set drawn from them.

It knows nothing of heads or files, and of the solver only the form in which it reads rows.

Letters: N rows of all snapshots, M rows of the balanced set, D feature dimensions, C classes, n the balanced target.
Equation numbers are the paper's, which `training/emanate.py` names.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from breadcrumbs.models.snapshots.snapshot import Snapshot
from breadcrumbs.training.emanate import rank_in_class
from breadcrumbs.training.refit.rows import RefitError, Rows, without
from breadcrumbs.training.solver.rows import Chunk, Source

CHUNK = 8192  # rows that are read together


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
    means, _ = newest_means(present, len(classes))
    lost = [classes[c] for c in without_mean(pool, present, len(classes)).nonzero().squeeze(1).tolist()]
    if lost:
        raise RefitError(
            f"no snapshot of the deployed backbone has the classes {', '.join(lost)}; "
            "their present mean is unknown, so older features cannot be transferred to it; "
            "set missing_mean = skip to go on without them"
        )
    return means


def newest_means(present: Sequence[Rows], classes: int) -> tuple[Tensor, Tensor]:
    """Return each class's mean (C, D) in the newest part that has it, and whether one has (C,)."""
    means = torch.zeros(classes, present[0].feature_dim)
    known = torch.zeros(classes, dtype=torch.bool)
    for part in (part.known() for part in present):
        own, counts = part.class_means(classes)
        fresh = (counts > 0) & ~known
        means[fresh] = own[fresh]
        known |= fresh
    return means, known


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
    counts = torch.bincount(newest.labels, minlength=classes)  # (C,)
    share = torch.where(counts > 1, (counts * fraction).round().long().clamp(min=1), 0)  # rows to hold out (C,)
    held = rank_in_class(newest.labels, order) < share[newest.labels]  # (N,)

    rows = newest.take(held)
    return rows, [without(part, rows) for part in pool], [without(part, rows) for part in present]


@dataclass(frozen=True, eq=False)
class BalancedSet:
    """Which rows make the balanced set, and how they are moved; the features are read when they are asked for.

    Attributes:
        parts: where the rows are, newest first.
        shifts: (C, D) each, what transfer adds to a part's features; None means they stay.
        place: int64 (M,), each row's number in its part.
        labels: int64 (M,).
        weights: (M,), by which every class weighs the same and all weigh 1.
        ages: int64 (M,), the part a row is of: 0 for the newest, 1 for the one before, and so on.
    """

    parts: tuple[Rows, ...]
    shifts: tuple[Tensor | None, ...]
    place: Tensor
    labels: Tensor
    weights: Tensor
    ages: Tensor

    @property
    def size(self) -> int:
        """Numbers in all features, M·D."""
        return len(self.labels) * self.parts[0].feature_dim

    @property
    def features(self) -> Tensor:
        """All features, read into memory, f32 (M, D)."""
        made = torch.empty(len(self.labels), self.parts[0].feature_dim)
        for chosen in torch.split(torch.arange(len(self.labels)), CHUNK):
            self._read(chosen, made[chosen[0] : chosen[-1] + 1])
        return made

    def source(self) -> Source:
        """The rows for the solver, read from the parts anew on every pass, some at a time."""

        def read() -> Iterator[Chunk]:
            for chosen in torch.split(torch.arange(len(self.labels)), CHUNK):
                made = torch.empty(len(chosen), self.parts[0].feature_dim)
                self._read(chosen, made)
                yield made, self.labels[chosen], self.weights[chosen]

        return read

    def _read(self, chosen: Tensor, out: Tensor) -> None:
        for age, (part, shift) in enumerate(zip(self.parts, self.shifts, strict=True)):
            own = (self.ages[chosen] == age).nonzero().squeeze(1)
            if len(own):
                features = part.gather(self.place[chosen[own]])
                out[own] = features if shift is None else features.add_(shift[self.labels[chosen[own]]])


def balanced(parts: Sequence[Rows], means: Tensor | None, target: int, classes: int, seed: int) -> BalancedSet:
    """Draw the balanced set: for each class newest first, transferred to its present mean, cut to n features.

    A class with fewer keeps what it has, each weighing more. Within an epoch the order is drawn, so that a class whose
    newest epoch alone exceeds n offers a uniform sample of it.

    Args:
        parts: the snapshots' rows, newest first; each is transferred with its own class means (eq. 6).
        means: (C, D) to transfer to; None means old features stay where they are.
        target: n.
        classes: C.
        seed: of the draw.
    """
    labels = torch.cat([part.labels for part in parts])  # (N,)
    ages = torch.cat([torch.full_like(part.labels, age) for age, part in enumerate(parts)])  # (N,)
    place = torch.cat([torch.arange(len(part)) for part in parts])  # (N,)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    order = order[ages[order].argsort(stable=True)]  # newest first, drawn within an age
    # In the parts' own order, so that files are read from front to back (M,).
    rows = (rank_in_class(labels, order) < target).nonzero().squeeze(1)
    offered = torch.bincount(labels, minlength=classes).clamp(max=target)  # min(n_y, n) (C,)
    weights = 1 / (offered[labels[rows]] * (offered > 0).sum())  # ω_i = 1 / (min(n_y, n) · classes with rows) (M,)
    # eq. 6: transfer adds z̄^e − z̄^{e'} of its class to each row, z̄^{e'} being the part's own mean
    shifts = tuple(None if means is None else means - part.class_means(classes)[0] for part in parts)
    return BalancedSet(tuple(parts), shifts, place[rows], labels[rows], weights, ages[rows])
