"""The trail: the crumbs of past epochs, kept on the device in fixed memory, and the balanced set drawn from them.

Class y keeps the newest n features that its images left behind: all of its last q_y − 1 epochs and as much of the
oldest as fits. They are kept as *residuals*, z_i − z̄_y of their own epoch, so that EMANATE transfer to any later mean
(eq. 6) is one addition when they are drawn, and no mean but the newest has to be kept. A class with n images or
more keeps n of its newest epoch, drawn uniformly.

Memory, allocated once: C·n rows of residuals and N rows that collect the epoch in progress; C·n is N rounded up, so
2·N·D elements. It knows nothing of networks, optimizers or images.

Letters: N images, D feature dimensions, C classes, n the balanced target, S steps an epoch.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from breadcrumbs.training.emanate import back_track, balanced_target, rank_in_class

CHUNK = 2**19  # numbers re-centred together at the end of an epoch: a temporary that stays in the cache


@dataclass(frozen=True, eq=False)
class BalancedBatch:
    """Features (B, D) and labels int64 (B,) in which, over the epoch, every class has the same weight."""

    features: Tensor
    labels: Tensor


class Trail:
    """The crumbs of one training run.

    Args:
        labels: int64 (N,), the class of every training image; an image's row here is its name in `record`.
        classes: C.
        feature_dim: D.
        device, dtype: of the stored features; bfloat16 halves the memory.
        uniform: draw which features of an over-full epoch survive; else keep the first, as the release does.
        seed: of every draw.

    Attributes:
        means: f32 (C, D), the newest class means z̄^e.
        drift: f32 (C,), how far each mean moved in the last epoch, in units of the class's spread, the root mean square
            distance of its features from their mean; NaN where there is nothing to compare.
        crumbs: f32 (C,), the share of a class's stored features that are older than the newest epoch.
    """

    def __init__(
        self,
        labels: Tensor,
        classes: int,
        feature_dim: int,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        uniform: bool = True,
        seed: int = 0,
    ) -> None:
        self.labels = labels.to(device)
        self.classes = classes
        self.target = balanced_target(len(labels), classes)
        counts = torch.bincount(self.labels, minlength=classes)
        self.epochs_back = back_track(counts, self.target)  # q_y
        self._longest = int(self.epochs_back.max())
        self._uniform, self._seed = uniform, seed
        self._chunk = max(1, CHUNK // feature_dim)  # rows
        # The epoch in progress: features (N, D), and which images have been seen.
        self._fresh = torch.zeros(len(labels), feature_dim, device=device, dtype=dtype)
        self._seen = torch.zeros(len(labels), device=device, dtype=torch.bool)
        # A ring of n residuals for every class: (C·n, D), where the next goes, and how many there are.
        self._residuals = torch.zeros(classes * self.target, feature_dim, device=device, dtype=dtype)
        self._next = torch.zeros(classes, device=device, dtype=torch.int64)
        self._filled = torch.zeros(classes, device=device, dtype=torch.int64)
        self.means = torch.zeros(classes, feature_dim, device=device)  # z̄^e, (C, D)
        self.drift = torch.full((classes,), torch.nan, device=device)
        self.crumbs = torch.zeros(classes, device=device)
        self.epochs = 0
        self._order: Tensor | None = None  # this epoch's shuffled draw

    @property
    def complete(self) -> bool:
        """Whether every class has been tracked back its full q_y epochs: the release's readiness."""
        return self.epochs >= self._longest

    def record(self, rows: Tensor, features: Tensor) -> None:
        """Keep the features (B, D) that a forward pass gave images `rows` int64 (B,); gradients are left behind."""
        self._fresh.index_copy_(0, rows, features.detach().to(self._fresh.dtype))
        self._seen.index_fill_(0, rows, value=True)

    def pool(self, add_up: Callable[[Tensor], Tensor]) -> None:
        """Put together the epoch in progress of several processes, each image recorded by one of them.

        Args:
            add_up: sums a tensor over the processes, in place.
        """
        seen = self._seen.int()
        self._fresh[~self._seen] = 0
        add_up(self._fresh)
        add_up(seen)
        self._seen = seen > 0

    def snapshot(self) -> tuple[Tensor, Tensor]:
        """Return the rows seen in the epoch in progress, int64 (M,), and their features (M, D): Z^e."""
        rows = self._seen.nonzero().squeeze(1)
        return rows, self._fresh[rows]

    def close_epoch(self) -> None:
        """Make the epoch in progress the newest; a class that it did not see keeps what it has."""
        seen = self._seen
        counts = torch.bincount(self.labels, weights=seen.double(), minlength=self.classes).long()
        self._close_means(counts)
        rank = self._rank()
        kept = counts.clamp(max=self.target)
        first_free = self._next[self.labels]
        # The lowest rank is written last, so what is overwritten first is the highest rank of the oldest epoch.
        slot = (first_free + kept[self.labels] - 1 - rank) % self.target
        keep = (seen & (rank < self.target)).nonzero().squeeze(1)
        for rows in torch.split(keep, self._chunk):
            labels = self.labels[rows]
            residuals = self._fresh.index_select(0, rows).float().sub_(self.means.index_select(0, labels))
            self._residuals.index_copy_(0, labels * self.target + slot[rows], residuals.to(self._residuals.dtype))
        self._next = (self._next + kept) % self.target
        self._filled = (self._filled + kept).clamp(max=self.target)
        self.crumbs = 1 - kept / self._filled.clamp(min=1)
        self._seen.zero_()
        self.epochs += 1
        self._order = None

    def _close_means(self, counts: Tensor) -> None:
        sums, squares = torch.zeros_like(self.means), torch.zeros_like(self.drift)
        for rows in self._seen_rows():
            fresh, labels = self._fresh[rows].float(), self.labels[rows]
            sums.index_add_(0, labels, fresh)
            squares.index_add_(0, labels, torch.linalg.vector_norm(fresh, dim=1).square())
        present = counts > 0
        means = torch.where(present.unsqueeze(1), sums / counts.clamp(min=1).unsqueeze(1), self.means)
        spread = (squares / counts.clamp(min=1) - means.square().sum(1)).clamp(min=0).sqrt()
        known = present & (self._filled > 0) & (spread > 0)
        self.drift = torch.where(known, (means - self.means).norm(dim=1) / spread, torch.nan)
        self.means = means

    def _seen_rows(self) -> Iterator[slice | Tensor]:
        """The rows seen in the epoch in progress, in parts: slices, which copy nothing, where all were."""
        if bool(self._seen.all()):
            return (slice(first, first + self._chunk) for first in range(0, len(self._seen), self._chunk))
        return iter(torch.split(self._seen.nonzero().squeeze(1), self._chunk))

    def _rank(self) -> Tensor:
        """Each seen image's place 0 … n_y − 1 within its class, drawn or in order; unseen images come after."""
        key = torch.arange(len(self.labels), device=self.labels.device)
        if self._uniform:
            key = torch.randperm(len(self.labels), generator=self._generator(1)).to(key.device)
        size = len(self.labels)
        return rank_in_class(self.labels, torch.where(self._seen, key, key + size).argsort())

    def balanced(self, step: int, steps: int) -> BalancedBatch:
        """Return the part of this epoch's balanced set that goes with one training step.

        Over S steps the whole set of L rows passes once, in parts whose sizes differ by one at most: n features of
        every class, transferred to the newest mean. A class with `available` < n crumbs so far repeats them, so each
        weighs n / available.

        Args:
            step: 0 … S − 1.
            steps: S.
        """
        if self._order is None:
            self._order = self._draw()
        size, rest = divmod(len(self._order), steps)  # floor or ceil of L / S rows: none is empty while S <= L
        first = step * size + min(step, rest)
        place = self._order[first : first + size + (step < rest)]
        labels = place // self.target
        residuals = self._residuals.index_select(0, labels * self.target + place % self.target % self._filled[labels])
        return BalancedBatch(residuals.float().add_(self.means.index_select(0, labels)), labels)

    def _draw(self) -> Tensor:
        order = torch.randperm(self.classes * self.target, generator=self._generator(2)).to(self.labels.device)
        return order[self._filled[order // self.target] > 0]

    def _generator(self, purpose: int) -> torch.Generator:
        # Seeded from the epoch's number, not carried along: a resumed run draws what the whole run would have drawn.
        return torch.Generator().manual_seed((self._seed * 1_000_003 + self.epochs) * 4 + purpose)

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on after the last closed epoch."""
        return {
            "residuals": self._residuals,
            "next": self._next,
            "filled": self._filled,
            "means": self.means,
            "epochs": self.epochs,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`.

        Raises:
            ValueError: the state is of other classes, counts or dimensions.
        """
        for name, own in (("residuals", self._residuals), ("means", self.means)):
            if state[name].shape != own.shape:
                raise ValueError(f"trail: expected {name} {tuple(own.shape)}, got {tuple(state[name].shape)}")
        self._residuals.copy_(state["residuals"])
        self._next, self._filled = state["next"].to(self._next.device), state["filled"].to(self._filled.device)
        self.means = state["means"].to(self.means.device)
        self.epochs = int(state["epochs"])
        self._seen.zero_()
        self._order = None
