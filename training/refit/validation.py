"""Cross-validation over images: what heads that were fitted without an image say of it.

All looks at an image are in one fold, and what moves a look is learned without the fold. A class of one image is never
held out, and not scored. It knows nothing of what is chosen by the scores.

Letters: N scored rows, C classes, K folds, I images.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from breadcrumbs.training.config import Member, RefitDevice
from breadcrumbs.training.emanate import rank_in_class
from breadcrumbs.training.folds import THOROUGH, fold_count, fold_of
from breadcrumbs.training.refit.members import Fitter
from breadcrumbs.training.refit.pool import Pool
from breadcrumbs.training.refit.rows import Rows
from breadcrumbs.training.solver.solver import Found

SPLIT = 5  # above, one fold of so many is held out, once
SAMPLE = 5e9  # then so much N · D · C is fitted without it: the same share of each class, one image at least
ROWS, LOGITS = (
    50,
    50_000_000,
)  # rows of a class that are scored in a fold, fewer where logits would be more than so many
ROUGH = 1e-2  # the solver's gap: precise enough to choose

Hear = Callable[[float, int, float, float], None]
"""Called with the penalty, and the solver's pass, gradient norm and objective."""

MakePool = Callable[[Tensor], Pool]
"""Returns the pool of the images (I,) that may be fitted."""


def folds_of(base: Rows, usable: Tensor, classes: int, seed: int) -> list[Tensor]:
    """Return the images (I,) of each fold: every class is spread evenly over the folds.

    Args:
        base: one row for each image.
        usable: bool (I,), the images that may be fitted.
        classes: C.
        seed: of the draw.
    """
    mine = base.take(usable[base.images] & (base.labels >= 0))
    work = len(mine) * mine.feature_dim * classes
    count = fold_count(work)
    fold = fold_of(mine.labels, classes, count or SPLIT, seed)
    found = []
    for number in range(count or 1):
        own = torch.zeros(len(usable), dtype=torch.bool)
        own[mine.images[fold == number]] = True
        found.append(own)
    return found


def sample_of(base: Rows, usable: Tensor, classes: int) -> tuple[Tensor, float]:
    """Return the images (I,) that are enough to choose by, and the share of all that they are: 1 where folds are small.

    Arguments as for `folds_of`.
    """
    mine = base.take(usable[base.images] & (base.labels >= 0))
    work = len(mine) * mine.feature_dim * classes
    share = min(1.0, SAMPLE / work) if work > THOROUGH else 1.0
    counts = torch.bincount(mine.labels, minlength=classes)
    rank = rank_in_class(mine.labels, torch.arange(len(mine)))
    out = torch.zeros(len(usable), dtype=torch.bool)
    out[mine.images[rank >= (share * counts).ceil()[mine.labels]]] = True
    return ~out, share


@dataclass(frozen=True, eq=False)
class _Fold:
    """What is fitted without a fold, the rows (n, D) of the fold that are scored, and where each member ended last."""

    fitter: Fitter
    features: Tensor
    last: dict[Member, Found] = field(default_factory=dict)


class Validation:
    """Fits members without each fold in turn.

    Attributes:
        labels: int64 (N,), of the scored rows.
        images: int64 (N,), which images they are.
        thorough: whether there is time for several folds.
        share: of the images that will be fitted in the end, those that are fitted to choose by.
    """

    def __init__(
        self, base: Rows, usable: Tensor, folds: Sequence[Tensor], pool: MakePool, classes: int, max_memory: int,
        device: RefitDevice, share: float = 1.0, hear: Hear = lambda *_: None,
    ) -> None:  # fmt: skip
        self._folds: list[_Fold] = []
        self._classes, self._hear = classes, hear
        labels, images = [torch.zeros(0, dtype=torch.int64)], [torch.zeros(0, dtype=torch.int64)]
        rows = max(1, min(ROWS, LOGITS // (classes * classes)))  # of each class in a fold
        for fold in (fold for fold in folds if fold.any()):
            held = base.take(fold[base.images] & (base.labels >= 0))
            held = held.take(rank_in_class(held.labels, torch.arange(len(held))) < rows)
            fitter = Fitter(pool(usable & ~fold), classes, max_memory // len(folds), device)
            self._folds.append(_Fold(fitter, held.features))
            labels.append(held.labels)
            images.append(held.images)
        self.labels, self.images = torch.cat(labels), torch.cat(images)
        self.thorough, self.share = len(folds) > 1, share

    def logits(self, member: Member, penalty: float) -> tuple[Tensor, Found]:
        """Fit a member without each fold.

        Each starts where it ended itself at the penalty before, or where the other member did. It never starts where
        another fold ended: that head has seen the rows that are scored here, and a rough solution remembers its start.

        Returns:
            The logits (N, C) of each scored row by the head that was fitted without its fold, and the last head.
        """
        found = [torch.zeros(0, self._classes)]
        for fold in self._folds:
            starts = [fold.last[member]] if member in fold.last else list(fold.last.values())
            fitted = fold.fitter.fit(member, penalty, ROUGH, starts, partial(self._hear, penalty), rough=True)
            fold.last[member] = fitted.weight, fitted.bias
            found.append(torch.addmm(fitted.bias, fold.features, fitted.weight.T))
        return torch.cat(found), self._folds[-1].last[member]
