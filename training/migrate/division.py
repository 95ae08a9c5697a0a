"""What each labelled row of the old bundle, and each pair, is used for in a change of backbone.

    pairs        images under both backbones, which the map is fitted to
    mapped       labelled images of the old bundle, which the new backbone never saw
    seen         labelled images that it saw: their own rows are better than mapped ones
    judged       labelled images that it saw and that are set aside: neither map nor head is fitted to them

Which rows show one image is told as in a refit: by data set and id, or by equal rows. So an image of the old hold-out
that is among the pairs brings its label, and is judged on. It knows nothing of maps or of heads.

Letters: I images, P pairs, C classes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from breadcrumbs.models.snapshots.snapshot import Snapshot
from breadcrumbs.training.emanate import rank_in_class
from breadcrumbs.training.refit.images import Images, identified
from breadcrumbs.training.refit.rows import RefitError, Rows, joined
from breadcrumbs.training.refit.transfer import in_both


@dataclass(frozen=True, eq=False)
class Both:
    """Images under both backbones: row p of `old` and row p of `new` show the same one."""

    old: Rows
    new: Rows

    def __len__(self) -> int:
        return len(self.new)

    def take(self, chosen: Tensor) -> "Both":
        """Some of the images, by a mask (P,) or by numbers."""
        return Both(self.old.take(chosen), self.new.take(chosen))


@dataclass(frozen=True, eq=False)
class Division:
    """What is used for what.

    Attributes:
        pairs: to fit the map to.
        judged: to judge on, with a label each.
        mapped: of the old bundle's snapshots, the labelled rows that are to be mapped.
        seen: snapshots of the new backbone, the labelled rows of each that can be fitted.
        holdout: the labelled rows of the old bundle's hold-out; None if there are none.
        notes: what a reader should know, a sentence each.
    """

    pairs: Both
    judged: Both
    mapped: tuple[Snapshot, ...]
    seen: tuple[Snapshot, ...]
    holdout: Snapshot | None
    notes: tuple[str, ...]


def divided(
    own: Sequence[Snapshot], holdout: Snapshot | None, looks: Sequence[Snapshot], backbones: tuple[str, str],
    classes: tuple[str, ...], place: Mapping[str, int], share: float, seed: int,
) -> Division:  # fmt: skip
    """Divide rows.

    Args:
        own: snapshots of the old bundle, the newest first.
        holdout: its hold-out.
        looks: the pairs, and other snapshots of the new backbone; the newest last.
        backbones: digests of the old backbone and of the new one.
        classes: C names.
        place: the index of each name that a snapshot may have for a class; rows of any other are of no class.
        share: of each class's labelled pairs, that is set aside to judge on, rounded up.
        seed: of that draw.

    Raises:
        RefitError: no image is under both backbones.
    """
    before, after = backbones
    images = identified(own, looks, holdout, place, before)
    newer = [rows for rows in images.uploads if rows.backbone == after]
    if not newer or not any(look.present for look in images.looks):
        raise RefitError("there is no image under both backbones, expected pairs; name a folder with --pairs")
    both = _both(images, newer)
    aside = _aside(images, both, len(classes), share, seed)
    unused = aside[both.new.images]
    seen = torch.zeros(len(images.labels), dtype=torch.bool)
    for rows in newer:
        seen[rows.images] = True
    mapped, lost = _mapped(own, images, ~aside & ~seen, classes)
    newest = [look for look in zip(looks, images.uploads, strict=True) if look[1].backbone == after]
    held = None if holdout is None or images.aside is None else _labelled(holdout, images.aside, classes)
    notes = () if not lost else (
        f"{lost} labelled images are left behind: the old bundle has rows of them by other backbones only",
    )  # fmt: skip
    return Division(
        both.take(~unused), both.take(unused & (both.new.labels >= 0)), mapped,
        tuple(_fitted(newest, aside, classes)), held, notes,
    )  # fmt: skip


def _both(images: Images, newer: Sequence[Rows]) -> Both:
    """The images that both backbones saw, one row of each."""
    old, new = images.base(), joined(newer)
    there, here = in_both(new, old)
    _, first = np.unique(new.images[there].numpy(), return_index=True)
    return Both(old.take(here[first]), new.take(there[first]))


def _aside(images: Images, both: Both, classes: int, share: float, seed: int) -> Tensor:
    """Which images nothing is fitted to, bool (I,): the hold-out's, and a share of the labelled pairs that are new."""
    aside = torch.zeros(len(images.labels), dtype=torch.bool)
    if images.aside is not None:
        aside[images.aside.images] = True
    own = both.new.images
    fresh = own[(both.new.labels >= 0) & ~images.stored[own] & ~aside[own]]
    labels = images.labels[fresh]
    rank = rank_in_class(labels, torch.randperm(len(fresh), generator=torch.Generator().manual_seed(seed)))
    count = (torch.bincount(labels, minlength=classes) * share).ceil()
    aside[fresh[rank < count[labels]]] = True
    return aside


def _mapped(
    own: Sequence[Snapshot], images: Images, wanted: Tensor, classes: tuple[str, ...]
) -> tuple[tuple[Snapshot, ...], int]:
    """The newest row of each wanted labelled image (I,) of the old bundle; and how many have a row by others only."""
    missing = wanted & images.stored & (images.labels >= 0)
    found = []
    for snapshot, rows in zip(own, images.own, strict=True):
        if not rows.present:
            continue
        mine = rows.take(missing[rows.images])
        missing[mine.images] = False
        if len(mine):
            found.append(_labelled(snapshot, mine, classes))
    return tuple(one for one in found if one is not None), int(missing.sum())


def _fitted(looks: Sequence[tuple[Snapshot, Rows]], aside: Tensor, classes: tuple[str, ...]) -> Iterator[Snapshot]:
    """The labelled rows of the new backbone that are not set aside."""
    for snapshot, rows in looks:
        found = _labelled(snapshot, rows.take(~aside[rows.images]), classes)
        if found is not None:
            yield found


def _labelled(snapshot: Snapshot, rows: Rows, classes: tuple[str, ...]) -> Snapshot | None:
    """Some rows of a snapshot, those that have a label; their classes are as they are called now."""
    mine = rows.take(rows.labels >= 0)
    if not len(mine):
        return None
    found = snapshot.take(mine.index.numpy())
    return replace(found, labels=mine.labels.numpy(), classes=classes, weight=None, bias=None)
