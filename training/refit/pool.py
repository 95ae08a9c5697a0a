"""The rows that a head is fitted to: the deployed backbone's, and the moved ones of other looks.

It knows nothing of heads, and of the solver only the form in which it reads rows.

Letters: M rows, D feature dimensions, C classes, I images.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from breadcrumbs.training.emanate import rank_in_class
from breadcrumbs.training.refit.rows import Rows
from breadcrumbs.training.refit.transfer import Move
from breadcrumbs.training.solver.rows import Chunk, Source

CHUNK = 8192  # rows that are read together


@dataclass(frozen=True, eq=False)
class Pool:
    """Rows to fit, the features of which are read when they are asked for.

    Attributes:
        parts: where the rows are, the deployed backbone's first, and how they move.
        part, place: int64 (M,), the part a row is of, and its number there.
        labels: int64 (M,).
        shares: (M,), 1 / the rows of the row's image: every image counts once.
        toward: W₀ (C, D), where a head begins; None: at 0.
    """

    parts: tuple[Move, ...]
    part: Tensor
    place: Tensor
    labels: Tensor
    shares: Tensor
    toward: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def feature_dim(self) -> int:
        """D."""
        return self.parts[0].rows.feature_dim

    @property
    def size(self) -> int:
        """Numbers in all features, M·D."""
        return len(self) * self.feature_dim

    @property
    def features(self) -> Tensor:
        """All features, read into memory, f32 (M, D)."""
        made = torch.empty(len(self), self.feature_dim)
        for chosen in torch.split(torch.arange(len(self)), CHUNK):
            made[chosen] = self.gather(chosen)
        return made

    def gather(self, chosen: Tensor) -> Tensor:
        """Read the features f32 (B, D) of some rows, by numbers (B,)."""
        made = torch.empty(len(chosen), self.feature_dim)
        for number, move in enumerate(self.parts):
            own = (self.part[chosen] == number).nonzero().squeeze(1)
            if len(own):
                made[own] = move.gather(self.place[chosen[own]])
        return made

    def source(self, weights: Tensor) -> Source:
        """The rows with these weights (M,) for the solver, read anew on every pass, some at a time."""

        def read() -> Iterator[Chunk]:
            for chosen in torch.split(torch.arange(len(self)), CHUNK):
                yield self.gather(chosen), self.labels[chosen], weights[chosen]

        return read

    def plain(self) -> Tensor:
        """ω (M,) by which every image weighs the same and all weigh 1."""
        return self.shares / self.shares.sum()

    def log_prior(self, classes: int) -> Tensor:
        """Log π (C,), π_y the share of class y among the images; a class without any counts as one image."""
        images = torch.zeros(classes).index_add_(0, self.labels, self.shares).clamp(min=1)
        return (images / images.sum()).log()

    def balanced(self, classes: int) -> Tensor:
        """ω (M,) by which every class weighs the same, in it every image, and all weigh 1."""
        images = torch.zeros(classes).index_add_(0, self.labels, self.shares)  # n_y (C,)
        return self.shares / images[self.labels] / int((images > 0).sum())


def pooled(base: Rows, moves: Sequence[Move], images: Tensor, target: int | None, seed: int) -> Pool:
    """Put rows together.

    Args:
        base: the deployed backbone's rows; those without a class stay out.
        moves: the other looks, the newest first.
        images: bool (I,), the images whose rows may be fitted.
        target: at most so many rows of each class, newest look first and drawn within one (the paper's cut); None means
            all.
        seed: of the draw.
    """
    parts = (Move(base), *moves)
    fit = [images[m.rows.images] & (m.rows.labels >= 0) for m in parts]
    place = torch.cat([own.nonzero().squeeze(1) for own in fit])
    part = torch.cat([torch.full((int(own.sum()),), number) for number, own in enumerate(fit)])
    labels = torch.cat([m.rows.labels[own] for m, own in zip(parts, fit, strict=True)])
    image = torch.cat([m.rows.images[own] for m, own in zip(parts, fit, strict=True)])
    if target is not None:
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
        order = order[part[order].argsort(stable=True)]  # the newest look first, drawn within one
        kept = (rank_in_class(labels, order) < target).nonzero().squeeze(1)  # in the files' own order
        place, part, labels, image = place[kept], part[kept], labels[kept], image[kept]
    rows = torch.bincount(image, minlength=len(images))  # of each image (I,)
    return Pool(parts, part, place, labels, 1.0 / rows[image])
