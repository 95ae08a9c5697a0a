"""Which rows of several snapshots show one image, and of which class it is.

One image is one image however often it was looked at. Two rows show the same image if their snapshots name one data set
and the rows have one id, or if one backbone made equal features of them. Ids in a snapshot that names no data set are
its own, since two uploads may both count from 0; only a bundle's own snapshots, made by one run, share theirs. It knows
nothing of heads or of EMANATE.

Letters: M rows of a look, I images, C classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from breadcrumbs.models.snapshots.examples import are_examples
from breadcrumbs.models.snapshots.examples import judging as chosen
from breadcrumbs.models.snapshots.snapshot import MAPPED, Snapshot
from breadcrumbs.training.refit.rows import OTHER, Rows, joined

Integers = NDArray[np.int64]
Key = tuple[str, int]


@dataclass(frozen=True, eq=False)
class Images:
    """The looks at a set of images.

    Attributes:
        own: the bundle's own looks.
        uploads: the newer ones, the newest last.
        aside: the hold-out's rows, which are in no look; None means there is no hold-out.
        labels: int64 (I,), the class of each image, or `OTHER`.
        disputed: how many images have rows of different classes; the newest row's class holds.
        examples: bool (I,), the images that people labelled (`models.snapshots.examples`), but for the bundle's own.
        judging: bool (I,), those of them that judge heads.
    """

    own: tuple[Rows, ...]
    uploads: tuple[Rows, ...]
    aside: Rows | None
    labels: Tensor
    disputed: int
    examples: Tensor
    judging: Tensor

    @cached_property
    def looks(self) -> tuple[Rows, ...]:
        """The looks of the deployed backbone first, the mapped last of them; then the bundle's own, then the newest."""
        ranked = [
            ((not look.present, look.mapped, new, -look.epoch), look)
            for new in (False, True)
            for look in self._of(new=new)
        ]
        return tuple(look for _, look in sorted(ranked, key=lambda one: one[0]))

    def _of(self, *, new: bool) -> tuple[Rows, ...]:
        return self.uploads if new else self.own

    @cached_property
    def stored(self) -> Tensor:
        """Whether the bundle's own looks have an image that is no example, bool (I,)."""
        return self._in(self.own) & ~self.examples

    @cached_property
    def made(self) -> Tensor:
        """Whether the deployed backbone itself saw an image, bool (I,); a map brought no row of it here."""
        return self._in([look for look in self.looks if look.present and not look.mapped])

    @cached_property
    def seen(self) -> Tensor:
        """Whether any look has an image, bool (I,)."""
        return self._in((*self.own, *self.uploads))

    def _in(self, looks: Sequence[Rows]) -> Tensor:
        found = torch.zeros(len(self.labels), dtype=torch.bool)
        for look in looks:
            found[look.images] = True
        return found

    def reachable(self, pairs: int) -> Tensor:
        """Whether an image is in a look of the deployed backbone, or in one that has `pairs` such images, bool (I,)."""
        here = self._in([look for look in self.looks if look.present])
        return here | self._in([look for look in self._foreign() if int(here[look.images].sum()) >= pairs])

    def base(self) -> Rows:
        """One row of the deployed backbone for each image that it has seen: that of the first look that has it.

        What the backbone makes of an image's plain pixels is always the same. The bundle's own rows come first, as they
        are of plain pixels; rows of later looks may be of augmented ones. Mapped rows come last: any row that the
        backbone made itself is better.
        """
        return joined([first for first, _ in self._divided()])

    def crumbs(self) -> tuple[Rows, ...]:
        """The other rows: further looks of the deployed backbone, and all looks of each other backbone together."""
        return tuple(more for _, more in self._divided() if len(more)) + self._foreign()

    def _foreign(self) -> tuple[Rows, ...]:
        """The rows of each other backbone, of all its looks together: what is learned of one look moves the others."""
        by_backbone: dict[str, list[Rows]] = {}
        for look in self.looks:
            if not look.present:
                by_backbone.setdefault(look.backbone, []).append(look)
        return tuple(joined(looks) for looks in by_backbone.values())

    def _divided(self) -> list[tuple[Rows, Rows]]:
        """Each look of the deployed backbone: the rows of images that no look before it has, and the others."""
        parts, seen = [], torch.zeros(len(self.labels), dtype=torch.bool)
        for look in self.looks:
            if look.present:
                known = seen[look.images]
                parts.append((look.take(~known), look.take(known)))
                seen[look.images] = True
        return parts

    def renamed(self, place: Tensor) -> "Images":
        """The same images with other numbers for the classes: place (C + 1,), the last for `OTHER`."""

        def change(rows: Rows) -> Rows:
            return replace(rows, labels=place[rows.labels])

        return replace(
            self,
            own=tuple(map(change, self.own)),
            uploads=tuple(map(change, self.uploads)),
            aside=self.aside and change(self.aside),
            labels=place[self.labels],
        )


