"""Rows of looks at images, left on disk until they are needed.

A look is what one backbone made of some images in one pass: a snapshot. Features stay in the mapped files, in the
precision they were stored in; choosing and splitting moves only the rows' numbers. It knows nothing of EMANATE, of
class means or of heads.

Letters: M rows, D feature dimensions, C classes, I images.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from breadcrumbs.models.errors import BreadcrumbsError

CHUNK = 8192  # rows in memory at a time, beyond what is asked for
OTHER = -1  # label of an image without a class that the new head has


class RefitError(BreadcrumbsError):
    """Snapshots that cannot become a head; the message names the snapshot and the classes."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of one feature space, of one file or several.

    Attributes:
        stored: the files' features, (N, D) each, f32, f16 or bf16, mapped.
        source: int64 (M,), which file a row is in.
        index: int64 (M,), its place there.
        labels: int64 (M,), 0 … C − 1, or `OTHER`.
        images: int64 (M,), 0 … I − 1: rows of one image have one number, in whatever look.
        backbone, epoch: what made them, and when.
        present: whether that is the deployed backbone.
        mapped: whether a map brought them to its space: it never saw the images.
    """

    stored: tuple[NDArray[Any], ...]
    source: Tensor
    index: Tensor
    labels: Tensor
    images: Tensor
    backbone: str
    epoch: int
    present: bool
    mapped: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def feature_dim(self) -> int:
        """D."""
        return int(self.stored[0].shape[1])

    def take(self, chosen: Tensor) -> "Rows":
        """Some of the rows, by a mask (M,) or by numbers."""
        return replace(
            self,
            source=self.source[chosen],
            index=self.index[chosen],
            labels=self.labels[chosen],
            images=self.images[chosen],
        )

    def gather(self, chosen: Tensor) -> Tensor:
        """Read the features f32 (B, D) of some rows, by numbers (B,)."""
        made = torch.empty(len(chosen), self.feature_dim)
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

    def digests(self) -> list[bytes]:
        """A digest of each row's features, by which an equal row is known in another file."""
        return [
            hashlib.blake2b(row.tobytes(), digest_size=16).digest()
            for chosen in torch.split(torch.arange(len(self)), CHUNK)
            for row in self.gather(chosen).numpy()
        ]


def joined(parts: Sequence[Rows]) -> Rows:
    """Make one of several parts of one feature space; what made them is said of the first."""
    files = np.cumsum([0, *(len(part.stored) for part in parts)])  # a part's files among all files
    return replace(
        parts[0],
        stored=tuple(stored for part in parts for stored in part.stored),
        source=torch.cat([part.source + int(first) for part, first in zip(parts, files, strict=False)]),
        index=torch.cat([part.index for part in parts]),
        labels=torch.cat([part.labels for part in parts]),
        images=torch.cat([part.images for part in parts]),
    )
