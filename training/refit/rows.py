"""The rows of one look at labelled images, left on disk until they are needed.

A look is what one backbone made at one epoch, in one upload or several. Its features stay in the mapped files, in the
precision they were stored in; choosing, splitting and taking out rows moves only their numbers. It knows nothing of
EMANATE, of class means or of heads.

Letters: M rows, D feature dimensions, C classes.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.models.snapshots.snapshot import Snapshot
from breadcrumbs.training.emanate import rank_in_class

CHUNK = 8192  # rows in memory at a time, beyond what is asked for


class RefitError(BreadcrumbsError):
    """Snapshots that cannot become a head; the message names the snapshot and the classes."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of one look, with the labels of the target classes.

    Attributes:
        stored: the files' features, (N, D) each, f32, f16 or bf16, mapped.
        source: int64 (M,), which file a row is in.
        index: int64 (M,), its place there.
        labels: int64 (M,), in the target classes; −1 for a class that is not among them.
        ids: int64 (M,); None means the snapshot has none.
        backbone, epoch: what made them, and when.
        present: whether that is the deployed backbone.
    """

    stored: tuple[NDArray[Any], ...]
    source: Tensor
    index: Tensor
    labels: Tensor
    ids: Tensor | None
    backbone: str
    epoch: int
    present: bool

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def feature_dim(self) -> int:
        """D."""
        return int(self.stored[0].shape[1])

    @property
    def look(self) -> tuple[str, int]:
        """What made the rows and when: rows of two looks are in different feature spaces."""
        return self.backbone, self.epoch

    def take(self, chosen: Tensor) -> "Rows":
        """Some of the rows, by a mask (M,) or by numbers."""
        ids = None if self.ids is None else self.ids[chosen]
        return replace(self, source=self.source[chosen], index=self.index[chosen], labels=self.labels[chosen], ids=ids)

    def known(self) -> "Rows":
        """The rows of classes that are among the target classes."""
        return self.take(self.labels >= 0)

    def gather(self, chosen: Tensor, out: Tensor | None = None) -> Tensor:
        """Read the features f32 (B, D) of some rows, by numbers (B,), into `out` if it is given."""
        made = torch.empty(len(chosen), self.feature_dim) if out is None else out
        for number, stored in enumerate(self.stored):
            place = (self.source[chosen] == number).nonzero().squeeze(1)
            index = self.index[chosen[place]].numpy()
            for start in range(0, len(index), CHUNK):
                part = np.asarray(stored[index[start : start + CHUNK]], np.float32)
                made[place[start : start + CHUNK]] = torch.from_numpy(part)
        return made

    @property
    def features(self) -> Tensor:
        """All features, read into memory, f32 (M, D)."""
        return self.gather(torch.arange(len(self)))

    def chunks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The features f32 (B, D) and labels (B,), some rows at a time."""
        for chosen in torch.split(torch.arange(len(self)), CHUNK):
            yield self.gather(chosen), self.labels[chosen]

    def class_means(self, classes: int) -> tuple[Tensor, Tensor]:
        """The mean of each class f32 (C, D), zero without rows, and its rows int64 (C,)."""
        counts = torch.bincount(self.labels, minlength=classes)
        sums = torch.zeros(classes, self.feature_dim)
        for features, labels in self.chunks():
            sums.index_add_(0, labels, features)
        return sums / counts.clamp(min=1).unsqueeze(1), counts

    def first_of_each(self, most: int) -> "Rows":
        """At most so many rows of each class: those of the lowest ids, or the first."""
        order = torch.arange(len(self)) if self.ids is None else self.ids.argsort()
        return self.take(rank_in_class(self.labels, order) < most)

    def digests(self) -> list[bytes]:
        """A digest of each row's features, by which the same row is known in two files."""
        return [
            hashlib.blake2b(row.tobytes(), digest_size=16).digest()
            for features, _ in self.chunks()
            for row in features.numpy()
        ]


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
    label = np.array([place.get(name, -1) for name in snapshot.classes], np.int64)
    count = len(snapshot.labels)
    return Rows(
        (snapshot.features,),
        torch.zeros(count, dtype=torch.int64),
        torch.arange(count),
        torch.from_numpy(label[snapshot.labels]),
        None if snapshot.ids is None else torch.from_numpy(snapshot.ids),
        snapshot.backbone,
        snapshot.epoch,
        snapshot.backbone == backbone,
    )


def merged(parts: Sequence[Rows]) -> Rows:
    """Make one of several uploads of one look; a row that occurs in more than one counts once.

    Ids stay only where they still name one row each: uploads may number their images independently.
    """
    if len(parts) == 1:
        return parts[0]
    first: dict[bytes, int] = {}
    digests = [digest for part in parts for digest in part.digests()]
    for number, digest in enumerate(digests):
        first.setdefault(digest, number)
    keep = torch.tensor(sorted(first.values()))  # of rows with equal features, the first
    offsets = np.cumsum([0, *(len(part.stored) for part in parts)])  # a part's files among all files
    known = [part.ids for part in parts if part.ids is not None]
    ids = torch.cat(known)[keep] if len(known) == len(parts) else None
    if ids is not None and len(ids) > len(torch.unique(ids)):
        ids = None
    return Rows(
        tuple(stored for part in parts for stored in part.stored),
        torch.cat([part.source + int(offset) for part, offset in zip(parts, offsets, strict=False)])[keep],
        torch.cat([part.index for part in parts])[keep],
        torch.cat([part.labels for part in parts])[keep],
        ids,
        parts[0].backbone,
        parts[0].epoch,
        parts[0].present,
    )


def without(part: Rows, held: Rows) -> Rows:
    """The rows of a part that are not looks at the held-out images: matched by id, or within one look by their values.

    A part of another look without ids cannot be matched, and stays whole.
    """
    if part.ids is not None and held.ids is not None:
        return part.take(~torch.isin(part.ids, held.ids))
    if part.look != held.look:
        return part
    taken = set(held.digests())
    return part.take(torch.tensor([digest not in taken for digest in part.digests()], dtype=torch.bool))