def identified(
    own: Sequence[Snapshot], uploads: Sequence[Snapshot], holdout: Snapshot | None, place: Mapping[str, int],
    backbone: str,
) -> Images:  # fmt: skip
    """Number the images of snapshots.

    Args:
        own: the bundle's.
        uploads: the newer ones, the newest last: where an image has several classes, the last one holds.
        holdout: rows that are kept aside.
        place: the index of each class name in the new head; a row of any other class is of no class.
        backbone: digest of the deployed backbone.
    """
    numbers: dict[Key, int] = {}
    snapshots = (*own, *uploads, *([] if holdout is None else [holdout]))
    parts: list[Rows] = []
    for age, snapshot in enumerate(snapshots):
        images = torch.from_numpy(_numbered(snapshot, age, age < len(own), numbers))
        labels = _labels(snapshot, place)
        rows = torch.arange(len(labels))
        present = snapshot.backbone == backbone
        stored, mapped = (snapshot.features,), snapshot.lineage == MAPPED
        parts.append(Rows(stored, 0 * rows, rows, labels, images, snapshot.backbone, snapshot.epoch, present, mapped))
    number = _equal_rows(parts, len(numbers))
    parts = [replace(rows, images=number[rows.images]) for rows in parts]
    examples, judging = _examples(snapshots, parts, len(own), int(number.max()) + 1)
    parts = list(map(_once, parts))
    labels, disputed = torch.full((int(number.max()) + 1,), OTHER), torch.zeros(int(number.max()) + 1, dtype=torch.bool)
    for part in parts:  # the newest last
        named = part.take(part.labels >= 0)
        disputed[named.images] |= (labels[named.images] != OTHER) & (labels[named.images] != named.labels)
        labels[named.images] = named.labels
    parts = [replace(rows, labels=labels[rows.images]) for rows in parts]
    first, last = len(own), len(own) + len(uploads)
    return Images(
        tuple(parts[:first]), tuple(parts[first:last]), parts[last] if last < len(parts) else None, labels,
        int(disputed.sum()), examples, judging,
    )  # fmt: skip


def _examples(snapshots: Sequence[Snapshot], parts: Sequence[Rows], own: int, count: int) -> tuple[Tensor, Tensor]:
    """Return the images (I,) that people labelled, and those that judge heads.

    Of several examples of one image, one is enough for it to judge: what judges in any row is fitted in none. An image
    of the bundle's own rows, the first `own` snapshots, was trained on, so it is no example.
    """
    labelled, judging, trained = (torch.zeros(count, dtype=torch.bool) for _ in range(3))
    for age, (snapshot, rows) in enumerate(zip(snapshots, parts, strict=True)):
        if are_examples(snapshot):
            labelled[rows.images] = True
            judging[rows.images[torch.from_numpy(chosen(snapshot))]] = True
        elif age < own:
            trained[rows.images] = True
    return labelled & ~trained, judging & ~trained


def _numbered(snapshot: Snapshot, age: int, own: bool, numbers: dict[Key, int]) -> Integers:
    """Return the number of each row's image (M,), giving a new one to each image that has none."""
    if snapshot.ids is None:
        scope, ids = f"row of {age}", range(len(snapshot.labels))
    else:
        scope, ids = (
            snapshot.dataset or ("the bundle" if own else f"upload {age}"),
            snapshot.ids.tolist(),
        )
    return np.array([numbers.setdefault((scope, i), len(numbers)) for i in ids], np.int64)


def _labels(snapshot: Snapshot, place: Mapping[str, int]) -> Tensor:
    index = np.array([*(place.get(name, OTHER) for name in snapshot.classes), OTHER], np.int64)
    return torch.from_numpy(index[snapshot.labels])  # −1, no label, is the last


def _equal_rows(looks: Sequence[Rows], count: int) -> Tensor:
    """Return a new number for each image (I,), by which images of equal rows of one backbone have one number."""
    parent = list(range(count))

    def root(image: int) -> int:
        while parent[image] != image:
            parent[image] = parent[parent[image]]
            image = parent[image]
        return image

    first: dict[tuple[str, bytes], int] = {}
    for rows in looks:
        for digest, image in zip(rows.digests(), rows.images.tolist(), strict=True):
            other = first.setdefault((rows.backbone, digest), image)
            if other != image:
                parent[root(image)] = root(other)
    roots = np.array([root(image) for image in range(count)])
    return torch.from_numpy(np.unique(roots, return_inverse=True)[1])


def _once(rows: Rows) -> Rows:
    """The first row of each image in a look: equal rows of one file are one."""
    _, first = np.unique(rows.images.numpy(), return_index=True)
    return rows.take(torch.from_numpy(np.sort(first)))
